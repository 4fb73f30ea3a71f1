"""Keys exchanged under load: nothing that is under way is lost, and old evidence still verifies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from world import CommandFailed, World, standard_world, wait_until

from bus.gateway.sealingkeys import load_keys
from console import rotation
from console.homes import MemberHome
from evidence.__main__ import main as evidence_main

SERVICE = "G01/desk/notes"


@pytest.fixture(scope="module")
def keys_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with standard_world(tmp_path_factory.mktemp("keys")) as running:
        yield running


@contextmanager
def load(world: World, threads: int = 3) -> Iterator[list[str]]:
    """Calls all the time; at the end there were some, and all of them were answered."""
    client, stop, ended, failures = world.clients["H37/app"], threading.Event(), [], []

    def calls() -> None:
        while not stop.is_set():
            answer = world.call(client, SERVICE, "/notes/1", purpose="residence")
            ended.append(str(answer.status))
            if answer.status != 200:
                failures.append(f"{answer.status} {answer.code} {answer.body[:200]!r}")

    running = [threading.Thread(target=calls) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        wait_until(lambda: len(ended) >= 3, "calls")
        yield ended
        before = len(ended)
        wait_until(lambda: len(ended) >= before + 6, "calls afterwards")
    finally:
        stop.set()
        for thread in running:
            thread.join(30)
    assert not failures, failures[:5]


def log_lines(world: World, code: str, event: str) -> int:
    return world.log_path(code).read_text(encoding="utf-8").count(f'"{event}"')


@pytest.mark.parametrize("code", ["H37", "G01"])
def test_the_log_key_changes_while_calls_go_on(keys_world: World, code: str, tmp_path: Path) -> None:
    world, home = keys_world, str(keys_world.member(code).home)
    world.call(world.clients["H37/app"], SERVICE, "/notes/1", purpose="residence")
    old = world.member(code).signer("log").public_bytes
    with load(world):
        prepared = world.command("node", "rotate", "log", "--prepare", "--delay-s", "1", "--home", home)
        assert prepared["usable_from"]
        with pytest.raises(CommandFailed) as early:
            world.command("node", "rotate", "log", "--activate", "--home", home)
        assert early.value.code == "home-invalid"
        changes = log_lines(world, code, "log.key-changed")
        world.command("node", "rotate", "log", "--wait", "--overlap-s", "30", "--home", home)
        wait_until(
            lambda: log_lines(world, code, "log.key-changed") == changes + 1, "the gateway signs with the new key"
        )
        time.sleep(0)  # the load goes on after the change, see `load`
    assert world.member(code).signer("log").public_bytes != old
    assert not (world.member(code).home / "keys" / "log.next.pem").exists()
    # a restart finds the log under the new key; old and new checkpoints verify with one trust file
    world.stop_gateway(code)
    world.start_gateway(code)
    assert world.call(world.clients["H37/app"], SERVICE, "/notes/1", purpose="residence").status == 200
    trust = tmp_path / "trust.json"

    def both_keys() -> bool:
        world.command("audit", "trust", "--home", home, "--out", str(trust))
        origins = json.loads(trust.read_bytes())["origins"]
        (entry,) = [entry for origin, entry in origins.items() if f"/{code}/" in origin]
        return len(entry.get("keys", ())) == 2 and entry["keys"][0]["until"] is not None

    wait_until(both_keys, "both keys in the trust file")
    db = str(world.member(code).log_db)
    assert evidence_main(["verify", db, "--trust", str(trust), "--every-checkpoint"]) == 0


class Killed(BaseException):
    """A command ends at once."""


def test_a_gateway_that_was_not_told_of_its_new_log_key_is_told_by_the_same_command(
    keys_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, member = keys_world, keys_world.member("G01")
    rotate = ("node", "rotate", "log", "--delay-s", "0", "--home", str(member.home))

    def killed(_home: MemberHome) -> bool:
        raise Killed

    world.command(*rotate)
    with monkeypatch.context() as patch:
        patch.setattr(rotation, "reload_gateway", killed)
        with pytest.raises(Killed):
            rotation.activate_log_key(MemberHome(member.home), 30.0)
    taken, changes = member.signer("log").public_bytes, log_lines(world, "G01", "log.key-changed")
    assert not (member.home / "keys" / "log.next.pem").exists()
    assert world.command(*rotate)["reloaded"] is True
    wait_until(lambda: log_lines(world, "G01", "log.key-changed") == changes + 1, "the gateway signs with the new key")
    assert world.call(world.clients["H37/app"], SERVICE, "/notes/1", purpose="residence").status == 200
    assert member.signer("log").public_bytes == taken
    assert world.command(*rotate)["usable_from"], "now that it signs, the next exchange begins"
    world.command(*rotate)


def test_what_was_pinned_before_a_revocation_passes_and_what_came_later_does_not(
    own_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, trust = own_world, tmp_path / "trust.json"
    client, home = world.clients["H37/app"], str(world.member("H37").home)
    for _ in range(3):
        assert world.call(client, SERVICE, "/notes/1", purpose="residence").status == 200
    world.stop_gateway("H37")
    pinned = world.command("node", "pin", "--home", home)

    def dated() -> bool:
        world.command("audit", "trust", "--home", str(world.member("G01").home), "--out", str(trust))
        return bool(json.loads(trust.read_bytes()).get("dated"))

    wait_until(dated, "the pinned tree in the trust file")
    at = json.loads(trust.read_bytes())["dated"][0]["at"]
    since = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time()))}"
    wait_until(
        lambda: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) > at[:19], "an instant after the cosignature", 5
    )
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    world.command("node", "revoke", "n1", "--home", home, "--since", since, "--reason", "stolen")

    def revoked() -> bool:
        dated()
        return bool(json.loads(trust.read_bytes()).get("revocations"))

    wait_until(revoked, "the revocation in the trust file")
    db = str(world.member("H37").log_db)
    assert evidence_main(["verify", db, "--trust", str(trust), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["verdicts"]) == {"before"}
    assert told["size"] == pinned["size"]
    document = json.loads(trust.read_bytes())
    document.pop("dated")
    trust.write_text(json.dumps(document))
    assert evidence_main(["verify", db, "--trust", str(trust)]) == 1
    assert "indeterminate" in capsys.readouterr().out


def test_sealing_keys_follow_one_another_while_calls_go_on(keys_world: World) -> None:
    world = keys_world
    with load(world):
        for code in ("H37", "G01"):
            home = world.member(code).home
            before = set(load_keys(home / "keys" / "sealing")["query"])
            command = ("node", "rotate", "sealing", "--days", "3", "--every-s", "1", "--lead-s", "3")
            world.command(*command, "--home", str(home))
            stored = load_keys(home / "keys" / "sealing")
            assert len(set(stored["query"]) - before) == len(stored["answer"]) - 1 == 3
            assert world.metric(code, "lienthong_sealing_days_left", use="query") < 1
            world.command("node", "rotate", "sealing", "--days", "30", "--home", str(home), "--lead-s", "1")
        wait_until(lambda: world.metric("G01", "lienthong_sealing_days_left", use="answer") > 28, "the metric")
    checks = world.answer("doctor", "--home", str(world.member("G01").home))["checks"]
    assert [one["state"] for one in checks if one["check"] == "sealing-keys"] == ["ok", "ok"]


def test_an_old_sealing_key_is_destroyed_when_nothing_can_be_on_its_way_to_it(own_world: World) -> None:
    world, member = own_world, own_world.member("G01")
    settings = member.home / "gateway.toml"
    text = settings.read_text().replace("[broker]", "sealing_kept_s = 0.0\n\n[broker]")
    settings.write_text(text + "\n[limits]\njoin_every_s = 0.3\n")
    world.stop_gateway("G01")
    world.start_gateway("G01")
    (old,) = load_keys(member.home / "keys" / "sealing")["query"]
    world.command(
        "node", "rotate", "sealing", "--days", "30", "--every-s", "2", "--lead-s", "0.2", "--home", str(member.home)
    )

    def gone() -> bool:
        world.command("node", "pin", "--home", str(member.home))  # a document: the directory confirms the time anew
        return old not in load_keys(member.home / "keys" / "sealing")["query"]

    wait_until(gone, "the old key is gone")
    assert world.call(world.clients["H37/app"], SERVICE, "/notes/1", purpose="residence").status == 200


def test_the_broker_key_changes_while_calls_go_on(keys_world: World) -> None:
    world, member = keys_world, keys_world.member("G01")
    old = member.signer("broker").public_bytes
    with load(world):
        world.command("node", "rotate", "broker", "--home", str(member.home))
        assert member.signer("broker").public_bytes != old
    # the next connection is made with the new pair
    world.stop_gateway("G01")
    world.start_gateway("G01")
    assert world.call(world.clients["H37/app"], SERVICE, "/notes/1", purpose="residence").status == 200


def test_the_front_gets_a_new_certificate_without_a_restart(keys_world: World) -> None:
    world, member = keys_world, keys_world.member("H37")
    before = (member.home / "tls" / "front.crt").read_bytes()
    reloads = world._reloads("H37")
    with load(world):
        made = world.command("node", "rotate", "tls", "--home", str(member.home))
        wait_until(lambda: world._reloads("H37") > reloads, "the reload")
    assert made["new_authority"] is False
    assert (member.home / "tls" / "front.crt").read_bytes() != before


@pytest.mark.parametrize("kind", ["p384", "rsa3072"])
def test_the_member_key_changes_and_what_it_signed_goes_on_counting(keys_world: World, kind: str) -> None:
    world, member = keys_world, keys_world.member("G01")
    home, instance = str(member.home), str(world.home)
    old = (member.home / "keys" / "member.crt").read_bytes()
    with load(world):
        rotate = ("member", "rotate", "--home", home, "--key", kind)
        assert world.command(*rotate)["step"] == "made"
        keys = f"{home}/keys"
        world.command("certificate", "issue", member.id, "--home", instance, "--public-key", f"{keys}/member.next.pub",
                      "--out", f"{keys}/member.next.crt")  # fmt: skip
        made = world.command(*rotate)
        assert made["step"] == "signed"
        assert world.command(*rotate)["step"] == "signed", "the directory does not pin it yet"
        world.command("member", "confirm", made["change"], "--home", instance)
        assert world.command(*rotate)["step"] == "taken"
    assert (member.home / "keys" / "member.crt").read_bytes() != old
    # the new key speaks for the member, the node that the old one stated goes on
    world.add_subsystem("G01", f"after-{kind}")
    world.command("node", "rotate", "sealing", "--days", "1", "--home", home)
    assert world.call(world.clients["H37/app"], SERVICE, "/notes/1", purpose="residence").status == 200


def test_an_operator_alone_changes_no_keys_before_the_delay_and_every_gateway_raises_the_alarm(
    keys_world: World, tmp_path: Path
) -> None:
    world, victim = keys_world, keys_world.member("H37")
    world.stop_gateway("G01")
    settings = world.member("G01").home / "gateway.toml"
    settings.write_text(settings.read_text() + "\n[limits]\njoin_every_s = 0.3\n")
    world.start_gateway("G01")
    public = tmp_path / "new.pub"
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from evidence.signer import FileSigner

    key = FileSigner.generate("p256").private_key.public_key()
    public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    recover = ("member", "recover", victim.id, "--home", str(world.home), "--public-key", str(public))
    made = world.command(*recover)
    with pytest.raises(CommandFailed) as early:
        world.command(*recover, "--confirm")
    assert early.value.code == "recovery-not-due"
    wait_until(lambda: world.metric("G01", "lienthong_alarms_total", code="key-change-announced") == 1, "the alarm")
    world.command("key", "revoke", made["key"], "--home", str(victim.home), "--reason", "not ours")
    with pytest.raises(CommandFailed) as objected:
        world.command(*recover, "--confirm")
    assert objected.value.code == "recovery-not-announced"
    world.add_subsystem("H37", "still-ours")


def test_a_node_whose_keys_are_encrypted_runs_and_exchanges_them(empty_world: World) -> None:
    world = empty_world
    passphrase = world.folder / "passphrase"
    passphrase.write_text("correct horse\n")
    passphrase.chmod(0o600)
    world.node_options = ("--passphrase-file", str(passphrase))
    member = world.add_member("H37")
    world.start_gateway("H37")
    for name in ("log", "broker"):
        assert b"ENCRYPTED" in (member.home / "keys" / f"{name}.pem").read_bytes()
    old = (member.home / "keys" / "log.pem").read_bytes()
    reloads = world._reloads("H37")
    world.command("node", "rotate", "log", "--wait", "--delay-s", "0.5", "--home", str(member.home))
    wait_until(
        lambda: log_lines(world, "H37", "log.key-changed") == 1 and world._reloads("H37") > reloads, "the new key"
    )
    new = (member.home / "keys" / "log.pem").read_bytes()
    assert new != old
    assert b"ENCRYPTED" in new
