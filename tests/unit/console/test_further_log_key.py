"""The log key of a further node, exchanged by carried requests: granted, refused, killed in the middle."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from console_world import INSTANCE, fails, run, run_json
from office import Office
from test_rotation_broken_off import killed_everywhere, public

from bus import envelope as wire
from console import furtherlogkey
from console.carriedkeys import Timing, following_log
from console.doctor.member import MemberContext, _next_log_key
from console.furtherlogkey import make_next
from console.heldkeys import key_id_of
from console.homes import MemberHome
from console.membership import Speaker, call_registry
from console.nodebundle import NodeRequest, NodeRequestRefused, read_request, sign_request
from console.noderequests import Asked
from console.predecessors import own_predecessor, successor
from console.views import local_directory
from evidence.header import encode_time
from evidence.signer import FileSigner
from registry.client import RegistryClient
from registry.documents import LogKeyWindow, Node, NodeLog
from registry.envelope import sign_document


@dataclass
class Further:
    """A further node n2 of a member, with the files that are carried."""

    office: Office
    home: Path
    own: Path

    @classmethod
    def made(cls, office: Office, code: str, *options: object) -> Further:
        home = office.admit(code)
        run("node", "add", "n1", "--home", home)
        return cls.asked(office, home, office.folder / f"{code}-n2", "n2", *options)

    @classmethod
    def asked(cls, office: Office, home: Path, own: Path, name: str, *options: object) -> Further:
        node = cls(office, home, own)
        first = own.with_suffix(".request")
        run(
            "node", "request", name, "--home", own, "--member", f"{INSTANCE}/GOV/{home.name}",
            "--genesis", office.genesis, "--out", first, *options,
        )  # fmt: skip
        run_json("node", "add", name, "--home", home, "--request", first, "--bundle", own.with_suffix(".bundle"))
        node.join()
        return node

    @property
    def name(self) -> str:
        return self.own.name.rpartition("-")[2]

    def ask(self, name: str, *options: object) -> Path:
        out = self.own.with_name(f"{self.own.name}-{name}.request")
        out.unlink(missing_ok=True)
        run("node", "request", "--home", self.own, "--days", "1", "--out", out, *options)
        return out

    def endorse(self, request: Path, *options: object) -> dict[str, Any]:
        return run_json(*self.endorsing(request, *options))

    def endorsing(self, request: Path, *options: object) -> tuple[object, ...]:
        bundle = self.own.with_suffix(".bundle")
        return ("node", "add", self.name, "--home", self.home, "--request", request, "--bundle", bundle, *options)

    def join(self) -> dict[str, Any]:
        """Takes the bundle, with what its gateway would have of the directory by then."""
        self.office.registry.follow(self.own)
        return run_json("node", "join", "--home", self.own, "--bundle", self.own.with_suffix(".bundle"))

    def entry(self) -> Any:
        self.office.registry.follow(self.own)
        with local_directory(MemberHome(self.own)) as directory:
            return directory.node(f"{INSTANCE}/GOV/{self.home.name}/@{self.name}")

    def key(self, name: str = "log") -> bytes:
        return public(self.own / "keys" / f"{name}.pem")

    def usable(self) -> set[bytes]:
        return {one.public for one in self.entry().keys_at(datetime.now(UTC))}


NOW = ("--log-delay-s", "0")


@contextmanager
def newer_wire() -> Iterator[None]:
    """Meanwhile this program knows one version more, so that there is something to announce."""
    known, before = vars(wire.KNOWN), {}
    for name, value in known.items():
        before[name] = value.copy() if isinstance(value, dict) else value
    wire.KNOWN.add(2, wire.Codec(lambda envelope: b"", lambda data: wire.Envelope()))  # type: ignore[call-arg]
    try:
        yield
    finally:
        known.update(before)


def test_a_next_log_key_is_named_taken_and_put_into_first_place_by_two_requests(office: Office) -> None:
    node = Further.made(office, "L1")
    first = node.key()
    asked = node.ask("a", "--log-key")
    assert node.key() == first, "the running node goes on with it"
    assert (node.own / "keys/log.next.pem").stat().st_mode & 0o777 == 0o600
    following = node.key("log.next")
    told = node.endorse(asked, *NOW)
    assert (told["log_key_replaced"], bool(told["log_key_usable_from"])) == (False, True)
    assert node.usable() == {first, following}
    assert node.entry().log_key.public == first
    assert node.join()["log_key_exchanged"] is True
    assert node.key() == following
    assert not (node.own / "keys/log.next.pem").exists()
    with newer_wire():  # a statement that names both keys is the member's own
        run("node", "announce", "n2", "--home", node.home)
    renewal = node.ask("b")
    for _ in range(2):
        node.endorse(renewal, "--log-overlap-s", "0")
    entry = node.entry()
    assert (entry.log_key.public, [one.key.public for one in entry.other_keys]) == (following, [first])
    assert node.usable() == {following}
    assert entry.other_keys[0].until_at is not None
    assert entry.key_from_at is not None
    node.join()
    with newer_wire():
        run("node", "announce", "n2", "--home", node.home, "--wire", "1")
    for name in ("c", "d"):  # and once more, from there
        node.endorse(node.ask(name, "--log-key"), *NOW)
        node.join()
        node.endorse(node.ask(f"{name}2"))
    assert len(node.entry().all_keys()) == 4


def test_the_present_key_stays_until_the_window_begins(office: Office) -> None:
    node = Further.made(office, "L2")
    first = node.key()
    node.endorse(node.ask("a", "--log-key"), "--log-delay-s", "900")
    told = node.join()
    assert (told["log_key_exchanged"], told["log_key_waits"]) == (False, True)
    assert told["log_key_usable_from"] is not None
    assert node.key() == first
    assert fails("node", "rotate", "log", "--home", node.own) == "home-invalid"
    assert node.usable() == {first}
    # the renewal in between names it again, and moves nothing
    node.endorse(node.ask("b"))
    assert node.usable() == {first}
    assert len(node.entry().other_keys) == 1


def test_a_next_key_is_not_taken_on_the_word_of_a_bundle_alone(office: Office) -> None:
    node = Further.made(office, "L3")
    first, bundle = node.key(), node.own.with_suffix(".bundle")
    node.endorse(node.ask("a", "--log-key"), *NOW)
    told = run_json("node", "join", "--home", node.own, "--bundle", bundle)  # its gateway has no newer directory
    assert (told["log_key_exchanged"], told["log_key_waits"], told["log_key_usable_from"]) == (False, True, None)
    assert node.key() == first
    following = node.key("log.next")
    context = MemberContext(MemberHome(node.own))
    assert list(_next_log_key(context)) == []
    office.registry.follow(node.own)
    assert [one.state for one in _next_log_key(context)] == ["warn"], "the doctor says that it may sign"
    assert run_json("node", "rotate", "log", "--wait", "--home", node.own)["exchanged"] is True
    assert node.key() == following
    assert list(_next_log_key(context)) == []
    assert fails("node", "rotate", "log", "--home", node.own) == "home-invalid", "there is no next key any more"


def test_a_next_key_is_not_taken_before_the_running_gateway_knows_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Further.made(office, "L7")
    first, size = node.key(), seen(node)
    node.endorse(node.ask("a", "--log-key"), *NOW)
    (node.own / "data/listening.json").write_text(json.dumps({"admin": "http://127.0.0.1:1"}))
    for behind in (size, "rubbish"):
        status = json.dumps({"directory": {"view": f"{behind} root"}}).encode()
        monkeypatch.setattr(furtherlogkey, "fetch", lambda url, status=status: (200, status))
        assert node.join()["log_key_exchanged"] is False
        assert fails("node", "rotate", "log", "--home", node.own) == "home-invalid"
        assert node.key() == first
    status = json.dumps({"directory": {"view": f"{seen(node)} root"}}).encode()
    monkeypatch.setattr(furtherlogkey, "fetch", lambda url: (200, status))
    assert run_json("node", "rotate", "log", "--home", node.own)["exchanged"] is True


def seen(node: Further) -> int:
    node.office.registry.follow(node.own)
    with local_directory(MemberHome(node.own)) as directory:
        return directory.size


def test_keys_under_a_passphrase_are_exchanged_under_it(office: Office, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    node = Further.made(office, "L4", "--passphrase-file", secret)
    node.endorse(node.ask("a", "--log-key", "--broker-key"), *NOW)
    told = node.join()
    assert (told["log_key_exchanged"], told["broker_key_exchanged"]) == (True, True)
    found = FileSigner.load(node.own / "keys/log.pem", passphrase_path=secret)
    assert "ENCRYPTED" in (node.own / "keys/log.pem").read_text()
    assert found.public_bytes in node.usable()


def test_an_exchange_goes_on_wherever_it_was_killed(office: Office) -> None:
    node = Further.made(office, "L5")
    first, out = node.key(), node.own.with_name("killed.request")

    def good() -> None:
        assert node.key() in node.usable(), "a gateway that starts now signs with a key that counts"

    asking = ("node", "request", "--home", node.own, "--days", "1", "--log-key", "--out", out)
    for _ in killed_everywhere(*asking):
        good()
    following = node.key("log.next")
    for _ in killed_everywhere(*node.endorsing(out, *NOW)):
        good()
    office.registry.follow(node.own)
    for _ in killed_everywhere("node", "join", "--home", node.own, "--bundle", node.own.with_suffix(".bundle")):
        good()
    assert node.key() == following
    for _ in killed_everywhere(*node.endorsing(node.ask("b"))):
        good()
    assert node.entry().log_key.public == following
    assert {one.key.public for one in node.entry().other_keys} == {first}


def test_a_key_that_an_unanswered_request_does_not_name_is_named_by_the_next_one(office: Office) -> None:
    node = Further.made(office, "L6")
    unanswered = node.ask("a").read_bytes()
    # killed after the key and before the request
    made = make_next(MemberHome(node.own), None).public_bytes
    again = node.ask("a", "--log-key").read_bytes()
    assert again != unanswered
    assert asked_of(node, again).next_log != ""
    assert node.key("log.next") == made


def asked_of(node: Further, signed: bytes) -> NodeRequest:
    return read_request(signed, node.office.genesis.removeprefix("sha256:"), f"{INSTANCE}/GOV/{node.home.name}")


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(node: Further, request: Path, said: str, code: str = "node-request-refused") -> None:
    before = node.entry()
    result = run(*node.endorsing(request, *NOW), code=1)
    assert code in result.stderr, result.stderr
    assert said in result.stderr, result.stderr
    assert node.entry() == before, "nothing was published"


def resigned(node: Further, name: str, *signers: FileSigner, **changes: Any) -> Path:
    """The newest request of a node with changes, signed by whatever keys."""
    stored = msgspec.json.decode((node.own / "node-request.json").read_bytes(), type=Asked)
    asked = msgspec.structs.replace(asked_of(node, stored.request.encode()), issued=encode_time(datetime.now(UTC)))
    genesis = node.office.genesis.removeprefix("sha256:")
    out = node.own.with_name(f"{node.own.name}-{name}.request")
    out.write_bytes(sign_request(msgspec.structs.replace(asked, **changes), genesis, *signers))
    return out


def signers(node: Further) -> tuple[FileSigner, FileSigner]:
    log, broker = (FileSigner.load(node.own / "keys" / f"{name}.pem") for name in ("log", "broker"))
    return log, broker


def b64(key: FileSigner) -> str:
    return base64.b64encode(key.public_bytes).decode()


def test_a_request_of_another_node_or_member_or_of_a_stranger_exchanges_nothing(office: Office) -> None:
    node = Further.made(office, "R1")
    other = Further.asked(office, node.home, office.folder / "R1-n3", "n3")
    stranger = Further.made(office, "R2")
    refused(node, other.ask("a", "--log-key"), "is for a node n3")
    refused(node, stranger.ask("a", "--log-key"), "this is the home of")
    # whoever holds keys of his own, and not the present one
    own, key = FileSigner.generate("ed25519"), FileSigner.generate("ed25519")
    _, broker = signers(node)
    forged = resigned(node, "x", own, broker, key, log=b64(own), next_log=b64(key))
    refused(node, forged, "with other keys already", "home-invalid")
    # names a key that it does not hold; says so without its signature; one key for two uses
    log, broker = signers(node)
    refused(node, resigned(node, "y", log, broker, own, next_log=b64(key)), "not signed with the keys")
    refused(node, resigned(node, "z", log, broker, next_log=b64(key)), "a signature of each of its 3 keys")
    for twice in (log, broker):
        refused(node, resigned(node, "w", log, broker, twice, next_log=b64(twice)), "one key for two uses")


def test_a_key_that_is_somebodys_already_is_refused(office: Office) -> None:
    node = Further.made(office, "R3")
    other = Further.asked(office, node.home, office.folder / "R3-n3", "n3")
    log, broker = signers(node)
    for taken in signers(other):  # even where who asks holds it
        refused(node, resigned(node, "a", log, broker, taken, next_log=b64(taken)), "make a new key", "key-reused")


def test_an_older_request_brings_no_earlier_key_back(office: Office) -> None:
    node = Further.made(office, "R4")
    never = node.ask("never", "--log-key")  # lost on its way; the node makes another key
    (node.own / "keys/log.next.pem").unlink()
    first, (old_log, old_broker) = node.ask("a", "--log-key"), signers(node)
    node.endorse(first, *NOW)
    refused(node, never, "use the newest request")
    node.join()
    unheard = resigned(
        node, "u", old_log, old_broker, log=b64(old_log), next_log=""
    )  # by the earlier key, which still counts
    renewal = node.ask("b")
    node.endorse(renewal)
    node.join()
    refused(node, unheard, "by an earlier log key")
    signed = (node.home / "nodes/n2.request").read_bytes()
    node.endorse(first, *NOW)  # granted before: nothing changes, and it is not the newest
    assert node.entry().log_key.public == node.key()
    assert (node.home / "nodes/n2.request").read_bytes() == signed == renewal.read_bytes()
    key = FileSigner.generate("ed25519")  # whoever has the earlier key names one of his own
    refused(node, resigned(node, "v", old_log, old_broker, key, next_log=b64(key), log=b64(old_log)), "earlier log key")


def test_a_log_key_that_was_never_endorsed_here_is_not_said_again(office: Office) -> None:
    """Somebody who signs as the member slips a log key into the node's statement."""
    node = Further.made(office, "R5")
    home, key = MemberHome(node.home), FileSigner.generate("ed25519")

    async def slip(client: RegistryClient) -> None:
        speaker = Speaker.member(home)
        before = await own_predecessor(client, home, Node, f"{INSTANCE}/GOV/R5/@n2")
        assert before is not None
        window = LogKeyWindow(key=b64(key), from_=encode_time(datetime.now(UTC)))
        log = msgspec.structs.replace(before.document.log, others=(window,))
        made = successor(before, {"log": log})
        await client.submit(sign_document(made, speaker.signer, speaker.chain, speaker.genesis))

    call_registry(home.facts.registry, slip)
    refused(node, node.ask("a", "--log-key"), "no request", "key-not-own")
    with newer_wire():
        assert fails("node", "announce", "n2", "--home", node.home) == "key-not-own"
    run("key", "revoke", key_id_of(key.public_bytes), "--home", node.home, "--reason", "not ours")
    node.endorse(node.ask("a", "--log-key"), *NOW)
    with newer_wire():
        run("node", "announce", "n2", "--home", node.home)
    assert key.public_bytes not in node.usable()


