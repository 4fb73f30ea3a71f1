"""What waited in the outbox until its time was over: given up, with an `outcome` in the log that says so.

A command that expires was not taken by its provider as far as this node knows: no receipt came. A receipt or result
that comes later is logged all the same, and the command's state follows it. Decides nothing about what has a receipt.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from bus.delivery.changes import Changes
from bus.delivery.outbox import Outbox
from bus.delivery.store import Command, DeliveryReader, arrived_row, expired_row
from bus.exchange.composing import Composer
from bus.exchange.keeping import Row
from bus.ports import Clock
from evidence import header
from evidence.header import OutcomeClass
from evidence.log import ExchangeLog
from evidence.merkle import leaf_hash

_BATCH = 128


class Expiry:
    """Gives up for one node.

    Args:
        clock: time.
        log: the exchange log.
        composer: of outcomes.
        store: what waits.
        outbox: of the node.
        changes: who hears of it.
        believed: the time up to which it is certain that something is overdue; None when it is not known.
    """

    def __init__(
        self,
        clock: Clock,
        log: ExchangeLog,
        composer: Composer,
        store: DeliveryReader,
        outbox: Outbox,
        changes: Changes,
        believed: Callable[[], datetime | None] | None = None,
    ) -> None:
        self._clock = clock
        self._believed = believed or clock.now
        self._log = log
        self._composer = composer
        self._store = store
        self._outbox = outbox
        self._changes = changes

    async def sweep(self) -> int:
        """Gives up what is overdue now, a bounded number; how many."""
        now, believed = self._clock.now(), self._believed()
        if believed is None:
            return 0
        overdue = await self._store.overdue(int(min(now, believed).timestamp()), _BATCH)
        if not overdue:
            return 0
        leaves, rows, at = [], list[Row](), header.encode_time(now)
        expired: list[tuple[int, Command]] = []
        for position, one in enumerate(overdue):
            sent_at = self._outbox.sent_at(one.idx)
            class_: OutcomeClass = "undelivered" if self._outbox.never_taken(one.idx) else "timedout"
            leaves.append(self._composer.outcome(one.header, leaf_hash(one.leaf).hex(), class_, now))
            rows.append(arrived_row(one.idx))
            command = await self._store.command(one.header.id)
            if command is None or command.state != "accepted":
                continue
            rows.append(expired_row(position, one.idx, at, None if sent_at is None else header.encode_time(sent_at)))
            rows += self._changes.rows(position, command, "expired")
            expired.append((position, command))
        logged = await self._log.append(leaves, rows)
        for one in overdue:
            self._outbox.arrived(one.idx)
        for position, command in expired:
            now_known = await self._store.command(command.header.id)  # a receipt or a cancellation may have been faster
            if now_known is not None and now_known.state == "expired":
                self._changes.happened(logged[position].index, command, "expired")
        return len(overdue)
