"""Intrusions at the broker by a genuine member's node: each is refused by the broker itself.

The list is the demonstration's (`console.demo.intrusions`); here each has a test of its own, what it aims at is looked
at from outside, and every defence is taken away once to see that the intrusion is noticed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from world import World, wait_until

from bus.transport import nkeys, permissions, subjects
from bus.transport.broker import EmbeddedBroker
from bus.transport.streams import MAX_MESSAGE_BYTES, StreamSettings, wanted_streams
from console.demo.handclient import HandClient
from console.demo.intrusions import INTRUSIONS, Intruder, Intrusion, enter, try_intrusions
from console.homes import InstanceHome
from console.instance import InstancePlan, create_instance, read_broker_identity
from console.processes.broker import broker_files
from evidence.signer import FileSigner

EVIL, VICTIM, THIRD = "E66", "G01", "H37"


# --- the real instance ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Broker, registry and three members with their streams; no gateway runs."""
    with World(tmp_path_factory.mktemp("hall")) as world:
        for code in (EVIL, VICTIM, THIRD):
            world.add_member(code)
        wait_until(lambda: asyncio.run(has_streams(world)), "streams")
        yield world


async def has_streams(world: World) -> bool:
    async with streams_user(world) as client:
        listed = await client.request("$JS.API.STREAM.NAMES", b"", "_I.test.names")
        names = json.loads(listed.data)["streams"] if listed is not None else None
        of_one = len(wanted_streams("VN-TEST/GOV/G01", ["VN-TEST/GOV/G01/@n1"], StreamSettings()))
        return names is not None and len(names) == 1 + 3 * of_one


@asynccontextmanager
async def streams_user(world: World) -> AsyncIterator[HandClient]:
    """In the streams' account, with all rights."""
    account, key = FileSigner.load(world.home / "broker" / "streams.pem"), FileSigner.generate("ed25519")
    jwt = user(account, key, "streams", None, None)
    client = await HandClient.connect(url_of(world), str(world.home / "ca" / "ca.crt"), jwt, key.sign)
    try:
        client.subscribe("_I.test.>")
        yield client
    finally:
        await client.close()


def user(account: FileSigner, key: FileSigner, name: str, publish: Any, subscribe: Any) -> str:
    return nkeys.user_jwt(
        name, key.public_bytes, account.public_bytes, account.sign, int(time.time()) - 1,
        expires_at_s=None, publish=publish, subscribe=subscribe,
    )  # fmt: skip


def url_of(world: World) -> str:
    return f"tls://127.0.0.1:{world.broker_port}"


async def intruder_of(world: World) -> Intruder:
    evil, victim = world.member(EVIL), world.member(VICTIM)
    return await enter(evil.home, url_of(world), evil.node, victim.node, world.member_id(THIRD))


async def stream_state(client: HandClient, name: str) -> tuple[int, int]:
    """Messages in a stream, and the number of its last one."""
    got = await client.request(f"$JS.API.STREAM.INFO.{name}", b"", f"_I.test.{time.monotonic_ns()}")
    assert got is not None
    state = json.loads(got.data)["state"]
    return state["messages"], state["last_seq"]


def all_streams(world: World) -> list[str]:
    members = [world.member_id(code) for code in (VICTIM, THIRD)]
    return [
        "LT_DIR",
        *(
            str(item.config.name)
            for member in members
            for item in wanted_streams(member, [f"{member}/@n1"], StreamSettings())
        ),
    ]


@pytest.mark.parametrize("intrusion", INTRUSIONS, ids=lambda intrusion: intrusion.name)
async def test_the_broker_refuses(hall: World, intrusion: Intrusion) -> None:
    async with streams_user(hall) as looking:
        before = [await stream_state(looking, name) for name in all_streams(hall)[1:]]
        intruder = await intruder_of(hall)
        try:
            assert await intrusion.attempt(intruder), "let in"
        finally:
            await intruder.client.close()
        assert [await stream_state(looking, name) for name in all_streams(hall)[1:]] == before
        assert (await stream_state(looking, "LT_DIR"))[0] > 0


async def test_all_intrusions_in_a_row_are_counted(hall: World) -> None:
    evil, victim = hall.member(EVIL), hall.member(VICTIM)
    found = await try_intrusions(evil.home, url_of(hall), evil.node, victim.node, hall.member_id(THIRD))
    assert (found.tried, found.refused, found.let_in) == (len(INTRUSIONS), len(INTRUSIONS), ())


