"""Brings the demonstration's instance up, by the commands that a person would use, and takes it down again.

Homes: `instance/`, `H37/`, `G01/`, `G05/` in the working folder. This module does not call any service.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp

from console.data import data_folder
from console.demo import samples
from console.demo.applications import Applications, free_port
from console.demo.cast import (
    BUSINESS,
    CHANGES,
    CHECKER,
    CHECKS,
    CITIZENS,
    DOSSIERS,
    ENTERPRISES,
    INSTANCE,
    ONEDOOR,
    POPULATION,
    PROVINCE,
    REGISTRAR,
    VISITED,
    VISITOR,
    Member,
    Service,
)
from console.demo.gateways import Gateways
from console.demo.postgresql import Server
from console.demo.processes import LIENTHONG, SAMPLE, Child, Processes, together
from console.demo.servers import NUMBERS, Servers

Database = Literal["sqlite", "postgresql"]
Do = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
"""Runs a command, and counts it where that matters."""

_HTTP = aiohttp.ClientTimeout(total=3)
_GRANTS = (
    (CHANGES, ONEDOOR),
    (DOSSIERS, ONEDOOR),
    (DOSSIERS, CHECKER),
    (CHECKS, REGISTRAR),
)
"""Who may send commands where."""
_QUICKLY = """
# Minutes and hours of a real agency, as seconds.
[commands]
retry_s = 1.0
retry_max_s = 3.0
attempt_s = 0.3
attempt_max_s = 1.0
"""
_OPERATOR = "XROAD_SYSTEM_ADMINISTRATOR"
_SOON_DEAD = "attempts = 3\n"
"""At the population ministry: so that a dead letter need not be waited for."""


@dataclass(slots=True)
class Onboarding:
    """How the province became a member: the same commands as in docs/onboarding.md.

    Attributes:
        commands: How many it took.
        began_s: When it asked.
        seconds: From there to the answer of its first successful call; 0 while there was none.
    """

    commands: int = 0
    began_s: float = 0.0
    seconds: float = 0.0

    def ended(self) -> None:
        """The first call, a command of its own, succeeded."""
        self.commands += 1
        self.seconds = round(time.monotonic() - self.began_s, 1)


class World:
    """An instance with three members on this machine.

    Args:
        processes: Runs everything.
        work: Working folder.
        seed: Of the registers and of whom the client asks about.
        database: What the registers are kept in.
        servers: Of the broker, when it is a cluster.

    Attributes:
        genesis: Identity of the instance, as the operator tells it.
        registry: Address of the registry.
        gateways: Of the members.
        broker: Address of the broker.
        keys: Name of a client system to the file with its key.
        marked: Fields that a service delivers only when granted, by service.
        samples: Whom the client asks about.
        onboarding: How long the last member's way in took.
        effects: File in which the business register's own application notes what it served.
        applications: The agencies' dossier applications.
        admin_keys: Member code to the file with its operator's admin key.
    """

    def __init__(
        self, processes: Processes, work: Path, seed: int, database: Database, servers: Servers | None = None
    ) -> None:
        self._processes = processes
        self._servers = servers
        self._work = work
        self._seed = seed
        self._server = Server(processes) if database == "postgresql" else None
        self._home = work / "instance"
        self._backend = ""
        self.onboarding = Onboarding()
        self._operators: list[Path] = []
        self.genesis = ""
        self.registry = ""
        self.broker = ""
        self.gateways = Gateways(processes, work, lambda: self.registry)
        self.keys: dict[str, Path] = {}
        self.marked: dict[str, list[str]] = {}
        self.samples: samples.Samples
        self.effects = work / "effects.jsonl"
        self.applications = Applications(processes, work)
        self.admin_keys: dict[str, Path] = {}
        self._hosts: dict[str, Child] = {}
        (work / "client-keys").mkdir(mode=0o700)

    @property
    def instance_home(self) -> Path:
        """Home of the instance's operator."""
        return self._home

    def home(self, member: Member) -> Path:
        """Home of a member."""
        return self._work / member.code

    async def bring_up(self) -> None:
        """Everything from nothing to gateways that take calls.

        Raises:
            DemoFailed: Something did not start; the message names it.
        """
        await together(self._registers(), self._start_instance())
        await together(
            self._provide(POPULATION, CHANGES, CHECKS),
            self._provide(BUSINESS, DOSSIERS),
            self.applications.start(DOSSIERS),
        )
        await self._onboard_province()

    async def command(self, *arguments: str | Path, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """Run `lienthong … --json`; what it printed.

        Raises:
            DemoFailed: It failed.
        """
        words = [str(argument) for argument in arguments]
        out = await self._processes.run(f"lienthong {' '.join(words)}", [*LIENTHONG, *words, "--json"], codes=codes)
        result: dict[str, Any] = json.loads(out)
        return result

    # --- registers ----------------------------------------------------------------------------------------------

    def register(self, name: str) -> str:
        """Address of a register's database: `population` or `business`."""
        return self._server.address(name) if self._server else f"sqlite:///{self._work / name}.db"

    async def _registers(self) -> None:
        if self._server is not None:
            await self._server.start()
        await together(self._make("population", CITIZENS), self._make("business", ENTERPRISES))
        _, self.samples = await asyncio.gather(
            self._start_backend(), samples.pick(self._seed, self.register("population"), self.register("business"))
        )

    async def _make(self, name: str, count: int) -> None:
        place = ["--database", self.register(name)] if self._server else ["--out", str(self._work / f"{name}.db")]
        arguments = [*SAMPLE, name, "--seed", str(self._seed), "--count", str(count), *place]
        await self._processes.run(f"sample data, {name}", arguments, deadline_s=120)

    async def _start_backend(self) -> None:
        port_file = self._work / "backend.port"
        places = ["--database", self.register("business"), "--effects", str(self.effects)]
        child = await self._processes.start(
            "business-backend", [*SAMPLE, "backend", *places, "--port-file", str(port_file)]
        )
        await self._processes.wait_for_file(child, port_file)
        self._backend = f"http://127.0.0.1:{port_file.read_text().strip()}"

    # --- instance and members -----------------------------------------------------------------------------------

    async def _start_instance(self) -> None:
        registry, broker = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        servers = self._servers
        listen = ("--registry-listen", registry, *(servers.options if servers else ("--broker-listen", broker)))
        keys = ("--operators", "3", "--threshold", "2")
        made = await self.command("init", "instance", INSTANCE, "--home", self._home, *listen, *keys)
        self._part_operators([Path(folder) for folder in made["operators"]])
        self.genesis, self.registry = made["genesis"], made["registry"]
        self.broker = servers.url if servers else f"tls://{broker}"
        await self.start_broker()
        await self._host("registry")

    async def _host(self, role: str) -> None:
        """Start the broker or the registry and wait until it listens."""
        child = await self._processes.start(role, [*LIENTHONG, role, "--home", str(self._home)])
        listening = self._home / role / "listening.json"
        await self._processes.wait_for_file(child, listening)
        self._hosts[role] = child

    def _part_operators(self, folders: list[Path]) -> None:
        """Only the first operator's key stays with the instance: alone it signs nothing."""
        away = self._work / "operators"
        away.mkdir(mode=0o700)
        for folder in folders[1:]:
            self._operators.append(folder.rename(away / folder.name))

    async def _provide(self, *services: Service) -> None:
        """A ministry with its services, and the rights to those that take commands."""
        member = services[0].provider
        await self._join(member, self.command)
        for code in member.subsystems:
            await self._add_subsystem(member, code, self.command)
            await self._add_client(member, code, self.command)
        for service in services:
            await self._offer(service)
        for service, client in _GRANTS:
            if service in services:
                await self._grant(service, self.command, client)
        await self._ready_commands(member)
        await self.gateways.start(member)

    async def _ready_commands(self, member: Member) -> None:
        """Settings and, at the population ministry, the tables for write-back and an operator's key."""
        home, rules = self.home(member), _QUICKLY
        if member is CHANGES.provider:
            rules += _SOON_DEAD
            await self.command("writeback", "prepare", "--home", home)
            made = await self.command("admin", "key", "add", "night", "--home", home, "--role", _OPERATOR)
            self.admin_keys[member.code] = _secret(self._work / "client-keys" / f"admin-{member.code}", made["key"])
        with (home / "gateway.toml").open("a", encoding="utf-8") as settings:
            settings.write(rules)

    async def welcome_visitor(self) -> None:
        """A fourth member with a node, a subsystem and a service.

        Raises:
            DemoFailed: It did not come about.
        """
        await self._join(VISITOR, self.command)
        for code in VISITOR.subsystems:
            await self._add_subsystem(VISITOR, code, self.command)
        await self._offer(VISITED)

    async def give_visitor_a_log(self) -> None:
        """The visitor's gateway runs once and is stopped.

        Raises:
            DemoFailed: It did not.
        """
        await self.gateways.start(VISITOR)
        await self.gateways.stop(VISITOR)

    def gather_operators(self) -> None:
        """The operators bring their keys together: whoever has the instance's home now has them all."""
        while self._operators:
            folder = self._operators.pop()
            folder.rename(self._home / "operators" / folder.name)

    async def _onboard_province(self) -> None:
        """The last member, when the ministries are there: timed from its request to its first successful call."""
        self.onboarding.began_s = time.monotonic()
        await self._join(PROVINCE, self._step)
        await together(self._ready_onedoor(), self._ready_archive())
        self.onboarding.commands += 2  # gateway, and wait
        await self._ready_commands(PROVINCE)
        await self.gateways.start(PROVINCE)

    async def _step(self, *arguments: str | Path) -> dict[str, Any]:
        """A command that is a step of the way in."""
        self.onboarding.commands += 1
        return await self.command(*arguments)

    async def _ready_onedoor(self) -> None:
        """What the first call needs besides a gateway."""
        await self._add_subsystem(PROVINCE, "onedoor", self._step)
        await self._grant(POPULATION, self._step)
        await self._add_client(PROVINCE, "onedoor", self._step)

    async def _ready_archive(self) -> None:
        """What later calls need: another subsystem and client, a key that nobody gave out, a second right."""
        folder = self._work / "client-keys"
        self.keys["stranger"] = _secret(folder / "stranger", f"onedoor.{secrets.token_urlsafe(32)}")
        await self._grant(BUSINESS, self.command)
        await self._add_subsystem(PROVINCE, "archive", self.command)
        await self._add_client(PROVINCE, "archive", self.command)

    async def _add_subsystem(self, member: Member, code: str, do: Do) -> None:
        home, name = self.home(member), f"vi={member.subsystems[code]}"
        await do("subsystem", "add", code, "--home", home, "--name", name)

    async def _join(self, member: Member, do: Do) -> None:
        """A member's way in: keys and request, approval by two operators, node."""
        home = self.home(member)
        where = ("--registry", self.registry, "--genesis", self.genesis)
        names = ("--name", f"vi={member.vietnamese}", "--name", f"en={member.name}")
        asked = await do("join", "--member", member.id, "--home", home, *where, *names)
        further = ("--operator-home", self._operators[0])
        await do("member", "approve", asked["request"], "--home", self._home, *further)
        await do("join", "--status", "--home", home)
        listen = ("--front", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        node = await do("node", "add", "n1", "--home", home, *listen)
        self.gateways.add(member, node["origin"])

    async def _offer(self, service: Service) -> None:
        """Publish a service."""
        home = self.home(service.provider)
        settings = self._work / f"{service.code.replace('/', '-')}.toml"
        settings.write_text(self._settings(service), encoding="utf-8")
        contract = data_folder("schemas") / service.contract
        how = ("--contract", contract, "--kind", service.kind, "--settings", settings)
        published = await self.command("service", "publish", service.code, "--home", home, *how)
        self.marked[service.id] = published["fields"]

    async def _grant(self, service: Service, do: Do, client: str = ONEDOOR) -> None:
        """Grant a service to a subsystem."""
        home = self.home(service.provider)
        await do("access", "grant", client, service.code, "--home", home, *service.grant)

    def _settings(self, service: Service) -> str:
        if service.kind == "business":
            return f'base_url = "{self._backend}"\ncheck_path = "/livez"\n'
        if service.kind == "http":
            breaker = "breaker = { pause_s = 0.5, longest_pause_s = 1.0 }"
            return f'base_url = "{self.applications.address(service)}"\n{breaker}\n'
        return f'database = "{self.register("population")}"\n'

    async def _add_client(self, member: Member, code: str, do: Do) -> None:
        """Key of a client system."""
        made = await do("client", "add", code, "--home", self.home(member), "--subsystem", code)
        self.keys[code] = _secret(self._work / "client-keys" / code, made["key"])

    # --- faults and the end -------------------------------------------------------------------------------------

    async def kill_broker(self) -> None:
        """SIGKILL to the broker: our process and nats-server itself; all servers of a cluster."""
        if self._servers is not None:
            await self._servers.kill(NUMBERS)
            return
        await self._processes.kill(self._hosts["broker"])
        (self._home / "broker" / "listening.json").unlink(missing_ok=True)

    async def start_broker(self) -> None:
        """Start the broker, or start it again.

        Raises:
            DemoFailed: It does not listen.
        """
        await (self._servers.start() if self._servers is not None else self._host("broker"))

    def remove(self) -> None:
        """Remove what lies outside the working folder; all processes are stopped before."""
        if self._server is not None:
            self._server.remove()


def _secret(path: Path, text: str) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text + "\n")
    return path
