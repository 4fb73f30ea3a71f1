"""A circuit breaker as a pure state machine; the clock comes in as an argument.

Closed: calls pass, and the last few outcomes are remembered. Too many bad ones open it. Open: nothing passes until the
pause is over. Half-open: a few probes pass; as many good ones close it, one bad one opens it again, for longer.

It does not decide what is bad: the caller says so. It is not safe for threads.
"""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What the breaker lets pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When to open and when to try again.

    Attributes:
        failures: Bad outcomes among the last `window` calls that open it.
        window: How many outcomes are remembered (at most 1,000).
        pause_s: First pause in seconds; doubles with each failed probe.
        longest_pause_s: Bound of the doubling.
        probes: Calls that may be under way at once while half-open, and good outcomes needed to close.
    """

    failures: int
    window: int
    pause_s: float
    longest_pause_s: float
    probes: int


class Breaker:
    """Says whether a call may pass, from how the calls before it ended."""

    __slots__ = ("_bits", "_good", "_mask", "_open_until_s", "_pause_s", "_probing", "_round", "_rules", "state")

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._mask = (1 << rules.window) - 1
        self._round = 0
        self._open_until_s = 0.0
        self._pause_s = rules.pause_s
        self._probing = 0
        self._good = 0
        self._bits = 0
        self.state = State.CLOSED

    def enter(self, now_s: float) -> int | None:
        """Ask to make a call.

        Args:
            now_s: Monotonic seconds.

        Returns:
            A ticket to give back to `leave`, or None when the call must not be made.
        """
        if self.state is State.CLOSED:
            return self._round
        if self.state is State.OPEN:
            if now_s < self._open_until_s:
                return None
            self._change(State.HALF_OPEN)
        if self._probing >= self._rules.probes:
            return None
        self._probing += 1
        return self._round

    def leave(self, ticket: int, now_s: float, good: bool | None) -> None:
        """Report how a call ended; every ticket comes back exactly once.

        Args:
            ticket: From `enter`.
            now_s: Monotonic seconds.
            good: True or False; None when it says nothing about the backend (the caller went away).
        """
        if ticket != self._round:
            return  # began before the last change: says nothing about now
        if self.state is State.HALF_OPEN:
            self._probed(now_s, good)
        elif good is not None:
            self._bits = ((self._bits << 1) | (not good)) & self._mask
            if not good and self._bits.bit_count() >= self._rules.failures:
                self._open(now_s)

    def retry_after_s(self, now_s: float) -> float:
        """Seconds until a call may pass again; 0 when one may be tried now."""
        return max(0.0, self._open_until_s - now_s) if self.state is State.OPEN else 0.0

    def _probed(self, now_s: float, good: bool | None) -> None:
        self._probing -= 1
        if good is None:
            return
        if not good:
            self._pause_s = min(self._pause_s * 2, self._rules.longest_pause_s)
            self._open(now_s)
            return
        self._good += 1
        if self._good >= self._rules.probes:
            self._pause_s = self._rules.pause_s
            self._change(State.CLOSED)

    def _open(self, now_s: float) -> None:
        self._open_until_s = now_s + self._pause_s
        self._change(State.OPEN)

    def _change(self, state: State) -> None:
        self.state = state
        self._round += 1
        self._probing = self._good = self._bits = 0
