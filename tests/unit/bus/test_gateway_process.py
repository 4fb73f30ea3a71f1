"""A whole gateway in this process: a small broker on loopback, a signed directory, a member that calls itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from bus_world import CITIZEN, Clock, Faults, FaultyStore, plain_document
from fake_broker import FakeBroker, fake_broker
from registry_feed import signed_checkpoint
from registry_world import PROVIDER, START, World, b64
from yarl import URL

from bus import errors
from bus.exchange.peers import PeerHead, Peers
from bus.front.credentials import hash_key
from bus.front.server import client_tls
from bus.gateway.runtime import Gateway
from bus.gateway.sealingkeys import write_key
from bus.sealing.keys import X25519, SealingKeyPair
from bus.transport.connection import BrokerIdentity, Connection
from evidence import header, leaf, note
from evidence.checkpoint import Checkpoint
from evidence.errors import LogLocked
from evidence.issue import create_authority, issue_tls, to_pem
from evidence.leaf import DIRECTORY
from evidence.log import ExchangeLog
from evidence.signer import FileSigner, generate_key_file
from registry import documents as d
from registry.feed import encode_bundle
from registry.own import OwnStore

NODE, CLIENT, SERVICE = f"{PROVIDER}/@n1", f"{PROVIDER}/onedoor", f"{PROVIDER}/population/citizens"
PEER = "VN-TEST/GOV/H37/@n1"
KEY = "onedoor.s3cret"
HASH = hash_key(KEY, b"salt")
PATH = f"/r1/{SERVICE}/citizens/042091004444"
AT = START + timedelta(minutes=100)


class Home:
    """A member's home, its signed directory, and the files of its gateway."""

    def __init__(self, folder: Path, broker: FakeBroker, backend: str) -> None:
        self.folder, self.broker = folder, broker
        self.world = world = World().begin()
        for name in ("keys", "data", "gateway.d"):
            (folder / name).mkdir()
        self.log_key = generate_key_file(folder / "keys/log.pem", "ed25519")
        broker_key = generate_key_file(folder / "keys/broker.pem", "ed25519")
        (folder / "keys/broker.jwt").write_text("user.jwt\n")
        (folder / "keys/onedoor.hash").write_text(HASH)
        document = plain_document()
        self.contracts = {hashlib.sha256(document).hexdigest(): document}
        for code in ("onedoor", "population"):
            world.put(world.subsystem(f"{PROVIDER}/{code}"), world.provider)
        world.put(world.node(NODE, log=self.log_key, broker_key=b64(broker_key.public_bytes)), world.provider)
        world.put(world.node(PEER), world.consumer)
        for owner, use, uses in ((PROVIDER, "query", ("query", "command")), (NODE, "answer", ("answer",))):
            pair = SealingKeyPair.generate(X25519)
            write_key(folder / "keys/sealing", owner, use, pair)
            world.put(world.sealing(owner, pair.public_key.public, use=uses), world.provider)
        world.put(
            world.service(
                SERVICE,
                contract=hashlib.sha256(document).hexdigest(),
                operations=(
                    d.Operation(id="getCitizen", method="GET", path="/citizens/{number}"),
                    d.Operation(id="confirm", method="POST", path="/confirmations"),
                ),
                fields=(),
            ),
            world.provider,
        )
        world.put(world.access(f"{SERVICE}#self", client=CLIENT, purposes=("*",), grounds=("*",)), world.provider)
        store = OwnStore(folder / "data/own.db", genesis=world.genesis, member=PROVIDER)
        for item in world.leaves[-2:]:
            store.put(item[len(DIRECTORY) :])
        store.close()
        self.origin = f"{world.genesis}/{NODE}/1"
        self.settings = f"""node = "{NODE}"
genesis = "{world.genesis}"
[keys]
log = "keys/log.pem"
broker = "keys/broker.pem"
sealing = "keys/sealing"
[broker]
urls = ["{broker.url}"]
ca = "ca.pem"
credentials = "keys/broker.jwt"
[front]
listen = "127.0.0.1:0"
plain_http = true
[admin]
listen = "127.0.0.1:0"
[limits]
join_every_s = 0.02
drain_s = 5.0
[[client]]
name = "onedoor"
subsystems = ["{CLIENT}"]
key = "keys/onedoor.hash"
[[service]]
id = "{SERVICE}"
kind = "http"
settings = {{ base_url = "{backend}" }}
"""
        self.write(self.settings)

    @property
    def path(self) -> Path:
        return self.folder / "gateway.toml"

    def write(self, text: str) -> None:
        self.path.write_text(text)

    @asynccontextmanager
    async def feed(self):
        """The directory's stream: what the broker would give by direct get."""

        async def give(subject: str, reply: str, _data: bytes) -> None:
            name = subject.removeprefix("$JS.API.DIRECT.GET.LT_DIR.lt.dir.")
            if name == "checkpoint":
                data = signed_checkpoint(self.world, self.world.leaves, AT)
            elif name.startswith("entries."):
                data = encode_bundle(self.world.leaves)
            else:
                data = self.contracts[name.removeprefix("blob.")]
            await made.send(reply, data)

        identity = BrokerIdentity("registry", lambda: "jwt", FileSigner.generate("ed25519").sign)
        made = Connection(
            [self.broker.url], client_tls(str(self.folder / "ca.pem")), identity, "_I.registry.", _Silent()
        )
        made.subscribe("$JS.API.DIRECT.GET.LT_DIR.>", give)
        await made.start()
        assert await made.wait_connected(10)
        try:
            yield made
        finally:
            await made.close()


