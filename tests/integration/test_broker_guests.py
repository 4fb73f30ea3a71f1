"""The broker knows its guests: streams, renewal, withdrawal, leaf brokers; real processes throughout."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from world import CommandFailed, World, free_port, standard_world, wait_until

from bus.transport import nkeys
from bus.transport.broker import find_binary
from bus.transport.streams import StreamSettings, wanted_streams
from console.demo.handclient import HandClient, HandRefused
from console.demo.intrusions import LEAF_INTRUSION, enter
from console.homes import InstanceHome, MemberHome
from console.membership import Speaker
from evidence.header import encode_time
from evidence.signer import FileSigner, generate_key_file
from registry.client import RegistryClient
from registry.documents import Access, Member, Node, Revocation
from registry.envelope import sign_document
from registry.publickeys import key_id

# --- helpers --------------------------------------------------------------------------------------------------------


def change_facts(world: World, **changes: Any) -> None:
    """Changes instance.json; takes effect at the next start."""
    path = world.home / "instance.json"
    path.write_bytes(msgspec.json.encode({**json.loads(path.read_bytes()), **changes}))


def say(speaker: Speaker, type_: Any, subject: str, **fields: Any) -> None:
    """Signs and submits one document."""

    async def main() -> None:
        async with RegistryClient(speaker.url) as client:
            await speaker.say(client, type_, subject, **fields)

    asyncio.run(main())


def revoke(world: World, subject: str) -> None:
    """The operator withdraws `member:…`, `node:…` or `key:…`."""
    say(Speaker.operator(InstanceHome(world.home)), Revocation, subject, since=encode_time(datetime.now(UTC)))


def set_status(world: World, code: str, status: str) -> None:
    """The operator sets a member's status."""
    speaker = Speaker.operator(InstanceHome(world.home))

    async def main() -> None:
        async with RegistryClient(speaker.url) as client:
            newest = await client.newest("member", world.member_id(code))
            assert newest is not None
            document = newest.document
            assert isinstance(document, Member)
            await speaker.say(
                client, Member, document.subject, status=status, names=document.names, keys=document.keys,
                aliases=document.aliases,
            )  # fmt: skip

    asyncio.run(main())


def knocks(world: World, code: str, jwt: str = "", port: int = 0) -> str:
    """Empty when the broker lets the node of a member in with these credentials (or those on disk); else its words."""
    home = world.member(code).home
    jwt = jwt or (home / "keys" / "broker.jwt").read_text().strip()

    async def main() -> str:
        signer = FileSigner.load(home / "keys" / "broker.pem")
        try:
            client = await HandClient.connect(
                f"tls://127.0.0.1:{port or world.broker_port}", str(home / "ca.pem"), jwt, signer.sign
            )
        except HandRefused as refused:
            return str(refused)
        await client.close()
        return ""

    return asyncio.run(main())


def fetch(world: World, code: str) -> str:
    """New credentials over HTTP, or the status of the refusal."""
    url = f"https://127.0.0.1:{world.registry_port}/credentials/{world.member(code).node}"
    context = ssl.create_default_context(cafile=str(world.home / "ca" / "ca.crt"))
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as got:
            return str(json.loads(got.read())["jwt"])
    except urllib.error.HTTPError as refused:
        with refused:
            return str(refused.code)


def logged(world: World, name: str, event: str) -> list[dict[str, Any]]:
    """Log lines of a process with that event."""
    lines = world.log_path(name).read_text(encoding="utf-8").splitlines()
    told = (json.loads(line) for line in lines if line.startswith("{"))
    return [line for line in told if line["event"] == event]


def kill_broker(world: World) -> None:
    """SIGKILL to nats-server itself; the process around it ends by itself."""
    assert world.broker is not None
    os.kill(json.loads((world.home / "broker" / "listening.json").read_bytes())["server_pid"], signal.SIGKILL)
    world.broker.wait(10)
    world.broker = None


