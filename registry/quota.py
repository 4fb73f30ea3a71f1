"""Counting how often a right is used: token buckets under a caller's clock.

Pure: seconds come in as arguments, from any clock that never goes back. Counts live in memory at one node; a
provider with several nodes divides by their number or accepts the multiple. Decides nothing about rights.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import NamedTuple

from registry.view import QuotaLimit

DAY_S = 86_400.0


class Left(NamedTuple):
    """What is left of one bucket.

    Attributes:
        name: `second` or `day`.
        calls: Calls that are allowed in a window.
        window_s: Its length.
        left: Calls that may be made at once.
        more_s: Seconds until one more than these is there.
    """

    name: str
    calls: int
    window_s: int
    left: int
    more_s: int


class Quota:
    """One right's bucket pair: a rate with a burst of one second, and a sliding day.

    The day is a bucket too: it refills evenly, so a client that used everything up gets its calls back through the
    day instead of all at midnight.
    """

    __slots__ = ("_at_s", "_day", "_second", "limit")

    def __init__(self, limit: QuotaLimit, now_s: float) -> None:
        self.limit = limit
        self._at_s = now_s
        self._second = _burst(limit)
        self._day = float(limit.per_day or 0)

    def take(self, now_s: float) -> bool:
        """Use the right once.

        Args:
            now_s: The clock; an instant before the last one counts as the last one.

        Returns:
            False, and nothing is used, when either bucket is empty.
        """
        limit = self.limit
        elapsed_s = max(0.0, now_s - self._at_s)
        self._at_s = max(now_s, self._at_s)
        if limit.per_second is not None:
            self._second = min(_burst(limit), self._second + elapsed_s * limit.per_second)
        if limit.per_day is not None:
            self._day = min(float(limit.per_day), self._day + elapsed_s * limit.per_day / DAY_S)
        if (limit.per_second is not None and self._second < 1.0) or (limit.per_day is not None and self._day < 1.0):
            return False
        self._second -= 1.0
        self._day -= 1.0
        return True

    def retry_after_s(self) -> float:
        """Seconds until the next use is possible, as of the last `take`."""
        wait_s = 0.0
        limit = self.limit
        if limit.per_second is not None and self._second < 1.0:
            wait_s = (1.0 - self._second) / limit.per_second if limit.per_second > 0 else DAY_S
        if limit.per_day is not None and self._day < 1.0:
            wait_s = max(wait_s, (1.0 - self._day) * DAY_S / limit.per_day if limit.per_day > 0 else DAY_S)
        return wait_s

    def left(self) -> list[Left]:
        """What is left, as of the last `take`; nothing of a bucket that has no limit."""
        found = []
        limit = self.limit
        if limit.per_second is not None and limit.per_second > 0:
            window_s = max(1, ceil(1.0 / limit.per_second))
            found.append(_left("second", int(_burst(limit)), window_s, self._second, limit.per_second))
        if limit.per_day:
            found.append(_left("day", limit.per_day, int(DAY_S), self._day, limit.per_day / DAY_S))
        return found


def _left(name: str, calls: int, window_s: int, level: float, per_s: float) -> Left:
    usable = max(0, int(level))
    return Left(name, calls, window_s, usable, ceil((usable + 1.0 - max(0.0, level)) / per_s))


def _burst(limit: QuotaLimit) -> float:
    rate = limit.per_second
    if rate is None or rate <= 0:
        return 0.0
    return max(1.0, rate)


class QuotaBook:
    """Buckets by (client, service), bounded: the least recently used is forgotten, which only ever refills it."""

    def __init__(self, capacity: int = 65_536) -> None:
        self._capacity = capacity
        self._buckets: OrderedDict[tuple[str, str], Quota] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str, service: str, limit: QuotaLimit, now_s: float) -> float | None:
        """Count one call.

        Returns:
            None when it may go on, otherwise the seconds after which a retry helps.
        """
        if limit.per_second is None and limit.per_day is None:
            return None
        key = (client, service)
        bucket = self._buckets.get(key)
        if bucket is None or bucket.limit != limit:
            bucket = self._buckets[key] = Quota(limit, now_s)
            if len(self._buckets) > self._capacity:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return None if bucket.take(now_s) else bucket.retry_after_s()

    def left(self, client: str, service: str, right: str = "") -> list[Left]:
        """What is left of a client's quota for a service; nothing when it has none or has not called.

        Args:
            client: Who calls.
            service: What is called.
            right: What the call was counted for beside the service; of each window the one that ends first is told.
        """
        tightest: dict[str, Left] = {}
        for what in (service, right):
            bucket = self._buckets.get((client, what)) if what else None
            for one in () if bucket is None else bucket.left():
                known = tightest.get(one.name)
                if known is None or (one.left, -one.more_s) < (known.left, -known.more_s):
                    tightest[one.name] = one
        return list(tightest.values())
