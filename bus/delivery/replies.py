"""What comes back: receipts for what this node sent, results and refusals of its commands.

A receipt ends the repeating of what it is for; one with contents is a notice of how a command goes. A result or a
refusal closes a command, in one commit with this node's own receipt for it; its contents are kept, encrypted, for the
client system. Matched in every field as an answer is; what matches nothing that is open here is dropped. A repeat of
what is known gets the first receipt again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from bus import envelope as wire
from bus import errors
from bus.delivery.cancelrows import CANCEL, OF_HASH, answer_row, cancelled_row
from bus.delivery.changes import Changes
from bus.delivery.notices import Notice, is_news, notice_row, read_notice
from bus.delivery.outbox import Outbox
from bus.delivery.replying import Replier
from bus.delivery.results import ResultBook
from bus.delivery.store import (
    Command,
    DeliveryReader,
    arrived_row,
    closed_row,
    delivered_row,
    taken_row,
)
from bus.delivery.watching import Watchers
from bus.exchange.composing import Draft
from bus.exchange.keeping import Keeper, Row
from bus.exchange.opening import Opened, unseal
from bus.exchange.verification import RecordVerifier, VerifiedRecord
from bus.exchange.versions import Versions
from bus.ports import Clock, ExchangeObserver, Pulled
from bus.sealing.epoch import Opener
from bus.sealing.keys import SealingKeyPair
from evidence import header, leaf
from evidence.errors import EvidenceError
from evidence.header import Header
from evidence.log import ExchangeLog, Logged
from registry.view import DirectoryView

_log = structlog.get_logger("lienthong.delivery")
_REPLIES = frozenset({"receipt", "result", "refusal"})
_LATER_S = 5.0


class ReplyTaker:
    """Takes the replies to what one node sent. All collaborators are given; see the composition root."""

    def __init__(
        self,
        *,
        genesis: str,
        member: str,
        clock: Clock,
        observer: ExchangeObserver,
        log: ExchangeLog,
        directory: Callable[[], DirectoryView],
        keeper: Keeper,
        verifier: RecordVerifier,
        opener: Opener,
        member_keys: Mapping[str, SealingKeyPair],
        store: DeliveryReader,
        outbox: Outbox,
        replier: Replier,
        results: ResultBook,
        watchers: Watchers,
        changes: Changes,
        versions: Versions,
        max_envelope_bytes: int,
        remembered_s: float,
    ) -> None:
        self._genesis = genesis
        self._member = member
        self._clock = clock
        self._observer = observer
        self._log = log
        self._directory = directory
        self._keeper = keeper
        self._verifier = verifier
        self._opener = opener
        self._member_keys = member_keys
        self._store = store
        self._outbox = outbox
        self._replier = replier
        self._results = results
        self._watchers = watchers
        self._changes = changes
        self._versions = versions
        self._max_envelope_bytes = max_envelope_bytes
        self._remembered_s = remembered_s
        self._taking: set[bytes] = set()

    async def on_reply(self, message: Pulled) -> None:
        """Handles one message of the result stream; never raises for what a stranger sent."""
        hashed = b""
        try:
            record = self._admit(message)
            if record.leaf_hash in self._taking:
                await message.later(1.0)
                return
            self._taking.add(hashed := record.leaf_hash)
            await (self._receipt(record) if record.header.type == "receipt" else self._result(record))
            await message.done()
        except errors.Dropped as drop:
            self._observer.dropped(drop.code)
            self._versions.unread(drop, message.subject.rpartition(".")[2])
            await (message.later(_LATER_S) if drop.code == "log-unwritable" else message.done())
        except errors.BusError as error:  # the directory is too old, or a contract is not here yet
            self._observer.dropped(error.code) if error.code in errors.DROP_CODES else None
            await message.later(error.retry_after_s or _LATER_S)
        except EvidenceError as error:
            self._keeper.forget_notes()
            self._outbox.doubt()
            _log.warning("reply.not-taken", code=error.code)
            await message.later(_LATER_S)
        finally:
            self._taking.discard(hashed)

    def _admit(self, message: Pulled) -> VerifiedRecord:
        if not self._log.writable:
            raise errors.Dropped("log-unwritable")
        view, now = self._directory(), self._clock.now()
        envelope = wire.decode(message.data, self._max_envelope_bytes)
        return self._verifier.verify(envelope, view, now, _REPLIES, message.subject.rpartition(".")[2])

    def _now_text(self) -> str:
        return header.encode_time(self._clock.now())

    def _sent_at(self, idx: int) -> str | None:
        at = self._outbox.sent_at(idx)
        return None if at is None else header.encode_time(at)

    # Receipts -----------------------------------------------------------------------------------------------------

    async def _receipt(self, record: VerifiedRecord) -> None:
        replied = bytes.fromhex(record.header.inreplyto or "")
        command = await self._store.command_of(replied)
        if command is None:
            await self._receipt_of_another(record, replied)
            return
        _match(record.header, command.header)
        contents = self._contents(record)
        if contents:
            await self._notice(record, command, read_notice(contents))
            return
        if command.receipt_idx is not None:
            if await self._of_another_node(record, command.receipt_idx):
                await self._second_receipt(record, command)
            return  # else a repeat
        idx = command.idx
        await self._log.append(
            [record.leaf],
            [*self._proven(record), delivered_row(0, idx, self._now_text(), self._sent_at(idx)), arrived_row(idx)],
        )
        self._outbox.arrived(idx)
        self._watchers.notify(command.header.id)

    async def _second_receipt(self, record: VerifiedRecord, command: Command) -> None:
        """Of a node that took the command over: evidence that both sides have, one of each node; it changes nothing."""
        member, of_node = record.node.member, f"{command.header.id}/{record.header.node}"
        if await self._store.taken(member, record.leaf_hash, of_node) is None:
            until_s = int(self._clock.now().timestamp()) + int(self._remembered_s)
            taken = taken_row(0, member, of_node, record.leaf_hash, until_s, None)
            await self._log.append([record.leaf], [*self._proven(record), taken])

    async def _receipt_of_another(self, record: VerifiedRecord, replied: bytes) -> None:
        """Of a result of ours, or of the wish to cancel a command."""
        outgoing = await self._store.outgoing_of(replied)
        if outgoing is None:
            raise errors.Dropped("reply-unmatched")
        sent = outgoing.header
        _match(record.header, sent)
        rows = [*self._proven(record), arrived_row(outgoing.idx)]
        target = await self._target(replied) if sent.operation == CANCEL and sent.type == "command" else None
        ends = target is not None and target.receipt_idx is None and target.closing_idx is None
        if target is not None and ends:
            rows += [cancelled_row(0, target.idx, self._now_text()), *self._changes.rows(0, target, "cancelled")]
        (logged,) = await self._log.append([record.leaf], rows)
        self._outbox.arrived(outgoing.idx)
        if target is not None and ends:
            self._changes.happened(logged.index, target, "cancelled")

    async def _target(self, wish: bytes) -> Command | None:
        """The command that the wish with that leaf hash is about."""
        for _, target_idx, _ in await self._store.rows(OF_HASH, wish):
            return (await self._store.commands("command.idx = ?", target_idx))[0]
        return None

    def _contents(self, record: VerifiedRecord) -> bytes:
        """What a receipt says; nothing when it cannot be opened, because its header alone is a receipt."""
        pair = self._member_keys.get(record.header.keyid or "")
        if pair is not None:
            try:
                return unseal(self._opener, self._genesis, record, self._member, pair, "answer").body
            except errors.AnswerUnverifiable:
                _log.warning("receipt.unreadable", member=record.node.member)
        if record.header.class_ != "ok":
            raise errors.Dropped("reply-unmatched")
        return b""

    async def _notice(self, record: VerifiedRecord, command: Command, notice: Notice | None) -> None:
        """It is taken with a receipt whatever it says, or its sender would repeat it for ever."""
        if await self._repeated(record):
            return
        news = notice is not None and is_news(command, record) and not await self._said_before(command, record)
        rows: list[Row] = []
        if notice is not None and news:
            rows.append(notice_row(0, command, record, notice, self._now_text()))
            rows += self._changes.rows(0, command, notice.state, notice.code)
        received, receipt, logged = await self._take(record, rows)
        if notice is not None and news:
            self._changes.happened(received.index, command, notice.state, notice.code)
        await self._replier.send_first(record, receipt, logged)

    async def _said_before(self, command: Command, record: VerifiedRecord) -> bool:
        """Whether another node said something later: one that died says what it had to say when it is back."""
        if command.notice_node in (None, record.header.node):
            return False
        newest = max(idx for idx in (command.processing_idx, command.dead_idx) if idx is not None)
        ((data,),) = await self._store.rows("SELECT data FROM leaf WHERE idx = ?", newest)
        return record.header.time < header.decode(leaf.unwrap(data)[1]).time

    # Results and refusals -----------------------------------------------------------------------------------------

    async def _repeated(self, record: VerifiedRecord) -> bool:
        """Whether it was taken before; then the first receipt goes out again.

        Raises:
            Dropped: another record came under the same id.
        """
        member = record.node.member
        known = await self._store.taken(member, record.leaf_hash, record.header.id)
        if known is None:
            return False
        if known.leaf_hash != record.leaf_hash:
            self._observer.alarm("id-reused", member)
            raise errors.Dropped("id-reused")
        if known.receipt is not None:
            await self._replier.send_again(record, known.receipt)
        return True

    def _proven(self, record: VerifiedRecord) -> list[Row]:
        return [*self._keeper.proof(0, record), *self._store.forget_rows(int(self._clock.now().timestamp()))]

    async def _take(self, record: VerifiedRecord, rows: list[Row]) -> tuple[Logged, Draft, Logged]:
        """The received record and this node's receipt for it in one commit."""
        now = self._clock.now()
        key = self._replier.key_of(record.node.member, now)
        receipt = self._replier.compose(record.header, record.leaf_hash, key, "receipt", "ok", now)
        until_s = int(now.timestamp()) + int(self._remembered_s)
        taken = taken_row(0, record.node.member, record.header.id, record.leaf_hash, until_s, receipt)
        received, logged = await self._log.append([record.leaf, receipt.leaf], [*rows, *self._proven(record), taken])
        return received, receipt, logged

    async def _result(self, record: VerifiedRecord) -> None:
        if await self._repeated(record):
            return
        replied = bytes.fromhex(record.header.inreplyto or "")
        command = await self._store.command_of(replied)
        if command is None:
            await self._refused_wish(record, replied)
            return
        _match(record.header, command.header)
        if command.closing_idx is not None and await self._of_another_node(record, command.closing_idx):
            await self._second(record, command)
            return
        if command.closing_idx is not None:
            self._observer.alarm("second-result", record.node.member)
            raise errors.Dropped("reply-unmatched")
        await self._close(record, command)

    async def _of_another_node(self, record: VerifiedRecord, idx: int) -> bool:
        """Whether the record at `idx` is by another node of the provider: one took the work of the other over."""
        ((data,),) = await self._store.rows("SELECT data FROM leaf WHERE idx = ?", idx)
        return header.decode(leaf.unwrap(data)[1]).node != record.header.node

    async def _second(self, record: VerifiedRecord, command: Command) -> None:
        """A node that was taken for dead had its result already: it is evidence, gets its receipt, changes nothing."""
        _, receipt, logged = await self._take(record, [arrived_row(command.idx)] if _refuses(record) else [])
        _log.warning("command.answered-twice", id=command.header.id, member=record.node.member)
        if _refuses(record):
            self._outbox.arrived(command.idx)
        await self._replier.send_first(record, receipt, logged)

    async def _refused_wish(self, record: VerifiedRecord, replied: bytes) -> None:
        """The provider does not cancel: it has taken the command, or it does not know the wish."""
        found = await self._store.rows(OF_HASH, replied)
        if not found or record.header.type != "refusal":
            raise errors.Dropped("reply-unmatched")
        idx, target_idx, data = found[0]
        _match(record.header, header.decode(leaf.unwrap(data)[1]))
        try:
            code = self._open(record).particulars.fault
        except errors.AnswerUnverifiable as error:
            code = error.code
        _, receipt, logged = await self._take(record, [answer_row(idx, code), arrived_row(idx)])
        self._outbox.arrived(idx)
        for target in await self._store.commands("command.idx = ?", target_idx):
            self._watchers.notify(target.header.id)
        await self._replier.send_first(record, receipt, logged)

    async def _close(self, record: VerifiedRecord, command: Command) -> None:
        state, code, rows = await self._judge(record, command)
        if command.state == "cancelled" and state != "cancelled":
            self._observer.alarm("done-although-cancelled", record.node.member)
        rows.append(closed_row(0, command.idx, state, self._now_text(), code, self._sent_at(command.idx)))
        rows += self._changes.rows(0, command, state, code)
        # A result does not end the repeating: the receipt for the command may have been lost, and it is evidence too.
        refused = record.header.type == "refusal"
        if refused:
            rows.append(arrived_row(command.idx))
        received, receipt, logged = await self._take(record, rows)
        if refused:
            self._outbox.arrived(command.idx)
        self._changes.happened(received.index, command, state, code)
        self._ended(record, command)
        await self._replier.send_first(record, receipt, logged)

    def _ended(self, record: VerifiedRecord, command: Command) -> None:
        head = command.header
        seconds = (self._clock.now() - header.decode_time(head.time)).total_seconds()
        class_ = record.header.class_ or "ok"
        self._observer.ended("client", head.to, record.node.member, class_, max(0.0, seconds), 0, 0)

    async def _judge(self, record: VerifiedRecord, command: Command) -> tuple[str, str, list[Row]]:
        """State and code of the command, and the rows that keep the contents for the client system."""
        try:
            opened = self._open(record)
        except errors.AnswerUnverifiable as error:
            return "failed", error.code, []
        now = self._clock.now()
        rows = [self._keeper.particulars(0, opened.kept, now)]
        try:
            await self._results.check(command, opened)
        except errors.BusError as error:
            if error.disposition == "retry":
                raise
            return "failed", error.code, rows
        rows.append(self._results.keep(command.idx, opened, now))
        fault = opened.particulars.fault
        if fault == errors.CommandCancelled.code and command.cancel_idx is not None:
            return "cancelled", "", rows
        return "completed" if record.header.class_ == "ok" else "failed", fault, rows

    def _open(self, record: VerifiedRecord) -> Opened:
        pair = self._member_keys.get(record.header.keyid or "")
        if pair is None:
            raise errors.AnswerUnverifiable("the result is sealed for a key that this member no longer has")
        return unseal(self._opener, self._genesis, record, self._member, pair, "answer")


def _refuses(record: VerifiedRecord) -> bool:
    """A refusal is receipt and result in one."""
    return record.header.type == "refusal"


def _match(reply: Header, sent: Header) -> None:
    """The reply belongs to what was sent, in every field; `inreplyto` has found it."""
    if reply.source != sent.to or reply.to != sent.source or reply.operation != sent.operation:
        raise errors.Dropped("reply-unmatched")