async def streams_of(world: World) -> dict[str, Any]:
    """All streams with their configurations, as the registry sees them."""
    home = world.home / "broker"
    account, key = FileSigner.load(home / "streams.pem"), FileSigner.generate("ed25519")
    jwt = nkeys.user_jwt(
        "test", key.public_bytes, account.public_bytes, account.sign, int(time.time()) - 1,
        expires_at_s=None, publish=None, subscribe=None,
    )  # fmt: skip
    client = await HandClient.connect(
        f"tls://127.0.0.1:{world.broker_port}", str(world.home / "ca" / "ca.crt"), jwt, key.sign
    )
    try:
        client.subscribe("_I.test.>")
        answer = await client.request("$JS.API.STREAM.LIST", b"", "_I.test.1")
        assert answer is not None
        found: dict[str, Any] = {}
        for stream in json.loads(answer.data)["streams"] or []:
            name = stream["config"]["name"]
            listed = await client.request(f"$JS.API.CONSUMER.NAMES.{name}", b"", f"_I.test.{name}")
            assert listed is not None
            found[name] = {**stream["config"], "consumers": json.loads(listed.data)["consumers"] or []}
        return found
    finally:
        await client.close()


def expected_streams(world: World) -> set[str]:
    """Names of the directory's stream and of those of all members."""
    made = {
        item.config.name
        for code in world.members
        for item in wanted_streams(world.member_id(code), [world.member(code).node], StreamSettings())
    }
    return {"LT_DIR", *map(str, made)}


# --- streams --------------------------------------------------------------------------------------------------------


def test_the_registry_makes_the_streams_of_members_and_makes_them_again_after_the_store_was_lost(empty_world):
    world = empty_world
    for code in ("H37", "G01"):
        world.add_member(code)
    expected = expected_streams(world)
    wait_until(lambda: set(asyncio.run(streams_of(world))) == expected, "streams")
    streams = asyncio.run(streams_of(world))
    commands = streams["CMD_GOV~G01"]
    assert commands["subjects"] == ["lt.c.GOV~G01.*"]
    assert commands["retention"] == "workqueue"
    assert commands["discard"] == "new"
    assert commands["discard_new_per_subject"] is True
    assert commands["max_msgs_per_subject"] == StreamSettings().per_sender
    assert commands["storage"] == "file"
    large = streams["CML_GOV~G01"]
    assert (
        large["max_msgs_per_subject"] == StreamSettings().large_per_sender < 100 < 2_000 < StreamSettings().per_sender
    )
    for stream in (commands, large):  # half of a stream is the most that one sender can have in it
        assert 2 * stream["max_msgs_per_subject"] * stream["max_msg_size"] <= stream["max_bytes"]
    own = {name: streams[f"{name}_GOV~G01"]["consumers"] for name in ("CMD", "CML", "RES", "REL", "EVT")}
    assert own == {"CMD": ["own"], "CML": ["own"], "RES": ["own~n1"], "REL": ["own~n1"], "EVT": []}
    world.stop_broker()
    shutil.rmtree(world.home / "broker" / "jetstream")
    world.start_broker()
    wait_until(lambda: set(asyncio.run(streams_of(world))) == expected, "streams again", 20)
    # the directory's contents, too: a gateway that has never seen it becomes ready
    world.start_gateway("H37")
    # a larger stream is a change of what is there
    world.stop_registry()
    change_facts(world, stream_max_bytes=64 * 1024 * 1024)
    world.start_registry()
    wait_until(lambda: asyncio.run(streams_of(world))["CMD_GOV~G01"]["max_bytes"] == 32 * 1024 * 1024, "new size")


def test_an_instance_of_an_older_version_is_upgraded_and_its_nodes_keep_their_credentials(empty_world):
    world = empty_world
    world.add_member("H37")
    world.stop_registry()
    world.stop_broker()
    home = InstanceHome(world.home)
    identity = json.loads((home.broker / "identity.json").read_bytes())
    operator, account = (FileSigner.load(home.broker / f"{name}.pem") for name in ("operator", "account"))
    text = nkeys.public_text("account", account.public_bytes)
    one = nkeys.account_jwt(
        world.instance, account.public_bytes, operator.public_bytes, operator.sign, int(time.time()) - 100,
        jetstream=True,
    )  # fmt: skip
    kept = {name: jwt for name, jwt in identity["accounts"].items() if name not in (identity["streams_account"], text)}
    old = {**identity, "accounts": {text: one, **kept}}
    del old["streams_account"]
    (home.broker / "identity.json").write_bytes(msgspec.json.encode(old))
    for gone in ("streams.pem", "guests.json", "members.jwt"):
        (home.broker / gone).unlink()
    for folder in ("jetstream", "resolver"):
        shutil.rmtree(home.broker / folder)
    with pytest.raises(AssertionError, match="home-invalid"):
        world.start_broker()
    assert world.command("broker", "upgrade", "--home", str(world.home)) == {"changed": True}
    assert world.command("broker", "upgrade", "--home", str(world.home)) == {"changed": False}
    world.start_broker()
    world.start_registry()
    world.start_gateway("H37")


