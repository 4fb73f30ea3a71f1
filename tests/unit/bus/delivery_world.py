"""Delivery between the two nodes of `bus_world`: real stores, real records, a broker's queues that a test can turn."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from datetime import timedelta

from bus_world import G01, GENESIS, H37, QUERY_PAIR, Bus, Side, call, posted, running_bus, sealing_entry

from bus.delivery.accepting import CommandDesk
from bus.delivery.attempts import AttemptBook, RetryRules
from bus.delivery.cancelled import Cancellations
from bus.delivery.cancelling import CancelDesk
from bus.delivery.changes import Changes
from bus.delivery.claims import Claims
from bus.delivery.deadletters import DeadLetters
from bus.delivery.doing import CommandDoer
from bus.delivery.expiry import Expiry
from bus.delivery.forgetting import Forgetting
from bus.delivery.idempotency import KeyBook
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
from bus.delivery.taskrecords import TaskRecords
from bus.delivery.tasks import TaskReader
from bus.delivery.watching import Watchers
from bus.delivery.webhooks import HookLimits, Webhooks
from bus.exchange.standing import CertificateStanding
from bus.exchange.verification import RecordVerifier, TimeLimits
from bus.sealing.epoch import Opener
from bus.sealing.keys import X25519, SealingKeyPair

H37_PAIR = SealingKeyPair.load(X25519, b"\x44" * 32)
LIFE_S, SKEW_S, LONGEST_S, RETRY_S = 3_600.0, 60.0, 86_400.0, 30.0
SLOW_S = 0.05
MAX_BYTES = 8 * 1024 * 1024


class Pulled:
    """A message in hand; remembers what became of it."""

    def __init__(self, subject: str, data: bytes) -> None:
        self.subject, self.data = subject, data
        self.fate = ""

    async def done(self) -> None:
        assert not self.fate
        self.fate = "done"

    async def later(self, after_s: float) -> None:
        assert 0 < after_s <= 30
        assert not self.fate, "it was acknowledged already: it will not come again"
        self.fate = "later"


class TasksHeard:
    """A task observer that keeps what it heard."""

    def __init__(self) -> None:
        self.retries: list[str] = []
        self.dead: list[str] = []
        self.taken: list[str] = []

    def retried(self, service, code):
        self.retries.append(code)

    def buried(self, service, code):
        self.dead.append(code)

    def taken_over(self, service):
        self.taken.append(service)


class HooksHeard:
    """A webhook observer that keeps what it heard."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def hook(self, outcome):
        self.outcomes.append(outcome)


class Queues:
    """Keeps what is put; a test may let it be down, forget, or say that it has the message already."""

    def __init__(self) -> None:
        self.connected = True
        self.error: Exception | None = None
        self.duplicate = False
        self.lose = False
        self.stored: list[tuple[str, bytes, str]] = []
        self.puts = 0

    async def put(self, subject, payload, message_id):
        self.puts += 1
        if self.error is not None:
            raise self.error
        if self.duplicate:
            return False
        if not self.lose:
            self.stored.append((subject, payload, message_id))
        return True


