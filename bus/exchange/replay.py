"""Ids of queries that were seen: reserved in memory, consumed in the commit, forgotten when they expire. Pure."""

from __future__ import annotations

from bus.errors import Dropped


class SeenIds:
    """Bounded memory of record ids.

    Args:
        limit: most ids at once; beyond it new queries are dropped as `seen-ids-full` (they live for seconds).
    """

    def __init__(self, limit: int = 1_000_000) -> None:
        self._limit = limit
        self._until: dict[str, int] = {}
        self._next_sweep_s = 0

    def load(self, rows: list[tuple[str, int]]) -> None:
        """Takes over what an earlier run consumed: (id, until in seconds)."""
        self._until.update(rows)

    def reserve(self, record_id: str, until_s: int, now_s: int) -> None:
        """Reserves an id until it expires.

        Raises:
            Dropped: `replayed`, or `seen-ids-full`.
        """
        if record_id in self._until:
            raise Dropped("replayed")
        if len(self._until) >= self._limit:
            self.sweep(now_s)
            if len(self._until) >= self._limit:
                raise Dropped("seen-ids-full")
        self._until[record_id] = until_s

    def release(self, record_id: str) -> None:
        """Gives an id back that was never committed, so that the sender may try again."""
        self._until.pop(record_id, None)

    def sweep(self, now_s: int) -> bool:
        """Forgets expired ids, at most every ten seconds; True when it did."""
        if now_s < self._next_sweep_s:
            return False
        self._next_sweep_s = now_s + 10
        self._until = {record_id: until_s for record_id, until_s in self._until.items() if until_s >= now_s}
        return True
