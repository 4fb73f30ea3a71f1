"""A provider with two nodes over one board in memory: real stores and records, nodes that die and come back."""

from __future__ import annotations

from contextlib import asynccontextmanager

from bus_world import (
    G01,
    GENESIS,
    QUERY_PAIR,
    Bus,
    Faults,
    Heard,
    Side,
    node_entry,
    open_log,
    origin_of,
)
from delivery_world import MAX_BYTES, Line, Pulled, Station, running_line
from test_claims import Board

from bus.delivery.attempts import RetryRules
from bus.delivery.claims import Claims
from bus.delivery.companions import Companions
from bus.delivery.leases import Leases
from bus.delivery.takeover import TakeOver
from bus.exchange.composing import Composer
from bus.exchange.keeping import DayKeys, Keeper
from bus.exchange.verification import CheckpointMemory, RecordVerifier, TimeLimits
from bus.exchange.versions import Versions
from bus.sealing.epoch import Sealer
from bus.transport import subjects
from evidence.log import ExchangeLog

DEAD_S = 10.0
NAMES = (f"{G01}/@n1", f"{G01}/@n2")


class _BoardClock:
    """The broker's clock is that of the world."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    @property
    def s(self) -> float:
        return self._bus.clock.now().timestamp()


class ProviderNode:
    """One node of the provider; `start` is a new process over the same stores."""

    def __init__(self, line: Line, side: Side, board: Board) -> None:
        self.line, self.side, self.board = line, side, board
        self.stations: list[Station] = []
        self.start()

    def start(self) -> None:
        clock, view, node = self.line.bus.clock, self.line.bus.directory, self.side.node
        self.leases = Leases(node, G01, clock, self.board, lambda: view, DEAD_S)
        self.station = Station(
            self.line.bus, self.side, G01, QUERY_PAIR, self.line.queues,
            lambda store: Claims(node, G01, clock, self.board, self.leases, store),
        )  # fmt: skip
        self.station.rules = RetryRules(first_s=1.0, longest_s=1.0, age_s=1e6, most=10_000)
        self.stations.append(self.station)
        self.takeover = TakeOver(
            clock=clock, directory=lambda: view, verifier=self.station.verifier, store=self.station.store,
            claims=self.station.claims, taker=self.station.commands, tasks=self.station.tasks,
            records=self.station.records, runner=self.station.runner, watcher=self.station.told, max_envelope_bytes=MAX_BYTES,
        )  # fmt: skip
        self.companions = Companions(
            node=node, log=self.side.log, leases=self.leases, claims=self.station.claims, takeover=self.takeover,
            tasks=self.station.tasks, records=self.station.records, runner=self.station.runner,
        )  # fmt: skip

    async def restart(self) -> None:
        """The process ended at once and starts anew; what was in memory is gone."""
        await self.station.runner.stop(0)
        self.start()
        await self.station.runner.load()
        await self.station.outbox.load()

    async def round(self) -> None:
        await self.companions._round()

    async def work(self) -> None:
        self.station.runner.start_due()
        await self.station.runner.idle()


class Provider:
    """Both nodes, and the line from the asking member."""

    def __init__(self, line: Line, board: Board, nodes: list[ProviderNode]) -> None:
        self.line, self.board, self.nodes = line, board, nodes

    async def rounds(self, *nodes: ProviderNode, seconds: float = 0.0) -> None:
        """These nodes go round for so long, each second; the others are silent."""
        for at in range(int(seconds) + 1):
            if at:
                self.line.bus.clock.pass_time(1.0)
            for node in nodes:
                await node.round()

    async def take(self, node: ProviderNode) -> str:
        """A command that the node has taken and tried once; its id."""
        record_id = await self.line.submit()
        await self.line.h37.outbox.send_due()
        message = Pulled(*self.line.queues.stored.pop()[:2])
        await node.station.commands.on_command(message)
        assert message.fate == "done"
        await node.station.runner.idle()
        return record_id

    async def flow(self) -> None:
        """All that is due goes its way: commands to the first node, replies to the asking member."""
        queues = self.line.queues
        while await self.line.h37.outbox.send_due() + sum([await one.station.outbox.send_due() for one in self.nodes]):
            while queues.stored:
                subject, data, _ = queues.stored.pop(0)
                message = Pulled(subject, data)
                if subject.startswith("lt.c."):
                    await self.nodes[0].station.commands.on_command(message)
                elif subject.split(".")[2] == "GOV~H37":
                    await self.line.h37.replies.on_reply(message)
                else:
                    token = subject.split(".")[3]
                    (node,) = [one for one in self.nodes if subjects.results_of(one.side.node).split(".")[3] == token]
                    await node.station.replies.on_reply(message)

    def claims(self) -> list:
        return [one for one in self.board.kept.values() if ".c." in one.subject]


@asynccontextmanager
async def running_provider(folder):
    """The asking member with one node, the provider with two that have heard of each other."""
    async with running_line(folder) as line:
        bus = line.bus
        bus.directory.nodes[origin_of(NAMES[1])] = node_entry(NAMES[1])
        faults, board = Faults(), Board(_BoardClock(bus))
        async with open_log(folder / "G01-n2.db", NAMES[1], bus.clock, faults) as log:
            second = _side(folder, log, faults, bus)
            nodes = [ProviderNode(line, side, board) for side in (bus.g01, second)]
            provider = Provider(line, board, nodes)
            await provider.rounds(*nodes, seconds=2)
            try:
                yield provider
            finally:
                for node in nodes:
                    for station in node.stations:
                        await station.runner.stop(0)
                        station.store.close()
                        station.book.close()


def _side(folder, log: ExchangeLog, faults: Faults, bus: Bus) -> Side:
    node, clock, heard = NAMES[1], bus.clock, Heard()
    day_keys = DayKeys(folder / "G01-n2-days", clock.random)
    sealer = Sealer(GENESIS, origin_of(node), clock.random, clock.monotonic)
    return Side(
        node=node, path=folder / "G01-n2.db", log=log, faults=faults, heard=heard,
        composer=Composer(GENESIS, node, clock, sealer, lambda: bus.directory.view),
        keeper=Keeper(day_keys, clock.random), day_keys=day_keys,
        verifier=RecordVerifier(G01, CheckpointMemory(), TimeLimits(), heard.alarm),
        versions=Versions(node, G01, lambda: bus.directory, clock, heard.alarm),
    )  # fmt: skip
