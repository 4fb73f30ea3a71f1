"""Which task is due next, by service: times in memory, nothing else. Pure; seconds come in as arguments.

A service that may take no more now holds up nobody else's tasks. Some 200 bytes for each task that waits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable

_Entry = tuple[float, int]


class Schedule:
    """Tasks that wait, by service."""

    def __init__(self) -> None:
        self._lanes: dict[str, list[_Entry]] = {}
        self._due: dict[int, float] = {}
        self._services: dict[int, str] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, idx: int) -> bool:
        return idx in self._due

    def count(self, service: str) -> int:
        """How many tasks of a service wait."""
        return self._counts[service]

    def put(self, idx: int, service: str, due_s: float) -> None:
        """The task waits until then; a time that was there before does not count any more."""
        if idx not in self._due:
            self._services[idx] = service
            self._counts[service] += 1
        self._due[idx] = due_s
        heapq.heappush(self._lanes.setdefault(service, []), (due_s, idx))

    def remove(self, idx: int) -> None:
        """The task does not wait any more."""
        if self._due.pop(idx, None) is not None:
            service = self._services.pop(idx)
            self._counts[service] -= 1
            if not self._counts[service]:
                del self._counts[service]

    def take(self, now_s: float, may: Callable[[str], bool]) -> list[tuple[int, str]]:
        """Takes out one due task of each service that may take one: in turn, so that none holds up another."""
        taken = []
        for service in list(self._lanes):
            if not self._first(service) or self._lanes[service][0][0] > now_s or not may(service):
                continue
            _, idx = heapq.heappop(self._lanes[service])
            self.remove(idx)
            taken.append((idx, service))
        return taken

    def next_s(self, may: Callable[[str], bool]) -> float | None:
        """When the first task is due, of the services that may take one; None when there is none."""
        found = [self._lanes[service][0][0] for service in list(self._lanes) if self._first(service)
                 and may(service)]  # fmt: skip
        return min(found, default=None)

    def _first(self, service: str) -> bool:
        """Brings a task that still waits to the front; False when the service has none."""
        heap = self._lanes[service]
        while heap and self._due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        if not heap:
            del self._lanes[service]
        return bool(heap)
