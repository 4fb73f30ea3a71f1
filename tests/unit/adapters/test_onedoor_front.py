"""The one-door front before a gateway that is a fake of the HTTP interface, on real sockets."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from test_onedoor_forms import CODE, DOSSIER, LONG, STEP

from adapters.agency.onedoor import OneDoor
from adapters.agency.onedoorsettings import DeskSettings, OneDoorSettings, load
from adapters.agency.sessions import Sessions
from adapters.errors import SettingsInvalid

PASSWORD = "mat-khau-mau-1"


class FakeGateway:
    """Accepts commands as a gateway does; `refuse` makes the n-th and all later ones fail."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str], Any]] = []
        self.refuse: dict[int, int] = {}
        self.said: dict[str, Any] = {}
        self.dossiers: dict[str, Any] = {}
        self.port = 0
        self.asked, self.release = asyncio.Event(), asyncio.Event()
        self.release.set()

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self.handle))
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.calls.append((request.method, request.path, dict(request.headers), json.loads(body) if body else None))
        self.asked.set()
        await self.release.wait()
        status = self.refuse.get(len(self.calls))
        if status is not None:
            return web.json_response({"code": "refused", "detail": "in English", **self.said}, status=status)
        if request.method == "GET":
            found = self.dossiers.get(request.path.rpartition("/")[2])
            return web.json_response(found or {}, status=200 if found else 404)
        return web.json_response({"id": f"id-{len(self.calls)}", "state": "accepted"}, status=202)


def write_settings(folder: Path, port: int, **changes: Any) -> Path:
    for name, text in (("desk.password", PASSWORD), ("other.password", PASSWORD + "x"), ("client.key", "app.key")):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    told = {
        "gateway": f"http://127.0.0.1:{port}", "client": "VN/GOV/H37/onedoor", "key_file": "client.key",
        "service": "VN/GOV/G01/dossiers/receiving", "listen": "127.0.0.1:0", "purpose": "dossier", **changes,
    }  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in told.items()]
    lines += ["[[desk]]", 'name = "motcua"', 'password_file = "desk.password"',
              'agencies = ["H37.02", "000.02.02.H37"]']  # fmt: skip
    lines += ["[[desk]]", 'name = "khac"', 'password_file = "other.password"', 'agencies = ["H38"]']
    path = folder / "onedoor.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


class Desk:
    """A one-door system."""

    def __init__(self, front: OneDoor, gateway: FakeGateway, http: aiohttp.ClientSession) -> None:
        self.front, self.gateway, self.http, self.session = front, gateway, http, ""

    async def post(self, path: str, told: Any) -> dict[str, Any]:
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        async with self.http.post(f"http://127.0.0.1:{self.front.port}{path}", data=data) as got:
            assert got.status == 200
            answer: dict[str, Any] = await got.json()
            assert set(answer) >= {"error_code", "message"}
            return answer

    async def log_in(self, name: str = "motcua", password: str = PASSWORD) -> dict[str, Any]:
        answer = await self.post("/login", {"username": name, "password": password})
        self.session = answer.get("session", "")
        return answer

    async def send(self, service: str, *data: Any, madonvi: str = "H37.02.02", **more: Any) -> dict[str, Any]:
        told = {"session": self.session, "madonvi": madonvi, "service": service, "data": list(data), **more}
        return await self.post("/service", told)


class Heard:
    def __init__(self) -> None:
        self.lines: list[tuple[str, str, int]] = []

    def handled(self, service: str, code: str, items: int, seconds: float) -> None:
        assert seconds >= 0
        self.lines.append((service, code, items))

    def failed(self, error: str) -> None:
        raise AssertionError(error)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    gateway = FakeGateway()
    await gateway.start()
    front = OneDoor(
        load(write_settings(tmp_path, gateway.port, max_items=3, max_requests=2, max_body_bytes=20_000)), Heard()
    )
    await front.start()
    async with aiohttp.ClientSession() as http:
        made = Desk(front, gateway, http)
        await made.log_in()
        yield made
    await front.stop()
    await gateway.stop()


