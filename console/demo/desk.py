"""The one-door desk: a system that speaks its own form, before `lienthong adapter onedoor`.

It knows the form of docs/onedoor.md and nothing of the bus. What it is told of a command goes into the same notes as
those of the command client.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp

from console.demo.cast import DESK, DESK_AGENCY, DOSSIERS, ONEDOOR, PROVINCE
from console.demo.processes import LIENTHONG, Child, DemoFailed, Processes
from console.demo.world import World

_OPERATIONS = {
    "DongBoHoSoMC": "submitDossier",
    "CapNhatTienDoHoSoMC": "reportProgress",
    "DongBoTrangThaiHoSo": "reportStatus",
}
_HTTP = aiohttp.ClientTimeout(total=30)


class Desk:
    """The desk and its front. A context manager: the front is stopped at the end.

    Args:
        processes: Runs the front.
        world: Where the province's gateway is.
        work: Folder for settings and secrets.
        notes: File that gets one line for each accepted command and each look-up.
    """

    def __init__(self, processes: Processes, world: World, work: Path, notes: Path) -> None:
        self._processes = processes
        self._world = world
        self._work = work
        self._notes = notes
        self._child: Child | None = None
        self._front, self._session = "", ""

    async def __aenter__(self) -> Self:
        listening = self._work / "onedoor.json"
        arguments = [
            *LIENTHONG,
            "adapter",
            "onedoor",
            "--config",
            str(self._settings()),
            "--listening-file",
            str(listening),
        ]
        self._child = await self._processes.start("onedoor", arguments)
        await self._processes.wait_for_file(self._child, listening)
        self._front = f"http://127.0.0.1:{json.loads(listening.read_bytes())['port']}"
        told = await self._post("/login", {"username": DESK, "password": self._password().read_text().strip()})
        self._session = told["session"]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._child is not None:
            await self._processes.stop(self._child)

    def _password(self) -> Path:
        return self._work / "client-keys" / "desk.password"

    def _settings(self) -> Path:
        if not self._password().exists():
            self._password().touch(mode=0o600)
            self._password().write_text("mat-khau-mau\n")
        told = {
            "gateway": self._world.gateways.nodes[PROVINCE.code].front,
            "ca_file": str(self._world.home(PROVINCE) / "tls" / "ca.crt"),
            "client": ONEDOOR,
            "key_file": str(self._world.keys["onedoor"]),
            "service": DOSSIERS.id,
            "listen": "127.0.0.1:0",
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in told.items()]
        lines += [
            "[[desk]]",
            f'name = "{DESK}"',
            f'password_file = "{self._password()}"',
            f'agencies = ["{DESK_AGENCY}"]',
        ]
        path = self._work / "onedoor.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    async def hand_over(self, service: str, item: dict[str, str]) -> str:
        """Post a dossier, progress or a state; the exchange id of the command (`MaGiaoDich`).

        Args:
            service: Like `DongBoHoSoMC`.
            item: Of the form's `data`.

        Raises:
            DemoFailed: It was not taken.
        """
        told = await self._service(service, item)
        id_ = str(told["data"][0]["MaGiaoDich"])
        self._note("accepted", operation=_OPERATIONS[service], order_key=item["MaHoSo"], number=0, id=id_)
        return id_

    async def look_up(self, code: str) -> dict[str, Any]:
        """Where a dossier stands (`TraCuuHoSo`), in the desk's own form.

        Raises:
            DemoFailed: It was not told.
        """
        told = await self._service("TraCuuHoSo", {"MaHoSo": code})
        found: dict[str, Any] = told["data"][0]
        self._note("looked-up", operation="getDossier", order_key=code, state=found["TrangThaiHoSo"])
        return found

    async def _service(self, service: str, item: dict[str, str]) -> dict[str, Any]:
        asked = {
            "session": self._session,
            "madonvi": DESK_AGENCY,
            "service": service,
            "isUpdating": False,
            "data": [item],
        }
        told = await self._post("/service", asked)
        if told["error_code"] != "00":
            raise DemoFailed(f"the one-door front answered {service} with {told['error_code']}: {told['message']}")
        return told

    async def _post(self, path: str, told: dict[str, Any]) -> dict[str, Any]:
        async with aiohttp.ClientSession(timeout=_HTTP) as session, session.post(self._front + path, json=told) as got:
            answer: dict[str, Any] = await got.json()
            return answer

    def _note(self, what: str, **told: object) -> None:
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        line = {"what": what, "at": at, "client": ONEDOOR, "service": DOSSIERS.id, **told, "via": DESK}
        with self._notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
