"""The asking side of a command, up to the moment from which it is safe.

As a query: 2 resolve, 3 validate, 4 seal, 5 log. With the record's commit goes its row in the outbox; then the client
system has its `202`. Sending is the outbox's work. Which operations may be commands: all but those of the safe methods
(RFC 9110 section 9.2.1), which change nothing and are answered at once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from bus import errors
from bus.delivery.outbox import Outbox
from bus.delivery.store import command_row, forget_rows, outbox_row
from bus.exchange.calls import ClientCall, request_particulars
from bus.exchange.composing import Composer, Draft
from bus.exchange.contracts import Contracts
from bus.exchange.keeping import Keeper
from bus.exchange.resolving import resolve
from bus.exchange.standing import CertificateStanding, require_trust
from bus.exchange.validation import check_request
from bus.ports import Clock, ExchangeObserver
from bus.transport import subjects
from evidence.errors import LogUnwritable
from evidence.log import ExchangeLog
from registry.view import DirectoryView

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


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
        outbox: of this node.
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
        outbox: Outbox,
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
        self._outbox = outbox
        self._standing = standing
        self._life_s = life_s
        self._skew_s = skew_s

    async def accept(self, call: ClientCall) -> str:
        """Makes a call a durable command; its record id.

        Raises:
            BusError: it was not accepted. With `acted: unknown` it may have been: the log failed in the middle.
        """
        try:
            if not self._log.writable:
                raise errors.LogUnwritable("the command was not accepted")
            self._outbox.require_room()
            draft = await self._compose(call)
            await self._commit(draft)
        except errors.BusError as error:
            self._observer.refused("client", error.reason_code or error.code)
            raise
        return draft.header.id

    async def _compose(self, call: ClientCall) -> Draft:
        now, view = self._clock.now(), self._directory()
        service = resolve(view, call.client, call.service, now)  # 2
        require_trust(view, self._standing, self._log.origin, service.provider)
        full = self._contracts.ready(service, None) or await self._contracts.load(service, None)
        match, _ = check_request(
            full, call.method, call.path, call.query, call.headers, call.content_type, call.body
        )  # 3
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
            operation=match.operation.id,
            particulars=request_particulars(call),
            body=call.body,
            now=now,
            expires_at=now + timedelta(seconds=self._life_s),
        )

    async def _commit(self, draft: Draft) -> None:
        now = self._clock.now()
        since_s = int(now.timestamp())
        until_s = since_s + int(self._life_s + self._skew_s) + 1
        provider = "/".join(draft.header.to.split("/")[:3])
        rows = [
            self._keeper.particulars(0, draft.kept, now),
            command_row(0, draft),
            outbox_row(0, draft, subjects.command(provider, self._member), since_s, until_s),
            *forget_rows(since_s),
        ]
        try:
            (logged,) = await self._log.append([draft.leaf], rows)  # 5
        except LogUnwritable as error:
            self._outbox.doubt()
            raise errors.LogUnwritable(
                "the command may or may not have been accepted", record_id=draft.header.id, acted="unknown"
            ) from error
        self._outbox.put(logged.index, since_s)