# --- withdrawal -----------------------------------------------------------------------------------------------------


def disconnected(world: World, code: str) -> bool:
    return world.metric(code, "lienthong_broker_connected") == 0


@pytest.mark.parametrize("what", ["member", "node", "key"])
def test_what_the_directory_revokes_is_disconnected_within_a_second_and_stays_out(own_world, what):
    world = own_world
    member = world.member("H37")
    assert knocks(world, "H37") == ""
    subject = {
        "member": f"member:{member.id}",
        "node": f"node:{member.node}",
        "key": f"key:{key_id(member.signer('broker').public_bytes)}",
    }[what]
    revoke(world, subject)
    acknowledged_s = time.monotonic()
    wait_until(lambda: disconnected(world, "H37"), "disconnection", 5)
    assert time.monotonic() - acknowledged_s < 1.0
    assert "Authorization Violation" in knocks(world, "H37")
    assert fetch(world, "H37") == "404"
    assert not disconnected(world, "G01")
    # killed, not stopped; then the registry is away and cannot say it again
    world.stop_registry()
    kill_broker(world)
    world.start_broker()
    assert "Authorization Violation" in knocks(world, "H37")
    assert knocks(world, "G01") == ""
    # nor does it come back when the broker lost everything that it stored itself
    world.stop_broker()
    for folder in ("resolver", "jetstream"):
        shutil.rmtree(world.home / "broker" / folder)
    world.start_broker()
    assert "Authorization Violation" in knocks(world, "H37")


def test_a_broker_with_an_older_account_in_its_configuration_keeps_the_newer_one_that_it_was_given(own_world):
    world = own_world
    before = (world.home / "broker" / "members.jwt").read_bytes()
    revoke(world, f"node:{world.member('H37').node}")
    wait_until(lambda: disconnected(world, "H37"), "disconnection", 5)
    world.stop_registry()
    world.stop_broker()
    (world.home / "broker" / "members.jwt").write_bytes(before)  # as on a machine that the registry does not write to
    world.start_broker()
    assert "Authorization Violation" in knocks(world, "H37")


def test_a_key_that_a_new_statement_replaces_is_refused_after_the_overlap(empty_world):
    world = empty_world
    world.stop_registry()
    change_facts(world, broker_key_overlap_s=1)
    world.start_registry()
    member = world.add_member("H37")
    assert knocks(world, "H37") == ""
    home = MemberHome(member.home)
    key = generate_key_file(member.home / "keys" / "other.pem", "ed25519")
    speaker = Speaker.member(home)

    async def main() -> None:
        async with RegistryClient(speaker.url) as client:
            newest = await client.newest("node", member.node)
            assert newest is not None
            document = newest.document
            assert isinstance(document, Node)
            await speaker.say(
                client, Node, member.node, log=document.log, valid_from=document.valid_from,
                broker_key=base64.b64encode(key.public_bytes).decode(),
            )  # fmt: skip

    asyncio.run(main())
    wait_until(lambda: "Authorization Violation" in knocks(world, "H37"), "refusal", 15)
    claims = nkeys.decode_claims(fetch(world, "H37"))
    assert claims["sub"] == nkeys.public_text("user", key.public_bytes)


def test_a_suspended_member_is_out_and_its_gateway_comes_back_by_itself_when_it_is_active_again(own_world):
    world = own_world
    member = world.member("H37")
    world.stop_gateway("H37")
    world.start_gateway("H37")
    old = (member.home / "keys" / "broker.jwt").read_text().strip()
    set_status(world, "H37", "suspended")
    wait_until(lambda: disconnected(world, "H37"), "disconnection", 5)
    set_status(world, "H37", "active")
    world.wait_ready("H37", 30)
    client = world.clients["H37/app"]
    assert world.call(client, "G01/desk/notes", "/notes/1").status == 200
    assert "Authorization Violation" in knocks(world, "H37", old)
    assert (member.home / "keys" / "broker.jwt").stat().st_mode & 0o777 == 0o600


