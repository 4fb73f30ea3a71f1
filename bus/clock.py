"""The real clock and the operating system's randomness."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

_POOL_BYTES = 4096


class SystemClock:
    """Implements `bus.ports.Clock`. One process, one event loop: the pool of random bytes must not cross a fork."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since an arbitrary point."""
        return time.monotonic()

    def random(self, count: int) -> bytes:
        """From the operating system, fetched in larger pieces because each system call costs as much as its use."""
        end = self._at + count
        if end > len(self._pool):
            if count > _POOL_BYTES:
                return os.urandom(count)
            self._pool, self._at, end = os.urandom(_POOL_BYTES), 0, count
        taken = self._pool[self._at : end]
        self._at = end
        return taken
