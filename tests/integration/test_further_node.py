"""A further node of a member, on a machine that never has the member key: made, followed, renewed, lost, refused."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from commanding import fate, submit
from next_wire import next_wire
from test_keys import load
from world import CommandFailed, Member, World, free_port, standard_world, wait_until

from bus.transport import nkeys
from console.cli import main as lienthong
from console.heldkeys import key_id_of
from console.homes import MemberHome
from console.nodebundle import Contents, open_bundle
from console.noderequests import _bundle_key
from console.views import local_directory
from evidence import note
from evidence.__main__ import main as evidence_main
from evidence.checkpoint import key_name
from evidence.identifiers import NodeId, log_origin
from evidence.log import LogReader
from evidence.note import VerifierKey
from evidence.signer import FileSigner

SERVICE = "G01/desk/notes"
SERVICE_ID = "VN-TEST/GOV/G01/desk/notes"
RIGHT = "VN-TEST/GOV/H37/onedoor"


class FurtherNode(Member):
    """A member of the world whose home is a further node's."""

    name = "n2"

    @property
    def node(self) -> str:
        return f"{self.id}/@{self.name}"


def add_further(world: World, name: str = "n2") -> FurtherNode:
    """A further node of G01, by the three commands."""
    code = f"G01-{name}"
    made = FurtherNode(code, world.member_id("G01"), world.folder / code)
    made.name = name
    ask(world, made)
    endorse(world, made)
    join(world, made)
    world.members[code] = made
    return made


def ask(world: World, node: FurtherNode, *options: str) -> dict[str, str]:
    return world.command(
        "node", "request", node.name, "--home", str(node.home), "--member", node.id,
        "--genesis", f"sha256:{world.genesis}", "--out", str(world.folder / f"{node.code}.request"), *options,
    )  # fmt: skip


def endorse(world: World, node: FurtherNode, *options: str) -> dict[str, str]:
    return world.command(
        "node", "add", node.name, "--home", str(world.member("G01").home),
        "--request", str(world.folder / f"{node.code}.request"),
        "--bundle", str(world.folder / f"{node.code}.bundle"), *options,
    )  # fmt: skip


