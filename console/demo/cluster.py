"""The scene of `demo --cluster`: servers of the broker are killed while commands and queries are under way.

First the leader of the stream with the commands to a ministry, then all servers at once; each is started again. What
the province's gateway accepted is counted against what the application behind the ministry's gateway says it did. That
application is one more process of its own with its own file, so that the other parts count as without this scene.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bus.transport import subjects
from console.data import data_folder
from console.demo.calls import Answer, Call
from console.demo.cast import BUSINESS, BUSINESS_MINISTRY, ONEDOOR, PROVINCE, PURPOSE, Service
from console.demo.client import Sent, successful_exchanges
from console.demo.processes import SAMPLE, DemoFailed, Processes
from console.demo.scenario import CALL_HEADERS, registration
from console.demo.servers import NUMBERS, Servers
from console.demo.world import World

REGISTRATIONS = Service(
    BUSINESS_MINISTRY,
    "business/registrations",
    BUSINESS.contract,
    BUSINESS.kind,
    ("--operation", "registrationStatus", "--purpose", PURPOSE),
)
_SENDERS, _ASKERS = 4, 2
_MORE = 150
_ACCEPTED, _OK = 202, 200
_FINAL = {"completed", "failed", "dead", "cancelled", "expired"}
_PATIENCE_S = 45.0
_CALL_S = 40.0
_PAUSE_S = 0.02


class ClusterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the scene gave; `cluster` of the JSON line.

    Attributes:
        servers: Of the broker.
        kills: Servers that were killed with SIGKILL.
        commands_accepted: `202` by the province's gateway, while servers died.
        commands_completed: Of these, closed by a result.
        effects_twice: Of these, done more than once by the application.
        lost: Of these, not done at all.
        queries_ok: Queries that were answered in that time.
        queries_failed: Queries that were refused with a clear error or had no answer.
        seconds: From the first command to the last result.
    """

    servers: int
    kills: int
    commands_accepted: int
    commands_completed: int
    effects_twice: int
    lost: int
    queries_ok: int
    queries_failed: int
    seconds: float

    def problems(self) -> list[str]:
        """Everything that is not as expected."""
        found = []
        if self.commands_completed != self.commands_accepted:
            found.append(f"{self.commands_accepted} commands accepted, {self.commands_completed} completed")
        if self.effects_twice or self.lost:
            found.append(f"{self.lost} commands lost, {self.effects_twice} done twice")
        if self.commands_accepted < 4 * _MORE or self.kills <= self.servers or not self.queries_ok:
            found.append(f"the broker's servers were not killed under load: {self}")
        return found