async def test_a_dossier_goes_as_a_command_with_its_keys_and_the_exchange_id_comes_back(desk: Desk) -> None:
    answer = await desk.send("DongBoHoSoMC", DOSSIER, isUpdating=False)
    assert answer == {
        "error_code": "00", "message": "", "data": [{"MaHoSo": CODE, "error_code": "00", "MaGiaoDich": "id-1"}],
    }  # fmt: skip
    ((method, path, headers, body),) = desk.gateway.calls
    assert (method, path) == ("POST", "/r1/VN/GOV/G01/dossiers/receiving/dossiers")
    assert headers["Prefer"] == "respond-async"
    assert headers["X-LienThong-Order-Key"] == headers["X-Road-Issue"] == CODE
    assert len(headers["Idempotency-Key"]) == 64
    assert (headers["X-Road-Client"], headers["X-Road-UserId"]) == ("VN/GOV/H37/onedoor", "motcua")
    assert (headers["X-LienThong-Key"], headers["X-LienThong-Purpose"]) == ("app.key", "dossier")
    assert body["code"] == CODE


async def test_the_old_form_of_the_agency_code_and_what_is_below_are_the_desks_own(desk: Desk) -> None:
    assert (await desk.send("DongBoHoSoMC", {**DOSSIER, "MaHoSo": LONG}, madonvi="000.02.02.H37"))["error_code"] == "00"
    assert (await desk.send("DongBoHoSoMC", DOSSIER, madonvi="H37.03"))["error_code"] == "106"
    assert (await desk.send("DongBoHoSoMC", DOSSIER, madonvi="H37.020"))["error_code"] == "106"
    other = {**DOSSIER, "MaHoSo": "H38.01-260302-0001"}
    assert (await desk.send("DongBoHoSoMC", other))["error_code"] == "106"


async def test_one_fault_in_a_request_and_nothing_of_it_is_sent(desk: Desk) -> None:
    answer = await desk.send("CapNhatTienDoHoSoMC", STEP, {**STEP, "TrangThai": 12}, {**STEP, "ThoiDiemXuLy": "?"})
    assert answer["error_code"] == "302"
    assert "phần tử 2: TrangThai" in answer["message"]
    assert "phần tử 3: ThoiDiemXuLy" in answer["message"]
    assert desk.gateway.calls == []
    both = await desk.send("CapNhatTienDoHoSoMC", {**STEP, "TrangThai": 12, "NguoiXuLy": "", "Khac": 1})
    assert all(named in both["message"] for named in ("TrangThai", "NguoiXuLy", "Khac"))
    assert desk.gateway.calls == []


async def test_when_the_gateway_fails_midway_each_element_says_what_became_of_it(desk: Desk) -> None:
    desk.gateway.refuse = {2: 503}
    answer = await desk.send("CapNhatTienDoHoSoMC", STEP, {**STEP, "TrangThai": 5}, {**STEP, "TrangThai": 6})
    assert (answer["error_code"], [one["error_code"] for one in answer["data"]]) == ("503", ["00", "503", "503"])
    assert "đã nhận 1/3" in answer["message"]
    assert len(desk.gateway.calls) == 2  # what is behind does not overtake
    desk.gateway.refuse = {}
    again = await desk.send("CapNhatTienDoHoSoMC", STEP, {**STEP, "TrangThai": 5}, {**STEP, "TrangThai": 6})
    assert again["error_code"] == "00"
    keys = [call[2]["Idempotency-Key"] for call in desk.gateway.calls]
    assert keys[0] == keys[2]  # so the gateway knows the first one again


async def test_what_is_refused_holds_back_its_own_dossier_and_no_other(desk: Desk) -> None:
    desk.gateway.refuse = {1: 400}
    other = {**STEP, "MaHoSo": LONG}
    answer = await desk.send("CapNhatTienDoHoSoMC", STEP, other, {**STEP, "TrangThai": 5})
    assert [one["error_code"] for one in answer["data"]] == ["500", "00", "500"]
    assert len(desk.gateway.calls) == 2


