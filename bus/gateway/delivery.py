"""Delivery of commands, put together on top of the exchange of a node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

import structlog

from bus.delivery.accepting import CommandDesk
from bus.delivery.attempts import AttemptBook, RetryRules
from bus.delivery.cancelled import Cancellations
from bus.delivery.cancelling import CancelDesk
from bus.delivery.changes import Changes
from bus.delivery.claims import Claims
from bus.delivery.companions import Companions
from bus.delivery.deadletters import DeadLetters
from bus.delivery.depths import Depth, read_depths
from bus.delivery.doing import CommandDoer
from bus.delivery.ending import OutgoingEnd
from bus.delivery.expiry import Expiry
from bus.delivery.forgetting import Forgetting
from bus.delivery.idempotency import KeyBook
from bus.delivery.leases import Leases
from bus.delivery.orders import open_order_key
from bus.delivery.outbox import Outbox, OutboxLimits
from bus.delivery.owing import Owed
from bus.delivery.pace import Pace
from bus.delivery.receiving import CommandTaker
from bus.delivery.replies import ReplyTaker
from bus.delivery.replying import Replier
from bus.delivery.results import ResultBook
from bus.delivery.running import TaskRunner
from bus.delivery.statuses import Statuses
from bus.delivery.store import DeliveryReader
from bus.delivery.takeover import TakeOver
from bus.delivery.taskrecords import TaskRecords
from bus.delivery.tasks import TaskReader
from bus.delivery.watching import Watchers
from bus.delivery.webhooks import HookLimits, Target, Webhooks
from bus.exchange.verification import RecordVerifier, TimeLimits
from bus.gateway.believedtime import BelievedTime
from bus.gateway.exchange import ENVELOPE_OVERHEAD_BYTES, Exchange
from bus.gateway.parts import Parts
from bus.gateway.webhookposts import WebhookPoster
from bus.metrics import GatewayMetrics
from bus.settings import GatewaySettings
from bus.transport import subjects
from bus.transport.queues import MemberQueues, PulledMessage, Puller
from bus.transport.workboard import MemberBoard
from evidence.errors import EvidenceError
from registry.view import DirectoryView

_log = structlog.get_logger("lienthong.delivery")
_SWEEP_S = 1.0
_FORGET_SWEEPS = 600
_COUNT_S = 2.0
_DAY_S = 86_400.0
_WARM_S = 10.0


class Delivery:
    """Outbox, both takers and the page of one node.

    Args:
        parts: of the node.
        exchange: over the same log.
        settings: of the node.
    """

    def __init__(self, parts: Parts, exchange: Exchange, settings: GatewaySettings) -> None:
        self._parts = parts
        self._exchange = exchange
        self._settings = settings
        commands, limits, clock, log = settings.commands, settings.limits, parts.clock, exchange.log
        self._rules = _rules(settings)
        self._depths: list[Depth] = []
        self._max_bytes = settings.front.max_body_bytes + ENVELOPE_OVERHEAD_BYTES
        self._believed = BelievedTime(clock, lambda: parts.follower.as_of)
        self._store = DeliveryReader(settings.data / "log.db", self._believed)
        queues = MemberQueues(parts.connection)
        self._pace = Pace(clock)
        outbox_limits = OutboxLimits(
            commands.retry_s, commands.retry_max_s, commands.waiting, max(1, commands.waiting // 4)
        )
        self._outbox = Outbox(clock, log, self._store, queues, outbox_limits, parts.versions, self._pace)
        self._watchers = Watchers()
        self._poster = WebhookPoster()
        hook_limits = HookLimits(min(HookLimits().first_s, commands.retry_s))
        self._webhooks = Webhooks(
            clock, self._store, self._poster, self._order_key, hook_limits, parts.metrics, self._believed
        )
        self._changes = Changes(self._outbox, self._watchers, self._webhooks, lambda: clock.now().timestamp())
        self._results = ResultBook(
            clock, self._known, parts.contracts, parts.day_keys, self._store, settings.retention.results_days * _DAY_S
        )
        self.statuses = Statuses(clock, self._store, self._outbox, self._results, self._watchers)
        self._forgetting = Forgetting(self._store, settings.retention.commands_days * _DAY_S)
        self.desk = self._command_desk()
        self.cancel_desk = self._cancel_desk()
        self.outgoing_end = OutgoingEnd(log, self._store, self.cancel_desk)
        self._cancellations = Cancellations(
            parts.genesis, parts.member, exchange.opener, parts.query_keys, self._store, commands.longest_life_s,
            commands.waiting, self._believed,
        )  # fmt: skip
        self._owed = Owed(queues, clock.monotonic)
        self._replier = Replier(parts.member, log, exchange.composer, queues, self._known, self._owed)
        times = TimeLimits(timedelta(seconds=limits.clock_skew_s), timedelta(seconds=commands.longest_life_s))
        self._verifier = RecordVerifier(parts.member, parts.memory, times, parts.metrics.alarm, parts.standing)
        board = MemberBoard(parts.connection, parts.node, parts.member)
        self._leases = Leases(parts.node, parts.member, clock, board, self._known, commands.node_dead_s)
        self._claims = Claims(parts.node, parts.member, clock, board, self._leases, self._store)
        self._runner = self._task_runner()
        self._taker = self._command_taker()
        self._companions = self._among_nodes()
        self._expiry = Expiry(clock, log, exchange.composer, self._store, self._outbox, self._changes, self._believed)
        replies = self._reply_taker()
        queues_of = (
            (subjects.command_stream, subjects.OWN_CONSUMER, self._taker.on_command),
            (subjects.result_stream, subjects.node_consumer(parts.node), replies.on_reply),
        )
        self._command_pullers, self._reply_pullers = (
            [self._puller(stream(parts.member, large=large), consumer, take) for large in (False, True)]
            for stream, consumer, take in queues_of
        )

    def _known(self) -> DirectoryView:
        return self._parts.follower.directory

    def _command_desk(self) -> CommandDesk:
        parts, exchange = self._parts, self._exchange
        return CommandDesk(
            member=parts.member,
            clock=parts.clock,
            observer=parts.metrics,
            log=exchange.log,
            directory=parts.directory,
            contracts=parts.contracts,
            composer=exchange.composer,
            keeper=exchange.keeper,
            day_keys=parts.day_keys,
            outbox=self._outbox,
            pace=self._pace,
            keys=KeyBook(self._store.rows),
            forgetting=self._forgetting,
            standing=parts.standing,
            life_s=self._settings.commands.life_s,
            skew_s=self._settings.limits.clock_skew_s,
        )

    def _cancel_desk(self) -> CancelDesk:
        parts, exchange = self._parts, self._exchange
        return CancelDesk(
            member=parts.member,
            clock=parts.clock,
            log=exchange.log,
            directory=parts.directory,
            composer=exchange.composer,
            keeper=exchange.keeper,
            store=self._store,
            outbox=self._outbox,
            changes=self._changes,
            skew_s=self._settings.limits.clock_skew_s,
        )

    def _task_runner(self) -> TaskRunner:
        parts, exchange, commands = self._parts, self._exchange, self._settings.commands
        tasks, book = TaskReader(self._store), AttemptBook(self._settings.data / "attempts.db")
        records = TaskRecords(
            clock=parts.clock,
            log=exchange.log,
            composer=exchange.composer,
            keeper=exchange.keeper,
            replier=self._replier,
            tasks=tasks,
            outbox=self._outbox,
            claims=self._claims,
            life_s=commands.longest_life_s,
        )
        doer = CommandDoer(
            clock=parts.clock,
            observer=parts.metrics,
            watcher=parts.metrics,
            directory=parts.directory,
            examiner=exchange.examiner,
            sourcing=exchange.sourcing,
            verifier=self._verifier,
            replier=self._replier,
            tasks=tasks,
            book=book,
            records=records,
            claims=self._claims,
            rules=self._rules_of,
            max_envelope_bytes=self._max_bytes,
            believed=self._believed,
        )
        runner = TaskRunner(
            clock=parts.clock,
            log=exchange.log,
            tasks=tasks,
            book=book,
            doer=doer,
            served=exchange.served,
            limit=self._limit_of,
            at_once=commands.at_backend,
            most=commands.tasks,
            longest_s=lambda service: self._rules_of(service).longest_s,
        )
        self._book, self._tasks, self._records = book, tasks, records
        self.letters = DeadLetters(tasks, book, runner, records, self._claims)
        return runner

    def _among_nodes(self) -> Companions:
        takeover = TakeOver(
            clock=self._parts.clock,
            directory=self._known,
            verifier=self._verifier,
            store=self._store,
            claims=self._claims,
            taker=self._taker,
            tasks=self._tasks,
            records=self._records,
            runner=self._runner,
            watcher=self._parts.metrics,
            max_envelope_bytes=self._max_bytes,
        )
        return Companions(
            node=self._parts.node,
            log=self._exchange.log,
            leases=self._leases,
            claims=self._claims,
            takeover=takeover,
            tasks=self._tasks,
            records=self._records,
            runner=self._runner,
        )

    def _limit_of(self, service: str) -> int | None:
        entry = self._known().service(service)
        return None if entry is None else entry.limits.max_concurrent

    def _rules_of(self, service: str) -> RetryRules:
        return self._rules.get(service, self._rules[""])

    def take_settings(self, settings: GatewaySettings) -> None:
        """Takes over what a reload may change: the rules of services."""
        self._rules = _rules(settings)

    def _command_taker(self) -> CommandTaker:
        parts, exchange = self._parts, self._exchange
        return CommandTaker(
            clock=parts.clock,
            observer=parts.metrics,
            log=exchange.log,
            directory=parts.directory,
            examiner=exchange.examiner,
            keeper=exchange.keeper,
            verifier=self._verifier,
            store=self._store,
            outbox=self._outbox,
            replier=self._replier,
            cancellations=self._cancellations,
            claims=self._claims,
            runner=self._runner,
            versions=parts.versions,
            max_envelope_bytes=self._max_bytes,
            result_life_s=self._settings.commands.longest_life_s,
        )

    def _reply_taker(self) -> ReplyTaker:
        parts, exchange = self._parts, self._exchange
        return ReplyTaker(
            genesis=parts.genesis,
            member=parts.member,
            clock=parts.clock,
            observer=parts.metrics,
            log=exchange.log,
            directory=parts.directory,
            keeper=exchange.keeper,
            verifier=self._verifier,
            opener=exchange.opener,
            member_keys=parts.query_keys,
            store=self._store,
            outbox=self._outbox,
            replier=self._replier,
            results=self._results,
            watchers=self._watchers,
            changes=self._changes,
            versions=parts.versions,
            max_envelope_bytes=self._max_bytes,
            remembered_s=self._settings.commands.longest_life_s,
        )

    def _puller(self, stream: str, consumer: str, take: Callable[[PulledMessage], Coroutine[Any, Any, None]]) -> Puller:
        parts = self._parts
        inbox = f"{subjects.inbox(parts.node)}{parts.clock.random(12).hex()}.pull"
        most = self._settings.commands.at_once
        return Puller(parts.connection, stream, consumer, inbox, take, lambda: self._pace.at_once(most))

    async def open(self) -> None:
        """Looks at what an earlier run left.

        Raises:
            StoreTooNew: a newer version wrote it.
        """
        await self._store.check_version()
        await self._outbox.load()
        await self._cancellations.load()
        await self._webhooks.load()
        await self._runner.load()

    def take_webhooks(self, targets: Mapping[str, Target]) -> None:
        """Takes over new settings; cannot fail."""
        self._webhooks.replace(targets)

    async def _order_key(self, idx: int) -> str:
        for day, data in await self._store.rows("SELECT day, data FROM command_order WHERE idx = ?", idx):
            return open_order_key(self._parts.day_keys, day, data)
        return ""

    async def run(self, warm: asyncio.Event) -> None:
        """Delivers until it is cancelled.

        Args:
            warm: set once the contracts were tried. Commands that come before would only be put back, for seconds.
        """
        await asyncio.gather(
            self._outbox.run(),
            self._work(warm),
            self._sweep(),
            self._webhooks.run(),
            self._companions.run(),
            self._count(),
            *(puller.run() for puller in self._reply_pullers),
        )

    async def _work(self, warm: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(warm.wait(), _WARM_S)
        await asyncio.gather(self._runner.run(), *(puller.run() for puller in self._command_pullers))

    async def _sweep(self) -> None:
        for sweep in itertools.count():
            await asyncio.sleep(_SWEEP_S)
            try:
                now = self._believed()
                if now is not None and (sweep % _FORGET_SWEEPS == 0 or self._forgetting.behind):
                    await self._forgetting.look(now)
                while self._exchange.log.writable and await self._expiry.sweep():
                    pass
            except EvidenceError as error:  # the next round may fare better
                self._outbox.doubt()
                _log.warning("expiry.failed", code=error.code)

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(_COUNT_S)
            try:
                await self._runner.count()
                self._depths = await read_depths(self._store, self._parts.node.partition("/")[0])
            except EvidenceError as error:
                _log.warning("tasks.uncounted", code=error.code)

    def refresh(self, metrics: GatewayMetrics) -> None:
        """Brings gauges up to date, before a scrape."""
        metrics.outbox_records.set(len(self._outbox))
        metrics.outbox_oldest.set(self._outbox.oldest_s())
        now_s = self._parts.clock.now().timestamp()
        metrics.outbox_depth.clear()
        metrics.outbox_depth_oldest.clear()
        for depth in self._depths:
            metrics.outbox_depth.labels(depth.member, depth.kind).set(depth.records)
            metrics.outbox_depth_oldest.labels(depth.member, depth.kind).set(max(0.0, now_s - depth.oldest_s))
        metrics.outbox_service.clear()
        metrics.outbox_service_oldest.clear()
        for depth in self._outbox.by_service():
            metrics.outbox_service.labels(depth.member).set(depth.records)
            metrics.outbox_service_oldest.labels(depth.member).set(max(0.0, now_s - depth.oldest_s))
        metrics.tasks.clear()
        metrics.task_oldest.clear()
        for crowd in self._runner.crowds:
            metrics.tasks.labels(crowd.service, crowd.state).set(crowd.count)
            metrics.task_oldest.labels(crowd.service, crowd.state).set(max(0.0, now_s - crowd.oldest_s))
        for service, count in self._runner.under_way.items():
            metrics.tasks.labels(service, "doing").set(count)

    async def stop(self, grace_s: float) -> None:
        """Takes nothing more; what was taken may end."""
        pullers = (*self._command_pullers, *self._reply_pullers)
        await asyncio.gather(self._runner.stop(grace_s), *(puller.stop(grace_s) for puller in pullers))

    async def close(self) -> None:
        """Gives back what was opened."""
        await self._owed.close()
        await self._poster.close()
        self._store.close()
        self._book.close()


def _rules(settings: GatewaySettings) -> dict[str, RetryRules]:
    """By service id, those of `[commands]` under the empty one."""
    base = settings.commands
    found = {"": RetryRules(base.attempt_s, base.attempt_max_s, base.attempts_for_s, base.attempts)}
    for service in settings.service:
        own = service.commands
        found[service.id] = RetryRules(
            base.attempt_s if own.attempt_s is None else own.attempt_s,
            base.attempt_max_s if own.attempt_max_s is None else own.attempt_max_s,
            base.attempts_for_s if own.attempts_for_s is None else own.attempts_for_s,
            base.attempts if own.attempts is None else own.attempts,
        )
    return found
