"""An operator ends a command of an own client system that is not delivered: as its client system may, with a reason.

The act is an admin record of its own, before anything is done: who asked and why stays, whatever the provider says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from bus import errors
from bus.delivery.cancelling import CancelDesk
from bus.delivery.changes import CLOSED
from bus.delivery.store import Command, DeliveryReader
from evidence.errors import EvidenceError
from evidence.log import ExchangeLog

Ended = Literal["cancelled", "cancel-asked", "would-cancel", "already-delivered", "expired", "closed"]
"""What became of it; `cancel-asked`: it may be on its way, and its provider is asked to refuse it."""


class OutgoingEnd:
    """Ends outgoing commands of one node.

    Args:
        log: the exchange log.
        store: what is stored of commands.
        desk: cancels.
    """

    def __init__(self, log: ExchangeLog, store: DeliveryReader, desk: CancelDesk) -> None:
        self._log = log
        self._store = store
        self._desk = desk

    async def end(self, record_id: str, write: Callable[[str], bytes], *, dry: bool) -> tuple[Command, Ended] | None:
        """Cancels a command; None when no own client system has sent one with this id.

        Args:
            record_id: of the command.
            write: makes the admin record of the act at the command with that id.
            dry: only tell what would be done.

        Raises:
            LogUnwritable: the act cannot be recorded, so nothing is done; or the wish may not have been stored.
            BusError: the provider cannot be asked now.
        """
        command = await self._store.command(record_id)
        if command is None or command.state in CLOSED or command.receipt_idx is not None:
            return None if command is None else (command, "closed" if command.state in CLOSED else "already-delivered")
        if dry:
            return command, "would-cancel"
        try:
            await self._log.append([write(record_id)])
        except EvidenceError as error:
            raise errors.LogUnwritable("the act cannot be recorded, so it is not done") from error
        try:
            command = await self._desk.cancel(await self._store.command(record_id) or command)
        except errors.AlreadyDelivered:
            return command, "already-delivered"
        except errors.CommandExpired:
            return command, "expired"
        return command, "cancelled" if command.state == "cancelled" else "cancel-asked"
