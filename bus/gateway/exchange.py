"""The exchange of a node, put together once its log can be written."""

from __future__ import annotations

from datetime import timedelta

from bus.exchange.answering import Answerer
from bus.exchange.asking import Asker, AskingLimits
from bus.exchange.composing import Composer
from bus.exchange.control import Control
from bus.exchange.examining import Examiner
from bus.exchange.keeping import Keeper
from bus.exchange.limits import InFlight
from bus.exchange.notices import Notices
from bus.exchange.replay import SeenIds
from bus.exchange.sourcing import Sourcing
from bus.exchange.verification import RecordVerifier, TimeLimits
from bus.gateway.parts import Parts
from bus.sealing.epoch import Opener, Sealer
from bus.settings import GatewaySettings, LimitSettings
from evidence.log import ExchangeLog
from registry.quota import QuotaBook

ENVELOPE_OVERHEAD_BYTES = 512 * 1024
_LONGEST_LIFE = timedelta(seconds=300)


class Exchange:
    """Asking side, answering side and control questions over one log.

    Attributes:
        composer, keeper, opener, examiner, sourcing, served: what delivery of commands shares with it.
    """

    def __init__(self, parts: Parts, log: ExchangeLog, settings: GatewaySettings) -> None:
        limits, clock = settings.limits, parts.clock
        self.log = log
        self.seen = SeenIds()
        self._per_client = InFlight("client", limits.per_client)
        self._per_service = InFlight("service", limits.per_service)
        self.served = InFlight("service", limits.served_per_service)
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
        self._verifier = RecordVerifier(parts.member, parts.memory, _times(limits), parts.metrics.alarm, parts.standing)
        sealer = Sealer(parts.genesis, parts.origin, clock.random, clock.monotonic)
        self.composer = Composer(parts.genesis, parts.node, clock, sealer, lambda: parts.follower.directory.view)
        self.keeper, self.opener = Keeper(parts.day_keys, clock.random), Opener(parts.genesis)
        self.sourcing = Sourcing(clock, parts.metrics, parts.backends.current)
        quotas = QuotaBook()
        # also in maintenance: what is told beside a refusal depends on no right
        notices = Notices(lambda: parts.own.view, quotas, parts.metrics)
        self.examiner = Examiner(
            genesis=parts.genesis,
            member=parts.member,
            clock=clock,
            rights=parts.rights,
            quotas=quotas,
            contracts=parts.contracts,
            opener=self.opener,
            query_keys=parts.query_keys,
            called=notices.called,
        )
        self.asker = self._asker(parts, limits)
        self.answerer = self._answerer(parts, notices, settings)

    def _asker(self, parts: Parts, limits: LimitSettings) -> Asker:
        return Asker(
            genesis=parts.genesis,
            node=parts.node,
            member=parts.member,
            clock=parts.clock,
            observer=parts.metrics,
            log=self.log,
            broker=parts.connection,
            directory=parts.directory,
            contracts=parts.contracts,
            composer=self.composer,
            keeper=self.keeper,
            verifier=self._verifier,
            opener=self.opener,
            answer_keys=parts.answer_keys,
            per_client=self._per_client,
            per_service=self._per_service,
            limits=AskingLimits(limits.deadline_s),
            standing=parts.standing,
        )

    def _answerer(self, parts: Parts, notices: Notices, settings: GatewaySettings) -> Answerer:
        return Answerer(
            clock=parts.clock,
            observer=parts.metrics,
            log=self.log,
            outbound=parts.connection,
            directory=parts.directory,
            examiner=self.examiner,
            sourcing=self.sourcing,
            composer=self.composer,
            keeper=self.keeper,
            verifier=self._verifier,
            seen=self.seen,
            per_service=self.served,
            max_envelope_bytes=settings.front.max_body_bytes + ENVELOPE_OVERHEAD_BYTES,
            notices=notices,
            hints_per_s=settings.limits.hints_per_s,
        )

    def take_limits(self, limits: LimitSettings) -> None:
        """Takes over limits at a reload."""
        self.asker.limits = AskingLimits(limits.deadline_s)
        self._per_client.limit = limits.per_client
        self._per_service.limit = limits.per_service
        self.served.limit = limits.served_per_service
        self._verifier.limits = _times(limits)
        self.answerer.hints.per_s = limits.hints_per_s


def _times(limits: LimitSettings) -> TimeLimits:
    return TimeLimits(timedelta(seconds=limits.clock_skew_s), _LONGEST_LIFE)
