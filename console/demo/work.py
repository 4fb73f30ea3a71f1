"""The three scenes in which work is handed over, and what they came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from console.demo import writeback
from console.demo.crowd import DOSSIERS_AT_ONCE, STEPS, Crowd, CrowdScene
from console.demo.delivery import Handing, Tally, dossier_effects, tally
from console.demo.dossier import DossierScene, DossierStory
from console.demo.processes import Processes
from console.demo.report import Report
from console.demo.workreport import WorkReport
from console.demo.world import World
from console.demo.writeback import WriteBacks


@dataclass(frozen=True, slots=True)
class Handed:
    """How the scenes went.

    Attributes:
        write_backs: A change of residence.
        story: One dossier.
        crowd: Many commands under kills.
        tally: Of all commands.
    """

    write_backs: WriteBacks
    story: DossierStory
    crowd: Crowd
    tally: Tally

    def problems(self) -> list[str]:
        """Everything that is not as expected."""
        parts = (self.write_backs.problems(), self.story.problems, self.crowd.problems(), self.tally.problems())
        return [problem for part in parts for problem in part]


class Work:
    """The scenes, in a world that is up.

    Args:
        processes: Runs clients and the desk's front.
        world: Where they play.
        work: Folder for notes and plans.
    """

    def __init__(self, processes: Processes, world: World, work: Path) -> None:
        self._processes = processes
        self._world = world
        self._work = work
        self._handing = Handing(processes, world, work)
        self._kills = work / "kills.jsonl"

    async def play(self, report: Report) -> Handed:
        """All three.

        Args:
            report: Told as it goes.

        Raises:
            DemoFailed: A process failed.
        """
        told = WorkReport(report)
        with report.part("A change of residence, proposed to the owner of the record", "proposing"):
            write_backs = await writeback.play(self._world, self._handing)
        told.write_backs(write_backs)
        with report.part("One dossier, from the desk through two agencies and back", "handing over"):
            story = await DossierScene(self._processes, self._world, self._handing, self._work).play()
        told.dossier(story)
        count = DOSSIERS_AT_ONCE * STEPS
        with report.part(f"{count:,} commands, while everything is killed", "handing over, killing, starting"):
            crowd = await CrowdScene(self._world, self._handing, self._kills).play()
        counted = tally(self._world, self._handing.notes)
        told.crowd(crowd, counted)
        return Handed(write_backs, story, crowd, counted)

    def leave(self, out: Path, handed: Handed) -> None:
        """Leave the notes of client systems, of the agencies' applications and of who killed what."""
        (out / "commands.jsonl").write_bytes(self._handing.notes.read_bytes())
        (out / "kills.jsonl").write_bytes(self._kills.read_bytes())
        for name, lines in (
            ("command-effects.jsonl", dossier_effects(self._world)),
            ("write-backs.jsonl", handed.write_backs.book),
        ):
            (out / name).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