@pytest.mark.parametrize(("status", "code"), [(401, "101"), (403, "101"), (409, "500"), (429, "503"), (500, "503")])
async def test_refusals_of_the_gateway_are_told_in_the_desks_own_codes(desk: Desk, status: int, code: str) -> None:
    desk.gateway.refuse = {1: status}
    answer = await desk.send("DongBoHoSoMC", DOSSIER)
    assert answer["error_code"] == code
    assert "English" not in json.dumps(answer)


async def test_a_look_up_that_fails_is_not_told_as_a_dossier_to_be_sent_again(desk: Desk) -> None:
    desk.gateway.refuse = {1: 503, 2: 502}
    later = await desk.send("TraCuuHoSo", {"MaHoSo": CODE})
    assert (later["error_code"], later["message"]) == (
        "503",
        "đã tra cứu 0/1: chưa tra cứu được hồ sơ; hãy thử lại sau",
    )
    desk.gateway.said = {"code": "answer-invalid"}
    assert (await desk.send("TraCuuHoSo", {"MaHoSo": CODE}))["error_code"] == "500"


async def test_an_answer_that_is_no_acceptance_is_never_told_as_one(desk: Desk) -> None:
    desk.gateway.refuse = {1: 200, 2: 202, 3: 202, 4: 404}
    for said in ({"id": "x"}, {}, {"id": 7}, {"id": "x"}):
        desk.gateway.said = said
        assert (await desk.send("DongBoHoSoMC", DOSSIER))["error_code"] == "500"


async def test_without_a_gateway_nothing_is_acknowledged(desk: Desk) -> None:
    await desk.gateway.stop()
    answer = await desk.send("DongBoHoSoMC", DOSSIER)
    assert (answer["error_code"], answer["data"][0]["error_code"]) == ("503", "503")
    async with desk.http.get(f"http://127.0.0.1:{desk.front.port}/readyz") as got:
        assert (got.status, (await got.json())["ok"]) == (503, False)
    async with desk.http.get(f"http://127.0.0.1:{desk.front.port}/livez") as got:
        assert got.status == 200
    await desk.gateway.start()
    async with desk.http.get(f"http://127.0.0.1:{desk.front.port}/readyz") as got:
        assert got.status == 200


async def test_a_stop_answers_what_is_under_way_and_takes_nothing_more(desk: Desk) -> None:
    desk.gateway.release.clear()
    under_way = asyncio.create_task(desk.send("DongBoHoSoMC", DOSSIER))
    await asyncio.wait_for(desk.gateway.asked.wait(), 5)
    stopping = asyncio.create_task(desk.front.stop())
    desk.gateway.release.set()
    assert (await asyncio.wait_for(under_way, 5))["error_code"] == "00"
    await asyncio.wait_for(stopping, 5)
    with pytest.raises(aiohttp.ClientError):
        await desk.send("DongBoHoSoMC", DOSSIER)


async def test_more_requests_than_allowed_at_once_are_told_to_come_again(desk: Desk) -> None:
    desk.gateway.release.clear()
    under_way = asyncio.create_task(desk.send("DongBoHoSoMC", DOSSIER))
    await asyncio.wait_for(desk.gateway.asked.wait(), 5)
    second = asyncio.create_task(desk.send("DongBoHoSoMC", DOSSIER))
    await eventually(lambda: len(desk.gateway.calls) == 2)
    assert (await desk.send("DongBoHoSoMC", DOSSIER))["error_code"] == "503"
    desk.gateway.release.set()
    assert [(await one)["error_code"] for one in (under_way, second)] == ["00", "00"]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_dossier_is_looked_up_at_once_and_told_in_their_form(desk: Desk) -> None:
    desk.gateway.dossiers[CODE] = {"code": CODE, "status": "processing", "dueAt": "2026-03-09T23:59:59+07:00"}
    answer = await desk.send("TraCuuHoSo", {"MaHoSo": CODE}, {"MaHoSo": LONG})
    found, missing = answer["data"]
    assert (found["error_code"], found["TrangThaiHoSo"], found["NgayHenTra"]) == ("00", "4", "20260309235959")
    assert (missing["error_code"], answer["error_code"]) == ("201", "201")
    assert all("Prefer" not in call[2] for call in desk.gateway.calls)


