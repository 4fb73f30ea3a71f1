"""Forgetting commands that were closed long ago, with their keys: what the gateway answers about them ends there.

The log keeps their records. Rows go a few at a time with the commits of new commands, so that forgetting needs no
commit of its own; a node that accepts no commands forgets none.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from bus.delivery.store import DeliveryReader
from bus.exchange.keeping import Row
from evidence import header

_BATCH, _AT_ONCE = 1_000, 16
_OLD = (
    "SELECT idx FROM command WHERE state IN ('completed', 'failed', 'cancelled', 'expired') AND closed_at < ?"
    " AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.idx = command.idx) ORDER BY idx LIMIT ?"
)
_DELETES = (
    "DELETE FROM command WHERE idx = ?",
    "DELETE FROM command_order WHERE idx = ?",
    "DELETE FROM command_key WHERE idx = ?",
    "DELETE FROM cancel WHERE target_idx = ?",
)


class Forgetting:
    """Of one node.

    Args:
        store: what is stored of commands.
        kept_s: how long a closed command is kept.
    """

    def __init__(self, store: DeliveryReader, kept_s: float) -> None:
        self._store = store
        self._kept = timedelta(seconds=kept_s)
        self._old: list[int] = []
        self._more = False

    @property
    def behind(self) -> bool:
        """Whether there was more than a batch, and that is through: it is to be looked again now."""
        return self._more and not self._old

    async def look(self, now: datetime) -> int:
        """Looks for what is to be forgotten, a bounded number; how many."""
        if not self._old:
            rows = await self._store.rows(_OLD, header.encode_time(now - self._kept), _BATCH)
            self._old = [idx for (idx,) in rows]
            self._more = len(self._old) == _BATCH
        return len(self._old)

    def rows(self, now_s: int) -> list[Row]:
        """What goes with the next commit; were that to fail, it is found again."""
        past = self._store.forget_rows(now_s)
        if not self._old:
            return past
        given, self._old = self._old[:_AT_ONCE], self._old[_AT_ONCE:]
        return [*past, *((None, sql, (idx,)) for idx in given for sql in _DELETES)]
