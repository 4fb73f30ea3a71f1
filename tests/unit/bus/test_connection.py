"""The gateway's connection against a small broker on loopback."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager

import nats.errors
import nats.js.errors
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fake_broker import NONCE, FakeBroker, fake_broker

from bus import errors
from bus.transport.connection import BrokerIdentity, Connection
from bus.transport.feed import NatsFeed, NatsFeedReader
from registry.errors import FeedInvalid, FeedUnavailable
from registry.feed import encode_bundle

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


class Heard:
    """A transport observer whose events can be awaited."""

    def __init__(self) -> None:
        self.states: list[bool] = []
        self.denials = self.overloads = 0
        self._changed = asyncio.Event()

    def connected(self, up):
        self.states.append(up)
        self._changed.set()

    def denied(self):
        self.denials += 1
        self._changed.set()

    def overloaded(self):
        self.overloads += 1
        self._changed.set()

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def connection(broker: FakeBroker, heard: Heard | None = None, token: str = "GOV~H37~n1", **more) -> Connection:
    identity = BrokerIdentity("n1", lambda: "the.user.jwt", KEY.sign)
    return Connection([broker.url], None, identity, f"_I.{token}.", heard or Heard(), **more)


@asynccontextmanager
async def started(broker: FakeBroker, *subscriptions, **more):
    made = connection(broker, **more)
    for subscription in subscriptions:
        made.subscribe(*subscription)
    await made.start()
    try:
        assert await made.wait_connected(10)
        yield made
    finally:
        await made.close()


@pytest.fixture
async def broker():
    async with fake_broker() as made:
        yield made


class Echo:
    """A handler that sends every message back."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.taken: list[tuple[str, str, bytes]] = []
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    async def __call__(self, subject, reply, data):
        self.taken.append((subject, reply, data))
        self.started.set()
        await self.release.wait()
        if data == b"defect":
            raise ZeroDivisionError
        await self.connection.send(reply, data[::-1])


async def test_a_request_gets_its_reply(broker):
    echo = Echo()
    async with started(broker) as asking, started(broker, ("lt.q.P.*", echo, "q~P")) as answering:
        echo.connection = answering
        replies = await asyncio.gather(*(asking.exchange("lt.q.P.C", b"ab%d" % at, 10) for at in range(5)))
        assert [reply.data for reply in replies] == [b"%dba" % at for at in range(5)]
        assert len({reply for _, reply, _ in echo.taken}) == 5
        assert all(reply.startswith("_I.GOV~H37~n1.") for _, reply, _ in echo.taken)
        assert asking._waiting == {}
        assert ("lt.q.P.*", "q~P") in broker.subscribed()


async def test_the_node_proves_itself_with_its_jwt_and_the_signed_nonce(broker):
    async with started(broker) as made:
        (hello,) = broker.hellos
        assert hello["jwt"] == "the.user.jwt"
        assert hello["sig"] == base64.b64encode(KEY.sign(NONCE.encode())).decode()
        assert made.connected
        assert made.client.is_connected


async def test_a_challenge_that_is_no_nonce_is_not_signed(broker):
    broker.nonce = "lienthong/v1/checkpoint of another log\n"
    made = connection(broker)
    with pytest.raises(ValueError, match="not a nonce"):
        await made._connect()
    assert not made.connected
    assert broker.hellos == []


async def test_nothing_is_sent_before_it_is_connected(broker):
    made = connection(broker)
    assert not made.connected
    with pytest.raises(errors.BrokerUnavailable):
        await made.exchange("lt.q.P.C", b"", 1)
    with pytest.raises(errors.BrokerUnavailable):
        await made.send("lt.q.P.C", b"")
    assert not await made.wait_connected(0.001)
    await made.stop_serving(0)
    await made.close()


async def test_a_provider_that_is_not_there_is_told_at_once(broker):
    async with started(broker) as made:
        with pytest.raises(errors.ProviderUnavailable):
            await made.exchange("lt.q.P.C", b"", 10)


async def test_a_deadline_ends_the_wait(broker):
    async def silent(subject, reply, data):
        return

    async with started(broker, ("lt.q.P.*", silent)) as made:
        with pytest.raises(errors.Timeout):
            await made.exchange("lt.q.P.C", b"", 0.01)
        assert made._waiting == {}


async def test_a_second_and_a_foreign_reply_are_ignored(broker):
    class Twice(Echo):
        async def __call__(self, subject, reply, data):
            await self.connection.send(reply[:-1] + "x", b"foreign")
            await self.connection.send(reply, b"first")
            await self.connection.send(reply, b"second")

    twice = Twice()
    async with started(broker, ("lt.q.P.*", twice)) as made:
        twice.connection = made
        assert (await made.exchange("lt.q.P.C", b"", 10)).data == b"first"
        assert (await made.exchange("lt.q.P.C", b"", 10)).data == b"first"


async def test_messages_over_the_bound_are_dropped_and_counted(broker):
    heard, echo = Heard(), Echo()
    echo.release.clear()
    async with started(broker, ("x.*", echo), heard=heard, max_handlers=2) as made:
        echo.connection = made
        for at in range(5):
            await made.send(f"x.{at}", b"")
        await heard.until(lambda: heard.overloads == 3)
        assert len(echo.taken) == 2


