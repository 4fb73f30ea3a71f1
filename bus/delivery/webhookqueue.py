"""Webhooks that wait in memory, by client system: when each is due, and never too many of one. Pure.

What has no room stays in the store, where all of them are, and is read when there is room again. So a receiver that is
away for a day costs neither memory nor time, and none of what waits for others. Times are of a monotonic clock.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from bus.delivery.webhookrows import Event


@dataclass(slots=True)
class Waiting:
    """An event that was not told: held here since then, `failed` attempts so far; `stored`: read from the store."""

    event: Event
    due_s: float
    held_s: float
    stored: bool
    failed: int = 0


class HookQueue:
    """Events by client system.

    Args:
        most_each: of one client system.
    """

    def __init__(self, most_each: int) -> None:
        self.most_each = most_each
        self._waiting: dict[int, Waiting] = {}
        self._lanes: dict[str, list[tuple[float, int]]] = {}
        self._counts: Counter[str] = Counter()
        self._left: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Event, now_s: float, *, stored: bool = False) -> None:
        """Takes an event up, due at once; one that has no room is left in the store."""
        if event.idx in self._waiting:
            return
        if self._counts[event.system] >= self.most_each:
            self._left.add(event.system)
            return
        self._counts[event.system] += 1
        self._waiting[event.idx] = Waiting(event, now_s, now_s, stored)
        self._plan(self._waiting[event.idx])

    def take(self, now_s: float, may: Callable[[str], bool]) -> Waiting | None:
        """A due event of a client system that may be told one, in turn; `again` or `over` follows."""
        for system in list(self._lanes):
            lane = self._lanes[system]
            if lane[0][0] > now_s or not may(system):
                continue
            _, idx = heapq.heappop(lane)
            del self._lanes[system]  # its next turn is after the others'
            if lane:
                self._lanes[system] = lane
            return self._waiting[idx]
        return None

    def again(self, one: Waiting, due_s: float) -> None:
        """It was not told: once more then."""
        one.failed, one.due_s = one.failed + 1, due_s
        self._plan(one)

    def over(self, one: Waiting) -> None:
        """It was told, or is given up."""
        del self._waiting[one.event.idx]
        self._counts[one.event.system] -= 1

    def read(self, system: str, *, whole: bool) -> None:
        """What is in the store of a client system was put, all of it or the oldest."""
        if whole:
            self._left.discard(system)
        else:
            self._left.add(system)

    def hungry(self) -> list[str]:
        """Client systems of which there is more in the store, and room for it."""
        return [system for system in self._left if 2 * self._counts[system] <= self.most_each]

    def clear(self) -> None:
        """Forgets everything; it is in the store."""
        for emptied in (self._waiting, self._lanes, self._counts, self._left):
            emptied.clear()

    def _plan(self, one: Waiting) -> None:
        heapq.heappush(self._lanes.setdefault(one.event.system, []), (one.due_s, one.event.idx))
