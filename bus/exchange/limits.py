"""How many calls may be under way at once, per client and per service. Pure."""

from __future__ import annotations

from bus.errors import TooManyInFlight


class InFlight:
    """Counts calls under way per key.

    Args:
        what: for the error text: client or service.
        limit: default limit per key.
    """

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self.limit = limit
        self._counts: dict[str, int] = {}

    def enter(self, key: str, limit: int | None = None) -> None:
        """Counts one more.

        Args:
            key: client or service.
            limit: a narrower limit of this key.

        Raises:
            TooManyInFlight: the limit is reached; nothing was counted.
        """
        count = self._counts.get(key, 0)
        allowed = self.limit if limit is None else min(limit, self.limit)
        if count >= allowed:
            raise TooManyInFlight(f"{allowed} calls of this {self._what} are under way; wait for answers and try again")
        self._counts[key] = count + 1

    def leave(self, key: str) -> None:
        """Counts one less."""
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]