async def test_nothing_of_others_arrives_at_a_node_that_listens_everywhere(hall: World) -> None:
    """Real traffic of others passes by; the intruder has asked for all of it."""
    intruder = await intruder_of(hall)
    spy = await hall.nats_connection()
    subscribed = ("lt.q.GOV~G01.*", "lt.q.>", ">", "_I.>", "_I.GOV~G01~n1.>", "lt.k.>", "lt.c.>", "lt.r.>", "lt.w.>")
    try:
        for subject in subscribed:
            intruder.client.subscribe(subject)
        intruder.client.subscribe("lt.q.GOV~G01.*", "q~GOV~G01")
        assert len(await intruder.client.refusals()) == len(subscribed) + 1
        passing = ("lt.q.GOV~G01.GOV~H37", "_I.GOV~G01~n1.a.b", "lt.k.GOV~G01~n1.GOV~H37~n1", "lt.r.GOV~H37.n1.GOV~G01")
        for subject in passing:
            await spy.publish(subject, b"theirs")
        await spy.publish("_I.GOV~E66~n1.mine", b"mine")
        await spy.flush()
        async with asyncio.timeout(5):
            while not intruder.client.heard:
                await asyncio.sleep(0.01)
        assert [heard.subject for heard in intruder.client.heard] == ["_I.GOV~E66~n1.mine"]
    finally:
        await spy.close()
        await intruder.client.close()
    async with streams_user(hall) as tidy:
        await tidy.request("$JS.API.STREAM.PURGE.RES_GOV~H37", b"", "_I.test.purge")


async def test_a_provider_cannot_be_made_to_purge_a_stream_or_to_ask_for_a_thirds_messages(hall: World) -> None:
    """Even a provider that answers wherever it is told to: the broker lets it publish none of these."""
    victim = hall.member(VICTIM)
    naive = await enter(victim.home, url_of(hall), victim.node, hall.member(EVIL).node, hall.member_id(THIRD))
    intruder = await intruder_of(hall)
    foreign = (
        "$JS.API.STREAM.PURGE.CMD_GOV~H37",
        "$JS.API.STREAM.DELETE.LT_DIR",
        "$JS.API.CONSUMER.MSG.NEXT.CMD_GOV~H37.own",
        "lt.q.GOV~H37.GOV~E66",
    )
    try:
        naive.client.subscribe("lt.q.GOV~G01.*", "q~GOV~G01")
        assert await naive.client.refusals() == []
        for reply in foreign:
            intruder.client.publish("lt.q.GOV~G01.GOV~E66", b"question", reply)
        await intruder.client.refusals()
        async with asyncio.timeout(5):
            while len(naive.client.heard) < len(foreign):
                await asyncio.sleep(0.01)
        for heard in naive.client.heard:
            naive.client.publish(heard.reply, b'{"batch":1}')
        refused = await naive.client.refusals()
        assert len(refused) == len(foreign)
        assert all(text.startswith("Permissions Violation for Publish") for text in refused)
    finally:
        await naive.client.close()
        await intruder.client.close()


@pytest.mark.parametrize("large", [False, True])
async def test_a_sender_that_filled_its_part_leaves_room_for_others(hall: World, large: bool) -> None:
    """With the largest messages that the stream takes, as many as it takes."""
    intruder, settings = await intruder_of(hall), StreamSettings()
    quota = settings.large_per_sender if large else settings.per_sender
    body, part = bytes(MAX_MESSAGE_BYTES - 512 if large else subjects.SMALL_BYTES), "large." if large else ""
    stream = subjects.command_stream(f"{hall.instance}/GOV/G01", large=large)
    third = hall.member(THIRD)
    other = await enter(third.home, url_of(hall), third.node, hall.member(VICTIM).node, hall.member_id(EVIL))
    try:
        answers = [await intruder.asked(f"lt.c.{part}GOV~G01.GOV~E66", body) for _ in range(quota + 1)]
        assert all(answer is not None and b'"seq"' in answer.data for answer in answers[:-1])
        assert answers[-1] is not None
        assert json.loads(answers[-1].data)["error"]["err_code"] == 10077
        let_in = await other.asked(f"lt.c.{part}GOV~G01.GOV~H37", body)
        assert let_in is not None
        assert b'"seq"' in let_in.data
    finally:
        await intruder.client.close()
        await other.client.close()
        async with streams_user(hall) as tidy:
            await tidy.request(f"$JS.API.STREAM.PURGE.{stream}", b"", "_I.test.purge")


async def test_a_command_reaches_its_receiver_and_leaves_the_stream_when_it_is_acknowledged(hall: World) -> None:
    """What the rights are for: the same client, keeping to them."""
    intruder, victim = await intruder_of(hall), hall.member(VICTIM)
    receiver = await enter(victim.home, url_of(hall), victim.node, hall.member(EVIL).node, hall.member_id(THIRD))
    try:
        sent = await intruder.asked("lt.c.GOV~G01.GOV~E66", b"do it")
        assert sent is not None
        assert json.loads(sent.data)["stream"] == "CMD_GOV~G01"
        got = await receiver.next_command()
        assert got is not None
        assert (got.subject, got.data) == ("lt.c.GOV~G01.GOV~E66", b"do it")
        assert await receiver.next_command() is None
        await receiver.client.refusals()
        async with streams_user(hall) as looking:
            assert (await stream_state(looking, "CMD_GOV~G01"))[0] == 0
    finally:
        await intruder.client.close()
        await receiver.client.close()


# --- without the defences -------------------------------------------------------------------------------------------

