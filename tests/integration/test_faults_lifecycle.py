"""SIGTERM, SIGHUP and commands beside a running gateway: nothing is lost, nothing half changed, no restart needed."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from fault_evidence import check_evidence
from fault_world import Caller, FaultWorld, Load, assert_retryable, pair
from world import ClientSystem, CommandFailed, wait_until

from evidence.issue import create_authority, issue_tls, to_pem
from evidence.signer import FileSigner, generate_key_file

SERVICE = "G01/desk/notes"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("lifecycle")) as made:
        pair(made, "H37", "G01", join_every_s=0.5)
        made.add_client("H37", "archive", "archive-app")
        made.start_gateways("H37", "G01")
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> ClientSystem:
    return world.clients["H37/app"]


@pytest.fixture(autouse=True)
def evidence(world: FaultWorld) -> Iterator[None]:
    world.backend.release.clear()
    yield
    world.backend.release.set()
    world.until_ok(world.clients["H37/app"], SERVICE)
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01")


# --- SIGTERM -------------------------------------------------------------------------------------------------------------


def test_a_consumer_that_is_stopped_finishes_what_is_under_way_and_refuses_what_is_new(
    world: FaultWorld, client: ClientSystem
) -> None:
    caller = Caller(world, client, SERVICE)
    assert caller.call().status == 200
    waiting = world.background(3, client, SERVICE, "/slow")
    wait_until(lambda: world.backend.waiting == 3, "calls under way")
    process = world.process("H37")
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: "draining" in world.readiness("H37")[1], "readiness that says so")
    for outcome in (caller.call(), world.timed(client, SERVICE)):
        assert_retryable(outcome, "draining", 1)
        assert (outcome.status, outcome.acted) == (503, "no")
    assert process.poll() is None
    world.backend.release.set()
    assert [outcome.status for outcome in waiting.outcomes()] == [200, 200, 200]
    caller.close()
    assert world.wait_end("H37") == 0
    assert [child.pid for child in family if child.is_running()] == []
    assert "Traceback" not in world.tail("H37")
    assert world.open_requests("H37") == 0
    world.start_gateway("H37")


def test_a_provider_that_is_stopped_answers_what_it_has_taken(world: FaultWorld, client: ClientSystem) -> None:
    waiting = world.background(3, client, SERVICE, "/slow")
    wait_until(lambda: world.backend.waiting == 3, "calls under way")
    process = world.process("G01")
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: "draining" in world.readiness("G01")[1], "readiness that says so")
    wait_until(lambda: world.timed(client, SERVICE).code == "provider-unavailable", "refusal of new calls", 3)
    world.backend.release.set()
    assert [outcome.status for outcome in waiting.outcomes()] == [200, 200, 200]
    assert world.wait_end("G01") == 0
    assert "Traceback" not in world.tail("G01")
    world.start_gateway("G01")


def test_a_provider_that_is_stopped_under_load_loses_no_call(world: FaultWorld, client: ClientSystem) -> None:
    world.backend.release.set()
    for _ in range(3):
        with Load(world, client, SERVICE, threads=16) as load:
            wait_until(lambda load=load: load.count(200) > 50, "calls")
            world.process("G01").send_signal(signal.SIGTERM)
            assert world.wait_end("G01") == 0
            before = load.count(503)
            wait_until(lambda load=load, before=before: load.count(503) > before, "refusals")
        codes = {(outcome.status, outcome.code) for outcome in load.outcomes}
        assert codes == {(200, ""), (503, "provider-unavailable")}, codes
        world.start_gateway("G01")


def test_a_provider_that_is_stopped_answers_also_what_the_broker_sent_it_meanwhile(
    world: FaultWorld, client: ClientSystem
) -> None:
    """Requests and the end of the subscription cross on the wire: the broker is held while both are on their way."""
    world.backend.release.set()
    for _ in range(2):
        size = world.metric("H37", "lienthong_log_size")
        with world.broker_stopped():
            waiting = world.background(24, client, SERVICE, "/notes/1")
            wait_until(
                lambda size=size: world.metric("H37", "lienthong_log_size") == size + 24, "requests on their way"
            )
            process = world.process("G01")
            process.send_signal(signal.SIGTERM)
            wait_until(
                lambda process=process: process.poll() is not None or "draining" in world.readiness("G01")[1],
                "the gateway that stops",
            )
        outcomes = waiting.outcomes()
        assert {outcome.code for outcome in outcomes} <= {"", "provider-unavailable"}, outcomes
        assert max(outcome.seconds for outcome in outcomes) < 5
        assert world.wait_end("G01") == 0
        world.start_gateway("G01")


def test_a_consumer_that_is_stopped_under_load_loses_no_call(world: FaultWorld, client: ClientSystem) -> None:
    world.backend.release.set()
    with Load(world, client, SERVICE, threads=16) as load:
        wait_until(lambda: load.count(200) > 50, "calls")
        world.process("H37").send_signal(signal.SIGTERM)
        assert world.wait_end("H37") == 0
    codes = {(outcome.status, outcome.code) for outcome in load.outcomes}
    # 0: a connection that the port no longer takes; nobody was told that anything was done
    assert codes <= {(200, ""), (503, "draining"), (0, "")}, codes
    assert world.open_requests("H37") == 0
    world.start_gateway("H37")
    check_evidence(world, "H37", "G01", acknowledged=load.acknowledged)


# --- SIGHUP --------------------------------------------------------------------------------------------------------------


def bad_settings(home: Path) -> dict[str, tuple[Path, bytes]]:
    """Files that must be refused, by what is wrong with them: where they go and what is in them."""
    settings = home / "gateway.toml"
    text = settings.read_bytes()
    part = home / "gateway.d" / "zz-test.toml"
    (home / "keys" / "empty.hash").write_bytes(b"\xff\xfe not ascii")
    return {
        "no TOML": (settings, text + b"\n[limits\n"),
        "unknown key": (settings, text + b"\n[retention]\nparticulars_weeks = 3\n"),
        "wrong type": (settings, text + b'\n[retention]\nparticulars_days = "many"\n'),
        "needs a restart": (settings, text.replace(b"incarnation = 1", b"incarnation = 2")),
        "no such file": (settings, text.replace(b'certificate = "tls/front.crt"', b'certificate = "tls/none.crt"')),
        "not a certificate": (home / "tls" / "front.crt", b"this is no certificate\n"),
        "key of another certificate": (home / "tls" / "front.pem", _other_key(home)),
        "unknown kind": (part, b'[[service]]\nid = "VN-TEST/GOV/G01/desk/odd"\nkind = "odd"\n'),
        "wrong settings of a kind": (
            part,
            b'[[service]]\nid = "VN-TEST/GOV/G01/desk/odd"\nkind = "http"\nsettings = { base_url = "ftp://x" }\n',
        ),
        "client key that cannot be read": (
            part,
            b'[[client]]\nname = "odd"\nsubsystems = ["VN-TEST/GOV/G01/desk"]\nkey = "keys/empty.hash"\n',
        ),
    }


def _other_key(home: Path) -> bytes:
    path = home / "tls" / "other.pem"
    path.unlink(missing_ok=True)
    generate_key_file(path, "p256")
    return path.read_bytes()


def test_a_bad_file_changes_nothing_and_is_said(world: FaultWorld, client: ClientSystem) -> None:
    world.backend.release.set()
    home = world.members["G01"].home
    serial = front_serial(world, "G01")
    with Load(world, client, SERVICE, threads=2) as load:
        for what, (path, content) in bad_settings(home).items():
            kept = path.read_bytes() if path.exists() else None
            refused = len(world.log_lines("G01", "settings.refused"))
            reloaded = len(world.log_lines("G01", "settings.reloaded"))
            path.write_bytes(content)
            try:
                world.process("G01").send_signal(signal.SIGHUP)
                wait_until(
                    lambda refused=refused: len(world.log_lines("G01", "settings.refused")) > refused,
                    f"a line about {what}",
                    5,
                )
            finally:
                if kept is None:
                    path.unlink()
                else:
                    path.write_bytes(kept)
            assert len(world.log_lines("G01", "settings.reloaded")) == reloaded
            assert world.log_lines("G01", "settings.refused")[-1]["problems"]
            assert front_serial(world, "G01") == serial
        before = load.count(200)
        wait_until(lambda: load.count(200) > before, "calls that go on")
    assert {outcome.status for outcome in load.outcomes} == {200}
    world.reload_gateway("G01")
    assert world.log_lines("G01", "settings.reloaded")


def test_a_new_service_is_taken_over_without_losing_a_call(world: FaultWorld, client: ClientSystem) -> None:
    world.backend.release.set()
    pid = world.process("G01").pid
    with Load(world, client, SERVICE, threads=8) as load:
        wait_until(lambda: load.count(200) > 20, "calls")
        world.publish("G01", "desk/newer")
        world.grant(client.subsystem, "G01", "desk/newer")
        world.reload_gateway("G01")
        world.until_ok(client, "G01/desk/newer")
        before = load.count(200)
        wait_until(lambda: load.count(200) > before + 20, "calls that go on")
    assert {outcome.status for outcome in load.outcomes} == {200}
    assert world.process("G01").pid == pid


def test_limits_are_taken_over_and_given_back(world: FaultWorld, client: ClientSystem) -> None:
    waiting = world.background(1, client, SERVICE, "/slow")
    wait_until(lambda: world.backend.waiting == 1, "the call under way")
    world.configure("H37", "limits", per_client=1)
    world.reload_gateway("H37")
    outcome = world.timed(client, SERVICE)
    assert (outcome.status, outcome.code) == (429, "too-many-in-flight"), outcome
    world.configure("H37", "limits", per_client=256)
    world.reload_gateway("H37")
    assert world.timed(client, SERVICE).status == 200
    world.backend.release.set()
    assert [outcome.status for outcome in waiting.outcomes()] == [200], "it was not disturbed"


def front_serial(world: FaultWorld, code: str) -> bytes:
    """Certificate that the front shows to a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(world.members[code].front, timeout=5) as plain, context.wrap_socket(plain) as secured:
        return secured.getpeercert(binary_form=True) or b""


