"""A province registers a change of residence, and proposes it to the owner of the record: write-back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from console.demo.cast import CHANGED_RESIDENCE, CHANGES, GROUND, ONEDOOR, PROVINCE
from console.demo.delivery import Handing
from console.demo.handing import Command, Fate
from console.demo.samples import rows
from console.demo.world import World

_ROWS = "SELECT exchange_id, client, based_on, status, state, version FROM lienthong_effect ORDER BY received_at"
_COLUMNS = ("exchange_id", "client", "based_on", "status", "state", "version")


@dataclass(frozen=True, slots=True)
class WriteBacks:
    """How the scene went.

    Attributes:
        fates: The accepted change, then the stale one.
        book: What the register's own table says of each: exchange id, client, based_on, status, state, version.
    """

    fates: list[Fate]
    book: list[dict[str, Any]]

    @property
    def accepted(self) -> int:
        """Changes that the register took."""
        return sum(one["status"] == 200 for one in self.book)

    @property
    def refused(self) -> int:
        """Changes that it did not take."""
        return sum(one["status"] >= 400 for one in self.book)

    def answers(self) -> list[dict[str, Any]]:
        """The answers' bodies."""
        return [json.loads(fate.body) if fate.body.startswith("{") else {} for fate in self.fates]

    def problems(self) -> list[str]:
        """Everything that is not as expected."""
        taken, stale = self.answers()
        found = []
        if (self.fates[0].status, taken.get("version")) != (200, 2):
            found.append(f"the change of residence was answered with {self.fates[0].status} {taken.get('code', '')}")
        if (self.fates[1].status, stale.get("code"), stale.get("currentVersion")) != (409, "stale", 2):
            found.append(f"the stale change was answered with {self.fates[1].status} {stale.get('code', '')}")
        if (self.accepted, self.refused) != (1, 1):
            found.append(f"the register says: {self.accepted} changes accepted, {self.refused} refused")
        return found


async def play(world: World, handing: Handing) -> WriteBacks:
    """One change, and another that is based on the version before it.

    Raises:
        DemoFailed: A process failed.
    """
    number = world.samples.citizen.number
    elsewhere = {**CHANGED_RESIDENCE, "detail": "7 ngõ Khác"}
    lane = [_change(number, CHANGED_RESIDENCE, 1), _change(number, elsewhere, 2)]
    told = await handing.run([lane], in_turn=True)
    found = await rows(world.register("population"), _ROWS)
    return WriteBacks(told.fates, [dict(zip(_COLUMNS, row, strict=True)) for row in found])


def _change(number: str, residence: dict[str, str], place: int) -> Command:
    """Both are based on version 1."""
    body = {
        "basedOn": 1,
        "changes": {"permanentResidence": residence},
        "source": {"number": f"{11 + place}/QĐ-UBND", "issuedBy": "H37.02.02", "issuedOn": "2026-03-02"},
        "legalGround": GROUND,
    }
    return Command(
        gateway=PROVINCE.code, client=ONEDOOR, key="onedoor", service=CHANGES.id, operation="proposeChange",
        path=f"/citizens/{number}/changes", body=json.dumps(body, ensure_ascii=False), number=place,
        name=f"residence-{place}",
    )  # fmt: skip
