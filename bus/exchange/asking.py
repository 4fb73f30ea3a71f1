"""The asking side of a query: one call of a client system becomes a proven exchange.

The procedure (architecture.md, The way of one query): 1 the front has authenticated the client system; 2 resolve the
service; 3 validate; 4 seal; 5 log; 6 send. Then 1-3 and 6 of the answering side on the answer, match it to the request
in every field, log it, and only then answer. Every request ends in exactly one closing record of this node's log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import structlog

from bus import envelope as wire
from bus import errors
from bus.exchange.calls import ClientAnswer, ClientCall, request_particulars
from bus.exchange.composing import Composer, Draft
from bus.exchange.contracts import Contracts
from bus.exchange.keeping import Keeper, Row
from bus.exchange.limits import InFlight
from bus.exchange.opening import Opened, unseal
from bus.exchange.problems import refusal_from_body
from bus.exchange.resolving import resolve
from bus.exchange.standing import CertificateStanding, require_trust
from bus.exchange.validation import check_request, require_delivery
from bus.exchange.verification import RecordVerifier, VerifiedRecord
from bus.exchange.versions import Versions
from bus.ports import Broker, Clock, ExchangeObserver, Reply
from bus.sealing.contents import Particulars
from bus.sealing.epoch import Opener
from bus.sealing.keys import SealingKeyPair
from bus.transport import subjects
from evidence import header
from evidence.errors import LogUnwritable
from evidence.header import Header, OutcomeClass
from evidence.log import ExchangeLog, Logged
from registry.contract import CompiledContract
from registry.decision import authorise
from registry.errors import RegistryError
from registry.view import DirectoryView, ServiceEntry

_log = structlog.get_logger("lienthong.asking")
_ANSWER_TYPES = frozenset({"answer", "refusal"})
_GRACE_S = 0.25
_read_hint = msgspec.msgpack.Decoder(tuple[int, str]).decode


@dataclass(frozen=True, slots=True)
class AskingLimits:
    """Deadline of a query when the service names none or a longer one, seconds."""

    deadline_s: float = 30.0


class _Sent(msgspec.Struct, frozen=True, gc=False):
    """A request that is logged: what the answer must match."""

    header: Header
    index: int
    leaf_hash_hex: str


class Asker:
    """The asking side of one node. All collaborators are given; see the composition root."""

    def __init__(
        self,
        *,
        genesis: str,
        node: str,
        member: str,
        clock: Clock,
        observer: ExchangeObserver,
        log: ExchangeLog,
        broker: Broker,
        directory: Callable[[], DirectoryView],
        contracts: Contracts,
        composer: Composer,
        keeper: Keeper,
        verifier: RecordVerifier,
        opener: Opener,
        answer_keys: Mapping[str, SealingKeyPair],
        versions: Versions,
        per_client: InFlight,
        per_service: InFlight,
        limits: AskingLimits,
        standing: CertificateStanding | None = None,
    ) -> None:
        self._genesis = genesis
        self._standing = standing or CertificateStanding()
        self._node = node
        self._member = member
        self._clock = clock
        self._observer = observer
        self._log = log
        self._broker = broker
        self._directory = directory
        self._contracts = contracts
        self._composer = composer
        self._keeper = keeper
        self._verifier = verifier
        self._opener = opener
        self._answer_keys = answer_keys
        self._versions = versions
        self._per_client = per_client
        self._per_service = per_service
        self.limits = limits
        # ids of requests from before their append until their closing record: nobody else may close them
        self._asking: set[str] = set()
        self._next_clock_s: dict[str, float] = {}
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self, deadline_s: float) -> bool:
        """Waits until no call is under way; False when the deadline passed first."""
        try:
            await asyncio.wait_for(self._idle.wait(), deadline_s)
        except TimeoutError:
            return False
        return True

    async def ask(self, call: ClientCall) -> ClientAnswer:
        """Carries out one call.

        Raises:
            BusError: every failure, with its code; `record_id` is set once the request is logged.
        """
        try:
            self._per_client.enter(call.client)
            try:
                self._per_service.enter(call.service)
                try:
                    return await self._counted(call)
                finally:
                    self._per_service.leave(call.service)
            finally:
                self._per_client.leave(call.client)
        except errors.BusError as error:
            self._observer.refused("client", error.reason_code or error.code)
            raise

    async def _counted(self, call: ClientCall) -> ClientAnswer:
        self._under_way += 1
        self._idle.clear()
        self._observer.in_flight("client", 1)
        try:
            return await self._ask(call)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
            self._observer.in_flight("client", -1)

    async def _ask(self, call: ClientCall) -> ClientAnswer:
        started = self._clock.monotonic()
        now = self._clock.now()
        view = self._directory()
        service = resolve(view, call.client, call.service, now)  # 2
        require_trust(view, self._standing, self._log.origin, service.provider)
        self._versions.of(subjects.query(service.provider, self._member), service.provider)  # refused unlogged
        full = self._contracts.ready(service, None) or await self._contracts.load(service, None)
        match, _ = check_request(
            full, call.method, call.path, call.query, call.headers, call.content_type, call.body
        )  # 3
        require_delivery(match, False)
        deadline_s = min(self.limits.deadline_s, service.limits.deadline_s)
        if not self._broker.connected:
            raise errors.BrokerUnavailable("nothing was logged or sent; the gateway reconnects by itself")
        draft = self._seal(call, service, match.operation.id, view, now, deadline_s)  # 4
        self._asking.add(draft.header.id)
        try:
            return await self._exchange(call, service, draft, view, now, deadline_s, started)
        finally:
            self._asking.discard(draft.header.id)

    async def _exchange(
        self,
        call: ClientCall,
        service: ServiceEntry,
        draft: Draft,
        view: DirectoryView,
        now: datetime,
        deadline_s: float,
        started: float,
    ) -> ClientAnswer:
        """From the request's append to its closing record and the client's answer."""
        sent, logged = await self._log_request(draft, now)  # 5
        try:
            reply = await self._send(service, draft, logged, deadline_s, started)  # 6
            answer, particulars, body = self._verify_answer(reply.data, sent, view, service.provider)
        except errors.BusError as error:
            error.record_id = sent.header.id
            await self._close_without_answer(sent, error)
            self._ended(call, service, _outcome_class(error), started, 0)
            raise
        try:
            await self._log_answer(sent, answer)
        except errors.LogUnwritable:
            self._ended(call, service, "unknown", started, 0)
            raise
        self._measure_clock(answer, now, started)
        self._ended(call, service, answer.header.class_ or "ok", started, len(body))
        return await self._deliver(call, service, draft.header.operation or "", sent, particulars, body)

    def _seal(
        self,
        call: ClientCall,
        service: ServiceEntry,
        operation: str,
        view: DirectoryView,
        now: datetime,
        deadline_s: float,
    ) -> Draft:
        key = view.sealing_key(service.provider, "query", now)
        if key is None:
            raise errors.ProviderUnavailable(
                f"{service.provider} has no sealing key in the directory that is in use now"
            )
        return self._composer.sealed(
            "query",
            source=call.client,
            to=service.id,
            receiver=service.provider,
            key=key,
            use="query",
            operation=operation,
            particulars=request_particulars(call),
            body=call.body,
            now=now,
            expires_at=now + timedelta(seconds=deadline_s),
        )

    async def _log_request(self, draft: Draft, now: datetime) -> tuple[_Sent, Logged]:
        rows: list[Row] = [self._keeper.particulars(0, draft.kept, now), self._keeper.opened(0)]
        try:
            (logged,) = await self._log.append([draft.leaf], rows)
        except LogUnwritable as error:
            raise errors.LogUnwritable from error
        return _Sent(draft.header, logged.index, logged.leaf_hash.hex()), logged

    async def _send(
        self, service: ServiceEntry, draft: Draft, logged: Logged, deadline_s: float, started: float
    ) -> Reply:
        subject = subjects.query(service.provider, self._member)
        payload = wire.encode(
            wire.Envelope(
                self._versions.of(subject, service.provider),
                draft.header_bytes,
                logged.index,
                logged.size,
                logged.path,
                logged.note,
                draft.wrapped,
                draft.nonce,
                draft.ciphertext,
            )
        )
        left_s = deadline_s - (self._clock.monotonic() - started)
        return await self._broker.exchange(subject, payload, max(left_s, 0.0) + _GRACE_S)

    def _verify_answer(
        self, data: bytes, sent: _Sent, view: DirectoryView, provider: str
    ) -> tuple[VerifiedRecord, Particulars, bytes]:
        if len(data) < 128:
            raise self._hint(data)
        try:
            envelope = wire.decode(data, max_bytes=len(data))
            record = self._verifier.verify(envelope, view, self._clock.now(), _ANSWER_TYPES)
        except errors.Dropped as drop:
            self._observer.dropped(drop.code)
            self._versions.unread(drop, provider)
            raise errors.AnswerUnverifiable(f"the answer was refused: {drop.code}") from drop
        _match(record.header, sent)
        opened = self._unseal(record)
        return record, opened.particulars, opened.body

    def _unseal(self, record: VerifiedRecord) -> Opened:
        pair = self._answer_keys.get(record.header.keyid or "")
        if pair is None:
            raise errors.AnswerUnverifiable("the answer is sealed for a key that this node does not have")
        return unseal(self._opener, self._genesis, record, self._node, pair, "answer")

    def _hint(self, data: bytes) -> errors.BusError:
        try:
            _, code = _read_hint(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return errors.AnswerUnverifiable("the reply is not an answer")
        code = code if code in errors.DROP_CODES else "unknown"
        self._observer.hinted(code)
        return errors.ProviderDropped(f"the provider's gateway hinted: {code} (a hint is not evidence)")

    async def _close_without_answer(self, sent: _Sent, error: errors.BusError) -> None:
        """Appends the `outcome`; if the log cannot be written, `close_orphans` does it as soon as it can."""
        leaf = self._composer.outcome(sent.header, sent.leaf_hash_hex, _outcome_class(error), self._clock.now())
        with contextlib.suppress(LogUnwritable):
            await self._log.append([leaf], [self._keeper.closed(sent.index)])

    async def close_open(self, sent: Sequence[tuple[int, Header, str]]) -> None:
        """Closes requests with outcome `unknown`: (index, header, leaf hash in hex) of calls that nobody waits for."""
        now = self._clock.now()
        for at in range(0, len(sent), 256):
            part = sent[at : at + 256]
            leaves = [self._composer.outcome(head, leaf_hash, "unknown", now) for _, head, leaf_hash in part]
            try:
                await self._log.append(leaves, [self._keeper.closed(index) for index, _, _ in part])
            except LogUnwritable:
                return  # they stay open in the store: the next round closes them

    async def close_orphans(self, read_open: Callable[[], Awaitable[Sequence[tuple[int, Header, str]]]]) -> None:
        """Closes requests whose call ended while the log could not be written.

        What was stored decides, not what was reported: a commit that was reported as failed may have been done. A call
        that is under way now, or begins from now on, closes its request itself.

        Args:
            read_open: reads the requests without a closing record from the store.
        """
        asking, size = frozenset(self._asking), self._log.size
        found = await read_open()
        await self.close_open([one for one in found if one[0] < size and one[1].id not in asking])

    async def _log_answer(self, sent: _Sent, answer: VerifiedRecord) -> None:
        rows = self._keeper.proof(0, answer)
        rows.append(self._keeper.closed(sent.index))
        try:
            await self._log.append([answer.leaf], rows)
        except LogUnwritable as error:
            self._keeper.forget_notes()
            failure = errors.LogUnwritable(
                "the answer came but could not be logged, so it is not delivered",
                record_id=sent.header.id,
                acted="unknown",
            )
            raise failure from error

    async def _deliver(
        self,
        call: ClientCall,
        service: ServiceEntry,
        operation: str,
        sent: _Sent,
        particulars: Particulars,
        body: bytes,
    ) -> ClientAnswer:
        """The back end's answer, valid against the contract as granted; or the provider's refusal as an error."""
        if particulars.fault:
            raise refusal_from_body(particulars, body, sent.header.id)
        granted = self._granted(call, service, operation)
        compiled = self._contracts.ready(service, granted) or await self._contracts.load(service, granted)
        self._validate_answer(compiled, operation, particulars, body, sent, head=call.method == "HEAD")
        return ClientAnswer(sent.header.id, particulars.status, particulars.content_type, particulars.headers, body)

    def _granted(self, call: ClientCall, service: ServiceEntry, operation: str) -> frozenset[str] | None:
        if not service.fields:
            return None
        return authorise(
            self._directory(),
            client=call.client,
            service=service.id,
            operation=operation,
            purpose=call.purpose,
            ground=call.legal_basis,
            official=call.official,
            at=self._clock.now(),
        ).granted

    def _validate_answer(
        self,
        compiled: CompiledContract,
        operation: str,
        particulars: Particulars,
        body: bytes,
        sent: _Sent,
        *,
        head: bool,
    ) -> None:
        try:
            compiled.validate_answer(operation, particulars.status, particulars.content_type, body, head=head)
        except RegistryError as error:
            raise errors.AnswerInvalid(
                f"the provider's answer breaks the contract as granted ({error.code}); it is logged but not delivered",
                record_id=sent.header.id,
            ) from error

    def _measure_clock(self, answer: VerifiedRecord, asked_at: datetime, at_s: float) -> None:
        """A peer's clock against the middle of the round trip; once a second and member is enough."""
        if at_s < self._next_clock_s.get(answer.node.member, 0.0):
            return
        self._next_clock_s[answer.node.member] = at_s + 1.0
        answered_at = header.decode_time(answer.header.time)
        middle = asked_at + (self._clock.now() - asked_at) / 2
        self._observer.clock_offset(answer.node.member, (answered_at - middle).total_seconds())

    def _ended(self, call: ClientCall, service: ServiceEntry, outcome: str, started: float, received: int) -> None:
        seconds = self._clock.monotonic() - started
        self._observer.ended("client", service.id, service.provider, outcome, seconds, len(call.body), received)


def _match(answer: Header, sent: _Sent) -> None:
    """The answer belongs to the request in every field."""
    request = sent.header
    same = (
        answer.inreplyto == sent.leaf_hash_hex
        and answer.source == request.to
        and answer.to == request.source
        and answer.operation == request.operation
        and answer.class_ is not None
    )
    if not same:
        raise errors.AnswerUnverifiable("the answer belongs to another request")


def _outcome_class(error: errors.BusError) -> OutcomeClass:
    if isinstance(error, (errors.ProviderUnavailable, errors.BrokerUnavailable)):
        return "undelivered"
    if isinstance(error, errors.Timeout):
        return "timedout"
    return "rejected"
