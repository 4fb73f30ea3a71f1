"""The answering side of a command: taken with a signed receipt, done, and its result on the way back.

Steps 1 to 8 as for a query, with other limits of time. What fails up to step 4 is dropped: the sender's outbox goes on
until a receipt comes or the command expires. A reason that passes (a quota, maintenance, a contract that is not here
yet) puts the message back; any other gives a signed refusal, in one commit with the received header. Else the received
header and the receipt are one commit, and only then the message is acknowledged; then the source is asked once, and the
result is another commit, with its row in the outbox.

Promised: one receipt a command; its effect at least once, with the same exchange id each time; exactly once unless this
node dies, or its log fails, between the source's answer and the commit of the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from bus import envelope as wire
from bus import errors
from bus.delivery.cancelled import Cancellations
from bus.delivery.outbox import Outbox
from bus.delivery.replying import Replier
from bus.delivery.store import DeliveryReader, Taken, forget_rows, outbox_row, taken_row, task_done_row, task_row
from bus.exchange.composing import Draft
from bus.exchange.examining import Examined, Examiner
from bus.exchange.keeping import Keeper, Row
from bus.exchange.limits import InFlight
from bus.exchange.problems import seal_problem
from bus.exchange.sourcing import Sourcing, defect, problem_particulars
from bus.exchange.verification import RecordVerifier, VerifiedRecord
from bus.ports import Clock, ExchangeObserver, Pulled
from bus.sealing.contents import Particulars
from evidence import header
from evidence.errors import EvidenceError, LogUnwritable
from evidence.header import AnswerClass
from evidence.log import ExchangeLog
from registry.view import DirectoryView, SealingKeyEntry

_log = structlog.get_logger("lienthong.delivery")
_COMMAND = frozenset({"command"})
_LATER_S, _LONGEST_S, _BUSY_S = 5.0, 30.0, 1.0
_KEPT_AFTER_S = 3_600


class CommandTaker:
    """Takes commands of other members, and does them. All collaborators are given; see the composition root."""

    def __init__(
        self,
        *,
        clock: Clock,
        observer: ExchangeObserver,
        log: ExchangeLog,
        directory: Callable[[], DirectoryView],
        examiner: Examiner,
        sourcing: Sourcing,
        keeper: Keeper,
        verifier: RecordVerifier,
        store: DeliveryReader,
        outbox: Outbox,
        replier: Replier,
        cancellations: Cancellations,
        per_service: InFlight,
        max_envelope_bytes: int,
        result_life_s: float,
    ) -> None:
        self._clock = clock
        self._observer = observer
        self._log = log
        self._directory = directory
        self._examiner = examiner
        self._sourcing = sourcing
        self._keeper = keeper
        self._verifier = verifier
        self._store = store
        self._outbox = outbox
        self._replier = replier
        self._cancellations = cancellations
        self._per_service = per_service
        self._max_envelope_bytes = max_envelope_bytes
        self._result_life_s = result_life_s
        self._taking: set[str] = set()
        self._doing: set[int] = set()

    async def on_command(self, message: Pulled) -> None:
        """Handles one message of the command stream, up to its result; never raises for what a stranger sent."""
        try:
            record, key = self._admit(message)  # 1-4
        except errors.Dropped as drop:
            self._observer.dropped(drop.code)
            await (message.later(_LATER_S) if drop.code == "log-unwritable" else message.done())
            return
        except errors.DirectoryStale as stale:
            self._observer.dropped(stale.code)
            await message.later(_LATER_S)
            return
        if record.header.id in self._taking:
            await message.later(1.0)
            return
        self._taking.add(record.header.id)
        self._observer.in_flight("provider", 1)
        try:
            await self._take(message, record, key)
        except (EvidenceError, errors.DirectoryStale) as error:  # whatever was stored, it comes again
            self._keeper.forget_notes()
            self._outbox.doubt()
            _log.warning("command.not-taken", code=error.code)
            await message.later(_LATER_S)
        finally:
            self._taking.discard(record.header.id)
            self._observer.in_flight("provider", -1)

    def _admit(self, message: Pulled) -> tuple[VerifiedRecord, SealingKeyEntry]:
        if not self._log.writable:
            raise errors.Dropped("log-unwritable")
        now, view = self._clock.now(), self._directory()
        envelope = wire.decode(message.data, self._max_envelope_bytes)  # 1
        record = self._verifier.verify(envelope, view, now, _COMMAND, message.subject.rpartition(".")[2])  # 1-3
        if record.expires_at is None:
            raise errors.Dropped("expires-missing")
        return record, self._replier.key_of(record.node.member, now)

    async def _take(self, message: Pulled, record: VerifiedRecord, key: SealingKeyEntry) -> None:
        member = record.node.member
        known = await self._store.taken(member, record.leaf_hash, record.header.id)  # 4
        if known is not None:
            await self._known(message, record, known)
            return
        if self._cancellations.is_wish(record):
            await self._cancel(message, record, key)
            return
        if self._cancellations.holds(record):
            await self._refuse(record, key, errors.CommandCancelled("its sender cancelled it before it was taken"))
            await message.done()
            return
        service = self._directory().service(record.header.to)
        try:
            self._per_service.enter(record.header.to, None if service is None else service.limits.max_concurrent)
        except errors.TooManyInFlight:
            await message.later(_BUSY_S)
            return
        try:
            await self._serve(message, record, key)
        finally:
            self._per_service.leave(record.header.to)

    async def _serve(self, message: Pulled, record: VerifiedRecord, key: SealingKeyEntry) -> None:
        try:
            examined = await self._examine(record)  # 5-8
        except errors.BusError as error:
            self._observer.refused("provider", error.reason_code or error.code)
            if error.disposition == "retry":
                await message.later(min(error.retry_after_s or _LATER_S, _LONGEST_S))
            else:
                await self._refuse(record, key, error)
                await message.done()
            return
        idx = await self._receive(record, key, examined)
        await message.done()
        await self._do(idx, record, examined, key)

    async def _cancel(self, message: Pulled, record: VerifiedRecord, key: SealingKeyEntry) -> None:
        """A command that was not taken will be refused: the receipt of the wish says so, durably."""
        now = self._clock.now()
        try:
            target = self._cancellations.read(record)
            if target.id in self._taking:
                await message.later(_BUSY_S)
                return
            marks = await self._cancellations.hold(record, target, int(now.timestamp()))
        except errors.BusError as error:
            if error.disposition == "retry":
                await message.later(_LATER_S)
                return
            await self._refuse(record, key, error)
        else:
            receipt = self._replier.compose(record.header, record.leaf_hash, key, "receipt", "ok", now)
            rows = [*self._received_rows(record, receipt), *marks]
            _, logged = await self._log.append([record.leaf, receipt.leaf], rows)
            await self._replier.send_first(record, receipt, logged)
        await message.done()

    async def _known(self, message: Pulled, record: VerifiedRecord, known: Taken) -> None:
        """A repeat: it gets the first receipt again and has no second effect."""
        if known.leaf_hash != record.leaf_hash:
            self._observer.dropped("id-reused")
            self._observer.alarm("id-reused", record.node.member)
            await message.done()
            return
        self._observer.dropped("replayed")
        if known.receipt is not None:
            await self._replier.send_again(record, known.receipt)
        await message.done()
        if known.open_task and known.idx not in self._doing:
            await self.resume(known.idx, record)

    async def _examine(self, record: VerifiedRecord) -> Examined:
        try:
            return await self._examiner.examine(record, self._clock.now())
        except errors.BusError:
            raise
        except Exception as error:  # a defect: the message comes again, until it expires
            raise defect("examining", record.header.to, error) from error

    def _received_rows(self, record: VerifiedRecord, receipt: Draft | None) -> list[Row]:
        now_s = int(self._clock.now().timestamp())
        expires_s = int(record.expires_at.timestamp()) if record.expires_at else now_s
        head = record.header
        return [
            *self._keeper.proof(0, record),
            taken_row(0, record.node.member, head.id, record.leaf_hash, expires_s + _KEPT_AFTER_S, receipt),
            *forget_rows(now_s),
        ]

    async def _receive(self, record: VerifiedRecord, key: SealingKeyEntry, examined: Examined) -> int:
        """The received header and the receipt in one commit; then the receipt goes out. Log index of the header."""
        now = self._clock.now()
        receipt = self._replier.compose(record.header, record.leaf_hash, key, "receipt", "ok", now)
        rows = self._received_rows(record, receipt)
        rows.append(self._keeper.particulars(0, examined.kept, now))
        rows.append(task_row(0, wire.encode(record.envelope)))
        received, logged = await self._log.append([record.leaf, receipt.leaf], rows)
        await self._replier.send_first(record, receipt, logged)
        return received.index

    async def _refuse(self, record: VerifiedRecord, key: SealingKeyEntry, error: errors.BusError) -> None:
        """The received header and the refusal in one commit: receipt and result at once."""
        now = self._clock.now()
        draft = self._replier.compose(
            record.header, record.leaf_hash, key, "refusal", "refused", now, problem_particulars(error),
            seal_problem(error),
        )  # fmt: skip
        since_s, row = self._outgoing(record, draft, 1)
        rows = self._received_rows(record, None)
        rows += [self._keeper.particulars(1, draft.kept, now), row]
        _, refusal = await self._log.append([record.leaf, draft.leaf], rows)
        self._outbox.put(refusal.index, since_s)

    def _outgoing(self, record: VerifiedRecord, draft: Draft, position: int) -> tuple[int, Row]:
        since_s = int(self._clock.now().timestamp())
        subject = self._replier.subject(record.node.member)
        return since_s, outbox_row(position, draft, subject, since_s, since_s + int(self._result_life_s))

    async def resume_all(self) -> None:
        """What an earlier run took and did not end."""
        await asyncio.gather(*(self._resume_left(idx) for idx in await self._store.tasks()))

    async def _resume_left(self, idx: int) -> None:
        while True:
            try:
                return await self.resume(idx)
            except (EvidenceError, errors.BusError) as error:  # no log or no directory now
                _log.warning("command.not-resumed", index=idx, code=error.code)
                await asyncio.sleep(_LATER_S)

    async def resume(self, idx: int, record: VerifiedRecord | None = None) -> None:
        """Does a command that has its receipt and no result, with the same exchange id as before."""
        envelope = await self._store.task(idx)
        if envelope is None:
            return
        try:
            record = record or self._proven(envelope)
            key = self._replier.key_of(record.node.member, self._clock.now())
        except errors.Dropped as drop:  # its sender is not to be proven or answered any more: a person decides
            self._observer.alarm("command-stranded", "")
            _log.error("command.stranded", index=idx, code=drop.code)
            return
        while True:
            try:
                examined = await self._examine(record)
            except errors.BusError as error:
                if error.disposition == "retry" and record.expires_at and self._clock.now() < record.expires_at:
                    await asyncio.sleep(min(error.retry_after_s or _LATER_S, _LATER_S))
                    continue
                await self._end(idx, record, key, "refused", problem_particulars(error), seal_problem(error))
            else:
                await self._do(idx, record, examined, key)
            return

    def _proven(self, envelope: bytes) -> VerifiedRecord:
        decoded = wire.decode(envelope, self._max_envelope_bytes)
        head = header.decode(decoded.header)
        node = next((one for one in self._directory().nodes_of(_member(head.node)) if one.node == head.node), None)
        if node is None:
            raise errors.Dropped("node-unknown")
        return self._verifier.prove(decoded, head, node, self._clock.now())

    async def _do(self, idx: int, record: VerifiedRecord, examined: Examined, key: SealingKeyEntry) -> None:
        """The effect, and its result."""
        if idx in self._doing:
            return
        self._doing.add(idx)
        try:
            class_, particulars, body = await self._sourcing.ask(record, examined)
            await self._end(idx, record, key, class_, particulars, body)
        finally:
            self._doing.discard(idx)

    async def _end(
        self,
        idx: int,
        record: VerifiedRecord,
        key: SealingKeyEntry,
        class_: AnswerClass,
        particulars: Particulars,
        body: bytes,
    ) -> None:
        """The result is logged, however long the log cannot be written: the effect is done."""
        now = self._clock.now()
        try:
            draft = self._replier.compose(
                record.header, record.leaf_hash, key, "result", class_, now, particulars, body
            )
        except Exception as error:  # what a source gave may not travel: that is a result too
            failure = defect("composing", record.header.to, error)
            draft = self._replier.compose(
                record.header, record.leaf_hash, key, "result", "failed", now, problem_particulars(failure),
                seal_problem(failure),
            )  # fmt: skip
        while await self._store.task(idx) is not None:
            since_s, row = self._outgoing(record, draft, 0)
            rows = [self._keeper.particulars(0, draft.kept, now), row, task_done_row(idx)]
            try:
                (logged,) = await self._log.append([draft.leaf], rows)
            except LogUnwritable as error:
                _log.warning("result.not-logged", code=error.code)
                self._outbox.doubt()
                await self._log.until_writable()
            else:
                self._outbox.put(logged.index, since_s)
                return


def _member(node: str) -> str:
    return node.rpartition("/@")[0]
