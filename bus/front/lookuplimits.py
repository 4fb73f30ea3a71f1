"""How much one client system may ask about commands that it has sent: a second, and at once. Decides no right.

All that `/exchanges` does counts: states, results, lists, cancellations. What waits (long polls) or looks through many
commands (lists) is bounded by number, too, because it holds something meanwhile.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bus import errors
from registry.quota import QuotaBook
from registry.view import QuotaLimit

LISTS = 4
"""Lists of one client system that are made at once; one thread of the store makes those of all."""


@dataclass(frozen=True, slots=True)
class LookupRules:
    """Limits of one client system.

    Attributes:
        per_s: look-ups a second; as many at once.
        long_polls: look-ups that wait, at once.
    """

    per_s: float = 200.0
    long_polls: int = 200


class LookupLimits:
    """Counts look-ups by client system.

    Args:
        rules: as the settings are now.
        monotonic: seconds.
        refused: hears the code of each look-up that is refused.
    """

    def __init__(
        self, rules: Callable[[], LookupRules], monotonic: Callable[[], float], refused: Callable[[str], None]
    ) -> None:
        self._rules = rules
        self._monotonic = monotonic
        self._refused = refused
        self._rates = QuotaBook()
        self._open: Counter[tuple[str, str]] = Counter()

    def count(self, system: str) -> None:
        """One more look-up of the client system of that name.

        Raises:
            LookupLimitReached: it made too many this second.
        """
        per_s = self._rules().per_s
        wait_s = self._rates.take(system, "", QuotaLimit(per_second=per_s), self._monotonic())
        if wait_s is not None:
            raise self._refusal(
                f"this client system may ask {per_s:g} times a second about its commands; wait with Prefer: wait=30, or"
                " be told by a webhook, instead of asking often",
                wait_s,
            )

    @contextlib.contextmanager
    def long_poll(self, system: str) -> Iterator[None]:
        """While the client system waits for a command's end.

        Raises:
            LookupLimitReached: too many of its look-ups wait.
        """
        most = self._rules().long_polls
        with self._held(
            (system, "long polls"), most, f"{most} look-ups of this client system wait for the end of a command"
        ):
            yield

    @contextlib.contextmanager
    def listing(self, system: str) -> Iterator[None]:
        """While a list is made for the client system.

        Raises:
            LookupLimitReached: too many lists are made for it.
        """
        with self._held((system, "lists"), LISTS, f"{LISTS} lists are being made for this client system"):
            yield

    @contextlib.contextmanager
    def _held(self, what: tuple[str, str], most: int, detail: str) -> Iterator[None]:
        if self._open[what] >= most:
            raise self._refusal(detail)
        self._open[what] += 1
        try:
            yield
        finally:
            self._open[what] -= 1
            if not self._open[what]:
                del self._open[what]

    def _refusal(self, detail: str, wait_s: float = 0.0) -> errors.LookupLimitReached:
        error = errors.LookupLimitReached(detail)
        error.retry_after_s = int(wait_s) + 1
        self._refused(error.code)
        return error