class ClusterScene:
    """Plays the scene in a world that is up.

    Args:
        processes: Runs the application.
        world: Where it plays.
        servers: Of its broker.
        work: Folder for the application's files.
        sent: File in which answered queries are noted, as all of the demonstration.

    Attributes:
        exchanges: Successful queries by the gateway's own counter.
    """

    def __init__(self, processes: Processes, world: World, servers: Servers, work: Path, sent: Path) -> None:
        self._processes = processes
        self._world = world
        self._servers = servers
        self._work = work
        self._sent = sent
        self._front = world.gateways.nodes[PROVINCE.code].front
        key = world.keys["onedoor"].read_text(encoding="ascii").strip()
        self._headers = {
            **CALL_HEADERS,
            "X-Road-Client": ONEDOOR,
            "X-LienThong-Key": key,
            "X-LienThong-Purpose": PURPOSE,
        }
        self._tls = world.gateways.front_tls(PROVINCE)
        self._call = msgspec.structs.replace(registration(world.samples.dossiers[0]), service=REGISTRATIONS.id)
        self._accepted: list[str] = []
        self._answers: Counter[int] = Counter()
        self._stop = asyncio.Event()
        self.exchanges = 0

    async def play(self) -> ClusterFacts:
        """Publish, load, kill, start, count.

        Raises:
            DemoFailed: A process failed, or something did not come about.
        """
        effects, killed_before = self._work / "registrations.jsonl", self._servers.kills
        await self._offer(effects)
        timeout = aiohttp.ClientTimeout(total=_CALL_S)
        with self._sent.open("a", encoding="utf-8", buffering=1) as file:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                sent, before = Sent(file), await self._counter(session)
                await self._until_offered(session, sent)
                began_s = time.monotonic()
                await self._load(session, sent)
                states = await self._ends(session)
                seconds = time.monotonic() - began_s
                await self._quiet(session, states)
                self.exchanges = await self._counter(session) - before - states["completed"]  # it counts commands, too
        done = Counter(json.loads(line)["exchange_id"] for line in effects.read_text(encoding="utf-8").splitlines())
        return ClusterFacts(
            servers=len(NUMBERS),
            kills=self._servers.kills - killed_before,
            commands_accepted=len(self._accepted),
            commands_completed=states["completed"],
            effects_twice=sum(done[one] > 1 for one in self._accepted),
            lost=sum(done[one] == 0 for one in self._accepted),
            queries_ok=self._answers[_OK],
            queries_failed=sum(count for status, count in self._answers.items() if status != _OK),
            seconds=round(seconds, 1),
        )

    # --- before -------------------------------------------------------------------------------------------------

    async def _offer(self, effects: Path) -> None:
        """One more service of the ministry, with an application of its own behind it."""
        world, port_file = self._world, self._work / "registrations.port"
        places = ["--database", world.register("business"), "--effects", str(effects), "--port-file", str(port_file)]
        child = await self._processes.start("registrations-backend", [*SAMPLE, "backend", *places])
        await self._processes.wait_for_file(child, port_file)
        settings = self._work / "registrations.toml"
        settings.write_text(f'base_url = "http://127.0.0.1:{port_file.read_text().strip()}"\ncheck_path = "/livez"\n')
        home, contract = world.home(BUSINESS_MINISTRY), data_folder("schemas") / REGISTRATIONS.contract
        how = ("--contract", contract, "--kind", REGISTRATIONS.kind, "--settings", settings)
        await world.command("service", "publish", REGISTRATIONS.code, "--home", home, *how)
        await world.command("access", "grant", ONEDOOR, REGISTRATIONS.code, "--home", home, *REGISTRATIONS.grant)
        gateway = world.gateways.nodes[BUSINESS_MINISTRY.code].child
        assert gateway is not None
        gateway.process.send_signal(signal.SIGHUP)

    async def _until_offered(self, session: aiohttp.ClientSession, sent: Sent) -> None:
        """Query until an answer comes; refusals before it are no successful exchanges."""
        end_s = time.monotonic() + _PATIENCE_S
        while (answer := await self._query_once(session, sent)).status != _OK:
            if time.monotonic() > end_s:
                raise DemoFailed(f"{REGISTRATIONS.id} is not offered: {answer.status} {answer.body[:200]}")
            await asyncio.sleep(0.2)
        self._answers = Counter({_OK: 1})

    # --- load ---------------------------------------------------------------------------------------------------

    async def _load(self, session: aiohttp.ClientSession, sent: Sent) -> None:
        stream = subjects.command_stream(BUSINESS_MINISTRY.id)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_SENDERS):
                tasks.create_task(self._send(session))
            for _ in range(_ASKERS):
                tasks.create_task(self._query(session, sent))
            try:
                await self._more()
                leader = await self._servers.until_leader(stream)
                await self._servers.kill([leader])
                await self._more()
                await self._servers.until_leader(stream, other_than=leader)
                await self._servers.start([leader])
                await self._more()
                await self._servers.kill(NUMBERS)
                await self._more()
                await self._servers.start()
                await self._servers.until_leader(stream)
                await self._more()
            finally:
                self._stop.set()

    async def _more(self) -> None:
        """Wait until so many more commands are accepted."""
        wanted, end_s = len(self._accepted) + _MORE, time.monotonic() + _PATIENCE_S
        while len(self._accepted) < wanted:
            self._processes.check()
            if time.monotonic() > end_s:
                raise DemoFailed(f"the gateway accepts no commands: {len(self._accepted)} so far")
            await asyncio.sleep(_PAUSE_S)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            answer = await self._ask(session, {"Prefer": "respond-async"})
            if answer.status == _ACCEPTED:
                self._accepted.append(str(json.loads(answer.body)["id"]))
            await asyncio.sleep(_PAUSE_S)

    async def _query(self, session: aiohttp.ClientSession, sent: Sent) -> None:
        while not self._stop.is_set():
            await self._query_once(session, sent)
            await asyncio.sleep(_PAUSE_S)

    async def _query_once(self, session: aiohttp.ClientSession, sent: Sent) -> Answer:
        at = datetime.now(UTC)
        answer = await self._ask(session)
        self._answers[answer.status] += 1
        sent.note(self._call, answer, at)
        return answer

    async def _ask(self, session: aiohttp.ClientSession, more: dict[str, str] | None = None) -> Answer:
        call: Call = self._call
        headers = {**self._headers, "Content-Type": call.content_type, **(more or {})}
        url, began_s = f"{self._front}/r1/{call.service}{call.path}", time.perf_counter()
        try:
            async with session.post(url, headers=headers, data=call.body, ssl=self._tls) as got:
                status, body, told = got.status, await got.text(), got.headers.get("x-road-request-id", "")
        except (aiohttp.ClientError, TimeoutError) as error:
            status, body, told = 0, type(error).__name__, ""
        return Answer(id=told, status=status, ms=(time.perf_counter() - began_s) * 1000, retry_after="", body=body)

    # --- after --------------------------------------------------------------------------------------------------

    async def _ends(self, session: aiohttp.ClientSession) -> Counter[str]:
        """The state of every accepted command, once it is final or patience ends."""
        states: Counter[str] = Counter()
        end_s = time.monotonic() + _PATIENCE_S
        for one in self._accepted:
            while (state := await self._state(session, one)) not in _FINAL and time.monotonic() < end_s:
                self._processes.check()
                await asyncio.sleep(0.1)
            states[state] += 1
        return states

    async def _state(self, session: aiohttp.ClientSession, one: str) -> str:
        async with session.get(f"{self._front}/exchanges/{one}", headers=self._headers, ssl=self._tls) as got:
            told: dict[str, Any] = await got.json(content_type=None)
        return str(told.get("state", got.status))

    async def _quiet(self, session: aiohttp.ClientSession, states: Counter[str]) -> None:
        """Nothing waits for a receipt any more: both logs are complete."""
        end_s = time.monotonic() + _PATIENCE_S
        for code in (PROVINCE.code, BUSINESS_MINISTRY.code):
            while "lienthong_outbox_records 0.0\n" not in await self._metrics(session, code):
                if time.monotonic() > end_s:
                    raise DemoFailed(f"the outbox of {code} does not become empty after {dict(states)}")
                await asyncio.sleep(0.1)

    async def _counter(self, session: aiohttp.ClientSession) -> int:
        return successful_exchanges(await self._metrics(session, PROVINCE.code))

    async def _metrics(self, session: aiohttp.ClientSession, code: str) -> str:
        async with session.get(f"{self._world.gateways.nodes[code].admin}/metrics") as got:
            return await got.text()