async def test_a_session_belongs_to_the_system_that_logged_in(desk: Desk) -> None:
    assert (await desk.log_in("khac", PASSWORD + "x"))["error_code"] == "00"
    assert (await desk.send("DongBoHoSoMC", DOSSIER))["error_code"] == "106"
    for wrong in ("", "x", "Ω" * 40):
        desk.session = wrong
        assert (await desk.send("DongBoHoSoMC", DOSSIER))["error_code"] in {"100", "200"}
    assert desk.gateway.calls == []


async def test_wrong_passwords_are_refused_and_soon_all_from_that_address(desk: Desk) -> None:
    assert (await desk.log_in("nobody"))["error_code"] == "100"
    for _ in range(10):
        assert (await desk.log_in(password="wrong"))["error_code"] == "100"
    assert (await desk.log_in())["error_code"] == "100"


@pytest.mark.parametrize(
    "told",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"session":1}', b'{"session":"x"}', b"[" * 10_000, b"x" * 30_000],
)  # fmt: skip
async def test_whatever_is_posted_gets_an_error_of_their_form(desk: Desk, told: bytes) -> None:
    for path in ("/service", "/login", "/else"):
        answer = await desk.post(path, told)
        assert answer["error_code"] in {"100", "200", "302"}
        assert answer["message"]


async def test_a_request_has_its_limits(desk: Desk) -> None:
    assert (await desk.send("DongBoHoSoMC"))["error_code"] == "200"
    assert (await desk.send("DongBoHoSoMC", *[DOSSIER] * 4))["error_code"] == "200"
    assert (await desk.send("XoaHoSo", DOSSIER))["error_code"] == "302"


async def test_what_the_observer_hears_names_nobody(desk: Desk) -> None:
    await desk.send("DongBoHoSoMC", DOSSIER)
    heard = desk.front._observer
    assert isinstance(heard, Heard)
    assert heard.lines == [("login", "00", 0), ("DongBoHoSoMC", "00", 1)]


def test_sessions_end_and_their_number_is_bounded() -> None:
    now = [0.0]
    tokens = iter(range(1000))
    sessions = Sessions({"a": "p", "b": "q"}, 60.0, lambda: now[0], lambda: f"t{next(tokens)}")
    first = sessions.log_in("a", "p", "here")
    assert first is not None
    assert sessions.desk_of(first) == "a"
    for _ in range(40):
        assert sessions.log_in("a", "p", "here")
    assert len(sessions) == 16
    assert sessions.desk_of(first) is None
    last = sessions.log_in("b", "q", "here")
    assert last is not None
    now[0] = 60.0
    assert sessions.desk_of(last) is None
    assert len(sessions) == 0


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"gateway": "127.0.0.1:1"}, "gateway"),
        ({"client": "VN/GOV/H37"}, "client"),
        ({"service": "VN/GOV/G01/dossiers"}, "service"),
        ({"listen": "0.0.0.0:80"}, "listen"),
        ({"listen": "80"}, "listen"),
        ({"certificate_file": "x"}, "certificate_file"),
        ({"key_file": "missing"}, "key_file"),
        ({"max_items": 0}, "max_items"),
        ({"colour": 1}, "colour"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        load(write_settings(tmp_path, 1, **changes))
    assert refusal.value.key == key


def test_the_sample_settings_have_every_key_and_can_be_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "config" / "onedoor.toml").read_text(encoding="utf-8")
    for name in ("onedoor.key", "motcua.password"):
        (tmp_path / "secrets").mkdir(exist_ok=True)
        (tmp_path / "secrets" / name).write_text("x")
        (tmp_path / "secrets" / name).chmod(0o600)
    (tmp_path / "onedoor.toml").write_text(text)
    read = load(tmp_path / "onedoor.toml")
    told = tomllib.loads(text)
    assert set(told) == set(OneDoorSettings.__struct_fields__)
    assert set(told["desk"][0]) == set(DeskSettings.__struct_fields__)
    assert read.ca_file == str(tmp_path / "tls/ca.crt")
    assert read.certificate_file == ""


def test_a_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = write_settings(tmp_path, 1)
    (tmp_path / "desk.password").chmod(0o644)
    with pytest.raises(SettingsInvalid, match="0600"):
        load(path)