# --- renewal --------------------------------------------------------------------------------------------------------


@contextmanager
def calling(world: World, threads: int = 4) -> Iterator[list[int]]:
    """Calls without a pause while the block runs; the statuses."""
    statuses: list[int] = []
    stop = threading.Event()
    client = world.clients["H37/app"]

    def call() -> None:
        while not stop.is_set():
            statuses.append(world.call(client, "G01/desk/notes", "/notes/1").status)

    running = [threading.Thread(target=call) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in running:
            thread.join()


def test_credentials_are_renewed_under_load_and_no_call_is_lost(tmp_path):
    with standard_world(tmp_path / "world") as world:
        world.stop_registry()
        change_facts(world, credentials_s=5)
        world.start_registry()
        for code in ("H37", "G01"):
            world.stop_gateway(code)
            (world.member(code).home / "keys" / "broker.jwt").write_text(fetch(world, code))
            world.start_gateway(code, ready=False)
        for code in ("H37", "G01"):
            world.wait_ready(code)
        with calling(world) as statuses:
            for code in ("H37", "G01"):
                wait_until(lambda code=code: len(logged(world, code, "credentials.renewed")) >= 3, "renewals", 40)
        assert set(statuses) == {200}, [status for status in statuses if status != 200]
        assert len(statuses) > 50
        for code in ("H37", "G01"):
            assert 0 < world.metric(code, "lienthong_broker_credential_seconds_left") <= 6
            assert world.metric(code, "lienthong_exchanges_total", outcome="timedout") == 0
            assert not logged(world, code, "credentials.unrenewed")
        assert {json.dumps(line) for line in logged(world, "registry", "credentials.minted")}


def test_a_gateway_whose_credentials_ended_while_it_was_off_fetches_new_ones(own_world):
    world = own_world
    world.stop_gateway("H37")
    world.stop_registry()
    change_facts(world, credentials_s=1)
    world.start_registry()
    ended = fetch(world, "H37")
    world.stop_registry()
    change_facts(world, credentials_s=3_600)
    world.start_registry()
    home = world.member("H37").home
    (home / "keys" / "broker.jwt").write_text(ended)
    wait_until(lambda: "Authorization Violation" in knocks(world, "H37"), "end of the credentials", 5)
    world.start_gateway("H37")
    assert world.call(world.clients["H37/app"], "G01/desk/notes", "/notes/1").status == 200


def test_credentials_that_are_not_ones_own_are_not_stored(own_world):
    """A registry that answers with another node's credentials, or with ones of its own making."""
    world = own_world
    home = world.member("H37").home
    mine = (home / "keys" / "broker.jwt").read_bytes()
    forged = FileSigner.generate("ed25519")
    answers = [
        fetch(world, "G01"),
        nkeys.user_jwt(
            world.member("H37").node, world.member("H37").signer("broker").public_bytes, forged.public_bytes,
            forged.sign, int(time.time()), expires_at_s=None, publish=None, subscribe=None,
        ),
        "nonsense",
    ]  # fmt: skip
    world.stop_registry()

    async def main() -> None:
        spy = await world.nats_connection()
        told = asyncio.Event()

        async def answer(message: Any) -> None:
            if answers:
                await spy.publish(message.reply, msgspec.msgpack.encode([1, answers.pop(), ""]))
            else:
                told.set()

        await spy.subscribe("lt.k.registry.*", cb=answer)
        await spy.flush()
        # two thirds of its lifetime have passed, as the node sees it: it asks at once
        account = FileSigner.load(world.home / "broker" / "account.pem")
        claims = nkeys.decode_claims(mine.decode())
        now_s = int(time.time())
        short = nkeys.user_jwt(
            claims["name"], nkeys.public_bytes(claims["sub"]), account.public_bytes, account.sign, now_s - 100,
            expires_at_s=now_s + 40, publish=claims["nats"]["pub"]["allow"], subscribe=claims["nats"]["sub"]["allow"],
        )  # fmt: skip
        await asyncio.to_thread(world.stop_gateway, "H37")
        (home / "keys" / "broker.jwt").write_text(short)
        world.start_gateway("H37", ready=False)
        async with asyncio.timeout(30):
            await told.wait()
        assert (home / "keys" / "broker.jwt").read_text() == short
        await spy.close()

    asyncio.run(main())
    assert len(logged(world, "H37", "credentials.unrenewed")) >= 3


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_node_whose_member_has_five_hundred_access_rights_connects_with_credentials_that_did_not_grow(empty_world):
    world = empty_world
    for code in ("H37", "G01"):
        world.add_member(code)
    few = len(fetch(world, "H37"))
    world.add_subsystem("G01", "desk")
    client = world.add_client("H37", "onedoor")
    world.publish("G01", "desk/notes")
    speaker = Speaker.member(MemberHome(world.member("G01").home))

    async def grant(registry: RegistryClient, number: int) -> None:
        right = Access(
            instance=world.instance, subject=f"{world.member_id('G01')}/desk/notes#right{number}", seq=0,
            issued=encode_time(datetime.now(UTC)), client=client.subsystem,
            service=f"{world.member_id('G01')}/desk/notes", purposes=(f"purpose-{number}",), grounds=("*",),
        )  # fmt: skip
        await registry.submit(sign_document(right, speaker.signer, speaker.chain, world.genesis))

    async def main() -> None:
        async with RegistryClient(speaker.url) as registry:
            for start in range(0, 500, 50):
                await asyncio.gather(*(grant(registry, number) for number in range(start, start + 50)))

    asyncio.run(main())
    jwt = fetch(world, "H37")
    assert len(jwt) == few
    (world.member("H37").home / "keys" / "broker.jwt").write_text(jwt)
    world.start_gateway("H37")
    assert world.metric("H37", "lienthong_directory_size") > 500
    assert world.metric("H37", "lienthong_broker_connected") == 1


# --- leaf brokers ---------------------------------------------------------------------------------------------------


@contextmanager
def running_leaf(folder: Path, config: Path) -> Iterator[int]:
    """A leaf's nats-server; its port. The configuration listens on a port that is free."""
    with (folder / "nats-server.log").open("ab") as output:
        process = subprocess.Popen([find_binary(), "-c", str(config)], stdout=output, stderr=output)
    try:
        yield int(config.read_text().partition('listen: "127.0.0.1:')[2].partition('"')[0])
    finally:
        process.terminate()
        process.wait(10)


def leaf_key(text: str) -> tuple[str, FileSigner]:
    """JWT and key of a credentials file."""
    jwt = text.partition("-----BEGIN NATS USER JWT-----\n")[2].partition("\n")[0]
    seed = text.partition("-----BEGIN USER NKEY SEED-----\n")[2].partition("\n")[0]
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    return jwt, FileSigner(Ed25519PrivateKey.from_private_bytes(raw[2:34]))


def leaf_connected(folder: Path) -> bool:
    """Whether the leaf's newest word on its line to the hub is that it is there."""
    log = (folder / "nats-server.log").read_text()
    return log.rfind("Leafnode connection created") > max(
        log.rfind("Leafnode connection closed"), log.rfind("Authorization Violation")
    )


def test_a_members_leaf_broker_carries_its_calls_and_is_refused_with_the_member(tmp_path):
    with standard_world(tmp_path / "world") as world:
        leaf_port, listen = free_port(), free_port()
        for code in ("H37", "G01"):
            world.stop_gateway(code)
        world.stop_broker()
        change_facts(world, broker_leaf_listen=f"127.0.0.1:{leaf_port}")
        world.start_broker()
        folder, member = tmp_path / "leaf", world.member("H37")
        wait_until((world.home / "registry" / "copy.db").exists, "the registry's copy")
        made = world.command("broker", "leaf", member.id, "--home", str(world.home), "--out", str(folder))
        assert made["nodes"] == [member.node]
        assert (folder / "leaf.creds").stat().st_mode & 0o777 == 0o600
        config = world.command(
            "broker", "config", "--home", str(world.home), "--leaf", str(folder), "--listen", f"127.0.0.1:{listen}"
        )["configuration"]
        settings = member.home / "gateway.toml"
        settings.write_text(settings.read_text().replace(f":{world.broker_port}", f":{listen}"))
        with running_leaf(folder, Path(config)) as port:
            wait_until(lambda: leaf_connected(folder), "the leaf at the hub")
            world.start_gateway("G01")
            world.start_gateway("H37")
            client = world.clients["H37/app"]
            assert world.call(client, "G01/desk/notes", "/notes/1").status == 200
            asyncio.run(_what_a_leaf_may_not(world, folder, port))
            set_status(world, "H37", "suspended")
            wait_until(lambda: not leaf_connected(folder), "the leaf's end at the hub", 5)
            assert world.call(client, "G01/desk/notes", "/notes/1").status == 503


async def _what_a_leaf_may_not(world: World, folder: Path, port: int) -> None:
    """Its credentials as a client at the hub; and at the leaf itself, whose owner may do everything there, others' traffic."""
    jwt, key = leaf_key((folder / "leaf.creds").read_text())
    url = f"tls://127.0.0.1:{world.broker_port}"
    member, victim = world.member("H37"), world.member("G01")
    intruder = await enter(member.home, url, member.node, victim.node, victim.id, (jwt, key.sign))
    try:
        assert await LEAF_INTRUSION.attempt(intruder)
    finally:
        await intruder.client.close()
    account, owner = FileSigner.load(world.home / "broker" / "account.pem"), FileSigner.generate("ed25519")
    everything = nkeys.user_jwt(
        "owner", owner.public_bytes, account.public_bytes, account.sign, int(time.time()) - 1,
        expires_at_s=None, publish=None, subscribe=None,
    )  # fmt: skip
    at_leaf = await HandClient.connect(f"tls://127.0.0.1:{port}", str(folder / "ca.pem"), everything, owner.sign)
    spy = await world.nats_connection()
    got: list[str] = []

    async def note(message: Any) -> None:
        got.append(message.subject)

    def crossed() -> set[str]:
        return {heard.subject for heard in at_leaf.heard}

    try:
        await spy.subscribe("lt.>", cb=note)
        at_leaf.subscribe(">")
        assert await at_leaf.refusals() == []
        async with asyncio.timeout(15):
            # Again and again: a leaf is told of new listeners at the hub a moment later.
            while "lt.q.GOV~E66.GOV~H37" not in got or "lt.q.GOV~H37.GOV~G01" not in crossed():
                for subject in (
                    "lt.q.GOV~H37.GOV~G01",
                    "_I.GOV~G01~n1.secret",
                    "lt.k.GOV~G01~n1.GOV~E66~n1",
                    "lt.q.GOV~E66.GOV~G01",
                ):
                    await spy.publish(subject, b"x")
                await spy.flush()
                at_leaf.publish("lt.q.GOV~G01.GOV~E66", b"in another's name")
                at_leaf.publish("lt.dir.checkpoint", b"a directory")
                at_leaf.publish("lt.q.GOV~E66.GOV~H37", b"allowed")
                await at_leaf.refusals()
        assert "lt.q.GOV~G01.GOV~E66" not in got
        assert "lt.dir.checkpoint" not in got
        assert not {"_I.GOV~G01~n1.secret", "lt.k.GOV~G01~n1.GOV~E66~n1", "lt.q.GOV~E66.GOV~G01"} & crossed()
    finally:
        await spy.close()
        await at_leaf.close()


def test_a_leaf_that_the_operator_withdraws_is_refused(empty_world, tmp_path):
    world = empty_world
    leaf_port = free_port()
    world.stop_broker()
    change_facts(world, broker_leaf_listen=f"127.0.0.1:{leaf_port}")
    world.start_broker()
    member = world.add_member("H37")
    folder = tmp_path / "leaf"
    world.command("broker", "leaf", member.id, "--home", str(world.home), "--out", str(folder))
    config = world.command(
        "broker", "config", "--home", str(world.home), "--leaf", str(folder), "--listen", f"127.0.0.1:{free_port()}"
    )["configuration"]
    with running_leaf(folder, Path(config)):
        wait_until(lambda: leaf_connected(folder), "the leaf at the hub")
        made = world.command("broker", "leaf", member.id, "--home", str(world.home), "--withdraw")
        assert len(made["withdrawn"]) == 1
        wait_until(lambda: not leaf_connected(folder), "the leaf's end at the hub", 10)


def test_the_second_line_of_a_withdrawn_leaf_ends_with_it_and_stays_ended(empty_world, tmp_path):
    """Its owner runs a server of his own with nothing but these credentials; another leaf goes on hearing."""
    world, leaf_port = empty_world, free_port()
    world.stop_broker()
    change_facts(world, broker_leaf_listen=f"127.0.0.1:{leaf_port}")
    world.start_broker()
    member, other = world.add_member("H37"), world.add_member("E66")
    folder, others = tmp_path / "leaf", tmp_path / "other"
    configs = []
    for one, where in ((member, folder), (other, others)):
        world.command("broker", "leaf", one.id, "--home", str(world.home), "--out", str(where))
        listen = ("--listen", f"127.0.0.1:{free_port()}")
        made = world.command("broker", "config", "--home", str(world.home), "--leaf", str(where), *listen)
        configs.append(Path(made["configuration"]))
    log, ca = folder / "nats-server.log", others / "ca.pem"
    with running_leaf(folder, listener_config(folder, leaf_port)), running_leaf(others, configs[1]) as port:
        wait_until(lambda: leaf_connected(folder) and leaf_connected(others), "both leafs")
        world.command("broker", "leaf", member.id, "--home", str(world.home), "--withdraw")
        wait_until(lambda: not leaf_connected(folder), "the end of the second line", 10)
        wait_until(lambda: said_at(port, ca, member.home) == "welcome", "the other leaf")
        world.command("node", "revoke", "n1", "--home", str(member.home), "--reason", "stolen")
        wait_until(lambda: said_at(port, ca, member.home) == "refused", "what the other leaf hears", 10)
        world.stop_broker()
        world.start_broker()
        tried = log.read_text().count("Authorization Violation")
        wait_until(lambda: leaf_connected(others), "the other leaf again", 20)
        wait_until(lambda: log.read_text().count("Authorization Violation") > tried, "a refusal", 20)
        assert not leaf_connected(folder)
    with pytest.raises(CommandFailed):  # nothing new for a leaf that was withdrawn
        world.command("broker", "config", "--home", str(world.home), "--leaf", str(folder))


def listener_config(folder: Path, leaf_port: int) -> Path:
    """A server with nothing but a leaf's second line."""
    config = folder / "own.conf"
    config.write_text(
        f'''listen: "127.0.0.1:{free_port()}"
leafnodes {{ reconnect: 1, remotes: [ {{ url: "tls://127.0.0.1:{leaf_port}", credentials: "{folder}/leaf-system.creds",
  tls {{ ca_file: "{folder}/ca.pem", min_version: "1.3", handshake_first: true }} }} ] }}
'''
    )
    return config


def said_at(port: int, ca: Path, home: Path) -> str:
    """What a broker says to a node with its key and credentials: `welcome`, `refused`, or nothing."""

    async def attempt() -> str:
        key = FileSigner.load(home / "keys" / "broker.pem")
        jwt = (home / "keys" / "broker.jwt").read_text().strip()
        try:
            client = await HandClient.connect(f"tls://127.0.0.1:{port}", str(ca), jwt, key.sign)
        except HandRefused as error:
            return "refused" if "-ERR" in str(error) else ""
        await client.close()
        return "welcome"

    return asyncio.run(attempt())


def test_a_leaf_broker_hears_at_once_who_is_withdrawn_and_does_not_forget_it(empty_world, tmp_path):
    world, leaf_port = empty_world, free_port()
    world.stop_broker()
    change_facts(world, broker_leaf_listen=f"127.0.0.1:{leaf_port}")
    world.start_broker()
    member, one, two = (world.add_member(code) for code in ("H37", "E66", "E67"))
    folder = tmp_path / "leaf"
    world.command("broker", "leaf", member.id, "--home", str(world.home), "--out", str(folder))
    config = world.command(
        "broker", "config", "--home", str(world.home), "--leaf", str(folder), "--listen", f"127.0.0.1:{free_port()}"
    )["configuration"]
    assert (folder / "leaf-system.creds").stat().st_mode & 0o777 == 0o600
    ca = folder / "ca.pem"
    with running_leaf(folder, Path(config)) as port:
        log = folder / "nats-server.log"
        wait_until(lambda: log.read_text().count("Leafnode connection created") >= 2, "both lines to the hub")
        assert said_at(port, ca, one.home) == "welcome"
        world.command("node", "revoke", "n1", "--home", str(one.home), "--reason", "stolen")
        wait_until(lambda: said_at(port, ca, one.home) == "refused", "the refusal at the leaf", 5)
        assert said_at(port, ca, two.home) == "welcome"
    world.command("node", "revoke", "n1", "--home", str(two.home), "--reason", "stolen")
    world.stop_broker()
    with running_leaf(folder, Path(config)) as port:  # by itself, with the configuration that it always had
        wait_until(lambda: said_at(port, ca, one.home) == "refused", "the refusal at the leaf", 5)
        assert said_at(port, ca, two.home) == "welcome", "this leaf was away, and nobody is there to tell"
        world.start_broker()
        wait_until(lambda: said_at(port, ca, two.home) == "refused", "what was said while it was away", 20)


async def test_the_line_that_tells_a_leaf_who_is_refused_carries_nothing_else(empty_world, tmp_path):
    """Its owner has its credentials: a server of his own listens and asks in the system account."""
    world, leaf_port = empty_world, free_port()
    world.stop_broker()
    change_facts(world, broker_leaf_listen=f"127.0.0.1:{leaf_port}")
    world.start_broker()
    member, other = world.add_member("H37"), world.add_member("E66")
    folder = tmp_path / "leaf"
    world.command("broker", "leaf", member.id, "--home", str(world.home), "--out", str(folder))
    world.command("broker", "config", "--home", str(world.home), "--leaf", str(folder))
    config = listener_config(folder, leaf_port)
    with running_leaf(folder, config) as port:
        await asyncio.to_thread(wait_until, lambda: leaf_connected(folder), "the line to the hub")
        client = await nats.connect(f"nats://127.0.0.1:{port}", no_echo=True, allow_reconnect=False)
        heard: list[tuple[str, str]] = []

        async def note(message: Any) -> None:
            if message.data:  # else his own server says that nobody is there
                heard.append((message.subject, _server(message.data)))

        await client.subscribe(">", cb=note)
        await client.flush()
        spy = await _in_system_account(world)
        own = client._server_info["server_id"]
        for subject in ("SERVER.PING", "SERVER.PING.VARZ", "ACCOUNT.PING.CONNZ", "CLAIMS.PACK", "CLAIMS.LIST"):
            await client.publish(f"$SYS.REQ.{subject}", b"", reply="answers.here")
        await asyncio.to_thread(world.command, "node", "revoke", "n1", "--home", str(other.home), "--reason", "stolen")
        told = ("$SYS.REQ.CLAIMS.UPDATE", "")
        await asyncio.to_thread(wait_until, lambda: told in heard, "the newest account")
        assert await spy.refusals() == []  # and what went before its question is here
        arrived = {one.subject for one in spy.heard}
        await spy.close()
        await client.close()
    assert "$SYS.REQ.CLAIMS.UPDATE" in arrived
    assert not {"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.CLAIMS.LIST"} & arrived
    assert {one for one in heard if one[1] != own} == {told}, "what his own server answers is not from the hub"


async def _in_system_account(world: World) -> HandClient:
    """Hears everything that is said to the servers at the hub."""
    system, key = FileSigner.load(world.home / "broker" / "system.pem"), FileSigner.generate("ed25519")
    jwt = nkeys.user_jwt(
        "spy", key.public_bytes, system.public_bytes, system.sign, int(time.time()) - 1,
        expires_at_s=None, publish=None, subscribe=None,
    )  # fmt: skip
    url = f"tls://127.0.0.1:{world.broker_port}"
    spy = await HandClient.connect(url, str(world.home / "ca" / "ca.crt"), jwt, key.sign)
    spy.subscribe("$SYS.REQ.>")
    assert await spy.refusals() == []
    return spy


def _server(data: bytes) -> str:
    """Id of the server that an answer of the system account is from."""
    try:
        return str(json.loads(data)["server"]["id"])
    except (ValueError, KeyError, TypeError):
        return ""