def join(world: World, node: FurtherNode, bundle: str = "") -> dict[str, str]:
    return world.command(
        "node", "join", "--home", str(node.home), "--bundle", bundle or str(world.folder / f"{node.code}.bundle"),
        "--front", "127.0.0.1:0", "--admin", "127.0.0.1:0",
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with standard_world(tmp_path_factory.mktemp("further")) as running:
        add_further(running)
        running.start_gateway("G01-n2")
        yield running


def test_the_members_home_says_which_version_of_the_wire_the_further_node_reads(world: World) -> None:
    home = str(world.member("G01").home)

    def said() -> int:
        return int(world.admin("G01-n2", "/status").json()["wire"]["announced"])

    with next_wire():
        made = world.command("node", "announce", "n2", "--home", home)
        assert (made["wire"], made["before"], made["checked"]) == (2, 1, False)
        wait_until(lambda: said() == 2, "the word")
        with pytest.raises(CommandFailed, match="reads version 1"):  # its own gateway can be asked
            world.command("node", "announce", "n1", "--home", home)
        assert world.command("node", "announce", "n2", "--home", home, "--wire", "1")["before"] == 2
    wait_until(lambda: said() == 1, "the word that takes it back")
    assert world.command("node", "announce", "n2", "--home", home)["before"] == 1
    with pytest.raises(CommandFailed, match="speaks version 1 of the wire, not 2"):
        world.command("node", "announce", "n2", "--home", home, "--wire", "2")
    with pytest.raises(CommandFailed, match="no statement"):
        world.command("node", "announce", "n7", "--home", home)
    with pytest.raises(CommandFailed):
        world.command("node", "announce", "n2", "--home", str(world.member("G01-n2").home))


def test_a_statement_with_other_keys_than_those_that_were_endorsed_is_not_said_again(world: World) -> None:
    home = MemberHome(world.member("G01").home)
    request = home.path / "nodes" / "n2.request"
    kept = request.read_bytes()
    other = world.folder / "other.request"
    world.command(
        "node", "request", "n2", "--home", str(world.folder / "other"), "--member", world.member_id("G01"),
        "--genesis", f"sha256:{world.genesis}", "--out", str(other),
    )  # fmt: skip
    try:
        request.write_bytes(other.read_bytes())
        with next_wire(), pytest.raises(CommandFailed, match="other keys"):
            world.command("node", "announce", "n2", "--home", str(home.path))
        request.unlink()
        with next_wire(), pytest.raises(CommandFailed, match="nor endorsed one"):
            world.command("node", "announce", "n2", "--home", str(home.path))
    finally:
        request.write_bytes(kept)


def test_a_list_of_commands_says_which_node_was_asked_and_which_were_not(world: World) -> None:
    home = world.member("G01").home
    made = world.command("admin", "key", "add", "ops", "--role", "XROAD_SYSTEM_ADMINISTRATOR", "--home", str(home))
    key = world.folder / "G01-ops.key"
    key.write_text(made["key"])
    key.chmod(0o600)
    world.reload_gateway("G01")
    args = ["commands", "list", "--home", str(home), "--key-file", str(key)]
    told = world.command(*args)
    assert (told["node"], told["other_nodes"]) == ("VN-TEST/GOV/G01/@n1", ["VN-TEST/GOV/G01/@n2"])
    text = world._commands.submit(lambda: CliRunner().invoke(lienthong, args).output).result(30)
    assert "asked     n1 only; also n2: lienthong commands list --home" in text


def test_the_further_node_has_neither_the_member_key_nor_the_members_store(world: World) -> None:
    home = world.member("G01-n2").home
    assert not (home / "keys" / "member.pem").exists()
    assert not (home / "data" / "own.db").exists()
    secret = (world.member("G01").home / "keys" / "member.pem").read_bytes()
    assert not [path for path in home.rglob("*") if path.is_file() and secret[40:120] in path.read_bytes()]
    for path in (home / "keys").rglob("*.json"):
        assert path.stat().st_mode & 0o077 == 0 or path.name == "member-signers.json"


def test_both_nodes_answer_and_a_kill_under_load_costs_only_what_was_under_way(world: World) -> None:
    client = world.clients["H37/app"]
    stop, done, failed = threading.Event(), [], []

    def ask_on() -> None:
        while not stop.is_set():
            answer = world.call(client, SERVICE, "/notes/1", purpose="residence")
            (done if answer.status == 200 else failed).append(answer.code)

    threads = [threading.Thread(target=ask_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for code in ("G01", "G01-n2"):
            wait_until(lambda code=code: size(world, code) > 5, f"queries at {code}")  # type: ignore[misc]
        world.kill_gateway("G01")
        before = len(done)
        wait_until(lambda: len(done) > before + 50, "answers of the one that is left", 40)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert len(failed) <= 3, failed  # one for each call that could be under way
    world.start_gateway("G01")


def size(world: World, code: str) -> int:
    found = world.admin(code, "/status").json()
    return int(found["log"]["size"])


# --- the member's word ------------------------------------------------------------------------------------------------


def asked_of(world: World, code: str, purpose: str = "residence") -> bool:
    """What the rights of one node say, by its own copy of the directory."""
    home = str(world.member(code).home)
    found = world.answer("access", "why", RIGHT, SERVICE_ID, "getNote", "--home", home, "--purpose", purpose)
    return bool(found["allowed"])


def test_a_right_that_is_withdrawn_at_the_members_home_ends_at_the_further_node_by_itself(world: World) -> None:
    client, home = world.clients["H37/app"], str(world.member("G01").home)
    world.stop_gateway("G01")  # so that the further node alone answers
    try:
        assert world.call(client, SERVICE, "/notes/1", purpose="residence").status == 200
        world.command("service", "disable", "desk/notes", "--home", home, "--notice", "away")
        wait_until(
            lambda: world.call(client, SERVICE, "/notes/1", purpose="residence").status != 200, "the refusal", 20
        )
        world.command("service", "enable", "desk/notes", "--home", home)
        wait_until(lambda: world.call(client, SERVICE, "/notes/1", purpose="residence").status == 200, "the answer", 20)
    finally:
        world.start_gateway("G01")


def test_what_needs_the_member_key_is_refused_at_the_further_node_in_clear_words(world: World) -> None:
    home = str(world.member("G01-n2").home)
    for command in (("node", "rotate", "sealing"), ("node", "pin"), ("subsystem", "add", "new"),
                    ("access", "grant", RIGHT, "desk/notes"), ("service", "disable", "desk/notes", "--notice", "away")):  # fmt: skip
        with pytest.raises(CommandFailed, match="the member key is elsewhere"):
            world.command(*command, "--home", home)


def test_both_homes_are_found_well(world: World) -> None:
    for code in ("G01", "G01-n2"):
        home = str(world.member(code).home)
        assert world.command("config", "check", "--home", home)
        found = world.answer("doctor", "--home", home)
        assert [one for one in found["checks"] if one["state"] == "fail"] == []


# --- keys of the coming days ------------------------------------------------------------------------------------------


def test_shared_sealing_keys_come_by_a_new_bundle_that_the_running_node_takes_over(world: World) -> None:
    home, node = world.member("G01").home, world.member("G01-n2")
    assert isinstance(node, FurtherNode)
    first = (world.folder / "G01-n2.bundle").read_bytes()
    made = world.command("node", "rotate", "sealing", "--home", str(home), "--days", "3")
    assert made["bundles"] == [str(home / "nodes" / "n2.bundle")]
    assert join(world, node, made["bundles"][0])["sealing_keys"] == 3
    assert join(world, node, made["bundles"][0])["sealing_keys"] == 0
    (world.folder / "old.bundle").write_bytes(first)
    with pytest.raises(CommandFailed, match="older than the one"):
        join(world, node, str(world.folder / "old.bundle"))
    for queries in (set((one / "keys" / "sealing").glob("query-*")) for one in (home, node.home)):
        assert len(queries) == 4


def test_keys_for_answers_are_asked_for_and_endorsed_as_the_node_was(world: World) -> None:
    node, out = world.member("G01-n2"), str(world.folder / "again.request")
    asked = world.command("node", "request", "--home", str(node.home), "--days", "2", "--out", out)
    # given again before it is answered, it is the same request
    assert world.command("node", "request", "--home", str(node.home), "--days", "2", "--out", out) == asked
    bundle = str(world.folder / "again.bundle")
    options = ("--home", str(world.member("G01").home), "--request", out, "--bundle", bundle)
    for _ in range(2):  # interrupted or not: it publishes what is missing
        assert world.command("node", "add", "n2", *options)["request"] == asked["request"]
    assert isinstance(node, FurtherNode)
    join(world, node, bundle)
    assert len(set((node.home / "keys" / "sealing").glob("answer-*"))) == 3


@contextmanager
def commands(world: World) -> Iterator[list[str]]:
    """Commands all the time; at the end all of them were done."""
    client, stop, sent = world.clients["H37/app"], threading.Event(), []

    def send() -> None:
        while not stop.wait(0.05):
            sent.append(submit(world, client))

    sending = threading.Thread(target=send)
    sending.start()
    try:
        wait_until(lambda: len(sent) >= 3, "commands")
        yield sent
    finally:
        stop.set()
        sending.join(30)
    assert Counter(fate(world, client, one)["state"] for one in sent) == {"completed": len(sent)}


def carried(world: World, node: FurtherNode, name: str, *options: str) -> tuple[str, ...]:
    """Asks at the node; the command that the member's home answers with."""
    out = str(world.folder / f"{node.code}-{name}.request")
    world.command("node", "request", "--home", str(node.home), "--days", "1", "--out", out, *options)
    return (
        "node", "add", node.name, "--home", str(world.member("G01").home), "--request", out,
        "--bundle", str(world.folder / f"{node.code}.bundle"),
    )  # fmt: skip


def verified(world: World, node: FurtherNode, keys: int) -> list[dict[str, str]]:
    """Both logs verify, every checkpoint of them, by what the asking member knows; the keys of the node's log."""
    trust = world.folder / "trust.json"

    def known() -> list[dict[str, str]]:
        world.command("audit", "trust", "--home", str(world.member("H37").home), "--out", str(trust))
        origins = json.loads(trust.read_bytes())["origins"]
        (entry,) = [one for origin, one in origins.items() if f"/G01/@{node.name}/" in origin]
        return list(entry.get("keys", [entry]))

    found = wait_until(lambda: len(known()) == keys and known(), "the keys at the asking member")
    for code in ("H37", node.code):
        copy = world.folder / "copy.db"
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(world.member(code).log_db)) as log, closing(sqlite3.connect(copy)) as db:
            log.backup(db)  # one state of a log that grows
        assert evidence_main(["verify", str(copy), "--trust", str(trust), "--every-checkpoint"]) == 0
    return list(found)


def signing(world: World, node: FurtherNode) -> set[bytes]:
    """Ids of the keys under the node's newest checkpoint."""
    with LogReader(node.log_db) as reader:
        return {one.key_id for one in note.parse(reader.note()).signatures}


def serves(world: World, node: FurtherNode) -> None:
    """Queries come to the node, and its log grows by them."""
    before, client = size(world, node.code), world.clients["H37/app"]
    wait_until(
        lambda: world.call(client, SERVICE, "/notes/1", purpose="residence") and size(world, node.code) > before + 2,
        "queries at the node", 30,
    )  # fmt: skip


def test_its_log_key_is_exchanged_under_calls_and_commands_and_then_a_stolen_one(world: World) -> None:
    """Before any node of this world is revoked: records of one that was do not verify for ever."""
    node, changes = add_further(world, "n5"), '"log.key-changed"'
    world.start_gateway(node.code)
    first = node.signer("log").public_bytes
    with load(world), commands(world):
        serves(world, node)
        verified(world, node, 1)
        add = carried(world, node, "a", "--log-key")
        assert world.command(*add, "--log-delay-s", "6")["log_key_usable_from"]
        assert join(world, node)["log_key_exchanged"] is False, "everybody has to know first"
        verified(world, node, 2)
        assert node.signer("log").public_bytes == first
        assert world.command("node", "rotate", "log", "--wait", "--home", str(node.home))["reloaded"] is True
        wait_until(lambda: changes in world.log_path(node.code).read_text(), "the gateway, signing with the next key")
        serves(world, node)
        assert [one.get("until") for one in verified(world, node, 2)] == [None, None]
        found = world.answer("doctor", "--home", str(node.home))
        assert [one for one in found["checks"] if one["state"] == "fail"] == []
        world.command(*carried(world, node, "b"), "--log-overlap-s", "1")
        join(world, node)
        wait_until(lambda: verified(world, node, 2)[0].get("until"), "the end of the earlier key")
        ended = datetime.fromisoformat(verified(world, node, 2)[0]["until"])
        wait_until(lambda: datetime.now(UTC) > ended, "the time after it")
        serves(world, node)
    second = node.signer("log").public_bytes
    assert second != first
    world.stop_gateway(node.code)
    world.start_gateway(node.code)
    serves(world, node)
    # and one that is stolen: revoked, and replaced in one round without a delay
    world.command("key", "revoke", key_id_of(second), "--home", str(world.member("G01").home), "--reason", "stolen")
    wait_until(lambda: world.admin(node.code, "/readyz").status != 200, "the node, refused")
    assert world.command(*carried(world, node, "c", "--log-key"))["log_key_replaced"] is True
    if not join(world, node)["log_key_exchanged"]:
        wait_until(lambda: taken(world, node), "the next key, named in the node's own directory", 40)
    wait_until(lambda: world.admin(node.code, "/readyz").status == 200, "the node, ready", 40)
    serves(world, node)
    key = VerifierKey(key_name(log_origin(world.genesis, NodeId.parse(node.node), 1)), node.signer("log").public_bytes)
    assert signing(world, node) == {key.id}
    world.stop_gateway(node.code)
    home = str(world.member("G01").home)
    world.command("node", "revoke", "n5", "--home", home, "--reason", "it was here for its key only")


def taken(world: World, node: FurtherNode) -> bool:
    try:
        return bool(world.command("node", "rotate", "log", "--home", str(node.home)))
    except CommandFailed:
        return False


def test_its_broker_key_is_exchanged_by_a_request_and_a_bundle(world: World) -> None:
    node = add_further(world, "n4")
    world.start_gateway(node.code)
    before, old = (node.home / "keys/broker.pem").read_bytes(), world.folder / "G01-n4.request"
    out = world.folder / "key.request"
    asked = ("node", "request", "--home", str(node.home), "--days", "1", "--broker-key", "--out", str(out))
    assert world.command(*asked) == world.command(*asked)
    assert (node.home / "keys/broker.pem").read_bytes() == before, "the running node goes on with it"
    options = ("--home", str(world.member("G01").home), "--bundle", str(world.folder / "key.bundle"), "--request")
    announce = ("node", "announce", "n4", "--home", str(world.member("G01").home))
    with next_wire():
        world.command(*announce)  # a younger statement does not make the request too old
    for _ in range(2):
        world.command("node", "add", "n4", *options, str(out))
    assert world.command(*announce)["before"] == 2, "nor does a new key take the word back"
    with pytest.raises(CommandFailed, match="use the newest request"):
        world.command("node", "add", "n4", *options, str(old))
    done = join(world, node, str(world.folder / "key.bundle"))
    assert (done["broker_key_exchanged"], done["reloaded"]) == (True, True)
    assert not (node.home / "keys/broker.next.pem").exists()
    assert (node.home / "keys/broker.pem").read_bytes() != before
    wait_until(lambda: world.admin(node.code, "/readyz").status == 200, "the node, ready")
    held = MemberHome(node.home)
    key = FileSigner.load(held.keys / "broker.pem").public_bytes
    with local_directory(held) as directory:
        entry = directory.node(node.node)
    assert entry is not None
    assert entry.broker_key == key
    jwt = (held.keys / "broker.jwt").read_text().strip()
    assert nkeys.decode_claims(jwt)["sub"] == nkeys.public_text("user", key)
    answered = size(world, node.code)
    client = world.clients["H37/app"]
    wait_until(
        lambda: world.call(client, SERVICE, "/notes/1", purpose="residence") and size(world, node.code) > answered + 2,
        "queries at the node, with the new key",
    )
    world.stop_gateway(node.code)
    world.command("node", "revoke", "n4", *options[:2], "--reason", "it was here for its key only")


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_request_is_refused_at_another_members_home_under_another_code_and_after_a_change(world: World) -> None:
    file = world.folder / "G01-n2.request"
    for home, code, said in (("H37", "n2", "this is the home of"), ("G01", "n3", "not for n3")):
        with pytest.raises(CommandFailed, match=said):
            world.command("node", "add", code, "--home", str(world.member(home).home), "--request", str(file),
                          "--bundle", str(world.folder / "x.bundle"))  # fmt: skip
    signed = json.loads(file.read_text())
    signed["signatures"][1] = signed["signatures"][0]  # the log key twice: nobody proves to hold the broker key
    forged = world.folder / "forged.request"
    forged.write_text(json.dumps(signed, separators=(",", ":")))
    with pytest.raises(CommandFailed, match="not signed with the keys"):
        world.command("node", "add", "n2", "--home", str(world.member("G01").home), "--request", str(forged),
                      "--bundle", str(world.folder / "x.bundle"))  # fmt: skip


def test_a_bundle_of_another_member_signed_for_this_node_is_refused(world: World) -> None:
    """H37 seals its own keys to the node of G01: the seal opens, and the signature is not the member's."""
    from console import furthernodes
    from console.nodebundle import read_request

    genesis, g01, node = world.genesis, world.member("G01"), world.member("G01-n2")
    request = read_request((world.folder / "G01-n2.request").read_bytes(), genesis, g01.id)
    speaker = furthernodes.Speaker.member(MemberHome(world.member("H37").home))
    out = world.folder / "stranger.bundle"
    furthernodes._write(speaker, request, ("x.y.z", ()), out, services=False)
    assert isinstance(node, FurtherNode)
    before = (node.home / "member.json").read_bytes()
    with pytest.raises(CommandFailed, match="signed by somebody else"):
        join(world, node, str(out))
    assert (node.home / "member.json").read_bytes() == before


def test_a_bundle_is_refused_by_another_node_and_after_the_node_was_revoked(world: World) -> None:
    n3 = add_further(world, "n3")
    with pytest.raises(CommandFailed, match="for the node n2"):
        join(world, n3, str(world.folder / "G01-n2.bundle"))
    (n3.home / "gateway.toml").unlink()  # as if the command had ended before its last file
    (n3.home / "tls" / "front.crt").unlink()
    assert join(world, n3)["made"]
    contents = opened(world, n3)
    assert contents.sealing
    assert "PRIVATE" not in msgspec.json.encode(contents).decode()
    home = str(world.member("G01").home)
    world.command("node", "revoke", "n3", "--home", home, "--reason", "stolen")
    with pytest.raises(CommandFailed, match="was withdrawn"):
        join(world, n3)
    with pytest.raises(CommandFailed, match="was withdrawn"):
        endorse(world, n3)
    made = world.command("node", "rotate", "sealing", "--home", home, "--days", "1")["bundles"]
    assert {Path(one).name for one in made} >= {"n2.bundle"}
    assert "n3.bundle" not in {Path(one).name for one in made}


def opened(world: World, node: FurtherNode) -> Contents:
    data = (world.folder / f"{node.code}.bundle").read_bytes()
    pair = _bundle_key(MemberHome(node.home))
    return open_bundle(data, genesis=world.genesis, member=node.id, node=node.name, pair=pair, at=datetime.now(UTC))


def test_a_name_that_is_taken_by_other_keys_is_refused(world: World) -> None:
    other = FurtherNode("G01-again", world.member_id("G01"), world.folder / "G01-again")
    ask(world, other)
    with pytest.raises(CommandFailed, match="with other keys already"):
        endorse(world, other)


# --- carried by hand --------------------------------------------------------------------------------------------------


def test_statements_of_a_home_without_a_line_are_carried_both_ways(world: World) -> None:
    """The member's home has no line; the operator's has. First its own node, then a further one."""
    home, folder = world.folder / "C01", world.folder
    world.command("operator", "invite", "--home", str(world.home), "--out", str(folder / "anchors.json"))
    dead = f"https://127.0.0.1:{free_port()}"
    world.command("join", "--member", world.member_id("C01"), "--home", str(home), "--registry", dead, "--genesis",
                  f"sha256:{world.genesis}", "--name", "en=Carried", "--anchors", str(folder / "anchors.json"),
                  "--out", str(folder / "c01.request"))  # fmt: skip
    world.command("member", "approve", "--file", str(folder / "c01.request"), "--home", str(world.home),
                  "--out", str(folder / "c01.decision"))  # fmt: skip
    world.command("join", "--accept", str(folder / "c01.decision"), "--home", str(home))
    add = ("node", "add", "n1", "--home", str(home), "--front", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    world.command(*add, "--out", str(folder / "n1.statements"))
    with pytest.raises(CommandFailed, match="exists already"):
        world.command(*add, "--out", str(folder / "n1.statements"))
    submit = ("node", "submit", str(folder / "n1.statements"), "--home", str(world.home), "--out")
    for _ in range(2):
        assert world.command(*submit, str(folder / "n1.answer"))["documents"] == 3
    with pytest.raises(CommandFailed, match="answers for"):
        world.command("node", "add", "n9", "--home", str(home), "--accept", str(folder / "n1.answer"))
    world.command(*add, "--accept", str(folder / "n1.answer"))
    assert (home / "gateway.toml").exists()

    node = FurtherNode("C01-n2", world.member_id("C01"), folder / "C01-n2")
    ask(world, node)
    further = ("node", "add", "n2", "--home", str(home), "--request", str(folder / "C01-n2.request"))
    world.command(*further, "--out", str(folder / "n2.statements"))
    world.command("node", "submit", str(folder / "n2.statements"), "--home", str(world.member("H37").home),
                  "--out", str(folder / "n2.answer"))  # fmt: skip
    bundle = str(folder / "C01-n2.bundle")
    world.command(*further, "--accept", str(folder / "n2.answer"), "--bundle", bundle)
    assert join(world, node)["registry_asked"] is False
    world.members["C01-n2"] = node
    world.start_gateway("C01-n2")  # credentials, statement and broker are good


def test_carried_statements_of_another_kind_are_not_submitted(world: World) -> None:
    folder = world.folder
    carried = json.loads((folder / "n1.statements").read_text())
    carried["node"] = f"{world.member_id('C01')}/@n7"
    (folder / "other.statements").write_text(json.dumps(carried))
    with pytest.raises(CommandFailed, match="nothing was submitted"):
        world.command("node", "submit", str(folder / "other.statements"), "--home", str(world.home),
                      "--out", str(folder / "other.answer"))  # fmt: skip
