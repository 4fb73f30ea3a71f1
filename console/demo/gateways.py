"""The demonstration's gateways: started, stopped and killed, and when they have nothing under way."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from console.demo.cast import MEMBERS, Member
from console.demo.processes import LIENTHONG, Child, DemoFailed, Processes, together

_HTTP = aiohttp.ClientTimeout(total=3)


@dataclass(slots=True)
class Node:
    """A member's running gateway.

    Attributes:
        origin: Of its log.
        front: Address for client systems.
        admin: Address for operators.
        child: Its process.
    """

    origin: str
    front: str = ""
    admin: str = ""
    child: Child | None = None


class Gateways:
    """Gateways of the members, one each.

    Args:
        processes: Runs them.
        work: Working folder, with a home for each member and the instance's.
        registry: Address of the registry.

    Attributes:
        nodes: By member code.
    """

    def __init__(self, processes: Processes, work: Path, registry: Callable[[], str]) -> None:
        self._processes = processes
        self._work = work
        self._registry = registry
        self.nodes: dict[str, Node] = {}

    def add(self, member: Member, origin: str) -> None:
        """A member has a node; it does not run yet."""
        self.nodes[member.code] = Node(origin)

    def _home(self, member: Member) -> Path:
        return self._work / member.code

    async def start(self, member: Member) -> None:
        """Start a member's gateway and wait until it takes calls and has the whole directory.

        Raises:
            DemoFailed: It does not; with its last lines.
        """
        home, node = self._home(member), self.nodes[member.code]
        child = await self._processes.start(f"gateway-{member.code}", [*LIENTHONG, "gateway", "--home", str(home)])
        listening = home / "data" / "listening.json"
        await self._processes.wait_for_file(child, listening)
        facts = json.loads(listening.read_text())
        node.front, node.admin, node.child = facts["front"], facts["admin"], child
        async with aiohttp.ClientSession(timeout=_HTTP) as session:
            await self._processes.wait_for(child, f"{node.admin}/readyz", lambda: self._ready(session, node))

    async def _ready(self, session: aiohttp.ClientSession, node: Node) -> bool:
        try:
            async with session.get(f"{node.admin}/readyz") as got:
                if got.status != 200:
                    return False
            async with session.get(f"{node.admin}/status") as got:
                view = (await got.json())["directory"]["view"]
            async with session.get(f"{self._registry()}/checkpoint", ssl=self._registry_tls()) as got:
                newest = (await got.text()).splitlines()[1]
        except (aiohttp.ClientError, TimeoutError):
            return False
        return bool(view.partition(" ")[0] == newest)

    def front_tls(self, member: Member) -> ssl.SSLContext:
        """What a client system needs to trust a member's gateway."""
        return ssl.create_default_context(cafile=str(self._home(member) / "tls" / "ca.crt"))

    def _registry_tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self._work / "instance" / "ca" / "ca.crt"))

    async def stop(self, member: Member) -> None:
        """Stop a member's gateway as an operator would.

        Raises:
            DemoFailed: It did not end well.
        """
        child = self.nodes[member.code].child
        assert child is not None
        code = await self._processes.stop(child)
        if code:
            raise DemoFailed(f"{child.name} ended with code {code} after SIGTERM; its last lines:\n{child.tail()}")

    async def kill(self, member: Member) -> None:
        """SIGKILL to a member's gateway."""
        child = self.nodes[member.code].child
        assert child is not None
        await self._processes.kill(child)
        (self._home(member) / "data" / "listening.json").unlink(missing_ok=True)

    async def quiet(self, members: Sequence[Member] = MEMBERS) -> None:
        """Wait until nothing is on its way between the gateways: no record without its receipt.

        Raises:
            DemoFailed: It does not become quiet.
        """
        async with aiohttp.ClientSession(timeout=_HTTP) as session:
            for member in members:
                node = self.nodes[member.code]
                assert node.child is not None
                await self._processes.wait_for(
                    node.child,
                    "an empty outbox",
                    lambda node=node: _idle(session, node),  # type: ignore[misc]
                )

    async def stop_all(self) -> None:
        """Stop all gateways: their logs are complete and closed."""
        await together(*(self.stop(member) for member in MEMBERS))


async def _idle(session: aiohttp.ClientSession, node: Node) -> bool:
    try:
        async with session.get(f"{node.admin}/metrics") as got:
            return "\nlienthong_outbox_records 0.0\n" in await got.text()
    except (aiohttp.ClientError, TimeoutError):
        return False
