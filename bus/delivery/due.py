"""When the records of the outbox are tried next. Pure; times are of a monotonic clock, seconds.

A record that is planned anew, arrives or is cancelled leaves its earlier place behind: places are passed over when
their time comes, and all of them go when they are as many as the others. Nothing is due while there is no broker, and
who submits and cancels in a loop meanwhile would fill the memory with them.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

_KEPT = 1_024


class DueTimes:
    """Log indexes by time.

    Args:
        planned: the time for which a record is planned; None when it is not.
    """

    def __init__(self, planned: Callable[[int], float | None]) -> None:
        self._planned = planned
        self._heap: list[tuple[float, int]] = []
        self._clear_at = _KEPT

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, idx: int, due_s: float) -> None:
        """The record is planned for that time, as `planned` says from now on."""
        heapq.heappush(self._heap, (due_s, idx))
        if len(self._heap) >= self._clear_at:
            self._heap = [place for place in self._heap if self._planned(place[1]) == place[0]]
            heapq.heapify(self._heap)
            self._clear_at = max(_KEPT, 2 * len(self._heap))

    def next_s(self) -> float:
        """When there may be something due; infinite when nothing is planned."""
        return self._heap[0][0] if self._heap else math.inf

    def take(self, now_s: float) -> int | None:
        """The record that is due longest; None when none is due."""
        while self._heap and self._heap[0][0] <= now_s:
            due_s, idx = heapq.heappop(self._heap)
            if self._planned(idx) == due_s:
                return idx
        return None