class _Silent:
    def connected(self, up):
        return

    def denied(self):
        return

    def overloaded(self):
        return


class Running:
    """A gateway that runs; `raised` is what it ended with."""

    def __init__(self, home: Home, faults: Faults | None = None) -> None:
        faults = faults or Faults()
        self.clock = Clock(AT)
        self.home = home
        self.gateway = Gateway(home.path, self.clock, lambda path: FaultyStore(path, faults))
        self.stop, self.up = asyncio.Event(), asyncio.Event()
        self.task = asyncio.ensure_future(self.gateway.run(self.stop, lambda _: self.up.set()))

    async def get(self, url: str, **more) -> tuple[int, dict]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(URL(url, encoded=True), **more) as answer,
        ):
            return answer.status, json.loads(await answer.read())

    async def call(self, path: str = PATH, key: str = KEY) -> tuple[int, dict]:
        headers = {"X-Road-Client": CLIENT, "X-LienThong-Key": key}
        return await self.get(self.gateway.front_server.url + path, headers=headers)

    async def until(self, condition) -> dict:
        """Asks for readiness until its answer is as wanted."""
        async with asyncio.timeout(20):
            while True:
                _, body = await self.get(self.gateway.admin_server.url + "/readyz")
                if condition(body):
                    return body
                await asyncio.sleep(0.01)

    async def ready(self) -> None:
        await self.up.wait()
        await self.until(lambda body: body["ready"])


def broker_tls(folder: Path) -> ssl.SSLContext:
    """The broker's side of TLS; `ca.pem` is what the gateway trusts."""
    now = datetime.now(UTC)
    days = {"not_before_at": now - timedelta(days=1), "not_after_at": now + timedelta(days=1)}
    authority = create_authority("test", FileSigner.generate("p256"), **days)
    (folder / "ca.pem").write_bytes(authority.pem)
    key = generate_key_file(folder / "broker.pem", "p256")
    certificate = issue_tls(
        authority,
        "broker",
        key.private_key.public_key(),
        role="server",
        dns_names=[],
        ip_addresses=["127.0.0.1"],
        **days,
    )
    (folder / "broker.crt").write_bytes(to_pem([certificate]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "broker.crt", folder / "broker.pem")
    return context


@pytest.fixture
async def home(tmp_path):
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=CITIZEN, content_type="application/json")

    async with fake_broker(broker_tls(tmp_path)) as broker, RawTestServer(answer) as backend:
        yield Home(tmp_path, broker, str(backend.make_url("/")).rstrip("/"))