class Poster:
    """Receives webhooks; answers what the test says."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status: int | Exception = 200

    async def post(self, target, headers, body):
        self.got.append((target.url, dict(headers), body))
        if isinstance(self.status, Exception):
            raise self.status
        return self.status


class Alone:
    """Leases of a member with one node."""

    def others(self):
        return frozenset()


ALONE = Alone()


async def no_order_key(idx: int) -> str:
    return ""


class Station:
    """One node's part."""

    def __init__(self, bus: Bus, side: Side, member: str, pair: SealingKeyPair, queues: Queues, claims=None) -> None:
        self.side, self.bus = side, bus
        self.watchers = Watchers()
        clock, view = bus.clock, bus.directory
        self.store = DeliveryReader(side.path)
        self.outbox = Outbox(clock, side.log, self.store, queues, OutboxLimits(RETRY_S, 4 * RETRY_S, 6), side.versions)
        self.results = ResultBook(clock, lambda: view, bus.shelf, side.day_keys, self.store, 86_400.0)
        self.statuses = Statuses(clock, self.store, self.outbox, self.results, self.watchers)
        self.poster = Poster()
        self.hooks = HooksHeard()
        self.webhooks = Webhooks(clock, self.store, self.poster, no_order_key, HookLimits(at_once=4), self.hooks)
        self.changes = Changes(self.outbox, self.watchers, self.webhooks, lambda: clock.now().timestamp())
        self.expiry = Expiry(clock, side.log, side.composer, self.store, self.outbox, self.changes)
        self.forgetting = Forgetting(self.store, 30 * 86_400.0)
        self.keys = KeyBook(self.store.rows)
        self.cancellations = Cancellations(GENESIS, member, Opener(GENESIS), {pair.keyid: pair}, self.store, LONGEST_S)
        self.cancel_desk = CancelDesk(
            member=member, clock=clock, log=side.log, directory=lambda: view, composer=side.composer,
            keeper=side.keeper, store=self.store, outbox=self.outbox, changes=self.changes, skew_s=SKEW_S,
        )  # fmt: skip
        self.claims = claims(self.store) if claims else Claims("", member, clock, None, ALONE, self.store)
        replier = Replier(member, side.log, side.composer, queues, lambda: view, Owed(queues, clock.monotonic))
        times = TimeLimits(timedelta(seconds=SKEW_S), timedelta(seconds=LONGEST_S))
        verifier = self.verifier = RecordVerifier(member, side.verifier.memory, times, side.heard.alarm)
        self.desk = CommandDesk(
            member=member, clock=clock, observer=side.heard, log=side.log, directory=lambda: view, contracts=bus.shelf,
            composer=side.composer, keeper=side.keeper, day_keys=side.day_keys, outbox=self.outbox, pace=Pace(clock), keys=self.keys, forgetting=self.forgetting,
            standing=CertificateStanding(),
            life_s=LIFE_S, skew_s=SKEW_S,
        )  # fmt: skip
        self.tasks = TaskReader(self.store)
        self.book = AttemptBook(side.path.with_name(f"{side.path.stem}-attempts.db"))
        self.rules = RetryRules(first_s=10.0, longest_s=80.0, age_s=3_600.0, most=5)
        self.told = TasksHeard()
        records = self.records = TaskRecords(
            clock=clock, log=side.log, composer=side.composer, keeper=side.keeper, replier=replier, tasks=self.tasks,
            outbox=self.outbox, claims=self.claims, life_s=LONGEST_S,
        )  # fmt: skip
        self.doer = CommandDoer(
            clock=clock, observer=side.heard, watcher=self.told, directory=lambda: view,
            examiner=bus.answerer._examiner, sourcing=bus.answerer._sourcing, verifier=verifier, replier=replier,
            tasks=self.tasks, book=self.book, records=records, claims=self.claims, rules=lambda _service: self.rules,
            max_envelope_bytes=MAX_BYTES, slow_s=SLOW_S,
        )  # fmt: skip
        self.runner = self.new_runner()
        self.letters = DeadLetters(self.tasks, self.book, self.runner, records, self.claims)
        self.commands = CommandTaker(
            clock=clock, observer=side.heard, log=side.log, directory=lambda: view, examiner=bus.answerer._examiner,
            keeper=side.keeper, verifier=verifier, store=self.store,
            outbox=self.outbox, replier=replier, cancellations=self.cancellations, claims=self.claims, runner=self.runner, versions=side.versions, max_envelope_bytes=MAX_BYTES,
            result_life_s=LONGEST_S,
        )  # fmt: skip
        self.replies = ReplyTaker(
            genesis=GENESIS, member=member, clock=clock, observer=side.heard, log=side.log, directory=lambda: view,
            keeper=side.keeper, verifier=verifier, opener=Opener(GENESIS), member_keys={pair.keyid: pair},
            store=self.store, outbox=self.outbox, replier=replier, results=self.results, watchers=self.watchers,
            changes=self.changes, versions=side.versions, max_envelope_bytes=MAX_BYTES, remembered_s=LONGEST_S,
        )  # fmt: skip

    def new_runner(self, at_once: int = 4, most: int = 100) -> TaskRunner:
        """As a process has it that starts anew."""
        return TaskRunner(
            clock=self.bus.clock, log=self.side.log, tasks=self.tasks, book=self.book, doer=self.doer,
            served=self.bus.answerer._per_service, limit=lambda _service: None, at_once=at_once, most=most,
            longest_s=lambda service: self.doer._rules(service).longest_s,
        )  # fmt: skip

    def restart(self, **limits: int) -> None:
        """A new run over the same stores."""
        self.runner = self.commands._runner = self.letters._runner = self.new_runner(**limits)

    def types(self) -> Counter[str]:
        """Exchange records of its log."""
        return Counter(self.side.types())


class Line:
    """Both stations and what is between them."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.queues = bus, Queues()
        self.finish = True
        bus.directory.sealing.append(sealing_entry(H37, H37_PAIR, "query", "command"))
        self.h37 = Station(bus, bus.h37, H37, H37_PAIR, self.queues)
        self.g01 = Station(bus, bus.g01, G01, QUERY_PAIR, self.queues)

    async def submit(self, **changes: object) -> str:
        """A command of the client system."""
        return await self.h37.desk.accept(call(**{**posted(), **changes}))

    async def carry(self, subject: str, data: bytes) -> str:
        """Brings one message to who pulls it; what became of it."""
        message = Pulled(subject, data)
        station = self.g01 if subject.split(".")[2] == "GOV~G01" else self.h37
        taker = station.commands.on_command if subject.startswith("lt.c.") else station.replies.on_reply
        await taker(message)
        if self.finish:
            await station.runner.idle()
        return message.fate

    async def flow(self) -> list[str]:
        """Sends and carries until nothing is due; the subjects and fates in order."""
        fates = []
        while await self.work() + await self.h37.outbox.send_due() + await self.g01.outbox.send_due() or (
            self.queues.stored
        ):
            while self.queues.stored:
                subject, data, _ = self.queues.stored.pop(0)
                fates.append(await self.carry(subject, data))
        return fates

    async def work(self) -> int:
        """The provider's attempts that are due; how many."""
        begun = self.g01.runner.start_due()
        await self.g01.runner.idle()
        return begun

    async def state(self, record_id: str) -> str:
        """As the client system is told."""
        command = await self.h37.store.command(record_id)
        return str(self.h37.statuses.told(command)["state"])

    @property
    def effects(self) -> list[str]:
        """Exchange ids that the source heard."""
        return [request.exchange_id for request in self.bus.source.requests]


@asynccontextmanager
async def running_line(folder):
    """Two nodes that deliver to each other."""
    async with running_bus(folder) as bus:
        bus.source.answer = type(bus.source.answer)(200, (), "application/json", b'{"done":true}')
        line = Line(bus)
        try:
            yield line
        finally:
            for station in (line.h37, line.g01):
                await station.runner.stop(0)
                station.store.close()
                station.book.close()
