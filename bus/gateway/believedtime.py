"""The time that may be acted on where nothing can be taken back: giving up, forgetting.

A clock that is set, or comes back wrong from a pause, may be years ahead for a moment. So the own clock counts only as
far as the directory's newest confirmation, and the monotonic clock since that was heard, agree. While no confirmation
comes the time goes on all the same; a node that has never heard one knows no time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from bus.ports import Clock


class BelievedTime:
    """To be called at least every few seconds: a confirmation counts from when it is first seen here.

    Args:
        clock: own.
        as_of: the directory's newest confirmation.
    """

    def __init__(self, clock: Clock, as_of: Callable[[], datetime | None]) -> None:
        self._clock = clock
        self._as_of = as_of
        self._seen: datetime | None = None
        self._told: datetime | None = None
        self._since_s = 0.0

    def __call__(self) -> datetime | None:
        """Aware UTC; None when it is not known."""
        as_of = self._as_of()
        if as_of is None:
            return None
        now_s = self._clock.monotonic()
        told = as_of if self._told is None else self._told + timedelta(seconds=now_s - self._since_s)
        if as_of != self._seen:
            self._seen, told = as_of, max(as_of, told)
        self._told, self._since_s = told, now_s
        return min(self._clock.now(), told)
