"""The asking side of a command, up to the moment from which it is safe.

As a query: 2 resolve, 3 validate, 4 seal, 5 log. With the record's commit goes its row in the outbox; then the client
system has its `202`. Sending is the outbox's work. Which operations may be commands, their contract says
(`x-lienthong-delivery`); where it says nothing, all but those of the safe methods (RFC 9110 section 9.2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from bus import errors
from bus.delivery.forgetting import Forgetting
from bus.delivery.idempotency import KeyBook, Use, key_row, use_of
from bus.delivery.messages import first_message
from bus.delivery.orders import order_row, order_scope
from bus.delivery.outbox import Outbox
from bus.delivery.pace import Pace
from bus.delivery.store import command_row, outbox_row
from bus.exchange.calls import ClientCall, request_particulars
from bus.exchange.composing import Composer, Draft
from bus.exchange.contracts import Contracts
from bus.exchange.examining import denied
from bus.exchange.keeping import DayKeys, Keeper, Row
from bus.exchange.resolving import resolve
from bus.exchange.standing import CertificateStanding, require_trust
from bus.exchange.validation import check_request, require_delivery
from bus.ports import Clock, ExchangeObserver
from bus.transport import subjects
from bus.turns import Turnstile
from evidence.errors import LogUnwritable
from evidence.log import ExchangeLog
from registry.contract import Match
from registry.decision import authorise
from registry.view import DirectoryView, ServiceEntry


class Wish(msgspec.Struct, frozen=True, gc=False):
    """What a client system says of a command beside the call itself.

    Attributes:
        system: name of the client system.
        order_key: of `X-LienThong-Order-Key`, or empty.
        idempotency_key: of `Idempotency-Key`, or empty.
    """

    system: str = ""
    order_key: str = ""
    idempotency_key: str = ""


class CommandDesk:
    """Accepts commands of client systems.

    Args:
        member: own member.
        clock: time.
        observer: hears of refusals.
        log: the exchange log.
        directory: fresh enough to decide on, or it raises.
        contracts: compiled ones.
        composer: of records.
        keeper: of particulars.
        day_keys: under which order keys are kept.
        outbox: of this node.
        pace: is told of what is being accepted.
        keys: idempotency keys of this node.
        forgetting: what goes with the commits.
        standing: of certificates.
        life_s: after which a command that has no receipt is given up.
        skew_s: how much longer it stays in the outbox, because clocks differ.
    """

    def __init__(
        self,
        *,
        member: str,
        clock: Clock,
        observer: ExchangeObserver,
        log: ExchangeLog,
        directory: Callable[[], DirectoryView],
        contracts: Contracts,
        composer: Composer,
        keeper: Keeper,
        day_keys: DayKeys,
        outbox: Outbox,
        pace: Pace,
        keys: KeyBook,
        forgetting: Forgetting,
        standing: CertificateStanding,
        life_s: float,
        skew_s: float,
    ) -> None:
        self._member = member
        self._clock = clock
        self._observer = observer
        self._log = log
        self._directory = directory
        self._contracts = contracts
        self._composer = composer
        self._keeper = keeper
        self._day_keys = day_keys
        self._outbox = outbox
        self._pace = pace
        self._turns = Turnstile()
        self._keys = keys
        self._forgetting = forgetting
        self._standing = standing
        self._life_s = life_s
        self._skew_s = skew_s

    async def accept(self, call: ClientCall, wish: Wish | None = None) -> str:
        """Makes a call a durable command; its record id, which may be that of an earlier call under the same key.

        Raises:
            BusError: it was not accepted. With `acted: unknown` it may have been: the log failed in the middle.
        """
        with self._pace:
            await self._turns.enter()
            return await self._accept(call, wish or Wish())

    async def _accept(self, call: ClientCall, wish: Wish) -> str:
        try:
            if not self._log.writable:
                raise errors.LogUnwritable("the command was not accepted")
            now = self._clock.now()
            view, service, match = await self._route(call, now)
            require_delivery(match, True)
            if not wish.idempotency_key:
                return await self._make(call, wish, view, service, match.operation.id)
            use = use_of(call, match.operation.id, wish.idempotency_key)
            record_id, earlier = await self._keys.once(
                use, lambda: self._make(call, wish, view, service, match.operation.id, use)
            )
            if earlier:
                self._authorise(call, view, match.operation.id, now)
        except errors.BusError as error:
            self._observer.refused("client", error.reason_code or error.code)
            raise
        return record_id

    async def offers(self, call: ClientCall) -> bool:
        """Whether an operation of a safe method is to be a command when its caller prefers that.

        Raises:
            BusError: the call is wrong; or its contract says that it is a query.
        """
        _, _, match = await self._route(call, self._clock.now())
        if match.operation.delivery:
            require_delivery(match, not match.head)
        return match.operation.offers("command") and not match.head

    async def _route(self, call: ClientCall, now: datetime) -> tuple[DirectoryView, ServiceEntry, Match]:
        view = self._directory()
        service = resolve(view, call.client, call.service, now)  # 2
        require_trust(view, self._standing, self._log.origin, service.provider)
        full = self._contracts.ready(service, None) or await self._contracts.load(service, None)
        match, _ = check_request(
            full, call.method, call.path, call.query, call.headers, call.content_type, call.body
        )  # 3
        return view, service, match

    @staticmethod
    def _authorise(call: ClientCall, view: DirectoryView, operation: str, now: datetime) -> None:
        """The first call's answer is for who may still make the call."""
        decision = authorise(
            view,
            client=call.client,
            service=call.service,
            operation=operation,
            purpose=call.purpose,
            ground=call.legal_basis,
            official=call.official,
            at=now,
        )
        if not decision.allowed:
            raise denied(decision)

    async def _make(
        self,
        call: ClientCall,
        wish: Wish,
        view: DirectoryView,
        service: ServiceEntry,
        operation: str,
        use: Use | None = None,
    ) -> str:
        self._outbox.require_room(call.client)
        if wish.order_key:
            self._outbox.orders.require_room(call.client)
        draft = self._compose(call, view, service, operation)
        await self._commit(draft, wish, use)
        return draft.header.id

    def _compose(self, call: ClientCall, view: DirectoryView, service: ServiceEntry, operation: str) -> Draft:
        now = self._clock.now()
        key = view.sealing_key(service.provider, "command", now)
        if key is None:
            raise errors.ProviderUnavailable(f"{service.provider} has no sealing key for commands in the directory now")
        return self._composer.sealed(  # 4
            "command",
            source=call.client,
            to=service.id,
            receiver=service.provider,
            key=key,
            use="command",
            operation=operation,
            particulars=request_particulars(call),
            body=call.body,
            now=now,
            expires_at=now + timedelta(seconds=self._life_s),
        )

    async def _commit(self, draft: Draft, wish: Wish, use: Use | None) -> None:
        now = self._clock.now()
        since_s = int(now.timestamp())
        until_s = since_s + int(self._life_s + self._skew_s) + 1
        provider = "/".join(draft.header.to.split("/")[:3])
        subject = subjects.command(provider, self._member)
        rows: list[Row] = [
            self._keeper.particulars(0, draft.kept, now),
            command_row(0, draft, wish.system),
            outbox_row(0, draft, subject, since_s, until_s),
            *self._forgetting.rows(since_s),
        ]
        scope = order_scope(draft.header.source, draft.header.to, wish.order_key) if wish.order_key else None
        if scope is not None:
            rows.append(order_row(0, scope, wish.order_key, self._day_keys, self._clock, now))
        if use is not None:
            rows.append(key_row(0, use))
        try:
            (logged,) = await self._log.append([draft.leaf], rows)  # 5
        except LogUnwritable as error:
            self._outbox.doubt()
            raise errors.LogUnwritable(
                "the command may or may not have been accepted", record_id=draft.header.id, acted="unknown"
            ) from error
        if scope is not None:
            self._outbox.orders.add(logged.index, draft.header.id, scope, draft.header.source)
        first = first_message(draft, logged, subject)
        self._outbox.put(logged.index, since_s, first, client=draft.header.source)
