"""Steps 5 to 8 of the answering side: may this request be served, and what exactly does it ask?

Decides and validates only: it logs nothing, sends nothing and asks no source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from bus import errors
from bus.exchange.contracts import Contracts
from bus.exchange.opening import Opened, unseal
from bus.exchange.validation import check_request, require_delivery
from bus.exchange.verification import VerifiedRecord
from bus.ports import Clock
from bus.sealing.contents import Particulars
from bus.sealing.epoch import Opener
from bus.sealing.keys import SealingKeyPair
from evidence.header import Header
from registry.contract import CompiledContract, Match, Parameters
from registry.decision import Decision, authorise_coarse, authorise_fine
from registry.quota import QuotaBook
from registry.view import DecisionView, QuotaLimit, ServiceEntry


class Examined(msgspec.Struct, frozen=True, gc=False):
    """A request that passed steps 5 to 8; `counted` as in `BusError`."""

    service: ServiceEntry
    compiled: CompiledContract
    match: Match
    parameters: Parameters
    particulars: Particulars
    body: bytes
    kept: tuple[bytes, bytes]
    counted: str


class Examiner:
    """Examines verified requests of one node.

    Args:
        genesis: of the instance.
        member: own member, to which queries and commands are sealed, each for its use.
        clock: for the quotas.
        rights: what this provider enforces now.
        quotas: as they are counted.
        contracts: compiled ones.
        opener: of sealed parts.
        query_keys: private sealing keys by key id.
        called: hears of each command that may be served; of queries whoever answers them tells.
    """

    def __init__(
        self,
        *,
        genesis: str,
        member: str,
        clock: Clock,
        rights: Callable[[], DecisionView],
        quotas: QuotaBook,
        contracts: Contracts,
        opener: Opener,
        query_keys: Mapping[str, SealingKeyPair],
        called: Callable[[Header], object] = lambda _: None,
    ) -> None:
        self._genesis = genesis
        self._member = member
        self._clock = clock
        self._rights = rights
        self._quotas = quotas
        self._contracts = contracts
        self._opener = opener
        self._query_keys = query_keys
        self._called = called

    async def examine(self, record: VerifiedRecord, now: datetime, *, counted: bool = True) -> Examined:
        """Steps 5 to 8.

        Args:
            record: the request.
            now: aware UTC.
            counted: whether it takes from the quota; a further attempt at what was taken does not.

        Raises:
            BusError: why the request is refused.
        """
        head = record.header
        rights = self._rights()
        service, most = self._authorise_coarse(rights, head.source, head.to, now, counted)  # 5
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
        right = ""
        if counted and decision.quota != most:  # step 5 counted under the most generous of several rights
            right = decision.rule or head.to
            self._count(head.source, right, decision, head.to)
        try:
            compiled, match, parameters = await self._validate(service, decision, head, particulars, body)  # 8
        except errors.BusError as error:
            error.counted = right
            raise
        if counted and head.type == "command":
            self._called(head)
        return Examined(service, compiled, match, parameters, particulars, body, opened.kept, right)

    async def _validate(
        self, service: ServiceEntry, decision: Decision, head: Header, particulars: Particulars, body: bytes
    ) -> tuple[CompiledContract, Match, Parameters]:
        granted = decision.granted if service.fields else None
        compiled = self._contracts.ready(service, granted) or await self._contracts.load(service, granted)
        match, parameters = check_request(
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
        require_delivery(match, head.type == "command")
        return compiled, match, parameters

    def _authorise_coarse(
        self, rights: DecisionView, client: str, service_id: str, now: datetime, counted: bool
    ) -> tuple[ServiceEntry, QuotaLimit]:
        decision = authorise_coarse(rights, client=client, service=service_id, at=now)
        if not decision.allowed:
            raise denied(decision)
        if counted:
            self._count(client, service_id, decision, service_id)
        service = rights.service(service_id)
        if service is None:
            raise errors.ServiceUnknown(f"{service_id} is not published here")
        return service, decision.quota

    def _count(self, client: str, what: str, decision: Decision, service_id: str) -> None:
        """Takes a call from a quota: the service's for that client, or one right's."""
        wait_s = self._quotas.take(client, what, decision.quota, self._clock.monotonic())
        if wait_s is not None:
            error = errors.QuotaExceeded(f"the quota of {client} for {service_id} is used up")
            error.rule = decision.rule or ""
            error.counted = what
            error.retry_after_s = max(1, int(wait_s + 0.999))
            raise error

    def _unseal(self, record: VerifiedRecord) -> Opened:
        pair = self._query_keys.get(record.header.keyid or "")
        if pair is None:
            raise errors.RequestMalformed("the request is sealed for a key that this member no longer has; try again")
        try:
            return unseal(self._opener, self._genesis, record, self._member, pair, record.header.type)
        except errors.AnswerUnverifiable as error:
            raise errors.RequestMalformed(error.detail) from error


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
