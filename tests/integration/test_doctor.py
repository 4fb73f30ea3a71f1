"""The doctor on the real thing: each part is broken really, and has to be named with what to do about it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click.testing
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from world import CommandFailed, World, free_port, wait_until

from console.cli import main
from console.homes import InstanceHome, MemberHome, replace_file
from console.instance import load_authority
from evidence.identifiers import MemberId
from evidence.issue import create_authority, issue_crl, issue_member, to_pem
from evidence.signer import FileSigner


def doctor(world: World, home: Path, *args: str, code: int) -> dict[str, dict[str, Any]]:
    """The report of a home by check; the worst finding of each."""

    def run() -> click.testing.Result:
        return click.testing.CliRunner().invoke(main, ["doctor", "--home", str(home), "--json", *args])

    result = world._commands.submit(run).result(60)
    assert result.exit_code == code, result.output
    order = ("ok", "warn", "fail")
    found: dict[str, dict[str, Any]] = {}
    for one in json.loads(result.output)["checks"]:
        before = found.get(one["check"])
        if before is None or order.index(one["state"]) > order.index(before["state"]):
            found[one["check"]] = one
    assert all(one["do"] for one in found.values() if one["state"] != "ok")
    return found


def failing(found: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, one in found.items() if one["state"] == "fail"}


@contextlib.contextmanager
def instead(path: Path, data: bytes | None, mode: int = 0o600) -> Iterator[None]:
    """A file with other contents, or away, for a while."""
    kept = path.with_name(f"{path.name}.kept")
    path.rename(kept)
    try:
        if data is not None:
            replace_file(path, data, mode)
        yield
    finally:
        kept.replace(path)


@pytest.fixture
def home(world: World) -> Path:
    return world.member("H37").home


@pytest.fixture(scope="module")
def idle(world: World) -> Path:
    """A member whose gateway never ran, with fixed ports."""
    if "D01" not in world.members:
        world.add_member("D01")
        settings = world.member("D01").home / "gateway.toml"
        text = settings.read_text()
        text = text.replace('"127.0.0.1:0"', f'"127.0.0.1:{free_port()}"', 1)
        settings.write_text(text.replace('"127.0.0.1:0"', f'"127.0.0.1:{free_port()}"', 1))
    return world.member("D01").home


def test_a_sound_member_is_well_and_its_test_call_is_answered(world: World, home: Path, tmp_path: Path) -> None:
    client = world.clients["H37/app"]
    (tmp_path / "key").write_text(client.key)
    call = (
        "--call",
        world.service_id("G01/desk/notes"),
        "--client",
        client.subsystem,
        "--key-file",
        str(tmp_path / "key"),
    )
    found = doctor(world, home, *call, "--path", "/notes/1", code=0)
    assert {one["state"] for one in found.values()} == {"ok"}
    assert {"clock", "ports", "broker-permissions", "directory-age", "log", "revocation-lists", "test-call"} <= set(
        found
    )
    refused = doctor(world, home, *call[:2], *call[2:4], *call[4:], "--path", "/nowhere", code=1)
    assert failing(refused) == {"test-call"}
    (tmp_path / "key").write_text("app.wrong")
    assert "credentials-invalid" in doctor(world, home, *call, "--path", "/notes/1", code=1)["test-call"]["seen"]


def test_a_sound_instance_is_well(world: World) -> None:
    found = doctor(world, world.home, code=0)
    assert {one["state"] for name, one in found.items() if name != "requests"} == {"ok"}
    assert {"certificates", "ports", "registry", "operator-keys", "broker", "directory-age", "log"} <= set(found)


def test_a_gateway_that_does_not_run_is_told_and_everything_else_is_looked_at(world: World, idle: Path) -> None:
    found = doctor(world, idle, code=0)
    assert found["gateway"]["state"] == "warn"
    assert "lienthong gateway" in found["gateway"]["do"]
    assert found["directory-age"]["state"] == "warn"
    assert found["broker"]["state"] == found["node-statement"]["state"] == found["ports"]["state"] == "ok"


def test_a_port_that_another_program_has_is_named(world: World, idle: Path) -> None:
    listen = tomllib.loads((idle / "gateway.toml").read_text())["front"]["listen"]
    with socket.create_server(("127.0.0.1", int(listen.rpartition(":")[2]))):
        found = doctor(world, idle, code=1)
    assert failing(found) == {"ports"}
    assert listen in found["ports"]["seen"]


def test_a_key_that_others_may_read_is_named_with_the_command(world: World, idle: Path) -> None:
    key = idle / "keys" / "member.pem"
    key.chmod(0o644)
    found = doctor(world, idle, code=1)
    key.chmod(0o600)
    assert found["file-modes"]["do"] == f"chmod 0600 {key}"


def test_keys_that_the_directory_does_not_name_are_found(world: World, idle: Path, tmp_path: Path) -> None:
    FileSigner.generate("ed25519").save(tmp_path / "other.pem")
    with instead(idle / "keys" / "log.pem", (tmp_path / "other.pem").read_bytes()):
        found = doctor(world, idle, code=1)
    assert failing(found) == {"node-statement"}
    assert "another log key" in found["node-statement"]["seen"]


def test_credentials_of_another_node_are_found(world: World, idle: Path, home: Path) -> None:
    with instead(idle / "keys" / "broker.jwt", (home / "keys" / "broker.jwt").read_bytes()):
        found = doctor(world, idle, code=1)
    assert failing(found) == {"broker-credentials", "broker"}


@pytest.mark.parametrize("days", [-3, 5])
def test_a_certificate_at_its_end_is_found(world: World, idle: Path, days: int) -> None:
    now = datetime.now(UTC)
    der = issue_member(
        load_authority(InstanceHome(world.home)), MemberId.parse(world.member_id("D01")),
        FileSigner.load(idle / "keys" / "member.pem").private_key.public_key(),
        not_before_at=now - timedelta(days=9), not_after_at=now + timedelta(days=days),
    )  # fmt: skip
    with instead(idle / "keys" / "member.crt", to_pem([der]), 0o644):
        found = doctor(world, idle, code=1 if days < 0 else 0)
    assert found["member-certificate"]["state"] == ("fail" if days < 0 else "warn")


def test_a_certificate_of_another_member_or_authority_is_found(world: World, idle: Path, home: Path) -> None:
    with instead(idle / "keys" / "member.crt", (home / "keys" / "member.crt").read_bytes(), 0o644):
        found = doctor(world, idle, code=1)
    assert failing(found) == {"member-certificate"}
    with instead(idle / "keys" / "member.crt", None):
        assert "join --status" in doctor(world, idle, code=1)["member-certificate"]["do"]
    with instead(idle / "keys" / "member.crt", (idle / "tls" / "front.crt").read_bytes(), 0o644):
        assert failing(doctor(world, idle, code=1)) == {"member-certificate"}


def test_settings_that_cannot_be_used_are_told_with_line_and_key(world: World, idle: Path) -> None:
    text = (idle / "gateway.toml").read_bytes().replace(b"incarnation = 1", b"incarnation = 'one'")
    with instead(idle / "gateway.toml", text, 0o644):
        found = doctor(world, idle, code=1)
    assert "incarnation" in found["settings"]["seen"]
    assert found["registry"]["state"] == "ok"


def test_a_damaged_log_is_found(own_world: World) -> None:
    own_world.stop_gateway("H37")
    home = own_world.member("H37").home
    with sqlite3.connect(own_world.member("H37").log_db) as log:
        log.execute("UPDATE head SET root = zeroblob(32)")
    log.close()
    found = doctor(own_world, home, code=1)
    assert failing(found) == {"log"}
    assert "audit verify" in found["log"]["do"]


def test_what_stands_still_is_told_from_both_sides(own_world: World) -> None:
    own_world.stop_registry()
    own_world.stop_broker()
    member = doctor(own_world, own_world.member("H37").home, code=1)
    assert {"registry", "broker", "gateway"} <= failing(member)
    assert "broker" in member["gateway"]["seen"]
    instance = doctor(own_world, own_world.home, code=1)
    assert {"registry", "broker"} == failing(instance)
    assert "lienthong broker" in instance["broker"]["do"]
    own_world.start_broker()
    assert failing(doctor(own_world, own_world.home, code=1)) == {"registry"}
    text = (own_world.member("H37").home / "gateway.toml").read_text()
    with instead(
        own_world.member("H37").home / "gateway.toml", f"{text}\n[directory]\nmax_age_s = 0.5\n".encode(), 0o644
    ):
        assert "directory-age" in failing(doctor(own_world, own_world.member("H37").home, code=1))


def test_an_instance_that_never_ran_is_looked_at(tmp_path: Path, world: World) -> None:
    home = tmp_path / "three"
    world.command("init", "instance", "VN-THREE", "--home", str(home), "--operators", "3", "--threshold", "2",
                  "--registry-listen", f"127.0.0.1:{free_port()}", "--broker-listen", f"127.0.0.1:{free_port()}")  # fmt: skip
    found = doctor(world, home, code=1)
    assert failing(found) == {"broker", "registry"}
    shutil.rmtree(home / "ca")
    assert "certificates" in failing(doctor(world, home, code=1))


def test_the_brokers_guests_are_compared_with_the_directory(world: World) -> None:
    path = world.home / "broker" / "guests.json"
    assert doctor(world, world.home, code=0)["guests"]["state"] == "ok"
    guests = json.loads(path.read_text())
    with instead(path, None):
        assert "is not among" in doctor(world, world.home, code=1)["guests"]["seen"]
    refused = {key: {**guest, "withdrawn": True, "refused_at_s": 1} for key, guest in guests.items()}
    with instead(path, json.dumps(refused).encode()):
        assert "refused at the broker" in doctor(world, world.home, code=1)["guests"]["seen"]
    with instead(path, b"nonsense"):
        assert "guest-book-unreadable" in doctor(world, world.home, code=1)["guests"]["seen"]


def test_another_key_of_the_streams_account_is_found(world: World, tmp_path: Path) -> None:
    path = world.home / "broker" / "streams.pem"
    FileSigner.generate("ed25519").save(tmp_path / "other.pem")
    with instead(path, (tmp_path / "other.pem").read_bytes()):
        assert "streams-key" in failing(doctor(world, world.home, code=1))
    with instead(path, None):
        assert "backup" in doctor(world, world.home, code=1)["streams-key"]["do"]


def test_the_ends_of_things_are_told_with_the_command_that_exists(world: World, idle: Path) -> None:
    text = (idle / "gateway.toml").read_text()
    without = "\n".join(line for line in text.splitlines() if not line.startswith(("[registry]", "url = ")))
    with instead(idle / "gateway.toml", without.encode(), 0o644):
        assert "[registry] url" in doctor(world, idle, code=0)["broker-credentials"]["do"]
    with instead(idle / "tls" / "front.crt", (world.home / "broker" / "tls.crt").read_bytes(), 0o644):
        assert "front-certificate" in doctor(world, idle, code=0)


class _Lists:
    """Serves one revocation list."""

    def __init__(self) -> None:
        self.data = b""
        lists = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(lists.data)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/list.crl"


def _list(world: World, until_at: datetime, serial: int | None = None) -> bytes:
    authority = load_authority(InstanceHome(world.home))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_der_x509_certificate(authority.certificate).subject)
        .last_update(until_at - timedelta(days=2))
        .next_update(until_at)
    )
    if serial is not None:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(datetime.now(UTC)).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.signer.private_key, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def test_revocation_lists_are_fetched_and_judged(empty_world: World) -> None:
    world, lists = empty_world, _Lists()
    home = world.add_member("R01").home
    world.command("operator", "anchor", "--revocation-list", lists.url, "--home", str(world.home))
    now = datetime.now(UTC)
    lists.data = _list(world, now + timedelta(days=1))
    assert doctor(world, home, code=0)["revocation-lists"]["state"] == "ok"
    lists.data = _list(world, now + timedelta(hours=2))
    assert doctor(world, home, code=0)["revocation-lists"]["state"] == "warn"
    lists.data = _list(world, now - timedelta(hours=2))
    assert "out of date" in doctor(world, home, code=1)["revocation-lists"]["seen"]
    own = x509.load_pem_x509_certificate(MemberHome(home).certificate.read_bytes()).serial_number
    lists.data = _list(world, now + timedelta(days=1), own)
    assert "names this member" in doctor(world, home, code=1)["revocation-lists"]["seen"]
    times = {"this_update_at": now, "next_update_at": now + timedelta(days=1)}
    other = create_authority(
        "Other CA", FileSigner.generate("p256"), not_before_at=now, not_after_at=now + timedelta(days=9)
    )
    (world.folder / "other.crt").write_bytes(other.pem)
    world.command("operator", "anchor", "--authority", str(world.folder / "other.crt"), "--home", str(world.home))
    lists.data = issue_crl(other, [], number=1, **times)
    assert "another's list was put there" in doctor(world, home, code=1)["revocation-lists"]["seen"]
    unsaid = ("certificate", "lists", lists.url, "--home", str(world.home))
    with pytest.raises(CommandFailed, match="say whose list"):
        world.command(*unsaid)
    named = world.command(*unsaid, "--authority", str(world.folder / "other.crt"))["addresses"]
    assert doctor(world, home, code=0)["revocation-lists"]["state"] == "ok"
    assert named[0].startswith(f"{lists.url}#sha256:")
    world.command(*unsaid, "--authority", str(world.home / "ca" / "ca.crt"))
    lists.data = issue_crl(load_authority(InstanceHome(world.home)), [], number=1, **times)
    world.start_gateway("R01")
    (kept,) = wait_until(lambda: list(world.member("R01").data.glob("crl/*.crl")), "the gateway's copy")
    lists.data = b"nonsense"
    assert "as the gateway has it" in doctor(world, home, code=0)["revocation-lists"]["seen"]
    with instead(kept, _list(world, now - timedelta(hours=2))):
        assert "out of date" in doctor(world, home, code=1)["revocation-lists"]["seen"]
    with instead(kept, b"nonsense"):
        assert "counts for nothing" in doctor(world, home, code=1)["revocation-lists"]["seen"]
    with instead(kept, None):
        assert "refuses every call" in doctor(world, home, code=1)["revocation-lists"]["seen"]
    world.stop_gateway("R01")
    assert doctor(world, home, code=1)["revocation-lists"]["state"] == "fail"
    lists.server.shutdown()
    lists.server.server_close()
    assert "does not answer" in doctor(world, home, code=1)["revocation-lists"]["seen"]