@asynccontextmanager
async def running(home: Home, **more):
    made = Running(home, **more)
    try:
        yield made
    finally:
        made.stop.set()
        await asyncio.wait_for(asyncio.gather(made.task, return_exceptions=True), 20)


def log_types(home: Home) -> list[str]:
    db = sqlite3.connect(home.folder / "data/log.db")
    rows = [row[0] for row in db.execute("SELECT data FROM leaf ORDER BY idx")]
    db.close()
    return [
        header.decode(leaf.unwrap(row)[1]).type if leaf.unwrap(row)[0] == leaf.EXCHANGE else "control" for row in rows
    ]


async def test_a_gateway_starts_serves_and_drains(home):
    async with home.feed(), running(home) as gateway:
        await gateway.ready()
        assert await gateway.call() == (200, json.loads(CITIZEN))
        status, body = await gateway.call("/elsewhere")
        assert (status, body["code"]) == (404, "not-found")
        status, body = await gateway.get(gateway.gateway.front_server.url + "/listClients")
        assert status == 200
        _, body = await gateway.get(gateway.gateway.admin_server.url + "/status")
        assert (body["node"], body["services"]) == (NODE, [SERVICE])
        async with (
            aiohttp.ClientSession() as session,
            session.get(gateway.gateway.admin_server.url + "/metrics") as answer,
        ):
            assert "lienthong_broker_connected 1.0" in await answer.text()
        gateway.stop.set()
        await asyncio.wait_for(gateway.task, 20)
    assert log_types(home) == ["control", "query", "query", "answer", "answer"]


async def test_without_a_broker_the_gateway_says_what_it_waits_for(home):
    home.broker.refuse_next = 10**6
    async with running(home) as gateway:
        await gateway.up.wait()
        body = await gateway.until(lambda body: body["checks"][-1]["code"] == "confirming-head")
        assert [check["name"] for check in body["checks"] if not check["ok"]] == ["directory", "broker", "serving"]
        status, body = await gateway.call()
        assert (status, body["code"]) == (503, "starting")


async def test_a_stale_directory_refuses_calls(home):
    async with home.feed(), running(home) as gateway:
        await gateway.ready()
        gateway.clock.pass_time(1_000)
        status, body = await gateway.call()
        assert (status, body["code"]) == (503, "directory-stale")
        assert "1000 s ago" in body["detail"]
        await gateway.until(lambda body: not body["ready"])


async def test_a_reload_takes_over_clients_and_limits(home):
    async with home.feed(), running(home) as gateway:
        await gateway.ready()
        (home.folder / "keys/onedoor.hash").write_text(hash_key("onedoor.new", b"salt"))
        await gateway.gateway.reload()
        assert (await gateway.call())[1]["code"] == "credentials-invalid"
        home.write(home.settings.replace("drain_s = 5.0", "drain_s = 5.0\nper_client = 0"))
        await gateway.gateway.reload()
        assert (await gateway.call(key="onedoor.new"))[1]["code"] == "too-many-in-flight"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('node = "', 'incarnation = 2\nnode = "', "incarnation"),
        ('urls = ["', 'urls = ["tls://127.0.0.1:1", "', "broker"),
        ('ca = "ca.pem"', 'ca = "keys/onedoor.hash"', "broker"),
        ('kind = "http"', 'kind = "telepathy"', "service[0].settings"),
        ('id = "VN', 'id = "vn:VN', "service[0].id"),
        ("plain_http = true", 'certificate = "ca.pem"\nkey = "ca.pem"', "front.certificate"),
    ],
)
async def test_a_reload_is_all_or_nothing(home, old, new, key):
    async with running(home) as gateway:
        await gateway.up.wait()
        before = gateway.gateway.settings
        assert old in home.settings
        home.write(home.settings.replace(old, new, 1))
        with pytest.raises(errors.SettingsInvalid) as caught:
            await gateway.gateway.reload()
        assert key in [name for _, name, _ in caught.value.problems]
        assert gateway.gateway.settings is before


