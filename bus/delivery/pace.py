"""Acceptance goes before delivery: while many commands are being accepted, fewer records are sent and taken at once.

A client system waits for its `202`; what was accepted is safe and can be sent a moment later. Without this the way of
earlier commands, which costs several times as much as accepting one, would stand before the new ones. Delivery never
stops: in a burst a record goes out every few hundredths of a second. A flood that lasts gets no precedence: it would
fill the outbox and hold up what was accepted before it.
"""

from __future__ import annotations

from types import TracebackType

from bus.ports import Clock

CROWD = 16
"""From so many commands at once on, that are being accepted, delivery steps back."""
BURST_S = 10.0
"""So long it does; as long without a crowd gives the same again."""
_STEP_S = 0.02
_LINGER_S = 0.1  # commits end many acceptances at once: a moment without any is not the end of a crowd


class Pace:
    """Counts the commands that are being accepted.

    Args:
        clock: monotonic time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accepting = 0
        self._crowd_s = -_LINGER_S
        self._spent_s = 0.0
        self._sent_s = 0.0

    def __enter__(self) -> None:
        self._accepting += 1
        if self._accepting >= CROWD:
            now_s = self._clock.monotonic()
            passed_s = now_s - self._crowd_s
            held_s = min(passed_s, _LINGER_S)  # so long after a crowd delivery steps back, whether or not one follows
            self._spent_s = min(max(0.0, self._spent_s + held_s - (passed_s - held_s)), BURST_S)
            self._crowd_s = now_s

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._accepting -= 1

    def at_once(self, most: int) -> int:
        """How many records of a kind may be under way now; `most` when there is no burst."""
        return 1 if self._in_burst(self._clock.monotonic()) else most

    def pause_s(self) -> float:
        """How long no further record is to be sent; 0 when there is no burst."""
        now_s = self._clock.monotonic()
        return max(0.0, self._sent_s + _STEP_S - now_s) if self._in_burst(now_s) else 0.0

    def sent(self) -> None:
        """Records were begun to be sent."""
        self._sent_s = self._clock.monotonic()

    def _in_burst(self, now_s: float) -> bool:
        return self._spent_s < BURST_S and now_s - self._crowd_s < _LINGER_S
