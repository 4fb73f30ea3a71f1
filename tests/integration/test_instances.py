"""Two real instances of one name, with the same members and the same keys: nothing of one counts in the other."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats.aio.client
import pytest
from forging import HandNode, message
from world import CONTRACT, INSTANCE, Member, World, eventually

from console.homes import InstanceHome, MemberHome
from console.membership import Speaker, call_registry
from evidence.checkpoint import key_name
from evidence.header import encode_time
from evidence.identifiers import NodeId, log_origin
from evidence.note import VerifierKey
from evidence.signer import FileSigner
from registry.checkpoints import directory_verifier, verify_checkpoint
from registry.client import RegistryClient, RegistryRefused
from registry.documents import Node, NodeLog, Subsystem
from registry.errors import FeedInvalid, WrongGenesis


@dataclass
class Pair:
    """`real` runs a provider's gateway; `twin` has the same names, member keys and node keys."""

    real: World
    twin: World


def _join_with_the_same_keys(twin: World, original: Member) -> Member:
    """A member of the twin instance that has every key of a member of the other one."""
    home = twin.folder / original.code
    (home / "keys").mkdir(parents=True)
    shutil.copy(original.home / "keys" / "member.pem", home / "keys" / "member.pem")
    genesis = f"sha256:{twin.genesis}"
    twin.command("join", "--member", original.id, "--home", str(home), "--registry", twin.registry_url,
                 "--genesis", genesis, "--name", "en=Twin")  # fmt: skip
    twin.command("member", "approve", original.id, "--home", str(twin.home))
    twin.command("join", "--status", "--home", str(home))
    for name in ("log.pem", "broker.pem"):
        shutil.copy(original.home / "keys" / name, home / "keys" / name)
    shutil.copytree(original.home / "keys" / "sealing", home / "keys" / "sealing")
    member = Member(original.code, original.id, home)
    twin.members[original.code] = member
    log, broker = member.signer("log").public_bytes, member.signer("broker").public_bytes
    member_home = MemberHome(home)
    speaker = Speaker.member(member_home)

    async def work(client: RegistryClient) -> str:
        await speaker.say(
            client, Node, member.node,
            log=NodeLog(key=_b64(log), origin=log_origin(twin.genesis, NodeId.parse(member.node), 1)),
            broker_key=_b64(broker), valid_from=encode_time(datetime.now(UTC) - timedelta(minutes=1)),
        )  # fmt: skip
        return (await client.credentials(member.node)).jwt

    (home / "keys" / "broker.jwt").write_text(call_registry(member_home.facts.registry, work))
    return member


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("instances")
    with World(folder / "real") as real, World(folder / "twin") as twin:
        for code in ("G01", "E66"):
            real.add_member(code)
        real.add_subsystem("G01", "desk")
        real.add_subsystem("E66", "onedoor")
        real.publish("G01", "desk/notes")
        real.grant(f"{real.member_id('E66')}/onedoor", "G01", "desk/notes")
        for code in ("G01", "E66"):
            _join_with_the_same_keys(twin, real.member(code))
        real.start_gateway("G01")
        yield Pair(real, twin)


def test_the_two_differ_in_nothing_but_the_genesis(pair: Pair) -> None:
    assert pair.real.instance == pair.twin.instance
    assert pair.real.genesis != pair.twin.genesis
    for code in ("G01", "E66"):
        for use in ("member", "log", "broker"):
            assert pair.real.member(code).signer(use).public_bytes == pair.twin.member(code).signer(use).public_bytes


def test_a_document_of_one_is_refused_by_the_others_registry(pair: Pair) -> None:
    home = MemberHome(pair.twin.member("E66").home)
    speaker = Speaker.member(home)
    subject = f"{home.facts.member}/desk"

    async def compose(client: RegistryClient) -> bytes:
        return await speaker.compose(client, Subsystem, subject, names={"en": "Desk"})

    signed = call_registry(home.facts.registry, compose)
    real = MemberHome(pair.real.member("E66").home).facts.registry
    with pytest.raises(RegistryRefused) as caught:
        call_registry(real, lambda client: client.submit(signed))
    assert caught.value.code == "wrong-genesis"
    call_registry(home.facts.registry, lambda client: client.submit(signed))  # at home it is good


