"""The one-door front as a process of its own, before a real gateway: what it acknowledges arrives, whatever is away."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_world import FaultWorld
from world import Received, wait_until

SCHEMAS = Path(__file__).parents[2] / "schemas"
CODE = "H37.02.02-260302-0001"
DOSSIER = {
    "MaHoSo": CODE, "MaTTHC": "1.001234", "TenTTHC": "Đăng ký thường trú", "ChuHoSo": "Nguyễn Văn Mẫu",
    "NgayTiepNhan": "20260302083000", "NgayHenTra": "09/03/2026", "TrangThaiHoSo": "2",
}  # fmt: skip


class Desk:
    """A one-door system before its front."""

    def __init__(self, world: FaultWorld, config: Path) -> None:
        self.world, self.config = world, config
        self.session, self.process = "", None
        self.start()

    def start(self) -> None:
        listening = self.world.folder / "onedoor.json"
        listening.unlink(missing_ok=True)
        arguments = ("adapter", "onedoor", "--config", str(self.config), "--listening-file", str(listening))
        self.process: subprocess.Popen[bytes] | None = self.world.spawn("onedoor", *arguments)
        wait_until(listening.exists, "the front")
        self.port = json.loads(listening.read_text())["port"]

    def post(self, path: str, **told: Any) -> dict[str, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(told).encode())
        with urllib.request.urlopen(request, timeout=30) as got:
            answer: dict[str, Any] = json.loads(got.read())
            return answer

    def log_in(self) -> None:
        self.session = self.post("/login", username="motcua", password="mat-khau-mau")["session"]

    def send(self, service: str, *data: dict[str, Any]) -> dict[str, Any]:
        return self.post("/service", session=self.session, madonvi="H37.02.02", service=service, data=data)


def answered(got: Received) -> tuple[int, list[tuple[str, str]], bytes]:
    """The receiving agency's own software."""
    found = {"code": CODE, "status": "processing", "dueAt": "2026-03-09T23:59:59+07:00"}
    body = found if got.method == "GET" else {"code": CODE}
    return 200, [("Content-Type", "application/json")], json.dumps(body).encode()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with FaultWorld(tmp_path_factory.mktemp("onedoor")) as world:
        world.add_member("H37")
        world.add_member("G01")
        client = world.add_client("H37", "onedoor")
        world.add_subsystem("G01", "dossiers")
        world.publish("G01", "dossiers/receiving", SCHEMAS / "dossiers/1/openapi.yaml", "http",
                      {"base_url": world.backend.url})  # fmt: skip
        world.grant(client.subsystem, "G01", "dossiers/receiving")
        for code in ("H37", "G01"):
            world.configure(code, "commands", retry_s=1.0, retry_max_s=4.0)
        world.backend.answers["/dossiers"] = answered
        world.start_gateways("H37", "G01")
        world.until_ok(client, "G01/dossiers/receiving", f"/dossiers/{CODE}")
        made = Desk(world, settings(world))
        yield made
        assert made.process is not None
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(10) == 0


def settings(world: FaultWorld) -> Path:
    for name, text in (("desk.password", "mat-khau-mau"), ("client.key", world.clients["H37/app"].key)):
        (world.folder / name).write_text(text)
        (world.folder / name).chmod(0o600)
    home = world.member("H37")
    front = json.loads((home.data / "listening.json").read_text())["front"]
    path = world.folder / "onedoor.toml"
    path.write_text(
        f'gateway = "{front}"\nca_file = "{home.home}/tls/ca.crt"\nlisten = "127.0.0.1:0"\nkey_file = "client.key"\n'
        f'client = "{world.clients["H37/app"].subsystem}"\nservice = "{world.member_id("G01")}/dossiers/receiving"\n'
        '[[desk]]\nname = "motcua"\npassword_file = "desk.password"\nagencies = ["H37.02.02"]\n'
    )
    assert world.command("adapter", "onedoor", "--config", str(path), "--check")["desks"] == ["motcua"]
    return path