WIDENED = "with all rights in the members' account"
TOGETHER = "with the streams in the members' account"
STILL_REFUSED = {
    # what the server itself keeps from everybody, or what another account holds
    WIDENED: {
        "an acknowledgement by way of a reply",
        "a message larger than any exchange",
        "a stream filled by one sender",
        "the own credentials with a stranger's key",
        "credentials of one's own making",
    },
}


@asynccontextmanager
async def open_house(folder: Path, *, together: bool) -> AsyncIterator[Intruder]:
    """A broker without the registry, with one defence taken away: a node with all rights, or one account for all."""
    home = InstanceHome(folder / "instance")
    create_instance(home, InstancePlan("VN-TEST", "127.0.0.1:1", "127.0.0.1:0", ("127.0.0.1", "localhost")))
    identity, files = read_broker_identity(home), broker_files(home)
    keys = {name: FileSigner.load(home.broker / f"{name}.pem") for name in ("operator", "account", "streams")}
    if together:
        one = nkeys.account_jwt(
            "one", keys["account"].public_bytes, keys["operator"].public_bytes, keys["operator"].sign,
            int(time.time()), jetstream=True,
        )  # fmt: skip
        files = replace(files, accounts={**files.accounts, identity.members_account: one})
    broker = EmbeddedBroker(files)
    await broker.start()
    try:
        await _make_streams(home, broker.url, keys["account" if together else "streams"])
        evil, node = f"VN-TEST/GOV/{EVIL}", f"VN-TEST/GOV/{EVIL}/@n1"
        key = FileSigner.generate("ed25519")
        publish = permissions.node_publish(evil, node) if together else None
        subscribe = permissions.node_subscribe(evil, node) if together else None
        jwt = user(keys["account"], key, node, publish, subscribe)
        member = folder / EVIL
        (member / "keys").mkdir(parents=True)
        key.save(member / "keys" / "broker.pem")
        (member / "keys" / "broker.jwt").write_text(jwt)
        (member / "ca.pem").write_bytes((home.ca / "ca.crt").read_bytes())
        intruder = await enter(member, broker.url, node, f"VN-TEST/GOV/{VICTIM}/@n1", f"VN-TEST/GOV/{THIRD}")
        try:
            yield intruder
        finally:
            await intruder.client.close()
    finally:
        await broker.stop()


async def _make_streams(home: InstanceHome, url: str, account: FileSigner) -> None:
    key = FileSigner.generate("ed25519")
    client = await HandClient.connect(url, str(home.ca / "ca.crt"), user(account, key, "maker", None, None), key.sign)
    client.subscribe("_I.test.>")
    for code in (EVIL, VICTIM):
        member = f"VN-TEST/GOV/{code}"
        for wanted in wanted_streams(member, [f"{member}/@{one}" for one in ("n1", "n2")], StreamSettings()):
            made = await client.request(
                f"$JS.API.STREAM.CREATE.{wanted.config.name}", json.dumps(wanted.config.as_dict()).encode(),
                f"_I.test.{wanted.config.name}",
            )  # fmt: skip
            assert made is not None
            assert b'"error"' not in made.data, made.data
            for consumer in wanted.consumers:
                asked = {"stream_name": wanted.config.name, "config": consumer.as_dict()}
                subject = f"$JS.API.CONSUMER.DURABLE.CREATE.{wanted.config.name}.{consumer.durable_name}"
                await client.request(subject, json.dumps(asked).encode(), f"_I.test.c{wanted.config.name}")
    directory = {"name": "LT_DIR", "subjects": ["lt.dir.>"], "storage": "memory", "allow_direct": True}
    await client.request("$JS.API.STREAM.CREATE.LT_DIR", json.dumps(directory).encode(), "_I.test.d")
    await client.request("lt.dir.checkpoint", b"{}", "_I.test.e")
    await client.close()


@pytest.mark.parametrize("intrusion", INTRUSIONS, ids=lambda intrusion: intrusion.name)
async def test_without_the_permissions_the_intrusion_is_noticed_as_let_in(
    house_with_all_rights: Intruder, intrusion: Intrusion
) -> None:
    refused = await intrusion.attempt(house_with_all_rights)
    by_accounts = "own answer" in intrusion.name
    assert refused == (intrusion.name in STILL_REFUSED[WIDENED] or by_accounts)


@pytest.fixture
async def house_with_all_rights(tmp_path: Path) -> AsyncIterator[Intruder]:
    async with open_house(tmp_path, together=False) as intruder:
        yield intruder


@pytest.mark.parametrize(
    "intrusion",
    # not the one that makes a command of an answer: whether that works in one account depends on the server's timing
    [one for one in INTRUSIONS if one.name.endswith("ed by the broker's own answer")],
    ids=lambda intrusion: intrusion.name,
)
async def test_in_one_account_with_the_streams_the_broker_obeys_its_own_answers(
    tmp_path: Path, intrusion: Intrusion
) -> None:
    """Why the streams have an account of their own: with every permission as it is, this works without it."""
    async with open_house(tmp_path, together=True) as intruder:
        assert not await intrusion.attempt(intruder)
