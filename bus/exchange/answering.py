"""The answering side of a query: the numbered procedure of the provider's gateway (architecture.md).

Up to step 4 a message is dropped and counted, with a rate-limited, unsigned hint. From step 5 on every request gets a
signed answer or refusal that is logged before it is sent, together with the header that was received.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime

import msgspec
import structlog

from bus import envelope as wire
from bus import errors
from bus.exchange.composing import Composer, Draft
from bus.exchange.examining import Examined, Examiner
from bus.exchange.hints import HintBucket
from bus.exchange.keeping import Keeper, Row
from bus.exchange.limits import InFlight
from bus.exchange.notices import Notices
from bus.exchange.problems import seal_problem
from bus.exchange.replay import SeenIds
from bus.exchange.sourcing import Sourcing, defect, problem_particulars
from bus.exchange.verification import RecordVerifier, VerifiedRecord
from bus.ports import Clock, ExchangeObserver, Outbound
from bus.sealing.contents import Particulars
from bus.transport import subjects
from evidence.errors import LogUnwritable
from evidence.header import AnswerClass, Type
from evidence.log import ExchangeLog, Logged
from registry.view import DirectoryView, SealingKeyEntry

_log = structlog.get_logger("lienthong.answering")
_QUERY = frozenset({"query"})
_SAFE = frozenset({"GET", "HEAD"})
_UNDECLARED_BYTES = 64 * 1024
_KEPT_AFTER_S = 61
_REPLY_TOKEN = re.compile(r"[A-Za-z0-9.]{1,80}")
_hint = msgspec.msgpack.Encoder().encode


class Answerer:
    """The answering side of one node. All collaborators are given; see the composition root."""

    def __init__(
        self,
        *,
        clock: Clock,
        observer: ExchangeObserver,
        log: ExchangeLog,
        outbound: Outbound,
        directory: Callable[[], DirectoryView],
        examiner: Examiner,
        sourcing: Sourcing,
        composer: Composer,
        keeper: Keeper,
        verifier: RecordVerifier,
        seen: SeenIds,
        per_service: InFlight,
        max_envelope_bytes: int,
        notices: Notices,
        hints_per_s: float = 20.0,
    ) -> None:
        self._clock = clock
        self._observer = observer
        self._log = log
        self._outbound = outbound
        self._directory = directory
        self._composer = composer
        self._keeper = keeper
        self._verifier = verifier
        self._seen = seen
        self._per_service = per_service
        self._max_envelope_bytes = max_envelope_bytes
        self.hints = HintBucket(hints_per_s, clock.monotonic)
        self._notices = notices
        self._examiner = examiner
        self._sourcing = sourcing

    async def on_query(self, subject: str, reply: str, data: bytes) -> None:
        """Handles one message on the query subject; never raises for what a stranger sent."""
        started = self._clock.monotonic()
        now = self._clock.now()
        try:
            view = self._directory()
            record, key = self._admit(view, subject, reply, data, now)  # 1-4
        except errors.Dropped as drop:
            await self._drop(drop.code, subject, reply)
            return
        except errors.DirectoryStale as stale:
            await self._drop(stale.code, subject, reply)
            return
        self._observer.in_flight("provider", 1)
        try:
            await self._serve(view, record, key, reply, now, started)
        except (LogUnwritable, errors.LogUnwritable):
            # Nothing was sent; the id stays reserved because the commit's outcome may be unknown.
            self._keeper.forget_notes()
            await self._drop("log-unwritable", subject, reply)
        except errors.BrokerUnavailable:
            _log.info("answer.unsent", service=record.header.to)
        finally:
            self._observer.in_flight("provider", -1)

    def _admit(
        self, view: DirectoryView, subject: str, reply: str, data: bytes, now: datetime
    ) -> tuple[VerifiedRecord, SealingKeyEntry]:
        if not self._log.writable:
            raise errors.Dropped("log-unwritable")
        envelope = wire.decode(data, self._max_envelope_bytes)  # 1
        record = self._verifier.verify(envelope, view, now, _QUERY, subject.rpartition(".")[2])  # 1-3
        inbox = subjects.inbox(record.node.node)
        if not reply.startswith(inbox) or not _REPLY_TOKEN.fullmatch(reply, len(inbox)):
            raise errors.Dropped("reply-subject-foreign")
        expires_at = record.expires_at
        if expires_at is None:
            raise errors.Dropped("expires-missing")
        key = view.sealing_key(record.node.node, "answer", now)
        if key is None:
            raise errors.Dropped("answer-key-missing")
        now_s = int(now.timestamp())
        until_s = int(expires_at.timestamp()) + _KEPT_AFTER_S
        self._seen.reserve(record.header.id, record.node.member, until_s, now_s)  # 4
        return record, key

    async def _drop(self, code: str, subject: str, reply: str) -> None:
        self._observer.dropped(code)
        # A hint goes only to an inbox of the member that the broker let publish: nobody is written to for a stranger.
        if reply.startswith(f"_I.{subject.rpartition('.')[2]}~") and self.hints.take():
            try:
                await self._outbound.send(reply, _hint((0, code)))
            except errors.BrokerUnavailable:
                _log.debug("hint.unsent", code=code)

    async def _serve(
        self,
        view: DirectoryView,
        record: VerifiedRecord,
        key: SealingKeyEntry,
        reply: str,
        now: datetime,
        started: float,
    ) -> None:
        service_id = record.header.to
        try:
            self._per_service.enter(service_id, self._service_limit(view, service_id))
        except errors.TooManyInFlight as error:
            await self._refuse(record, key, reply, now, error, started)
            return
        try:
            try:
                examined = await self._examiner.examine(record, now)  # 5-8
            except errors.BusError as error:
                await self._refuse(record, key, reply, now, error, started)
                return
            except Exception as error:  # a defect must not leave a proven request without an answer
                await self._refuse(record, key, reply, now, defect("examining", service_id, error), started)
                return
            await self._answer(record, key, reply, now, examined, started)  # 9-11
        finally:
            self._per_service.leave(service_id)

    @staticmethod
    def _service_limit(view: DirectoryView, service_id: str) -> int | None:
        service = view.service(service_id)
        return None if service is None else service.limits.max_concurrent

    async def _refuse(
        self,
        record: VerifiedRecord,
        key: SealingKeyEntry,
        reply: str,
        now: datetime,
        error: errors.BusError,
        started: float,
    ) -> None:
        """The received header and the signed refusal, in one commit; then the reply."""
        self._observer.refused("provider", error.reason_code or error.code)
        draft = self._compose(
            record, key, "refusal", "refused", problem_particulars(error), seal_problem(error), error.counted
        )
        rows = self._received_rows(record, now)
        rows.append(self._keeper.particulars(1, draft.kept, now))
        _, logged = await self._log.append([record.leaf, draft.leaf], rows)
        await self._reply(reply, draft, logged)
        self._ended(record, "refused", started, 0, 0)

    async def _answer(
        self,
        record: VerifiedRecord,
        key: SealingKeyEntry,
        reply: str,
        now: datetime,
        examined: Examined,
        started: float,
    ) -> None:
        rows = self._received_rows(record, now)
        rows.append(self._keeper.particulars(0, examined.kept, now))  # whose data it is can be told who looked, and why
        received = self._log.begin([record.leaf], rows)  # 9
        try:
            if examined.particulars.method not in _SAFE:
                await received
            class_, particulars, body = await self._sourcing.ask(record, examined)
            draft = self._compose_answer(record, key, examined, class_, particulars, body)  # 11
            # The log keeps its order: this leaf is durable only if the received one is.
            (logged,) = await self._log.append([draft.leaf], [self._keeper.particulars(0, draft.kept, now)])
        finally:
            await received
        await self._reply(reply, draft, logged)
        self._ended(record, class_, started, len(examined.body), len(body))

    def _compose_answer(
        self,
        record: VerifiedRecord,
        key: SealingKeyEntry,
        examined: Examined,
        class_: AnswerClass,
        particulars: Particulars,
        body: bytes,
    ) -> Draft:
        counted = examined.counted
        try:
            return self._compose(record, key, "answer", class_, particulars, body, counted)
        except Exception as error:  # what a source gave may not travel: that is an answer too
            failure = defect("composing", record.header.to, error)
            return self._compose(
                record, key, "answer", "failed", problem_particulars(failure), seal_problem(failure), counted
            )

    def _compose(
        self,
        record: VerifiedRecord,
        key: SealingKeyEntry,
        type_: Type,
        class_: AnswerClass,
        particulars: Particulars,
        body: bytes,
        counted: str,
    ) -> Draft:
        head = record.header
        if told := self._notices.of(head, counted):
            particulars = msgspec.structs.replace(particulars, headers=particulars.headers + told)
        return self._composer.sealed(
            type_,
            source=head.to,
            to=head.source,
            receiver=record.node.node,
            key=key,
            use="answer",
            operation=head.operation or "",
            particulars=particulars,
            body=body,
            now=self._clock.now(),
            inreplyto=record.leaf_hash.hex(),
            class_=class_,
        )

    def _received_rows(self, record: VerifiedRecord, now: datetime) -> list[Row]:
        rows = self._keeper.proof(0, record)
        until_s = int(record.expires_at.timestamp()) + _KEPT_AFTER_S if record.expires_at else 0
        rows.append(self._keeper.seen(record.header.id, until_s))
        now_s = int(now.timestamp())
        if self._seen.sweep(now_s):
            rows.append(self._keeper.forget_seen(now_s))
        return rows

    async def _reply(self, reply: str, draft: Draft, logged: Logged) -> None:
        await self._outbound.send(
            reply,
            wire.encode(
                wire.Envelope(
                    wire.VERSION,
                    draft.header_bytes,
                    logged.index,
                    logged.size,
                    logged.path,
                    logged.note,
                    draft.wrapped,
                    draft.nonce,
                    draft.ciphertext,
                )
            ),
        )

    def _ended(self, record: VerifiedRecord, outcome: str, started: float, received: int, sent: int) -> None:
        seconds = self._clock.monotonic() - started
        self._observer.ended("provider", record.header.to, record.node.member, outcome, seconds, sent, received)