async def test_a_second_gateway_on_the_same_log_halts(home):
    (home.folder / "data").mkdir(exist_ok=True)
    log = await ExchangeLog.open(
        home.folder / "data/log.db",
        origin=home.origin,
        signer=home.log_key,
        now=lambda: AT,
        token=lambda: "token-of-twenty-chars",
    )
    try:
        async with running(home) as gateway:
            with pytest.raises(LogLocked):
                await asyncio.wait_for(gateway.task, 20)
    finally:
        await log.close()


async def test_a_gateway_whose_log_is_older_than_what_others_saw_halts(home):
    peer_origin = f"{home.world.genesis}/{PEER}/1"
    peers = Peers(home.folder / "data/peers.db")
    peers.keep(PeerHead(peer_origin, PEER, 1, bytes(32), b"note"), 1)
    peers.close()
    newer = note.sign(Checkpoint(home.origin, 99, bytes(32)).text(), home.origin, home.log_key)

    async with home.feed() as other:

        async def tell(subject: str, reply: str, data: bytes) -> None:
            from bus.exchange.control import Reply, _encode

            await other.send(reply, _encode(Reply(1, note=newer)))

        await other.serve("lt.k.GOV~H37~n1.*", tell)
        await home.broker.until(lambda: ("lt.k.GOV~H37~n1.*", "") in home.broker.subscribed())
        async with running(home) as gateway:
            with pytest.raises(errors.CloneSuspected):
                await asyncio.wait_for(gateway.task, 20)
    assert log_types(home) == ["control"]


async def test_requests_of_an_earlier_run_are_closed_at_the_start(home):
    async with home.feed(), running(home) as gateway:
        await gateway.ready()
        await gateway.call()
    db = sqlite3.connect(home.folder / "data/log.db")
    db.execute("INSERT INTO open_request VALUES (1)")  # the first query
    db.commit()
    db.close()
    async with home.feed(), running(home) as gateway:
        await gateway.ready()
        assert log_types(home)[-2:] == ["control", "outcome"]


async def test_a_log_that_fails_while_running_is_told_and_comes_back(home):
    faults = Faults()
    async with home.feed(), running(home, faults=faults) as gateway:
        await gateway.ready()
        faults.arm("fails")
        status, body = await gateway.call()
        assert (status, body["code"]) == (503, "log-unwritable")
        await gateway.ready()
        assert (await gateway.call())[0] == 200


async def test_own_rights_are_taken_over_and_old_contents_erased(home, monkeypatch):
    monkeypatch.setattr("bus.gateway.runtime._OWN_POLL_S", 0.01)
    old = home.folder / "data/day-keys/2024-01-01.key"
    old.parent.mkdir()
    old.write_bytes(bytes(32))
    async with home.feed(), running(home) as gateway:
        await gateway.ready()
        store = OwnStore(home.folder / "data/own.db", genesis=home.world.genesis, member=PROVIDER)
        world = home.world
        changed = world.access(f"{SERVICE}#self", client=f"{PROVIDER}/other", purposes=("*",), grounds=("*",))
        store.put(world.sign(changed, world.provider))
        store.close()
        async with asyncio.timeout(20):
            while (await gateway.call())[0] != 403:
                await asyncio.sleep(0.01)
            while old.exists():
                await asyncio.sleep(0.01)


def test_settings_that_cannot_be_used_are_told_before_anything_starts(tmp_path):
    (tmp_path / "gateway.toml").write_text("node = 1")
    with pytest.raises(errors.SettingsInvalid):
        Gateway(tmp_path / "gateway.toml", Clock())
