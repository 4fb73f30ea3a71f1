"""The broker knows its guests: streams, renewal, withdrawal, leaf brokers; real processes throughout."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from world import World, free_port, standard_world, wait_until

from bus.transport import nkeys, subjects
from bus.transport.broker import find_binary
from bus.transport.streams import StreamSettings, wanted_streams
from console.demo.handclient import HandClient, HandRefused
from console.demo.intrusions import LEAF_INTRUSION, enter
from console.homes import InstanceHome, MemberHome
from console.instance import read_broker_identity
from console.membership import Speaker
from evidence.header import encode_time
from evidence.signer import FileSigner, generate_key_file
from registry.client import RegistryClient
from registry.documents import Member, Node, Revocation
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
    """New credentials over HTTP."""
    url = f"http://127.0.0.1:{world.registry_port}/credentials/{world.member(code).node}"
    with urllib.request.urlopen(url, timeout=10) as got:
        jwt: str = json.loads(got.read())["jwt"]
        return jwt


def logged(world: World, name: str, event: str) -> list[dict[str, Any]]:
    """Log lines of a process with that event."""
    lines = world.log_path(name).read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, (l for l in lines if l.startswith("{"))) if line["event"] == event]


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
    made = {item.config.name for code in world.members for item in wanted_streams(world.member_id(code), StreamSettings())}
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
    assert [streams[name]["consumers"] for name in ("CMD_GOV~G01", "RES_GOV~G01", "EVT_GOV~G01")] == [["own"], ["own"], []]
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
    wait_until(lambda: asyncio.run(streams_of(world))["CMD_GOV~G01"]["max_bytes"] == 64 * 1024 * 1024, "new size")


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
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(world, "H37")
    assert refused.value.code == 404
    assert not disconnected(world, "G01")
    # killed, not stopped; then the registry is away and cannot say it again
    world.stop_registry()
    assert world.broker is not None
    os.killpg(world.broker.pid, signal.SIGKILL)
    world.broker.wait(5)
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


def test_a_key_that_a_new_statement_replaces_is_refused(empty_world):
    world = empty_world
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
    wait_until(lambda: "Authorization Violation" in knocks(world, "H37"), "refusal", 5)
    claims = nkeys.decode_claims(fetch(world, "H37"))
    assert claims["sub"] == nkeys.public_text("user", key.public_bytes)


def test_a_suspended_member_is_out_and_its_gateway_comes_back_by_itself_when_it_is_active_again(own_world):
    world = own_world
    member = world.member("H37")
    world.stop_gateway("H37")
    with (member.home / "gateway.toml").open("a") as settings:
        settings.write(f'\n[registry]\nurl = "http://127.0.0.1:{world.registry_port}"\n')
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
        assert len(statuses) > 200
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
    with (home / "gateway.toml").open("a") as settings:
        settings.write(f'\n[registry]\nurl = "http://127.0.0.1:{world.registry_port}"\n')
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
