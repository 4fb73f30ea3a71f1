"""Two thousand commands while everything that takes part in them is killed, one after the other, under load.

A kill is SIGKILL to the process and all that it started. What was killed is started again at once, by the same command.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from console.demo.cast import BUSINESS_MINISTRY, DESK_AGENCY, DOSSIERS, ONEDOOR, PROVINCE
from console.demo.delivery import Handing
from console.demo.dossier import submission
from console.demo.handing import Command, Handed
from console.demo.processes import DemoFailed, together
from console.demo.world import World

DOSSIERS_AT_ONCE, STEPS = 200, 10
PER_S = 160.0
_POLL_S, _LOAD_S = 0.05, 60.0
_ACCEPTED = b'"what":"accepted"'


class Kill(msgspec.Struct, frozen=True):
    """One kill.

    Attributes:
        target: What was killed.
        accepted: Commands of the crowd that were accepted before it.
        at: When.
        back_at: When it worked again.
    """

    target: str
    accepted: int
    at: str
    back_at: str


@dataclass(frozen=True, slots=True)
class Crowd:
    """How the scene went.

    Attributes:
        handed: What the client system was told.
        kills: In their order.
    """

    handed: Handed
    kills: list[Kill]

    def problems(self) -> list[str]:
        """Everything that is not as expected."""
        wanted, told = DOSSIERS_AT_ONCE * STEPS, self.handed
        if (told.accepted, told.refused, told.states) != (wanted, 0, {"completed": wanted}):
            return [f"of {wanted} commands {told.accepted} were accepted, {told.refused} refused; states {told.states}"]
        return []


class CrowdScene:
    """Plays the scene.

    Args:
        world: Where it plays.
        handing: Runs the client system.
        kills: File that gets one line for each kill.
    """

    def __init__(self, world: World, handing: Handing, kills: Path) -> None:
        self._world = world
        self._handing = handing
        self._file = kills
        self._before = 0
        self._kills: list[Kill] = []

    async def play(self) -> Crowd:
        """Hand over, kill, wait until nothing is pending.

        Raises:
            DemoFailed: A process did not come back, or the client did not come to its end.
        """
        self._before = self._handing.notes.stat().st_size
        lanes = [[_command(dossier, step) for step in range(STEPS)] for dossier in range(1, DOSSIERS_AT_ONCE + 1)]
        handed: list[Handed | None] = await together(
            self._handing.run(lanes, per_s=PER_S, keep=False),
            self._kill_all(),
        )
        assert handed[0] is not None
        await self._world.gateways.quiet()
        return Crowd(handed[0], self._kills)

    async def _kill_all(self) -> None:
        world, wanted = self._world, DOSSIERS_AT_ONCE * STEPS

        async def kill_application() -> None:
            await world.applications.kill(DOSSIERS)

        async def start_application() -> None:
            await world.applications.start(DOSSIERS)

        def gateway(member: str) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
            found = PROVINCE if member == PROVINCE.code else BUSINESS_MINISTRY
            return (lambda: world.gateways.kill(found)), (lambda: world.gateways.start(found))

        schedule: list[tuple[float, str, Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]] = [
            (0.10, "gateway of G05", *gateway("G05")),
            (0.22, "broker", world.kill_broker, world.start_broker),
            (0.34, "gateway of H37", *gateway("H37")),
            (0.46, "application of G05", kill_application, start_application),
            (0.58, "gateway of G05", *gateway("G05")),
        ]
        for share, target, kill, start in schedule:
            accepted = await self._until_accepted(int(share * wanted))
            at = _now()
            await kill()
            await start()
            self._note(Kill(target, accepted, at, _now()))

    async def _until_accepted(self, wanted: int) -> int:
        until_s, accepted = time.monotonic() + _LOAD_S, 0
        while accepted < wanted:
            if time.monotonic() > until_s:
                raise DemoFailed(f"only {accepted} commands were accepted in {_LOAD_S:g} s")
            await asyncio.sleep(_POLL_S)
            with self._handing.notes.open("rb") as file:
                file.seek(self._before)
                accepted = file.read().count(_ACCEPTED)
        return accepted

    def _note(self, kill: Kill) -> None:
        self._kills.append(kill)
        with self._file.open("ab") as file:
            file.write(msgspec.json.encode(kill) + b"\n")


def _command(dossier: int, step: int) -> Command:
    """A step of one of the dossiers: it is submitted, reported on, and finished."""
    code = f"{DESK_AGENCY}-260303-{dossier:04d}"
    at = f"2026-03-03T{8 + step:02d}:00:00+07:00"
    if step == 0:
        operation, path, body = "submitDossier", "", submission(code)
    elif step < STEPS - 1:
        told = {"official": "canbo", "at": at, "content": f"Bước {step}", "status": "processing"}
        operation, path, body = "reportProgress", f"/{code}/progress", json.dumps(told, ensure_ascii=False)
    else:
        operation, path, body = "reportStatus", f"/{code}/status", json.dumps({"status": "finished", "at": at})
    return Command(
        gateway=PROVINCE.code, client=ONEDOOR, key="onedoor", service=DOSSIERS.id, operation=operation,
        path=f"/dossiers{path}", body=body, order_key=code, number=step, name=f"{code}/{step}",
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