def arrived(desk: Desk, exchange_id: str) -> list[Any]:
    """Bodies that the receiving back end got under an exchange id."""
    return [
        json.loads(one.body) for one in desk.world.backend.received
        if one.header("X-Road-Request-Id") == exchange_id
    ]  # fmt: skip


def test_a_dossier_arrives_at_the_receiving_agency_in_the_contracts_form(desk: Desk) -> None:
    desk.log_in()
    answer = desk.send("DongBoHoSoMC", DOSSIER)
    assert (answer["error_code"], answer["data"][0]["MaHoSo"]) == ("00", CODE)
    id_ = answer["data"][0]["MaGiaoDich"]
    wait_until(lambda: arrived(desk, id_), "the dossier")
    (body,) = arrived(desk, id_)
    assert (body["code"], body["applicant"], body["dueAt"]) == (CODE, "Nguyễn Văn Mẫu", "2026-03-09T23:59:59+07:00")


def test_what_is_acknowledged_while_broker_and_provider_are_away_arrives_when_they_are_back(desk: Desk) -> None:
    desk.log_in()
    desk.world.stop_gateway("G01")
    desk.world.stop_broker()
    try:
        step = {
            "MaHoSo": CODE,
            "NguoiXuLy": "Trần Thị Ví Dụ",
            "ThoiDiemXuLy": "03/03/2026 09:00",
            "NoiDungXuLy": "Xử lý",
        }
        answer = desk.send("CapNhatTienDoHoSoMC", {**step, "TrangThai": 4}, {**step, "TrangThai": 9})
        assert answer["error_code"] == "00"
        ids = [one["MaGiaoDich"] for one in answer["data"]]
        assert len(set(ids)) == 2
    finally:
        desk.world.start_broker()
        desk.world.start_gateway("G01")
    for id_, status in zip(ids, ("processing", "finished"), strict=True):
        wait_until(lambda id_=id_: arrived(desk, id_), "the progress", 30)
        assert [body["status"] for body in arrived(desk, id_)] == [status]


def test_without_its_gateway_nothing_is_acknowledged_and_the_same_request_works_later(desk: Desk) -> None:
    desk.log_in()
    state = {"MaHoSo": CODE, "TrangThai": 10, "ThoiDiem": "20260309100000"}
    desk.world.stop_gateway("H37")
    refused = desk.send("DongBoTrangThaiHoSo", state)
    assert (refused["error_code"], "MaGiaoDich" in refused["data"][0]) == ("503", False)
    desk.world.start_gateway("H37")
    front = json.loads((desk.world.member("H37").data / "listening.json").read_text())["front"]
    desk.config.write_text("\n".join(
        f'gateway = "{front}"' if line.startswith("gateway") else line for line in desk.config.read_text().splitlines()
    ))  # fmt: skip
    assert desk.process is not None
    desk.process.send_signal(signal.SIGTERM)
    assert desk.process.wait(10) == 0
    desk.start()
    assert desk.send("DongBoTrangThaiHoSo", state)["error_code"] == "100"  # sessions ended with the process
    desk.log_in()
    answer = desk.send("DongBoTrangThaiHoSo", state)
    assert answer["error_code"] == "00"
    wait_until(lambda: arrived(desk, answer["data"][0]["MaGiaoDich"]), "the state")


def test_a_dossier_is_looked_up_and_wrong_input_gets_the_desks_own_error(desk: Desk) -> None:
    desk.log_in()
    answer = desk.send("TraCuuHoSo", {"MaHoSo": CODE})
    assert (answer["error_code"], answer["data"][0]["TrangThaiHoSo"]) == ("00", "4")
    wrong = desk.send("DongBoHoSoMC", {**DOSSIER, "NgayTiepNhan": "2026-03-02"})
    assert (wrong["error_code"], "NgayTiepNhan" in wrong["message"]) == ("302", True)
    log = desk.world.log_path("onedoor").read_text()
    assert "Nguyễn" not in log
    assert CODE not in log