async def test_a_defect_in_a_handler_does_not_end_the_connection(broker):
    echo = Echo()
    async with started(broker, ("lt.q.P.*", echo)) as made:
        echo.connection = made
        with pytest.raises(errors.Timeout):
            await made.exchange("lt.q.P.C", b"defect", 0.05)
        assert (await made.exchange("lt.q.P.C", b"ab", 10)).data == b"ba"


async def test_a_denied_publish_and_subscription_are_counted(broker):
    heard = Heard()
    broker.denied = {"x.denied", "y.denied"}
    async with started(broker, ("y.denied", Echo()), heard=heard) as made:
        await heard.until(lambda: heard.denials == 1)
        await made.send("x.denied", b"")
        await heard.until(lambda: heard.denials == 2)


async def test_a_lost_connection_ends_what_waits_and_comes_back(broker):
    heard, echo = Heard(), Echo()
    echo.release.clear()
    async with started(broker, ("lt.q.P.*", echo, "g"), heard=heard) as made:
        echo.connection = made
        asking = asyncio.ensure_future(made.exchange("lt.q.P.C", b"", 60))
        await echo.started.wait()
        broker.cut()
        with pytest.raises(errors.Timeout, match="lost"):
            await asking
        await heard.until(lambda: heard.states[-1:] == [True] and len(heard.states) >= 3)
        await broker.until(lambda: ("lt.q.P.*", "g") in broker.subscribed())
        echo.release.set()
        assert (await made.exchange("lt.q.P.C", b"ab", 10)).data == b"ba"


async def test_a_refused_connection_is_tried_again(broker):
    broker.refuse_next = 1
    async with started(broker) as made:
        assert made.connected
        assert len(broker.hellos) >= 2


async def test_a_client_that_closed_for_good_is_replaced(broker):
    heard = Heard()
    async with started(broker, ("x", Echo()), heard=heard) as made:
        first = made.client
        await first.close()
        await heard.until(lambda: made.connected)
        assert made.client is not first
        await broker.until(lambda: ("x", "") in broker.subscribed())


async def test_a_handler_can_be_added_while_connected(broker):
    echo = Echo()
    async with started(broker) as made:
        echo.connection = made
        await made.serve("late.*", echo, "g")
        await broker.until(lambda: ("late.*", "g") in broker.subscribed())
        assert (await made.exchange("late.x", b"ab", 10)).data == b"ba"
    unconnected = connection(broker)
    await unconnected.serve("later", echo)
    assert [one.subject for one in unconnected._subscriptions] == ["later"]
    await unconnected.close()


async def test_a_handler_that_cannot_be_subscribed_now_is_subscribed_later(broker):
    async with started(broker) as made:

        async def failing(*args, **kwargs):
            raise nats.errors.ConnectionClosedError

        made.client.subscribe = failing
        await made.serve("late", Echo())
        assert made._subscriptions[-1].subject == "late"


async def test_a_publish_that_fails_is_told(broker):
    async with started(broker) as made:

        async def failing(*args):
            raise nats.errors.OutboundBufferLimitError

        made.client.publish = failing
        with pytest.raises(errors.BrokerUnavailable):
            await made.send("x", b"")
        with pytest.raises(errors.BrokerUnavailable):
            await made.exchange("x", b"", 10)
        assert made._waiting == {}


async def test_draining_takes_nothing_new_and_lets_what_is_under_way_end(broker):
    echo = Echo()
    echo.release.clear()
    async with started(broker) as asking, started(broker, ("lt.q.P.*", echo)) as serving:
        echo.connection = serving
        asked = asyncio.ensure_future(asking.exchange("lt.q.P.C", b"ab", 30))
        await echo.started.wait()
        stopping = asyncio.ensure_future(serving.stop_serving(20))
        await broker.until(lambda: ("lt.q.P.*", "") not in broker.subscribed())
        echo.release.set()
        await stopping
        assert (await asked).data == b"ba"
        with pytest.raises(errors.ProviderUnavailable):
            await asking.exchange("lt.q.P.C", b"", 10)


# --- the directory's feed -------------------------------------------------------------------------------------------


class Message:
    def __init__(self, data: bytes, status: str = "") -> None:
        self.data = data
        self.headers = {"Status": status} if status else None