def test_a_request_to_one_is_refused_by_the_others_registry(pair: Pair, tmp_path: Path) -> None:
    home = tmp_path / "new"
    carried = tmp_path / "request.json"
    pair.twin.command("join", "--member", f"{INSTANCE}/GOV/N1", "--home", str(home), "--registry",
                      pair.twin.registry_url, "--genesis", f"sha256:{pair.twin.genesis}", "--name", "en=N",
                      "--out", str(carried))  # fmt: skip
    signed = json.loads(carried.read_text())["jws"].encode()
    with pytest.raises(RegistryRefused) as caught:
        call_registry(InstanceHome(pair.real.home).facts.registry_url, lambda client: client.request(signed))
    assert caught.value.code == "wrong-genesis"


async def test_a_query_proven_in_one_is_dropped_in_the_other(pair: Pair) -> None:
    view = pair.real.admin("G01", "/status").json()["directory"]["view"]
    hand = HandNode(pair.twin, "E66", view)
    draft = hand.query()
    reached = len(pair.real.backend.received)
    connection = await pair.real.nats_connection(as_node="E66")
    try:
        await connection.publish(hand.subject(), message(draft, hand.log(draft.leaf)), hand.inbox)
        await connection.flush()
        await eventually(lambda: pair.real.dropped("G01") == {"instance-foreign": 1.0}, "the drop")
        own = HandNode(pair.real, "E66", view)
        draft = own.query()
        await connection.publish(own.subject(), message(draft, own.log(draft.leaf)), own.inbox)
        await eventually(lambda: len(pair.real.backend.received) == reached + 1, "the same query of this instance")
    finally:
        await connection.close()
    assert pair.real.dropped("G01") == {"instance-foreign": 1.0}


@pytest.mark.parametrize("code", ["E66", "G01"])
async def test_broker_credentials_of_one_do_not_open_the_others_broker(pair: Pair, code: str) -> None:
    """Same node, same broker key; the user JWT is by another account."""
    keys = pair.twin.member(code).home / "keys"
    jwt, signer = (keys / "broker.jwt").read_text().strip(), FileSigner.load(keys / "broker.pem")

    context = ssl.create_default_context(cafile=str(pair.real.home / "ca" / "ca.crt"))
    connection = nats.aio.client.Client()

    async def quiet(_error: Exception) -> None:
        """Refusals are expected."""

    with pytest.raises(Exception, match=r"(?i)authorization violation"):
        await asyncio.wait_for(
            connection.connect(
                servers=[f"tls://127.0.0.1:{pair.real.broker_port}"], tls=context, tls_handshake_first=True, user_jwt_cb=jwt.encode,
                signature_cb=lambda nonce: base64.b64encode(signer.sign(nonce.encode())), error_cb=quiet,
                allow_reconnect=False, max_reconnect_attempts=0,
            ),
            10,
        )  # fmt: skip
    await connection.close()


def test_the_registry_of_one_is_not_taken_for_the_others(pair: Pair) -> None:
    address = f"{pair.twin.registry_url}#sha256:{pair.real.genesis}"
    with pytest.raises(WrongGenesis):
        call_registry(address, lambda client: client.requests())


def test_a_directory_checkpoint_of_one_does_not_verify_in_the_other(pair: Pair) -> None:
    real, twin = (InstanceHome(one.home).facts for one in (pair.real, pair.twin))
    anchor, _ = call_registry(real.registry_url, lambda client: client.anchor(real.genesis))
    note = call_registry(twin.registry_url, lambda client: client.checkpoint())
    with pytest.raises(FeedInvalid):
        verify_checkpoint(note, directory_verifier(real.genesis, anchor))
    # even when it is verified with the very keys of the other one, the origin says whose it is
    other, _ = call_registry(twin.registry_url, lambda client: client.anchor(twin.genesis))
    with pytest.raises(FeedInvalid):
        verify_checkpoint(note, directory_verifier(real.genesis, other))


