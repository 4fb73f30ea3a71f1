"""Cancelling a command, on the asking side, while no receipt for it is there.

What was certainly never sent is cancelled at once, with an `outcome` in the log. Of all else the provider may have it
already: the wish is a record of its own, a `command` of the reserved operation, and travels as commands do. Its receipt
says that the provider will refuse the command if it comes; only from then on the command is `cancelled`. A refusal says
that the provider has taken the command.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bus import errors
from bus.delivery.cancelrows import CANCEL, Target, cancel_row, cancelled_row
from bus.delivery.changes import CLOSED, Changes
from bus.delivery.outbox import Outbox
from bus.delivery.store import Command, DeliveryReader, arrived_row, outbox_row
from bus.exchange.composing import Composer, Draft
from bus.exchange.keeping import Keeper, Row
from bus.ports import Clock
from bus.sealing.contents import Particulars
from bus.transport import subjects
from evidence import header
from evidence.errors import LogUnwritable
from evidence.log import ExchangeLog
from registry.view import DirectoryView


class CancelDesk:
    """Cancels commands of one node.

    Args:
        member: own member.
        clock: time.
        log: the exchange log.
        directory: fresh enough to decide on, or it raises.
        composer: of records.
        keeper: of particulars.
        store: what is stored of commands.
        outbox: of this node.
        changes: who hears of it.
        skew_s: how much longer than the command's life the wish stays in the outbox.
    """

    def __init__(
        self,
        *,
        member: str,
        clock: Clock,
        log: ExchangeLog,
        directory: Callable[[], DirectoryView],
        composer: Composer,
        keeper: Keeper,
        store: DeliveryReader,
        outbox: Outbox,
        changes: Changes,
        skew_s: float,
    ) -> None:
        self._member = member
        self._clock = clock
        self._log = log
        self._directory = directory
        self._composer = composer
        self._keeper = keeper
        self._store = store
        self._outbox = outbox
        self._changes = changes
        self._skew_s = skew_s
        self._under_way: set[int] = set()

    async def cancel(self, command: Command) -> Command:
        """Cancels a command, or asks its provider to; the command as it is then.

        Raises:
            AlreadyDelivered: the provider has taken it.
            CommandExpired: its time is over.
            BusError: the wish could not be stored.
        """
        replies = (command.receipt_idx, command.processing_idx, command.dead_idx, command.closing_idx)
        if command.state != "cancelled" and any(idx is not None for idx in replies):
            raise errors.AlreadyDelivered(
                f"the command is {command.state}: the provider has taken it", record_id=command.header.id
            )
        if command.state in CLOSED or command.cancel_idx is not None or command.idx in self._under_way:
            return command
        self._under_way.add(command.idx)
        try:
            await (self._at_once(command) if self._outbox.withdraw(command.idx) else self._wish(command))
        except LogUnwritable as error:
            self._outbox.doubt()
            raise errors.LogUnwritable(
                "the wish to cancel may or may not have been stored; ask again", record_id=command.header.id
            ) from error
        finally:
            self._under_way.discard(command.idx)
        return await self._store.command(command.header.id) or command

    async def _at_once(self, command: Command) -> None:
        now = self._clock.now()
        hashed = await self._leaf_hash(command)
        outcome = self._composer.outcome(command.header, hashed.hex(), "undelivered", now)
        rows = [
            arrived_row(command.idx),
            cancelled_row(0, command.idx, header.encode_time(now)),
            *self._changes.rows(0, command, "cancelled"),
        ]
        try:
            (logged,) = await self._log.append([outcome], rows)
        except BaseException:
            self._outbox.returned(command.idx)
            raise
        self._outbox.arrived(command.idx)
        self._changes.happened(logged.index, command, "cancelled")

    async def _wish(self, command: Command) -> None:
        now = self._clock.now()
        expires_at = header.decode_time(command.header.expires or command.header.time)
        if now >= expires_at:
            raise errors.CommandExpired("its time is over: the provider takes it no more", record_id=command.header.id)
        draft = self._compose(command, await self._leaf_hash(command))
        since_s, until_s = int(now.timestamp()), int(expires_at.timestamp() + self._skew_s) + 1
        provider = "/".join(command.header.to.split("/")[:3])
        rows: list[Row] = [
            self._keeper.particulars(0, draft.kept, now),
            outbox_row(0, draft, subjects.command(provider, self._member), since_s, until_s),
            cancel_row(0, draft, command.idx),
            *self._store.forget_rows(since_s),
        ]
        (logged,) = await self._log.append([draft.leaf], rows)
        self._outbox.put(logged.index, since_s)

    def _compose(self, command: Command, hashed: bytes) -> Draft:
        head, now = command.header, self._clock.now()
        provider = "/".join(head.to.split("/")[:3])
        key = self._directory().sealing_key(provider, "command", now)
        if key is None:
            raise errors.ProviderUnavailable(f"{provider} has no sealing key for commands in the directory now")
        return self._composer.sealed(
            "command",
            source=head.source,
            to=head.to,
            receiver=provider,
            key=key,
            use="command",
            operation=CANCEL,
            particulars=Particulars(),
            body=msgspec.json.encode(Target(command=hashed.hex(), id=head.id)),
            now=now,
            expires_at=header.decode_time(head.expires or head.time),
        )

    async def _leaf_hash(self, command: Command) -> bytes:
        rows = await self._store.rows("SELECT leaf_hash FROM command WHERE idx = ?", command.idx)
        return bytes(rows[0][0])