class FakeJetStream:
    """Keeps streams and messages; raises what a test put in."""

    def __init__(self) -> None:
        self.streams: list[str] = []
        self.published: list[tuple[str, bytes]] = []
        self.errors: list[Exception] = []

    def _raise(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    async def update_stream(self, config):
        self._raise()
        self.streams.append(f"update {config.name}")

    async def add_stream(self, config):
        self._raise()
        self.streams.append(f"add {config.name}")

    async def publish(self, subject, data, timeout):
        self._raise()
        self.published.append((subject, data))


class FakeConnection:
    def __init__(self) -> None:
        self.handlers = {}
        self.answers: dict[str, object] = {}
        self.js = FakeJetStream()
        self.client = self

    def jetstream(self, timeout):
        return self.js

    def subscribe(self, subject, handler, group=""):
        self.handlers[subject] = handler

    async def exchange(self, subject, payload, deadline_s):
        found = self.answers[subject]
        if isinstance(found, Exception):
            raise found
        return found


GET = "$JS.API.DIRECT.GET.LT_DIR."


async def test_the_feed_is_read_by_direct_get():
    made = FakeConnection()
    feed = NatsFeedReader(made)
    made.answers = {
        f"{GET}lt.dir.checkpoint": Message(b"note"),
        f"{GET}lt.dir.entries.3": Message(encode_bundle([b"a", b"b"])),
        f"{GET}lt.dir.entries.4": Message(b"\0"),
        f"{GET}lt.dir.entries.5": Message(b"", "404"),
        f"{GET}lt.dir.blob.ab": errors.ProviderUnavailable(),
    }
    assert await feed.latest_checkpoint() == b"note"
    assert await feed.entries(3) == [b"a", b"b"]
    with pytest.raises(FeedInvalid):
        await feed.entries(4)
    with pytest.raises(FeedUnavailable, match="nothing"):
        await feed.entries(5)
    with pytest.raises(FeedUnavailable, match="provider-unavailable"):
        await feed.blob("ab")


async def test_an_announcement_ends_the_wait_for_changes():
    made = FakeConnection()
    feed = NatsFeedReader(made)
    await feed.wait_changed(0.001)
    await made.handlers["lt.dir.checkpoint"]("lt.dir.checkpoint", "", b"")
    await asyncio.wait_for(feed.wait_changed(60), 10)
    assert not feed._changed.is_set()


async def test_the_registry_publishes_and_makes_the_stream_when_it_is_lost():
    made = FakeConnection()
    feed = NatsFeed(made)
    await feed.prepare()
    await feed.publish_entries(64, [b"leaf"])
    await feed.publish_checkpoint(b"note")
    await feed.publish_blob("ab", b"contract")
    assert made.js.streams == ["update LT_DIR"]
    assert made.js.published == [
        ("lt.dir.entries.1", encode_bundle([b"leaf"])),
        ("lt.dir.checkpoint", b"note"),
        ("lt.dir.blob.ab", b"contract"),
    ]
    made.js.errors = [nats.js.errors.NoStreamResponseError(), nats.js.errors.NotFoundError()]
    with pytest.raises(FeedUnavailable, match="made anew"):
        await feed.publish_checkpoint(b"note")
    assert made.js.streams[-1] == "add LT_DIR"


async def test_a_broker_that_does_not_confirm_is_told():
    made = FakeConnection()
    feed = NatsFeed(made)
    made.js.errors = [nats.errors.TimeoutError()]
    with pytest.raises(FeedUnavailable, match="confirm"):
        await feed.publish_checkpoint(b"note")
    made.js.errors = [nats.errors.ConnectionClosedError()]
    with pytest.raises(FeedUnavailable, match="made"):
        await feed.prepare()


# --- new credentials ------------------------------------------------------------------------------------------------


async def test_a_renewal_takes_over_without_losing_what_is_under_way(broker):
    """A request that was sent over the first connection is answered after it ended."""
    echo, heard = Echo(), Heard()
    echo.release.clear()
    jwts = iter(["first.jwt", "second.jwt"])
    identity = BrokerIdentity("n1", lambda: next(jwts), KEY.sign)
    made = Connection([broker.url], None, identity, "_I.GOV~H37~n1.", heard)
    echo.connection = made
    made.subscribe("lt.q.GOV~H37.*", echo, "q~GOV~H37")
    await made.start()
    try:
        assert await made.wait_connected(10)
        asked = asyncio.create_task(made.exchange("lt.q.GOV~H37.GOV~H37", b"abc", 10))
        await echo.started.wait()
        await made.renew()
        assert [hello["jwt"] for hello in broker.hellos] == ["first.jwt", "second.jwt"]
        await broker.until(lambda: len(broker.peers) == 1)
        echo.release.set()
        assert (await asked).data == b"cba"
        assert (await made.exchange("lt.q.GOV~H37.GOV~H37", b"xyz", 10)).data == b"zyx"
        assert heard.states == [True, True]
    finally:
        await made.close()


async def test_a_renewal_that_is_refused_leaves_the_connection_as_it_is(broker):
    echo = Echo()
    async with started(broker, ("lt.q.GOV~H37.*", echo), connect_deadline_s=0.5) as made:
        echo.connection = made
        broker.refuse_next = 1_000
        with pytest.raises(errors.BrokerUnavailable, match="second connection"):
            await made.renew()
        assert (await made.exchange("lt.q.GOV~H37.GOV~H37", b"abc", 10)).data == b"cba"


async def test_a_renewal_while_the_line_is_down_is_left_to_the_next_attempt(broker):
    made = connection(broker)
    await made.renew()
    assert broker.hellos == []


async def test_refused_credentials_are_reported(broker):
    told = asyncio.Event()
    broker.refuse_next = 1
    async with started(broker, on_refused=told.set):
        assert told.is_set()
