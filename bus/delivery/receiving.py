"""The answering side of a command, up to the moment from which it will be done.

Steps 1 to 8 as for a query, with other limits of time. What fails up to step 4 is dropped: the sender's outbox goes on
until a receipt comes or the command expires. A reason that passes (a quota, maintenance, a contract that is not here
yet) puts the message back; any other gives a signed refusal, in one commit with the received header. Else the received
header, the receipt and the task are one commit, and only then the message is acknowledged; `bus.delivery.running` does
the task. A message that comes again gets the first receipt again and has no second effect.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bus import envelope as wire
from bus import errors
from bus.delivery.cancelled import Cancellations
from bus.delivery.claims import Claim, Claims
from bus.delivery.doing import Ready
from bus.delivery.outbox import Outbox
from bus.delivery.replying import Replier
from bus.delivery.running import TaskRunner
from bus.delivery.store import DeliveryReader, Taken, outbox_row, taken_row
from bus.delivery.tasks import State, Task, task_inherited_row, task_row
from bus.exchange.composing import Draft
from bus.exchange.examining import Examined, Examiner
from bus.exchange.keeping import Keeper, Row
from bus.exchange.problems import seal_problem
from bus.exchange.sourcing import defect, problem_particulars
from bus.exchange.verification import RecordVerifier, VerifiedRecord
from bus.exchange.versions import Versions
from bus.ports import Clock, ExchangeObserver, Pulled
from evidence import header
from evidence.errors import EvidenceError
from evidence.log import ExchangeLog
from registry.view import DirectoryView, SealingKeyEntry

_log = structlog.get_logger("lienthong.delivery")
_COMMAND = frozenset({"command"})
_LATER_S, _LONGEST_S, _BUSY_S, _BEHIND_S = 5.0, 30.0, 5.0, 2.0
_KEPT_AFTER_S, _OTHERS_S = 3_600, 2.0


class CommandTaker:
    """Takes commands of other members. All collaborators are given; see the composition root."""

    def __init__(
        self,
        *,
        clock: Clock,
        observer: ExchangeObserver,
        log: ExchangeLog,
        directory: Callable[[], DirectoryView],
        examiner: Examiner,
        keeper: Keeper,
        verifier: RecordVerifier,
        store: DeliveryReader,
        outbox: Outbox,
        replier: Replier,
        cancellations: Cancellations,
        claims: Claims,
        runner: TaskRunner,
        versions: Versions,
        max_envelope_bytes: int,
        result_life_s: float,
    ) -> None:
        self._clock = clock
        self._observer = observer
        self._log = log
        self._directory = directory
        self._examiner = examiner
        self._keeper = keeper
        self._verifier = verifier
        self._store = store
        self._outbox = outbox
        self._replier = replier
        self._cancellations = cancellations
        self._claims = claims
        self._runner = runner
        self._versions = versions
        self._max_envelope_bytes = max_envelope_bytes
        self._result_life_s = result_life_s
        self._taking: set[str] = set()
        self._taking_hashes: set[bytes] = set()

    async def on_command(self, message: Pulled) -> None:
        """Handles one message of the command stream; never raises for what a stranger sent."""
        sender = message.subject.rpartition(".")[2]
        if self._outbox.owes_much(sender):
            await message.later(_LONGEST_S)
            return
        if self._replier.is_behind(sender):
            await message.later(_BEHIND_S)
            return
        try:
            record, key = self._admit(message)  # 1-4
        except errors.Dropped as drop:
            self._observer.dropped(drop.code)
            self._versions.unread(drop, sender)
            put_back = drop.code == "log-unwritable" or self._versions.others_read(drop)
            await (message.later(_LATER_S) if put_back else message.done())
            return
        except errors.DirectoryStale as stale:
            self._observer.dropped(stale.code)
            await message.later(_LATER_S)
            return
        if record.header.id in self._taking:
            await message.later(1.0)
            return
        self._taking.add(record.header.id)
        self._taking_hashes.add(record.leaf_hash)
        self._observer.in_flight("provider", 1)
        try:
            await self._take(message, record, key)
        except errors.BusError as error:  # which node of this member has it is not known now, or the directory is old
            _log.info("command.not-taken", code=error.code)
            await message.later(_LATER_S)
        except EvidenceError as error:  # whatever was stored, it comes again
            self._keeper.forget_notes()
            self._outbox.doubt()
            self._runner.doubt()
            _log.warning("command.not-taken", code=error.code)
            await message.later(_LATER_S)
        finally:
            self._taking.discard(record.header.id)
            self._taking_hashes.discard(record.leaf_hash)
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
        self._claims.require_ready(header.decode_time(record.header.time).timestamp())
        if self._cancellations.is_wish(record):
            await self._cancel(message, record, key)
            return
        if self._cancellations.holds(record):
            await self._refuse(record, key, errors.CommandCancelled("its sender cancelled it before it was taken"))
            await message.done()
            self._claims.done(record.leaf_hash)
            return
        if self._runner.full(record.header.to):
            await message.later(_BUSY_S)
            return
        await self._serve(message, record, key)

    async def _serve(self, message: Pulled, record: VerifiedRecord, key: SealingKeyEntry) -> None:
        try:
            examined = await self._examine(record)  # 5-8
        except errors.BusError as error:
            self._observer.refused("provider", error.reason_code or error.code)
            if error.disposition == "retry":
                await message.later(min(error.retry_after_s or _LATER_S, _LONGEST_S))
            elif await self._claimed(message, record, key):
                await self._refuse(record, key, error)
                await message.done()
                self._claims.done(record.leaf_hash)
            return
        if not await self._claimed(message, record, key):
            return
        idx = await self._receive(record, key, examined)
        await message.done()
        self._runner.begin(idx, Ready(record, examined, key))

    async def _claimed(self, message: Pulled, record: VerifiedRecord, key: SealingKeyEntry) -> bool:
        """Whether the command is this node's among those of its member; if not, the message is seen to."""
        found = await self._claims.take(record.leaf_hash, self._claim(record))
        if found is None:
            return True
        if found.state == "cancelled":
            await self._refuse(record, key, errors.CommandCancelled("its sender cancelled it before it was taken"))
            await message.done()
            self._claims.done(record.leaf_hash)
        else:  # who has it answers the repeat, when that gets there
            await message.later(_OTHERS_S)
        return False

    def _claim(self, record: VerifiedRecord) -> Claim:
        return self._claims.new(wire.encode_stored(record.envelope), self._known_until_s(record))

    @staticmethod
    def _known_until_s(record: VerifiedRecord) -> int:
        return int((record.expires_at or header.decode_time(record.header.time)).timestamp()) + _KEPT_AFTER_S

    async def _cancel(self, message: Pulled, record: VerifiedRecord, key: SealingKeyEntry) -> None:
        """A command that was not taken will be refused: the receipt of the wish says so, durably."""
        now = self._clock.now()
        try:
            target = self._cancellations.read(record)
            # the id is its sender's word; what is refused is what has that leaf hash
            if target.id in self._taking or bytes.fromhex(target.command) in self._taking_hashes:
                await message.later(_BUSY_S)
                return
            marks = await self._cancellations.hold(record, target, int(now.timestamp()))
            try:
                until_s = int(now.timestamp() + self._result_life_s) + _KEPT_AFTER_S
                other = await self._claims.cancel(bytes.fromhex(target.command), until_s)
            except errors.BusError:
                self._cancellations.release(record, target)
                raise
            if other is not None:
                self._cancellations.release(record, target)
                raise errors.AlreadyDelivered("the provider has taken the command")
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
        if known.waiting_for is not None:
            self._runner.put_if_unknown(known.idx, known.waiting_for)

    async def _examine(self, record: VerifiedRecord) -> Examined:
        try:
            return await self._examiner.examine(record, self._clock.now())
        except errors.BusError:
            raise
        except Exception as error:  # a defect: the message comes again, until it expires
            raise defect("examining", record.header.to, error) from error

    def _received_rows(self, record: VerifiedRecord, receipt: Draft | None) -> list[Row]:
        now_s, head = int(self._clock.now().timestamp()), record.header
        # what is taken over from another node may be older: it must not be forgotten in the commit that it comes with
        until_s = max(self._known_until_s(record), now_s + _KEPT_AFTER_S)
        return [
            *self._keeper.proof(0, record),
            taken_row(0, record.node.member, head.id, record.leaf_hash, until_s, receipt),
            *self._claims.rows(record.leaf_hash, until_s),
            *self._store.forget_rows(now_s),
        ]

    async def _receive(self, record: VerifiedRecord, key: SealingKeyEntry, examined: Examined) -> int:
        """The received header and the receipt in one commit; then the receipt goes out. Log index of the header."""
        now = self._clock.now()
        receipt = self._replier.compose(record.header, record.leaf_hash, key, "receipt", "ok", now)
        rows = self._received_rows(record, receipt)
        rows.append(self._keeper.particulars(0, examined.kept, now))
        now_s = int(now.timestamp())
        rows.append(task_row(0, record.header.id, record.header.to, now_s, wire.encode_stored(record.envelope)))
        received, logged = await self._log.append([record.leaf, receipt.leaf], rows)
        self._claims.took(record.leaf_hash, self._claim(record) if self._claims.shared else None)
        await self._replier.send_first(record, receipt, logged)
        return received.index

    async def receive_from_node(self, record: VerifiedRecord, claim: Claim) -> int:
        """Logs a command that another node of this member had, with a receipt of this node's own; its log index.

        Raises:
            EvidenceError: it was not logged.
            BusError: it cannot be answered now.
        """
        now = self._clock.now()
        key = self._replier.key_of(record.node.member, now)
        receipt = self._replier.compose(record.header, record.leaf_hash, key, "receipt", "ok", now)
        rows = [*self._received_rows(record, receipt), task_inherited_row(0, self.task_of(record, claim))]
        received, logged = await self._log.append([record.leaf, receipt.leaf], rows)
        await self._replier.send_first(record, receipt, logged)
        return received.index

    def task_of(self, record: VerifiedRecord, claim: Claim) -> Task:
        """The task of a command as another node had it."""
        head, now_s = record.header, int(self._clock.now().timestamp())
        since_s = claim.taken_s or now_s
        state: State = "dead" if claim.state == "dead" else "waiting"
        return Task(
            0, head.id, head.to, since_s, since_s, state, claim.attempts, claim.code, claim.detail, "", now_s,
            claim.envelope,
        )  # fmt: skip

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
        self._outbox.put(refusal.index, since_s, reply=self._replier.subject(record.header.node))

    def _outgoing(self, record: VerifiedRecord, draft: Draft, position: int) -> tuple[int, Row]:
        since_s = int(self._clock.now().timestamp())
        subject = self._replier.subject(record.header.node)
        return since_s, outbox_row(position, draft, subject, since_s, since_s + int(self._result_life_s))
