"""Ids of queries that were seen: reserved in memory, consumed in the commit, forgotten when they expire. Pure.

Ids lie in a set for each ten seconds of their expiry: forgetting drops whole sets, and an id costs about 130 bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bus.errors import Dropped

_SPAN_S = 10


@dataclass(slots=True)
class _Span:
    """Ids that expire within the same ten seconds, and how many each sender has there."""

    ids: set[bytes] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)


class SeenIds:
    """Bounded memory of record ids (UUIDs), bounded per sender too: one sender cannot take the place of all.

    Args:
        limit: most ids at once; beyond it new queries are dropped as `seen-ids-full` (they live for seconds).
        per_sender: most ids of one sending member at once.
    """

    def __init__(self, limit: int = 1_000_000, per_sender: int = 250_000) -> None:
        self._limit = limit
        self._per_sender = per_sender
        self._spans: dict[int, _Span] = {}
        self._size = 0
        self._counts: Counter[str] = Counter()
        self._next_sweep_s = 0

    def load(self, rows: list[tuple[str, int]]) -> None:
        """Takes over what an earlier run consumed: (id, until in seconds)."""
        for record_id, until_s in rows:
            self._add(_raw(record_id), "", until_s)

    def reserve(self, record_id: str, sender: str, until_s: int, now_s: int) -> None:
        """Reserves an id until it expires; it is forgotten up to twenty seconds later.

        Raises:
            Dropped: `replayed`, or `seen-ids-full`.
        """
        raw = _raw(record_id)
        for span in self._spans.values():
            if raw in span.ids:
                raise Dropped("replayed")
        if self._full(sender):
            self.sweep(now_s)
            if self._full(sender):
                raise Dropped("seen-ids-full")
        self._add(raw, sender, until_s)

    def _add(self, raw: bytes, sender: str, until_s: int) -> None:
        span = self._spans.get(until_s // _SPAN_S)
        if span is None:
            span = self._spans[until_s // _SPAN_S] = _Span()
        span.ids.add(raw)
        span.counts[sender] += 1
        self._counts[sender] += 1
        self._size += 1

    def _full(self, sender: str) -> bool:
        return self._size >= self._limit or self._counts[sender] >= self._per_sender

    def sweep(self, now_s: int) -> bool:
        """Forgets ids whose span has passed, at most every ten seconds; True when it looked."""
        if now_s < self._next_sweep_s:
            return False
        self._next_sweep_s = now_s + _SPAN_S
        for number in [number for number in self._spans if (number + 1) * _SPAN_S <= now_s]:
            span = self._spans.pop(number)
            self._size -= len(span.ids)
            self._counts -= span.counts  # senders without an id are left out
        return True


def _raw(record_id: str) -> bytes:
    return bytes.fromhex(record_id.replace("-", ""))
