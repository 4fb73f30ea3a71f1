"""The answering side of a query: the numbered procedure of the provider's gateway (architecture.md).

Up to step 4 a message is dropped and counted, with a rate-limited, unsigned hint. From step 5 on every request gets a
signed answer or refusal that is logged before it is sent, together with the header that was received.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

import msgspec
import structlog

from adapters.errors import AdapterError, BackendTimeout, BreakerOpen
from adapters.port import AdapterAnswer, AdapterRequest, Source
from bus import envelope as wire
from bus import errors
from bus.deadlines import Deadlines
from bus.exchange.composing import Composer, Draft
from bus.exchange.contracts import Contracts
from bus.exchange.keeping import Keeper, Row
from bus.exchange.limits import InFlight
from bus.exchange.notices import Notices
from bus.exchange.opening import Opened, unseal
from bus.exchange.problems import CONTENT_TYPE, seal_problem
from bus.exchange.replay import SeenIds
from bus.exchange.validation import check_request
from bus.exchange.verification import RecordVerifier, VerifiedRecord
from bus.ports import Clock, ExchangeObserver
from bus.sealing.contents import Particulars
from bus.sealing.epoch import Opener
from bus.sealing.keys import SealingKeyPair
from bus.transport import subjects
from evidence.errors import LogUnwritable
from evidence.header import AnswerClass, Type
from evidence.log import ExchangeLog, Logged
from registry.contract import AnswerInvalid, CompiledContract, Match, Parameters
from registry.decision import Decision, authorise_coarse, authorise_fine
from registry.quota import QuotaBook
from registry.view import DecisionView, DirectoryView, SealingKeyEntry, ServiceEntry

_log = structlog.get_logger("lienthong.answering")
_QUERY = frozenset({"query"})
_SAFE = frozenset({"GET", "HEAD"})
_UNDECLARED_BYTES = 64 * 1024
_KEPT_AFTER_S = 61
_REPLY_TOKEN = re.compile(r"[A-Za-z0-9.]{1,80}")
_hint = msgspec.msgpack.Encoder().encode


class Outbound(Protocol):
    """What answering needs of the transport."""

    async def send(self, subject: str, payload: bytes) -> None:
        """Publishes."""


class _Examined(msgspec.Struct, frozen=True, gc=False):
    """A request that passed steps 5 to 8."""

    service: ServiceEntry
    compiled: CompiledContract
    match: Match
    parameters: Parameters
    particulars: Particulars
    body: bytes
    kept: tuple[bytes, bytes]


class HintBucket:
    """Rate limit of hints: `per_s` a second, a burst of the same size, at least one."""

    def __init__(self, per_s: float, monotonic: Callable[[], float]) -> None:
        self.per_s = per_s
        self._monotonic = monotonic
        self._left = max(1.0, per_s)
        self._at_s = monotonic()

    def take(self) -> bool:
        """True when a hint may be sent."""
        now_s = self._monotonic()
        self._left = min(max(1.0, self.per_s), self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Answerer:
    """The answering side of one node. All collaborators are given; see the composition root."""

    def __init__(
        self,
        *,
        genesis: str,
        member: str,
        clock: Clock,
        observer: ExchangeObserver,
        log: ExchangeLog,
        outbound: Outbound,
        directory: Callable[[], DirectoryView],
        rights: Callable[[], DecisionView],
        contracts: Contracts,
        sources: Callable[[], Mapping[str, Source]],
        composer: Composer,
        keeper: Keeper,
        verifier: RecordVerifier,
        opener: Opener,
        query_keys: Mapping[str, SealingKeyPair],
        seen: SeenIds,
        quotas: QuotaBook,
        per_service: InFlight,
        max_envelope_bytes: int,
        hints_per_s: float = 20.0,
        notices: Notices | None = None,
    ) -> None:
        self._genesis = genesis
        self._member = member
        self._clock = clock
        self._observer = observer
        self._log = log
        self._outbound = outbound
        self._directory = directory
        self._rights = rights
        self._contracts = contracts
        self._sources = sources
        self._composer = composer
        self._keeper = keeper
        self._verifier = verifier
        self._opener = opener
        self._query_keys = query_keys
        self._seen = seen
        self._quotas = quotas
        self._per_service = per_service
        self._max_envelope_bytes = max_envelope_bytes
        self._deadlines = Deadlines()
        self.hints = HintBucket(hints_per_s, clock.monotonic)
        self._notices = notices or Notices(rights, quotas, observer)

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
                examined = await self._examine(view, record, now)  # 5-8
            except errors.BusError as error:
                await self._refuse(record, key, reply, now, error, started)
                return
            except Exception as error:  # a defect must not leave a proven request without an answer
                await self._refuse(record, key, reply, now, _defect("examining", service_id, error), started)
                return
            await self._answer(record, key, reply, now, examined, started)  # 9-11
        finally:
            self._per_service.leave(service_id)

    @staticmethod
    def _service_limit(view: DirectoryView, service_id: str) -> int | None:
        service = view.service(service_id)
        return None if service is None else service.limits.max_concurrent

    async def _examine(self, view: DirectoryView, record: VerifiedRecord, now: datetime) -> _Examined:
        head = record.header
        rights = self._rights()
        service = self._authorise_coarse(rights, head.source, head.to, now)  # 5
        opened = self._unseal(record)  # 6
        particulars, body = opened.particulars, opened.body
        decision = authorise_fine(  # 7
            rights,
            client=head.source,
            service=head.to,
            operation=head.operation,
            purpose=particulars.purpose,
            ground=particulars.legal_basis,
            official=particulars.official,
            at=now,
        )
        if not decision.allowed:
            raise denied(decision)
        granted = decision.granted if service.fields else None
        compiled = self._contracts.ready(service, granted) or await self._contracts.load(service, granted)
        match, parameters = check_request(  # 8
            compiled,
            particulars.method,
            particulars.path,
            particulars.query,
            particulars.headers,
            particulars.content_type,
            body,
        )
        if match.operation.id != head.operation:
            raise errors.RequestInvalid("the header names another operation than the sealed request")
        return _Examined(service, compiled, match, parameters, particulars, body, opened.kept)

    def _authorise_coarse(self, rights: DecisionView, client: str, service_id: str, now: datetime) -> ServiceEntry:
        decision = authorise_coarse(rights, client=client, service=service_id, at=now)
        if not decision.allowed:
            raise denied(decision)
        wait_s = self._quotas.take(client, service_id, decision.quota, self._clock.monotonic())
        if wait_s is not None:
            error = errors.QuotaExceeded(f"the quota of {client} for {service_id} is used up")
            error.rule = decision.rule or ""
            error.retry_after_s = max(1, int(wait_s + 0.999))
            raise error
        service = rights.service(service_id)
        if service is None:
            raise errors.ServiceUnknown(f"{service_id} is not published here")
        return service

    def _unseal(self, record: VerifiedRecord) -> Opened:
        pair = self._query_keys.get(record.header.keyid or "")
        if pair is None:
            raise errors.RequestMalformed("the request is sealed for a key that this member no longer has; try again")
        try:
            return unseal(self._opener, self._genesis, record, self._member, pair, "query")
        except errors.AnswerUnverifiable as error:
            raise errors.RequestMalformed(error.detail) from error

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
        draft = self._compose(record, key, "refusal", "refused", _problem_particulars(error), seal_problem(error))
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
        examined: _Examined,
        started: float,
    ) -> None:
        rows = self._received_rows(record, now)
        rows.append(self._keeper.particulars(0, examined.kept, now))  # whose data it is can be told who looked, and why
        received = self._log.begin([record.leaf], rows)  # 9
        try:
            if examined.particulars.method not in _SAFE:
                await received
            class_, particulars, body = await self._ask_source(record, examined)
            draft = self._compose_answer(record, key, class_, particulars, body)  # 11
            # The log keeps its order: this leaf is durable only if the received one is.
            (logged,) = await self._log.append([draft.leaf], [self._keeper.particulars(0, draft.kept, now)])
        finally:
            await received
        await self._reply(reply, draft, logged)
        self._ended(record, class_, started, len(examined.body), len(body))

    def _compose_answer(
        self, record: VerifiedRecord, key: SealingKeyEntry, class_: AnswerClass, particulars: Particulars, body: bytes
    ) -> Draft:
        try:
            return self._compose(record, key, "answer", class_, particulars, body)
        except Exception as error:  # what a source gave may not travel: that is an answer too
            failure = _defect("composing", record.header.to, error)
            return self._compose(record, key, "answer", "failed", _problem_particulars(failure), seal_problem(failure))

    async def _ask_source(self, record: VerifiedRecord, examined: _Examined) -> tuple[AnswerClass, Particulars, bytes]:
        """Steps 9 (the call) and 10: class, particulars and body of the answer, or of the failure."""
        failure: errors.BusError
        try:
            answer = await self._call(record, examined)
            body, declared = self._checked(examined, answer)  # 10
        except errors.BusError as error:
            failure = error
        except Exception as error:  # the boundary to foreign sources: a defect there is an answer too
            failure = _defect("asking the source", examined.service.id, error)
        else:
            return self._source_answer(answer, body, declared)
        self._observer.refused("provider", failure.code)
        return "failed", _problem_particulars(failure), seal_problem(failure)

    @staticmethod
    def _source_answer(answer: AdapterAnswer, body: bytes, declared: bool) -> tuple[AnswerClass, Particulars, bytes]:
        class_: AnswerClass = "failed" if answer.status >= 500 else "ok"
        made = Particulars(
            status=answer.status,
            content_type=answer.content_type if declared else CONTENT_TYPE,
            # an HTTP client's names may be a subtype of str, which does not travel
            headers=tuple((f"{name}", f"{value}") for name, value in answer.headers),
            body_bytes=len(body),
        )
        return class_, made, body

    async def _call(self, record: VerifiedRecord, examined: _Examined) -> AdapterAnswer:
        service = examined.service
        source = self._sources().get(service.id)
        if source is None:
            raise errors.BackendUnavailable(f"{service.id} has no back end in this gateway's settings", acted="no")
        expires_at = record.expires_at or self._clock.now()
        left_s = min((expires_at - self._clock.now()).total_seconds(), service.limits.deadline_s)
        if left_s <= 0:
            raise errors.BackendTimeout("no time was left for the back end", acted="no")
        try:
            async with self._deadlines.within(left_s):
                return await source.call(adapter_request(record, examined, left_s))
        except TimeoutError as error:
            raise errors.BackendTimeout from error
        except AdapterError as error:
            raise backend_error(error) from error

    def _checked(self, examined: _Examined, answer: AdapterAnswer) -> tuple[bytes, bool]:
        """Validates the answer and keeps only what the right grants; the body, and whether the status is declared."""
        compiled, operation = examined.compiled, examined.match.operation.id
        try:
            if len(answer.body) > examined.service.limits.max_answer_bytes:
                raise errors.AnswerInvalid("the back end's answer is over the service's limit")
            head = examined.match.head
            if answer.status >= 400 and not compiled.declares(operation, answer.status):
                return self._undeclared(examined, answer)
            return compiled.cut_answer(operation, answer.status, answer.content_type, answer.body, head=head), True
        except AnswerInvalid as error:
            made = errors.AnswerInvalid(f"the back end's answer breaks the contract ({error.code})")
            made.violations = [item._asdict() for item in error.violations[:20]]
            raise made from error

    @staticmethod
    def _undeclared(examined: _Examined, answer: AdapterAnswer) -> tuple[bytes, bool]:
        if examined.service.fields:
            problem = {
                "code": "undeclared-answer",
                "detail": "the back end answered a status that the contract does not declare; its body is withheld",
            }
            return msgspec.json.encode(problem), False
        if len(answer.body) > _UNDECLARED_BYTES:
            raise errors.AnswerInvalid("the back end's undeclared answer is over 64 KiB")
        return answer.body, True

    def _compose(
        self,
        record: VerifiedRecord,
        key: SealingKeyEntry,
        type_: Type,
        class_: AnswerClass,
        particulars: Particulars,
        body: bytes,
    ) -> Draft:
        head = record.header
        if told := self._notices.of(head):
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


def adapter_request(record: VerifiedRecord, examined: _Examined, left_s: float) -> AdapterRequest:
    """What the adapter sees: built only from a verified record."""
    told, head = examined.particulars, record.header
    return AdapterRequest(
        exchange_id=head.id,
        client=head.source,
        service=head.to,
        operation=examined.match.operation.id,
        method=told.method,
        path=told.path,
        query=told.query,
        headers=told.headers,
        content_type=told.content_type,
        body=examined.body,
        parameters=examined.parameters.values,
        json_body=examined.parameters.json_body,
        official=told.official,
        issue=told.issue,
        represented_party=told.represented_party,
        purpose=told.purpose,
        legal_basis=told.legal_basis,
        deadline_s=left_s,
    )


def denied(decision: Decision) -> errors.BusError:
    """The refusal that an access decision calls for."""
    cls: type[errors.BusError] = errors.AccessDenied
    if decision.code in ("service-unknown", "service-disabled"):
        cls = errors.catalogue()[decision.code]
    error = cls(decision.reason)
    error.reason_code = decision.code
    error.rule = decision.rule or ""
    if decision.retry_after_s is not None:
        error.retry_after_s = decision.retry_after_s
    return error


def backend_error(error: AdapterError) -> errors.BusError:
    """The bus error of an adapter's error."""
    made: errors.BusError
    if isinstance(error, BackendTimeout):
        made = errors.BackendTimeout(acted=error.acted)
    elif error.acted == "no" and error.disposition == "retry":
        made = errors.BackendUnavailable(f"the provider's back end cannot be reached ({error.code})", acted="no")
    else:
        made = errors.BackendFailed(f"the provider's back end failed ({error.code})", acted=error.acted)
    if isinstance(error, BreakerOpen):
        made.retry_after_s = max(1, int(error.retry_after_s + 0.999))
    return made


def _defect(doing: str, service: str, error: Exception) -> errors.BusError:
    """Logs a defect and gives the failure that the caller sees; its own text could hold data and stays here."""
    _log.error("answering.failed", doing=doing, service=service, error=type(error).__name__, exc_info=error)
    return errors.InternalError("the provider's gateway failed; its operator finds the reason", acted="unknown")


def _problem_particulars(error: errors.BusError) -> Particulars:
    return Particulars(status=error.status, content_type=CONTENT_TYPE, fault=error.code)