def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    world: FaultWorld, client: ClientSystem
) -> None:
    folder = world.members["H37"].home / "tls"
    caller = Caller(world, client, SERVICE)
    assert caller.call().status == 200
    before = front_serial(world, "H37")
    for name in ("ca.crt", "front.crt", "front.pem"):
        shutil.move(folder / name, folder / f"{name}.old")
    now = datetime.now(UTC)
    times = {"not_before_at": now - timedelta(minutes=5), "not_after_at": now + timedelta(days=30)}
    authority = create_authority("another front authority", FileSigner.generate("p256"), **times)
    key = generate_key_file(folder / "front.pem", "p256")
    certificate = issue_tls(
        authority,
        "gateway",
        key.private_key.public_key(),
        role="server",
        dns_names=["localhost"],
        ip_addresses=["127.0.0.1"],
        **times,
    )
    (folder / "ca.crt").write_bytes(authority.pem)
    (folder / "front.crt").write_bytes(to_pem([certificate]))
    world.reload_gateway("H37")
    assert front_serial(world, "H37") != before
    assert caller.call().status == 200, "the open connection goes on"
    caller.close()
    assert world.timed(client, SERVICE).status == 200


# --- rights --------------------------------------------------------------------------------------------------------------


def test_a_right_that_is_granted_or_revoked_by_command_holds_without_a_restart(
    world: FaultWorld, client: ClientSystem
) -> None:
    world.backend.release.set()
    archive = world.clients["H37/archive-app"]
    pids = {code: world.process(code).pid for code in ("H37", "G01")}
    assert world.timed(archive, SERVICE).code == "access-denied"
    with Load(world, client, SERVICE, threads=2) as load:
        for _ in range(2):
            world.grant(archive.subsystem, "G01", "desk/notes")
            world.until_ok(archive, SERVICE, deadline_s=5)
            world.command("access", "revoke", archive.subsystem, "desk/notes", "--home", str(world.members["G01"].home))
            wait_until(lambda: world.timed(archive, SERVICE).code == "access-denied", "the end of the right", 5)
    assert {outcome.status for outcome in load.outcomes} == {200}, "others were not touched"
    assert {code: world.process(code).pid for code in ("H37", "G01")} == pids


def test_of_several_rights_granted_at_once_none_is_overlooked(world: FaultWorld, client: ClientSystem) -> None:
    """Commands one after another without a pause: the last word counts, whenever the gateway happened to look."""
    world.backend.release.set()
    archive = world.clients["H37/archive-app"]
    home = str(world.members["G01"].home)
    for _ in range(6):
        world.grant(archive.subsystem, "G01", "desk/notes")
        world.command("access", "revoke", archive.subsystem, "desk/notes", "--home", home)
    wait_until(lambda: world.timed(archive, SERVICE).code == "access-denied", "the last word", 5)
    with pytest.raises(CommandFailed):
        world.command("access", "why", archive.subsystem, world.service_id(SERVICE), "getNote", "--home", home)
