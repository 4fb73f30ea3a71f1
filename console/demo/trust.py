"""Who may speak: a member that has turned bad forges documents, breaks in at the broker, and is then revoked.

The visitor is a genuine fourth member with genuine keys and credentials. Its gateway does not run in this scene:
whoever took it over speaks by hand. Nothing of it becomes an exchange, so the logs of the others stay as they were.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from console.demo.cast import (
    BUSINESS_MINISTRY,
    MEMBERS,
    ONEDOOR,
    POPULATION_MINISTRY,
    PROVINCE,
    VISITED,
    VISITOR,
    Member,
)
from console.demo.forgeries import Forgeries, try_forgeries
from console.demo.handclient import HandRefused
from console.demo.intrusions import Intrusions, try_intrusions
from console.demo.processes import DemoFailed, together
from console.demo.world import World
from evidence.header import decode_time

PROBE_EVERY_S = 0.05
MAX_REVOCATION_MS = 2_000.0
_PROBING_S = 20.0
_ASKS = {
    PROVINCE.code: (ONEDOOR, "onedoor"),
    POPULATION_MINISTRY.code: (f"{POPULATION_MINISTRY.id}/population", "population"),
    BUSINESS_MINISTRY.code: (f"{BUSINESS_MINISTRY.id}/business", "business"),
}
_BREAKS_THE_CONTRACT = "/citizens/not-a-number"
"""A gateway that would use the service looks at its contract and says no to this: nothing is logged or sent."""
_LAST_PULL_S = 2.2
"""Until the broker has forgotten what the visitor's gateway last asked for before it was stopped."""


@dataclass(frozen=True, slots=True)
class WhoMaySpeak:
    """How the scene went.

    Attributes:
        forgeries: Documents that the registry had to refuse.
        intrusions: Attempts that the broker had to refuse.
        refused_ms: Member code to the time from the registry's acknowledgement of the revocation to the first refusal
            that a client system of its gateway saw.
    """

    forgeries: Forgeries
    intrusions: Intrusions
    refused_ms: dict[str, float]

    @property
    def effective_ms(self) -> float:
        """The slowest gateway; 0 while nothing was revoked."""
        return round(max(self.refused_ms.values(), default=0.0), 1)

    def problems(self) -> list[str]:
        """Everything that is not as expected."""
        found = [f"the registry took a forged document: {name}" for name in self.forgeries.let_in]
        found += [f"the broker let an intruder in: {name}" for name in self.intrusions.let_in]
        if not self.forgeries.refused or not self.intrusions.refused:
            found.append("no forged document, or no intrusion, was refused")
        if len(self.refused_ms) < len(MEMBERS) or not 0 < self.effective_ms < MAX_REVOCATION_MS:
            found.append(f"ms until every gateway refused what was revoked: {self.refused_ms}")
        return found


class TrustScene:
    """Plays the scene in a world that is up.

    Args:
        world: Where it plays.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    async def play(self) -> WhoMaySpeak:
        """The visitor joins, misbehaves, and is revoked.

        Raises:
            DemoFailed: A process failed, or a gateway never refused.
        """
        await self._world.welcome_visitor()
        found: list[Forgeries | None] = await together(self._forge(), self._world.give_visitor_a_log())
        forgeries = found[0]
        assert forgeries is not None
        await asyncio.sleep(_LAST_PULL_S)
        return WhoMaySpeak(forgeries, await self._intrude(), await self._revoke())

    async def _forge(self) -> Forgeries:
        world = self._world
        world.gather_operators()
        return await try_forgeries(world.instance_home, world.home(VISITOR), POPULATION_MINISTRY.id)

    async def _intrude(self) -> Intrusions:
        node, victim = f"{VISITOR.id}/@n1", f"{POPULATION_MINISTRY.id}/@n1"
        try:
            return await try_intrusions(self._world.home(VISITOR), self._world.broker, node, victim, PROVINCE.id)
        except HandRefused as error:
            raise DemoFailed(f"the intruder could not even connect to the broker: {error}") from error

    async def _revoke(self) -> dict[str, float]:
        """Every gateway is probed until it refuses the visitor's service."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            probes = [Probe(self._world, member, session) for member in MEMBERS]
            await together(*(probe.until("request-invalid") for probe in probes))
            refusing = [asyncio.create_task(probe.until("provider-revoked")) for probe in probes]
            try:
                acknowledged_at = await self._withdraw()
                refused = await asyncio.gather(*refusing)
            finally:
                for task in refusing:
                    task.cancel()
        return {
            member.code: round((at - acknowledged_at).total_seconds() * 1000, 1)
            for member, at in zip(MEMBERS, refused, strict=True)
        }

    async def _withdraw(self) -> datetime:
        reason = ("--reason", "its keys are in other hands")
        made = await self._world.command("node", "revoke", "n1", "--home", self._world.home(VISITOR), *reason)
        return decode_time(made["acknowledged"])


class Probe:
    """A client system of a gateway, which asks again and again what may not be answered.

    Args:
        world: Where it asks.
        member: Whose gateway.
        session: For HTTP.
    """

    def __init__(self, world: World, member: Member, session: aiohttp.ClientSession) -> None:
        client, key = _ASKS[member.code]
        node = world.gateways.nodes[member.code]
        self._name = f"gateway-{member.code}"
        self._session = session
        self._url = f"{node.front}/r1/{VISITED.id}{_BREAKS_THE_CONTRACT}"
        self._headers = {"X-Road-Client": client, "X-LienThong-Key": world.keys[key].read_text("ascii").strip()}
        self._tls = world.gateways.front_tls(member)

    async def until(self, code: str) -> datetime:
        """Ask every 50 ms until the gateway answers with this code; when that answer came.

        Raises:
            DemoFailed: It does not.
        """
        end_s, said = time.monotonic() + _PROBING_S, ""
        while time.monotonic() < end_s:
            asked_s = time.monotonic()
            try:
                async with self._session.get(self._url, headers=self._headers, ssl=self._tls) as got:
                    said = str((await got.json(content_type=None)).get("code", got.status))
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                said = type(error).__name__
            if said == code:
                return datetime.now(UTC)
            await asyncio.sleep(max(0.0, asked_s + PROBE_EVERY_S - time.monotonic()))
        raise DemoFailed(f"{self._name}: {code} did not come within {_PROBING_S:g} s; it says {said}")