def test_a_log_of_one_does_not_verify_by_the_trust_of_the_other(pair: Pair, tmp_path: Path) -> None:
    trust = tmp_path / "trust.json"
    pair.real.command("audit", "trust", "--home", str(pair.real.member("G01").home), "--out", str(trust))
    told = json.loads(trust.read_text())
    public = pair.twin.member("G01").signer("log").public_bytes
    twins = {}
    for origin, said in told["origins"].items():
        twin = origin.replace(pair.real.genesis, pair.twin.genesis)
        twins[twin] = {**said, "key": str(VerifierKey(key_name(twin), public))}
    trust.write_text(json.dumps({**told, "genesis": pair.twin.genesis, "origins": twins}))
    from evidence.__main__ import main

    assert main(["verify", str(pair.real.member("G01").log_db), "--trust", str(trust)]) == 1


def test_an_approval_by_one_instances_operator_makes_no_member_of_the_other(pair: Pair, tmp_path: Path) -> None:
    """The applicant has the same key and name in both; it takes the twin's approval into the real home."""
    homes = {name: tmp_path / name for name in ("twin", "real")}
    request = {name: tmp_path / f"{name}.json" for name in homes}
    (homes["real"] / "keys").mkdir(parents=True)
    for name, one in (("twin", pair.twin), ("real", pair.real)):
        if name == "real":
            shutil.copy(homes["twin"] / "keys" / "member.pem", homes["real"] / "keys" / "member.pem")
        one.command("join", "--member", f"{INSTANCE}/GOV/N2", "--home", str(homes[name]), "--registry",
                    one.registry_url, "--genesis", f"sha256:{one.genesis}", "--name", "en=N",
                    "--out", str(request[name]))  # fmt: skip
    decision = tmp_path / "decision.json"
    pair.twin.command("member", "approve", "--file", str(request["twin"]), "--out", str(decision),
                      "--home", str(pair.twin.home))  # fmt: skip
    told = json.loads(decision.read_text())
    told["request"]["id"] = json.loads((homes["real"] / "joining.json").read_text())["request"]
    decision.write_text(json.dumps(told))
    with pytest.raises(AssertionError, match="wrong-genesis"):
        pair.real.command("join", "--accept", str(decision), "--home", str(homes["real"]))
    assert not (homes["real"] / "keys" / "member.crt").exists()


def test_an_operators_key_signs_no_proposal_of_the_other(pair: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "key"
    pair.twin.command("operator", "key", str(folder), "--home", str(pair.twin.home))
    with pytest.raises(AssertionError, match="signatures-missing"):
        pair.twin.command("operator", "anchor", "--add", str(folder), "--threshold", "2", "--home", str(pair.twin.home))
    (proposal,) = (pair.twin.home / "proposals").iterdir()
    with pytest.raises(AssertionError, match="another instance"):
        pair.real.command("operator", "sign", str(proposal), "--home", str(pair.real.home / "operators" / "1"))
    with pytest.raises(AssertionError, match="another instance"):
        pair.real.command("operator", "submit", str(proposal), "--home", str(pair.real.home))
    proposal.unlink()


def test_a_contract_tried_in_one_is_promoted_to_the_other_under_the_same_digest(pair: Pair, tmp_path: Path) -> None:
    """From the instance where it was published to the twin; another contract is refused."""
    settings = tmp_path / "there.toml"
    settings.write_text('base_url = "http://127.0.0.1:1"\n')
    source, target = pair.real.member("G01").home, pair.twin.member("G01").home
    pair.twin.add_subsystem("G01", "desk")
    args = ("service", "promote", "desk/notes", "--from", str(source), "--to", str(target), "--kind", "http",
            "--settings", str(settings))  # fmt: skip
    with pytest.raises(AssertionError, match="try that one first"):
        pair.real.command(*args, "--contract", f"sha256:{'0f' * 32}")
    made = pair.real.command(*args)
    newest = call_registry(
        MemberHome(target).facts.registry, lambda client: client.newest("service", f"{INSTANCE}/GOV/G01/desk/notes")
    )
    assert newest is not None
    assert newest.document.contract == made["contract"]
    data = call_registry(MemberHome(target).facts.registry, lambda client: client.contract(made["contract"]))
    assert data.decode() == CONTRACT
    with pytest.raises(AssertionError, match="never published"):
        pair.real.command(*args[:2], "desk/none", *args[3:])
    with pytest.raises(AssertionError, match="same instance"):
        pair.real.command("service", "promote", "desk/notes", "--from", str(source), "--to", str(source),
                          "--kind", "http")  # fmt: skip