def test_a_stolen_log_key_is_replaced_at_once_when_it_was_revoked(office: Office) -> None:
    node = Further.made(office, "R6")
    stolen, asked = node.key(), node.ask("a", "--log-key")
    run("key", "revoke", key_id_of(stolen), "--home", node.home, "--reason", "stolen")
    assert node.entry().status != "active"
    for _ in range(2):
        told = node.endorse(asked)
        assert (told["log_key_replaced"], told["log_key_usable_from"]) == (True, None)
    assert node.entry().status == "active"
    assert node.join()["log_key_exchanged"] is True
    assert node.usable() == {node.key()} != {stolen}


def test_a_next_log_key_cannot_be_carried_to_a_registry_by_hand(office: Office) -> None:
    node = Further.made(office, "R7")
    request = node.ask("a", "--log-key")
    result = run(*node.endorsing(request, "--out", node.own.with_suffix(".statements")), code=1)
    assert "where the registry answers" in result.stderr


# --- what a statement says --------------------------------------------------------------------------------------------

T = [datetime(2026, 11, day, tzinfo=UTC) for day in range(1, 9)]


def log(key: str, *others: tuple[str, int, int | None]) -> NodeLog:
    windows = tuple(
        LogKeyWindow(key=one, from_=encode_time(T[from_]), until=None if until is None else encode_time(T[until]))
        for one, from_, until in others
    )
    return NodeLog(key=key, origin="o", others=windows)


