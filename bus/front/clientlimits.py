"""The limits of single client systems, as their gateway's operator set them: calls under way, calls a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from bus import errors
from bus.front.credentials import ClientSystem
from registry.quota import QuotaBook
from registry.view import QuotaLimit


class ClientLimits:
    """Counts the calls of client systems that have limits.

    Args:
        monotonic: seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._under_way: Counter[str] = Counter()
        self._rates = QuotaBook()

    def enter(self, system: ClientSystem) -> None:
        """Counts one more call; `leave` ends it.

        Raises:
            ClientLimitReached: a limit is reached; nothing was counted.
        """
        if system.max_in_flight is not None and self._under_way[system.name] >= system.max_in_flight:
            raise errors.ClientLimitReached(f"{system.max_in_flight} calls of this client system are under way")
        if system.per_second is not None:
            limit = QuotaLimit(per_second=system.per_second)
            wait_s = self._rates.take(system.name, "", limit, self._monotonic())
            if wait_s is not None:
                error = errors.ClientLimitReached(f"this client system may make {system.per_second:g} calls a second")
                error.retry_after_s = int(wait_s) + 1
                raise error
        self._under_way[system.name] += 1

    def leave(self, system: ClientSystem) -> None:
        """Counts one call less."""
        self._under_way[system.name] -= 1
        if not self._under_way[system.name]:
            del self._under_way[system.name]
