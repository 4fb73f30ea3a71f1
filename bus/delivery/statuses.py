"""What a client system is told of its commands: their states with times and records, and results. Changes nothing."""

from __future__ import annotations

import asyncio
from datetime import datetime

import msgspec

from bus import errors
from bus.delivery.changes import CLOSED
from bus.delivery.notices import shown
from bus.delivery.outbox import Outbox
from bus.delivery.outgoing import OutgoingCommand
from bus.delivery.results import ResultBook
from bus.delivery.store import Command, DeliveryReader
from bus.delivery.watching import Watchers
from bus.exchange.calls import ClientAnswer
from bus.ports import Clock
from evidence import header

FINAL = CLOSED
STATES = ("accepted", "sent", "delivered", "processing", "completed", "failed", "dead", "cancelled", "expired")


class Page(msgspec.Struct, frozen=True):
    """Which commands are listed.

    Attributes:
        client: the subsystem that sent them.
        state: only those in that state; empty: in any.
        since: only those accepted then or later.
        below: only those with a smaller log index, where an earlier page ended.
        limit: most of them.
    """

    client: str
    state: str = ""
    since: datetime | None = None
    below: int | None = None
    limit: int = 50


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

    async def known(self, record_id: str) -> Command:
        """A command that this node has just accepted, or found by its key.

        Raises:
            NotFound: it was kept as long as the settings say.
        """
        command = await self._store.command(record_id)
        if command is None:
            raise errors.NotFound("the command is no longer known")
        return command

    async def page(self, page: Page) -> tuple[list[Command], int | None]:
        """Commands of a subsystem, the newest first, and where the next page begins."""
        where, params = ["client = ?"], list[object]([page.client])
        if page.state:
            where.append("state = ?")
            params.append("accepted" if page.state == "sent" else page.state)
        if page.since is not None:  # ids begin with the time in ms (RFC 9562 section 5.7)
            stamp = f"{max(0, int(page.since.timestamp() * 1000)):012x}"
            where.append("command.id >= ?")
            params.append(f"{stamp[:8]}-{stamp[8:]}")
        if page.below is not None:
            where.append("command.idx < ?")
            params.append(page.below)
        found = await self._store.page(
            f"{' AND '.join(where)} ORDER BY command.idx DESC LIMIT ?", *params, page.limit + 1
        )
        shown_ = found[: page.limit]
        below = shown_[-1].idx if len(found) > page.limit else None
        if page.state in ("accepted", "sent"):
            shown_ = [one for one in shown_ if self._state(one) == page.state]
        return shown_, below

    async def wait(self, command: Command, deadline_s: float) -> Command:
        """The command once its state is final or it has died, or as it is when the deadline has passed."""
        until_s = self._clock.monotonic() + deadline_s
        ends = FINAL if command.state == "dead" else FINAL | {"dead"}
        while command.state not in ends:
            left_s = until_s - self._clock.monotonic()
            future = self._watchers.watch(command.header.id, command.header.source) if left_s > 0 else None
            if future is None:
                return command
            try:
                command = await self._again(command)  # it may have changed before it was watched
                if command.state not in ends:
                    await asyncio.wait({future}, timeout=left_s)
                    command = await self._again(command)
            finally:
                self._watchers.leave(command.header.id, command.header.source, future)
        return command

    async def _again(self, command: Command) -> Command:
        return await self._store.command(command.header.id) or command

    def _sent_at(self, command: Command | OutgoingCommand) -> str | None:
        sent = self._outbox.sent_at(command.idx)
        return command.sent_at or (header.encode_time(sent) if sent is not None else None)

    def _state(self, command: Command) -> str:
        return "sent" if command.state == "accepted" and self._sent_at(command) else command.state

    def standing(self, one: OutgoingCommand) -> OutgoingCommand:
        """The command as its client system would be told of it now: what was sent is not stored before its receipt."""
        sent_at, waits_for = self._sent_at(one), self._outbox.orders.waits_for(one.idx)
        state = "sent" if one.state == "accepted" and sent_at else one.state
        return msgspec.structs.replace(one, state=state, sent_at=sent_at, waits_for=waits_for)

    def told(self, command: Command) -> dict[str, object]:
        """The command as a client system reads it; `result` is where its result is, once there is one."""
        head, idx = command.header, command.idx
        times = {
            "accepted": head.time,
            "sent": self._sent_at(command),
            "delivered": command.delivered_at,
            "processing": command.processing_at,
            "dead": command.dead_at,
        }
        records = {
            "command": idx,
            "receipt": command.receipt_idx,
            "processing": command.processing_idx,
            "dead": command.dead_idx,
            "cancel": command.cancel_idx,
            "outcome": command.outcome_idx,
            "result": command.closing_idx,
        }
        if command.closed_at is not None:
            times[command.state] = command.closed_at
        found: dict[str, object] = {
            "id": head.id,
            "state": self._state(command),
            "service": head.to,
            "operation": head.operation,
            "expires": head.expires,
            "times": {name: at for name, at in times.items() if at is not None},
            "records": {name: index for name, index in records.items() if index is not None},
        }
        if command.code:
            found["code"] = command.code
        if command.notice is not None and command.state in ("processing", "dead"):
            found["notice"] = shown(command.notice)
        if waits_for := self._outbox.orders.waits_for(idx):
            found["waits_for"] = waits_for
        if command.cancel_at is not None:
            answer = {"answer": command.cancel_answer} if command.cancel_answer else {}
            found["cancel"] = {"asked": command.cancel_at, **answer}
        if command.closing_idx is not None:
            found["result"] = f"/exchanges/{head.id}/result"
        return found

    async def result(self, command: Command) -> ClientAnswer:
        """See `ResultBook.give`."""
        return await self._results.give(msgspec.structs.replace(command, state=self._state(command)))
