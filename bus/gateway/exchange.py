"""The exchange of a node, put together once its log can be written."""

from __future__ import annotations

from datetime import timedelta

from bus.exchange.answering import Answerer
from bus.exchange.asking import Asker, AskingLimits
from bus.exchange.composing import Composer
from bus.exchange.control import Control
from bus.exchange.keeping import Keeper
from bus.exchange.limits import InFlight
from bus.exchange.notices import Notices
from bus.exchange.replay import SeenIds
from bus.exchange.verification import RecordVerifier, TimeLimits
from bus.gateway.parts import Parts
from bus.sealing.epoch import Opener, Sealer
from bus.settings import GatewaySettings, LimitSettings
from evidence.log import ExchangeLog
from registry.quota import QuotaBook

_ENVELOPE_OVERHEAD_BYTES = 512 * 1024
_LONGEST_LIFE = timedelta(seconds=300)


class Exchange:
    """Asking side, answering side and control questions over one log."""

    def __init__(self, parts: Parts, log: ExchangeLog, settings: GatewaySettings) -> None:
        limits, clock = settings.limits, parts.clock
        self.log = log
        self.seen = SeenIds()
        self._per_client = InFlight("client", limits.per_client)
        self._per_service = InFlight("service", limits.per_service)
        self._served = InFlight("service", limits.served_per_service)
        self.control = Control(
            node=parts.node,
            log=log,
            memory=parts.memory,
            peers=parts.peers,
            transport=parts.connection,
            directory=parts.directory,
            clock=clock,
            observer=parts.metrics,
        )
        sealer = Sealer(parts.genesis, parts.origin, clock.random, clock.monotonic)
        composer = Composer(parts.genesis, parts.node, clock, sealer, lambda: parts.follower.directory.view)
        keeper = Keeper(parts.day_keys, clock.random)
        opener = Opener(parts.genesis)
        verifier = self._verifier = RecordVerifier(
            parts.member, parts.memory, _times(limits), parts.metrics.alarm, parts.standing
        )
        self.asker = Asker(
            genesis=parts.genesis,
            node=parts.node,
            member=parts.member,
            clock=clock,
            observer=parts.metrics,
            log=log,
            broker=parts.connection,
            directory=parts.directory,
            contracts=parts.contracts,
            composer=composer,
            keeper=keeper,
            verifier=verifier,
            opener=opener,
            answer_keys=parts.answer_keys,
            per_client=self._per_client,
            per_service=self._per_service,
            limits=AskingLimits(limits.deadline_s),
            standing=parts.standing,
        )
        quotas = QuotaBook()
        self.answerer = Answerer(
            genesis=parts.genesis,
            member=parts.member,
            clock=clock,
            observer=parts.metrics,
            log=log,
            outbound=parts.connection,
            directory=parts.directory,
            rights=parts.rights,
            contracts=parts.contracts,
            sources=parts.backends.current,
            composer=composer,
            keeper=keeper,
            verifier=verifier,
            opener=opener,
            query_keys=parts.query_keys,
            seen=self.seen,
            quotas=quotas,
            per_service=self._served,
            max_envelope_bytes=settings.front.max_body_bytes + _ENVELOPE_OVERHEAD_BYTES,
            hints_per_s=limits.hints_per_s,
            # also in maintenance: what is told beside a refusal depends on no right
            notices=Notices(lambda: parts.own.view, quotas, parts.metrics),
        )

    def take_limits(self, limits: LimitSettings) -> None:
        """Takes over limits at a reload."""
        self.asker.limits = AskingLimits(limits.deadline_s)
        self._per_client.limit = limits.per_client
        self._per_service.limit = limits.per_service
        self._served.limit = limits.served_per_service
        self._verifier.limits = _times(limits)
        self.answerer.hints.per_s = limits.hints_per_s


def _times(limits: LimitSettings) -> TimeLimits:
    return TimeLimits(timedelta(seconds=limits.clock_skew_s), _LONGEST_LIFE)
