"""Rate limit of what is sent without being asked for. Pure; it sends nothing."""

from __future__ import annotations

from collections.abc import Callable


class HintBucket:
    """Rate limit of hints: `per_s` a second, a burst of the same size, at least one."""

    def __init__(self, per_s: float, monotonic: Callable[[], float]) -> None:
        self.per_s = per_s
        self._monotonic = monotonic
        self._left = max(1.0, per_s)
        self._at_s = monotonic()

    def take(self) -> bool:
        """True when a hint may be sent."""
        now_s = self._monotonic()
        self._left = min(max(1.0, self.per_s), self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
