"""Runs the command client in a world that is up, and counts what became of all commands, from the notes alone.

The client is another process; nothing here reads a log or a gateway's store.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from console.demo.cast import CHECKS, DOSSIERS, GROUND, MEMBERS, OFFICIAL
from console.demo.handing import Command, Handed, HandingPlan
from console.demo.processes import COMMAND_CLIENT, Processes
from console.demo.world import World

_RUN_S = 120.0
_FINAL = ("completed", "failed", "dead", "cancelled", "expired")
_HEADERS = {"X-Road-UserId": OFFICIAL, "X-LienThong-Legal-Basis": GROUND}


class Handing:
    """The command client, run as often as the scenes need it.

    Args:
        processes: Runs it.
        world: Where it calls.
        work: Folder for its plans and for `commands.jsonl`.

    Attributes:
        notes: What client systems were told of their commands, one line each.
    """

    def __init__(self, processes: Processes, world: World, work: Path) -> None:
        self._processes = processes
        self._world = world
        self._work = work
        self._plans = 0
        self.notes = work / "commands.jsonl"

    async def run(
        self, lanes: list[list[Command]], *, per_s: float = 1000.0, keep: bool = True, in_turn: bool = False
    ) -> Handed:
        """Hand the commands over and follow them; see `HandingPlan`.

        Raises:
            DemoFailed: The client did not come to its end.
        """
        homes = {member.code: self._world.home(member) for member in MEMBERS}
        plan = HandingPlan(
            listening={code: str(home / "data" / "listening.json") for code, home in homes.items()},
            authorities={code: str(home / "tls" / "ca.crt") for code, home in homes.items()},
            keys={name: str(path) for name, path in self._world.keys.items()},
            headers=_HEADERS,
            notes=str(self.notes),
            per_s=per_s,
            keep=keep,
            in_turn=in_turn,
            lanes=lanes,
        )
        self._plans += 1
        path = self._work / f"handing-{self._plans}.json"
        path.write_bytes(msgspec.json.encode(plan))
        out = await self._processes.run("the command client", [*COMMAND_CLIENT, str(path)], deadline_s=_RUN_S)
        return msgspec.json.decode(out, type=Handed)


@dataclass(frozen=True, slots=True)
class Tally:
    """All commands of the demonstration.

    Attributes:
        accepted: Commands with a 202.
        states: State in the end to their number.
        effects_twice: Exchange ids with more than one effect.
        lost: Accepted, and then unknown to their gateway, or said to be done and without an effect.
        lookups: Questions about dossiers that the desk system asked.
    """

    accepted: int
    states: dict[str, int]
    effects_twice: int
    lost: int
    lookups: int

    @property
    def pending(self) -> int:
        """Accepted and without an end."""
        return self.accepted - sum(self.states.get(state, 0) for state in _FINAL)

    def problems(self) -> list[str]:
        """Everything that is not as expected."""
        found = []
        if self.lost or self.effects_twice or self.pending:
            found.append(
                f"of {self.accepted} commands {self.lost} are lost, {self.effects_twice} were done twice,"
                f" {self.pending} have no end"
            )
        return found


def tally(world: World, notes: Path) -> Tally:
    """Count from the client systems' notes and the agencies' own files."""
    lines = _lines(notes)
    accepted = {line["id"] for line in lines if line["what"] == "accepted"}
    ends = {line["id"]: line for line in lines if line["what"] == "ended"}
    effects = Counter(line["exchange_id"] for line in dossier_effects(world))
    hollow = [
        one["id"]
        for one in ends.values()
        if one["state"] == "completed" and one["status"] < 400 and effects[one["id"]] == 0
        and one["service"] in (DOSSIERS.id, CHECKS.id)
    ]  # fmt: skip
    return Tally(
        accepted=len(accepted),
        states=dict(Counter(one["state"] for one in ends.values())),
        effects_twice=sum(count > 1 for count in effects.values()),
        lost=len(accepted - set(ends)) + len(hollow),
        lookups=sum(line["what"] == "looked-up" for line in lines),
    )


def dossier_effects(world: World) -> list[dict[str, Any]]:
    """What the dossier applications did, each line with its service."""
    return [
        {"service": service.id, **line}
        for service in (DOSSIERS, CHECKS)
        if world.applications.effects(service).exists()
        for line in _lines(world.applications.effects(service))
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