def decided(before: NodeLog, present: str, following: str = "", *, at: int = 4, is_stolen: bool = False) -> NodeLog:
    asked = msgspec.convert(
        {"member": "m", "node": "n", "issued": "", "log": present, "broker": "b", "answers": [], "next_log": following,
         "bundle": {"kem": "", "public": ""}}, NodeRequest
    )  # fmt: skip
    return following_log(before, asked, encode_time(T[0]), T[at], Timing(86_400.0, 86_400.0), is_stolen=is_stolen)


def shown(found: NodeLog) -> tuple[str, dict[str, tuple[int, int | None]]]:
    days = {encode_time(at): number for number, at in enumerate(T)}
    return found.key, {
        one.key: (days[one.from_], None if one.until is None else days[one.until]) for one in found.others
    }


@pytest.mark.parametrize(
    ("before", "asked", "stolen", "after"),
    [
        (log("a"), ("a", ""), False, ("a", {})),
        (log("a"), ("a", "b"), False, ("a", {"b": (5, None)})),
        (log("a"), ("a", "b"), True, ("b", {"a": (0, 4)})),
        (log("a", ("b", 2, None)), ("a", "b"), False, ("a", {"b": (2, None)})),
        (log("a", ("b", 6, None)), ("a", "b"), True, ("b", {"a": (0, 4)})),
        (log("a", ("b", 2, None)), ("b", ""), False, ("b", {"a": (0, 5)})),
        (log("a", ("b", 2, None)), ("b", "c"), False, ("b", {"a": (0, 5), "c": (5, None)})),
        (log("b", ("a", 0, 3)), ("a", "b"), False, ("b", {"a": (0, 3)})),
        (log("a"), ("x", "y"), False, ("a", {})),
    ],
)
def test_a_statement_follows_from_the_one_before_and_the_request(
    before: NodeLog, asked: tuple[str, str], stolen: bool, after: tuple[str, dict[str, tuple[int, int | None]]]
) -> None:
    assert shown(decided(before, *asked, is_stolen=stolen)) == after


@pytest.mark.parametrize(
    ("before", "asked"),
    [
        (log("b", ("a", 0, 3)), ("a", "")),
        (log("b", ("a", 0, 3)), ("a", "c")),
        (log("b", ("a", 0, 3)), ("b", "a")),
        (log("a", ("b", 6, None)), ("b", "")),
    ],
)
def test_a_key_that_ended_or_has_not_begun_decides_nothing(before: NodeLog, asked: tuple[str, str]) -> None:
    for is_stolen in (False, True):
        with pytest.raises(NodeRequestRefused):
            decided(before, *asked, is_stolen=is_stolen)


def test_a_request_without_an_exchange_reads_as_before(office: Office) -> None:
    node = Further.made(office, "R8")
    payload = base64.urlsafe_b64decode(json.loads(node.ask("a").read_bytes())["payload"] + "==")
    assert set(json.loads(payload)) == {"member", "node", "issued", "log", "broker", "bundle", "answers"}
