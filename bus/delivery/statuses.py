"""What a client system is told of a command: its states with their times, and its result. Changes nothing."""

from __future__ import annotations

import asyncio

from bus import errors
from bus.delivery.outbox import Outbox
from bus.delivery.results import ResultBook
from bus.delivery.store import Command, DeliveryReader
from bus.delivery.watching import Watchers
from bus.exchange.calls import ClientAnswer
from bus.ports import Clock
from evidence import header

FINAL = frozenset({"completed", "failed", "expired"})


class Statuses:
    """The commands of one node.

    Args:
        clock: for waiting.
        store: what is stored of them.
        outbox: knows what was sent before it is stored.
        results: contents.
        watchers: of changes.
    """

    def __init__(
        self, clock: Clock, store: DeliveryReader, outbox: Outbox, results: ResultBook, watchers: Watchers
    ) -> None:
        self._clock = clock
        self._store = store
        self._outbox = outbox
        self._results = results
        self._watchers = watchers

    async def of(self, record_id: str, client: str) -> Command:
        """The command with that record id, if that subsystem sent it.

        Raises:
            NotFound: it did not.
        """
        command = await self._store.command(record_id)
        if command is None or command.header.source != client:
            raise errors.NotFound(f"{client} has sent no command with this id through this gateway")
        return command

    async def wait(self, command: Command, deadline_s: float) -> Command:
        """The command once its state is final, or as it is when the deadline has passed."""
        until_s = self._clock.monotonic() + deadline_s
        while command.state not in FINAL:
            left_s = until_s - self._clock.monotonic()
            future = self._watchers.watch(command.header.id) if left_s > 0 else None
            if future is None:
                return command
            try:
                command = await self._again(command)  # it may have changed before it was watched
                if command.state not in FINAL:
                    await asyncio.wait({future}, timeout=left_s)
                    command = await self._again(command)
            finally:
                self._watchers.leave(command.header.id, future)
        return command

    async def _again(self, command: Command) -> Command:
        return await self._store.command(command.header.id) or command

    def told(self, command: Command) -> dict[str, object]:
        """The command as a client system reads it; `result` is where its result is, once there is one."""
        head, idx = command.header, command.idx
        sent = self._outbox.sent_at(idx)
        sent_at = command.sent_at or (header.encode_time(sent) if sent is not None else None)
        state = "sent" if command.state == "accepted" and sent_at else command.state
        times = {"accepted": head.time, "sent": sent_at, "delivered": command.delivered_at}
        if command.closed_at is not None:
            times[command.state] = command.closed_at
        found: dict[str, object] = {
            "id": head.id,
            "state": state,
            "service": head.to,
            "operation": head.operation,
            "expires": head.expires,
            "times": {name: at for name, at in times.items() if at is not None},
            "records": {
                name: index
                for name, index in (("command", idx), ("receipt", command.receipt_idx), ("result", command.closing_idx))
                if index is not None
            },
        }
        if command.code:
            found["code"] = command.code
        if command.closing_idx is not None:
            found["result"] = f"/exchanges/{head.id}/result"
        return found

    async def result(self, command: Command) -> ClientAnswer:
        """See `ResultBook.give`."""
        return await self._results.give(command)
