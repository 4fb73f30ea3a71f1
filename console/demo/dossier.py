"""One dossier: from the one-door desk to the business ministry, on to the population ministry, and back to the desk.

The population ministry's application is down when the dossier comes: its gateway tries three times and then keeps it as
a dead letter, together with another one. The operator starts the application and brings the one back; the other stays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from console.demo.cast import (
    ARCHIVE,
    BUSINESS_MINISTRY,
    CHECKER,
    CHECKS,
    DESK_AGENCY,
    DOSSIERS,
    ONEDOOR,
    POPULATION_MINISTRY,
    PROVINCE,
    REGISTRAR,
    Member,
)
from console.demo.delivery import Handing
from console.demo.desk import Desk
from console.demo.handing import Command, Fate
from console.demo.processes import Processes
from console.demo.world import World

CODE, OTHER = f"{DESK_AGENCY}-260302-0001", f"{DESK_AGENCY}-260302-0002"
PROCEDURE, PROCEDURE_NAME, APPLICANT = "1.001612", "Đăng ký thành lập hộ kinh doanh", "Nguyễn Thị Ví Dụ"
_RECEIVED, _DUE = "20260302083000", "09/03/2026"
_BACKED = {"accepted": "command", "delivered": "receipt", "processing": "processing", "dead": "dead"}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline.

    Attributes:
        at: Instant, as the sender's gateway tells it.
        leg: What was sent, in words.
        state: That the command reached.
        signer: Member code of the gateway that signed the record; empty where nothing is signed.
        log: Member code of the log in which the record stands: the sender's.
        index: Of the record there; -1 where there is none.
        record: Type of the record.
    """

    at: str
    leg: str
    state: str
    signer: str
    log: str
    index: int
    record: str


@dataclass(slots=True)
class DossierStory:
    """How the scene went.

    Attributes:
        events: The timeline, in the order of time.
        letters: What `lienthong commands list` told before the operator acted.
        left: What it told in the end.
        redriven: What `lienthong commands redrive` told.
        looked_up: What the desk was told of the dossier, in its own form, before it gave the paper out.
        ended: A step after the end, refused by the application's rule.
        refused: A command of a subsystem without a right.
        problems: Everything that is not as expected.
    """

    events: list[Event] = field(default_factory=list)
    letters: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)
    redriven: list[dict[str, Any]] = field(default_factory=list)
    looked_up: dict[str, Any] = field(default_factory=dict)
    ended: Fate = field(default_factory=Fate)
    refused: Fate = field(default_factory=Fate)
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, wanted: object) -> None:
        """Note a problem when they differ."""
        if found != wanted:
            self.problems.append(f"{what}: {found} instead of {wanted}")


