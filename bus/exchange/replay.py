"""Ids of queries that were seen: reserved in memory, consumed in the commit, forgotten when they expire. Pure."""

from __future__ import annotations

from collections import Counter

from bus.errors import Dropped


class SeenIds:
    """Bounded memory of record ids, bounded per sender too: one sender cannot take the place of all.

    Args:
        limit: most ids at once; beyond it new queries are dropped as `seen-ids-full` (they live for seconds).
        per_sender: most ids of one sending member at once.
    """

    def __init__(self, limit: int = 1_000_000, per_sender: int = 250_000) -> None:
        self._limit = limit
        self._per_sender = per_sender
        self._until: dict[str, tuple[int, str]] = {}
        self._counts: Counter[str] = Counter()
        self._next_sweep_s = 0

    def load(self, rows: list[tuple[str, int]]) -> None:
        """Takes over what an earlier run consumed: (id, until in seconds)."""
        self._until.update((record_id, (until_s, "")) for record_id, until_s in rows)

    def reserve(self, record_id: str, sender: str, until_s: int, now_s: int) -> None:
        """Reserves an id until it expires.

        Raises:
            Dropped: `replayed`, or `seen-ids-full`.
        """
        if record_id in self._until:
            raise Dropped("replayed")
        if self._full(sender):
            self.sweep(now_s)
            if self._full(sender):
                raise Dropped("seen-ids-full")
        self._until[record_id] = (until_s, sender)
        self._counts[sender] += 1

    def _full(self, sender: str) -> bool:
        return len(self._until) >= self._limit or self._counts[sender] >= self._per_sender

    def sweep(self, now_s: int) -> bool:
        """Forgets expired ids, at most every ten seconds; True when it did."""
        if now_s < self._next_sweep_s:
            return False
        self._next_sweep_s = now_s + 10
        self._until = {record_id: kept for record_id, kept in self._until.items() if kept[0] >= now_s}
        self._counts = Counter(sender for _, sender in self._until.values())
        return True