class DossierScene:
    """Plays the scene.

    Args:
        processes: Runs the desk's front.
        world: Where it plays.
        handing: Runs the agencies' own client systems.
        work: Folder for the desk's settings.
    """

    def __init__(self, processes: Processes, world: World, handing: Handing, work: Path) -> None:
        self._processes = processes
        self._world = world
        self._handing = handing
        self._work = work
        self._story = DossierStory()

    async def play(self) -> DossierStory:
        """Everything.

        Raises:
            DemoFailed: A process failed, or the front did not take the dossier.
        """
        story = self._story
        async with Desk(self._processes, self._world, self._work, self._handing.notes) as desk:
            sent = await desk.hand_over("DongBoHoSoMC", _form())
            checked = await self._on_to_the_second_agency(sent)
            await self._bring_back(checked)
            await self._back_to_the_first(checked)
            story.looked_up = await desk.look_up(CODE)
            returned = {"MaHoSo": CODE, "TrangThai": "10", "ThoiDiem": "20260306150000"}
            await self._after_the_end(await desk.hand_over("DongBoTrangThaiHoSo", returned))
        story.expect("the desk is told the state", story.looked_up.get("TrangThaiHoSo"), "9")
        story.events.sort(key=lambda event: event.at)
        return story

    async def _on_to_the_second_agency(self, sent: str) -> Command:
        """The business ministry has the dossier, and asks the population ministry to check the person; two such."""
        check, other = _check(CODE), _check(OTHER)
        told = await self._handing.run([[_followed(_step_of(ONEDOOR), sent), check], [other]], in_turn=True)
        first, second, third = told.fates
        self._tell("dossier", PROVINCE, BUSINESS_MINISTRY, first)
        self._tell("check of the person", BUSINESS_MINISTRY, POPULATION_MINISTRY, second)
        states = [fate.state for fate in told.fates]
        self._story.expect("while the second agency's application is down", states, ["completed", "dead", "dead"])
        self._story.letters = await self._letters("list", "--state", "dead")
        self._story.expect("dead letters", {one["id"] for one in self._story.letters}, {second.id, third.id})
        return _followed(check, second.id)

    async def _bring_back(self, checked: Command) -> None:
        await self._world.applications.start(CHECKS)
        self._story.redriven = await self._letters("redrive", checked.id, "--reason", "the application is up again")
        self._story.expect("brought back", [one["fate"] for one in self._story.redriven], ["redriven"])

    async def _letters(self, *words: str) -> list[dict[str, Any]]:
        home, key = self._world.home(POPULATION_MINISTRY), self._world.admin_keys[POPULATION_MINISTRY.code]
        told = await self._world.command("commands", *words, "--home", home, "--key-file", key)
        found: list[dict[str, Any]] = told["commands"]
        return found

    async def _back_to_the_first(self, checked: Command) -> None:
        """The check succeeds, and the population ministry says so to the business ministry, which has the dossier."""
        told = await self._handing.run([[checked, _confirmation()]], in_turn=True)
        self._tell("check of the person", BUSINESS_MINISTRY, POPULATION_MINISTRY, told.fates[0])
        self._tell("answer of the check", POPULATION_MINISTRY, BUSINESS_MINISTRY, told.fates[1])
        states = [fate.state for fate in told.fates]
        self._story.expect("the check and its answer", states, ["completed", "completed"])

    async def _after_the_end(self, returned: str) -> None:
        """The dossier is given out; then two commands that are refused."""
        late, stranger = _step_of(ONEDOOR), _step_of(ARCHIVE)
        told = await self._handing.run([[_followed(late, returned), late], [stranger]], in_turn=True)
        story = self._story
        first, story.ended, story.refused = told.fates
        self._tell("paper given out", PROVINCE, BUSINESS_MINISTRY, first)
        story.expect("given out", (first.state, first.status), ("completed", 200))
        story.expect("a step after the end", (story.ended.state, story.ended.status), ("completed", 422))
        wanted = ("failed", 403, "access-denied")
        story.expect("without a right", (story.refused.state, story.refused.status, story.refused.code), wanted)
        story.left = await self._letters("list", "--state", "dead")
        story.expect("dead letters in the end", len(story.left), 1)

    def _tell(self, leg: str, sender: Member, receiver: Member, fate: Fate) -> None:
        """Add what a command's state says to the timeline, once."""
        for state, at in fate.times.items():
            kind = _BACKED.get(state, "result")
            index = -1 if state == "sent" else fate.records.get(kind, -1)
            signer = "" if state == "sent" else sender.code if state == "accepted" else receiver.code
            record = "" if state == "sent" else {"processing": "receipt", "dead": "receipt"}.get(kind, kind)
            event = Event(at, leg, state, signer, sender.code, index, record)
            if event not in self._story.events:
                self._story.events.append(event)


def _form() -> dict[str, str]:
    """The dossier in the one-door system's form."""
    return {
        "MaHoSo": CODE,
        "MaTTHC": PROCEDURE,
        "TenTTHC": PROCEDURE_NAME,
        "ChuHoSo": APPLICANT,
        "NgayTiepNhan": _RECEIVED,
        "NgayHenTra": _DUE,
        "TrangThaiHoSo": "2",
    }


def submission(code: str) -> str:
    """A dossier as the contract has it."""
    told = {
        "code": code,
        "updating": False,
        "procedure": PROCEDURE,
        "procedureName": PROCEDURE_NAME,
        "applicant": APPLICANT,
        "receivedAt": "2026-03-02T08:30:00+07:00",
        "status": "accepted",
    }
    return json.dumps(told, ensure_ascii=False)


def _check(code: str) -> Command:
    return Command(
        gateway=BUSINESS_MINISTRY.code, client=REGISTRAR, key="business", service=CHECKS.id, operation="submitDossier",
        path="/dossiers", body=submission(code), order_key=code, name=f"check-{code}",
    )  # fmt: skip


def _confirmation() -> Command:
    body = {"status": "finished", "at": "2026-03-06T10:00:00+07:00", "content": "Nhân thân đã được xác nhận"}
    return Command(
        gateway=POPULATION_MINISTRY.code, client=CHECKER, key="population", service=DOSSIERS.id,
        operation="reportStatus", path=f"/dossiers/{CODE}/status", body=json.dumps(body, ensure_ascii=False),
        order_key=CODE, name="confirmed",
    )  # fmt: skip


def _step_of(client: str) -> Command:
    """A step after the end of the dossier."""
    body = {"official": "canbo", "at": "2026-03-07T08:00:00+07:00", "content": "Bổ sung", "status": "processing"}
    return Command(
        gateway=PROVINCE.code, client=client, key=client.rpartition("/")[2], service=DOSSIERS.id,
        operation="reportProgress", path=f"/dossiers/{CODE}/progress", body=json.dumps(body, ensure_ascii=False),
        order_key=CODE, number=1, name="late",
    )  # fmt: skip


def _followed(command: Command, id_: str) -> Command:
    """The same, accepted already."""
    return msgspec.structs.replace(command, id=id_)
