"""Control questions of strangers, and brokers that want something else signed than a nonce."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from forging import Stand, message
from nats.aio.client import Client
from world import CommandFailed, eventually

from bus.exchange.control import Question, Reply
from bus.front.server import client_tls
from bus.transport.connection import BrokerIdentity, Connection
from console.homes import MemberHome
from console.membership import Speaker, call_registry
from evidence import checkpoint, merkle, note
from evidence.checkpoint import Checkpoint
from evidence.errors import CheckpointMalformed
from evidence.header import encode_time
from evidence.identifiers import NodeId, log_origin
from evidence.log.reader import LogReader
from evidence.note import VerifierKey
from evidence.signer import FileSigner
from registry.client import RegistryClient, RegistryRefused
from registry.documents import Access, Node, NodeLog

SUBJECT = "lt.k.GOV~G01~n1.GOV~E66~n1"


@pytest.fixture
async def evil_nats(stand: Stand) -> AsyncIterator[Client]:
    connection = await stand.world.nats_connection(as_node="E66")
    yield connection
    await connection.close()


@pytest.fixture
async def all_rights(stand: Stand) -> AsyncIterator[Client]:
    connection = await stand.world.nats_connection()
    yield connection
    await connection.close()


def question(kind: str, origin: str, old: int = 0, new: int = 0) -> bytes:
    return msgspec.msgpack.encode(Question(1, kind, origin, old, new))


async def ask(connection: Client, stand: Stand, data: bytes, subject: str = SUBJECT) -> Reply:
    inbox = stand.evil.inbox
    subscription = await connection.subscribe(inbox)
    await connection.publish(subject, data, inbox)
    got = await subscription.next_msg(10)
    await subscription.unsubscribe()
    return msgspec.msgpack.decode(got.data, type=Reply)


def own_origin(stand: Stand, code: str = "G01") -> str:
    return log_origin(stand.world.genesis, NodeId.parse(stand.world.member(code).node), 1)


async def test_a_member_learns_the_newest_checkpoint_that_is_known_of_its_own_log(
    stand: Stand, evil_nats: Client
) -> None:
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    inbox = stand.evil.inbox
    subscription = await evil_nats.subscribe(inbox)
    await evil_nats.publish(stand.evil.subject(), message(draft, logged), inbox)
    await subscription.next_msg(10)
    assert (await ask(evil_nats, stand, question("newest", stand.evil.origin))).note == logged.note


async def test_a_consistency_proof_joins_two_checkpoints_of_the_asked_log(stand: Stand, evil_nats: Client) -> None:
    size = int(stand.world.metric("G01", "lienthong_log_size"))
    reply = await ask(evil_nats, stand, question("consistency", own_origin(stand), 1, size))
    path = [reply.path[at : at + 32] for at in range(0, len(reply.path), 32)]
    root = bytes.fromhex(stand.world.admin("G01", "/status").json()["log"]["root"])
    with LogReader(stand.world.member("G01").log_db) as reader:
        first = merkle.leaf_hash(reader.leaf(0))
    merkle.verify_consistency(1, size, first, root, path)


@pytest.mark.parametrize(
    "token", ["GOV~X99~n1", "GOV~E66~n9", "GOV~E66", "x", "GOV~E66~n1~x", "GOV~=FF~n1", "GOV~G01~=00", "=41~=42~=43"]
)
async def test_a_question_of_a_stranger_is_dropped(stand: Stand, all_rights: Client, token: str) -> None:
    async with stand.dropped("question-of-a-stranger"):
        await all_rights.publish(f"lt.k.GOV~G01~n1.{token}", question("newest", stand.evil.origin), f"_I.{token}.x")
        await all_rights.flush()


async def test_a_member_learns_nothing_about_the_logs_of_others(stand: Stand, evil_nats: Client) -> None:
    origins = [own_origin(stand, "H37"), own_origin(stand, "G01"), own_origin(stand, "F77"), "x", ""]
    async with stand.dropped("question-of-a-stranger", times=len(origins)):
        for origin in origins:
            await evil_nats.publish(SUBJECT, question("newest", origin), stand.evil.inbox)
        await evil_nats.flush()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1" * 10, id="no-msgpack"),
        pytest.param(b"\x91" * 100_000, id="deep"),
        pytest.param(b"\x93\x01\xa1\x80\xa1\x80", id="no-utf8"),
        pytest.param(msgspec.msgpack.encode([1, "newest"]), id="short"),
        pytest.param(msgspec.msgpack.encode([1, "newest", "o", 0, 0, 0]), id="long"),
        pytest.param(msgspec.msgpack.encode([1, "newest", 7]), id="wrong-type"),
        pytest.param(msgspec.msgpack.encode([1, "other", "o"]), id="unknown-kind"),
    ],
)
async def test_a_malformed_question_is_dropped(stand: Stand, evil_nats: Client, data: bytes) -> None:
    async with stand.dropped("question-malformed"):
        await evil_nats.publish(SUBJECT, data, stand.evil.inbox)
        await evil_nats.flush()


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 1), (2, 1), (-1, 1), (1, 2**62), (2**63, 2**63)])
async def test_a_consistency_proof_that_cannot_exist_is_not_tried(
    stand: Stand, evil_nats: Client, old: int, new: int
) -> None:
    async with stand.dropped("question-malformed"):
        await evil_nats.publish(SUBJECT, question("consistency", own_origin(stand), old, new), stand.evil.inbox)
        await evil_nats.flush()


async def test_a_proof_of_another_log_is_not_given(stand: Stand, evil_nats: Client) -> None:
    async with stand.dropped("question-malformed"):
        await evil_nats.publish(SUBJECT, question("consistency", own_origin(stand, "H37"), 1, 2), stand.evil.inbox)
        await evil_nats.flush()


@pytest.mark.parametrize(
    "reply",
    ["", "_I.GOV~H37~n1.x", "_I.GOV~E66~n10.x", "_I.GOV~E66~n1.*", "_I.GOV~E66~n1.>", "$JS.API.STREAM.PURGE.LT_DIR",
     "lt.q.GOV~H37.GOV~G01"],
)  # fmt: skip
async def test_a_question_with_a_foreign_reply_subject_is_dropped(stand: Stand, all_rights: Client, reply: str) -> None:
    async with stand.dropped("reply-subject-foreign"):
        await all_rights.publish(SUBJECT, question("newest", stand.evil.origin), reply)
        await all_rights.flush()


async def test_questions_are_answered_within_a_rate(stand: Stand, evil_nats: Client) -> None:
    heard: list[bytes] = []
    inbox = stand.evil.inbox

    async def hear(got: Any) -> None:
        heard.append(got.data)

    subscription = await evil_nats.subscribe(inbox, cb=hear)
    before = stand.world.dropped("G01").get("question-of-a-stranger", 0.0)
    began_s = time.monotonic()
    for _ in range(1000):
        await evil_nats.publish(SUBJECT, question("newest", stand.evil.origin), inbox)
    await evil_nats.flush()
    await eventually(
        lambda: stand.world.dropped("G01").get("question-of-a-stranger", 0.0) - before + len(heard) == 1000
    )
    assert 1 <= len(heard) <= 51 + 50 * (time.monotonic() - began_s)
    await subscription.unsubscribe()


async def test_hints_go_out_within_a_rate_and_only_to_the_senders_own_inbox(
    stand: Stand, evil_nats: Client, all_rights: Client
) -> None:
    heard: list[str] = []

    async def hear(got: Any) -> None:
        if len(got.data) < 128:  # hints; the gateways' own questions and answers go on meanwhile
            heard.append(got.subject)

    tap = await all_rights.subscribe("_I.>", cb=hear)
    await all_rights.flush()
    before = sum(stand.world.dropped("G01").values())
    began_s = time.monotonic()
    for at in range(1000):
        reply = f"_I.GOV~H37~n1.{at}" if at % 2 else stand.evil.inbox
        await evil_nats.publish(stand.evil.subject(), b"x", reply)
    await evil_nats.flush()
    await eventually(lambda: sum(stand.world.dropped("G01").values()) - before == 1000)
    await all_rights.flush()
    assert 1 <= len(heard) <= 21 + 20 * (time.monotonic() - began_s)
    assert {subject.split(".")[1] for subject in heard} == {"GOV~E66~n1"}
    await tap.unsubscribe()


# --- the broker's challenge -----------------------------------------------------------------------------------------


class Silent:
    """A transport observer."""

    def connected(self, up: bool) -> None:
        """Nothing."""

    def denied(self) -> None:
        """Nothing."""

    def overloaded(self) -> None:
        """Nothing."""


CLIENT_HELLO = b"\x16\x03"


class Oracle:
    """A hand-made broker: sends one INFO with a challenge of its choice, keeps what the client says."""

    def __init__(self, nonce: Any) -> None:
        self.nonce = nonce
        self.heard = b""
        self.contacts = 0
        self._talks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Oracle:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.contacts += 1
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        info = {"server_id": "X", "version": "2.12.0", "proto": 1, "max_payload": 1 << 20, "auth_required": True,
                "headers": True, "jetstream": True, "nonce": self.nonce}  # fmt: skip
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        try:
            while chunk := await asyncio.wait_for(reader.read(4096), 5):
                self.heard += chunk
                if b"PING\r\n" in chunk:
                    writer.write(b"PONG\r\n")
                if chunk.startswith(CLIENT_HELLO):
                    return
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class Key:
    """A log key that remembers what it signed."""

    def __init__(self) -> None:
        self.signer = FileSigner.generate("ed25519")
        self.signed: list[bytes] = []

    def sign(self, data: bytes) -> bytes:
        self.signed.append(data)
        return self.signer.sign(data)


async def connect(oracle: Oracle, key: Key, until: Any) -> bool:
    identity = BrokerIdentity("n", lambda: "jwt", key.sign)
    connection = Connection([f"nats://127.0.0.1:{oracle.port}"], None, identity, "_I.x.", Silent())
    await connection.start()
    try:
        await eventually(until)
        return connection.connected
    finally:
        await connection.close()


ORIGIN = f"{'ab' * 32}/VN-TEST/GOV/H37/@n1/1"


@pytest.mark.parametrize(
    "nonce",
    [
        pytest.param(Checkpoint(ORIGIN, 7, b"\1" * 32).text(), id="checkpoint"),
        pytest.param(Checkpoint(ORIGIN, 7, b"\1" * 32).text() + "\n", id="checkpoint-and-line"),
        pytest.param("lienthong/v1/exchange\n{}", id="leaf"),
        pytest.param("eyJhbGciOiJFUzI1NiJ9.eyJ0eXAiOiJ4In0", id="jws-signing-input"),
        pytest.param("cosignature/v1\ntime 1\nx", id="cosignature"),
        pytest.param("a" * 65, id="longer-than-a-nonce"),
        pytest.param("a" * 7, id="shorter-than-a-nonce"),
        pytest.param("abcdefgh\n", id="line-end"),
        pytest.param("abcdefgh=", id="padding"),
        pytest.param("", id="empty"),
        pytest.param("đđđđđđđđ", id="not-ascii"),
    ],
)
async def test_a_broker_whose_nonce_is_something_else_gets_no_signature(nonce: str) -> None:
    key = Key()
    async with Oracle(nonce) as oracle:
        assert not await connect(oracle, key, lambda: oracle.contacts >= 2)
    assert key.signed == []
    assert b'"sig"' not in oracle.heard


@pytest.mark.parametrize("nonce", [None, 7, ["x"], {"a": 1}])
async def test_a_broker_without_a_proper_nonce_gets_no_signature(nonce: Any) -> None:
    key = Key()
    async with Oracle(nonce) as oracle:
        await connect(oracle, key, lambda: oracle.contacts >= 1)
    assert key.signed == []
    assert b'"sig"' not in oracle.heard


async def test_a_true_nonce_is_signed_and_the_signature_is_over_nothing_else() -> None:
    key = Key()
    async with Oracle("rzNCBzD-aIAaPJk_aQ") as oracle:
        assert await connect(oracle, key, lambda: b"PING" in oracle.heard and key.signed and b"SUB" in oracle.heard)
    assert key.signed == [b"rzNCBzD-aIAaPJk_aQ"]
    told = json.loads(re.search(rb"CONNECT (.*)\r\n", oracle.heard)[1])  # type: ignore[index]
    assert base64.b64decode(told["sig"]) == key.signer.sign(b"rzNCBzD-aIAaPJk_aQ")


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_a_broker_that_offers_no_tls_gets_neither_signature_nor_jwt(stand: Stand, scheme: str) -> None:
    """Somebody in between answers without TLS: what a node says to its broker never goes out in clear."""
    key = Key()
    context = client_tls(str(stand.world.home / "ca" / "ca.crt"))
    async with Oracle("rzNCBzD-aIAaPJk_aQ") as oracle:
        identity = BrokerIdentity("n", lambda: "jwt", key.sign)
        connection = Connection([f"{scheme}://127.0.0.1:{oracle.port}"], context, identity, "_I.x.", Silent())
        await connection.start()
        try:
            await eventually(lambda: oracle.heard)
            assert oracle.heard.startswith(CLIENT_HELLO)
            assert not connection.connected
        finally:
            await connection.close()
    assert key.signed == []
    assert b"CONNECT" not in oracle.heard
    assert b"jwt" not in oracle.heard


def test_a_signed_nonce_is_no_checkpoint_of_the_same_key() -> None:
    """Whatever passes as a nonce, the note that it would make does not parse as a checkpoint."""
    signer = FileSigner.generate("ed25519")
    key = VerifierKey(ORIGIN, signer.public_bytes)
    signed = note.sign("aGVsbG8tbm9uY2U\n", ORIGIN, signer)
    with pytest.raises(CheckpointMalformed):
        checkpoint.verify(signed, (key,))


async def test_the_directory_refuses_a_broker_key_that_is_a_log_key(stand: Stand) -> None:
    """Otherwise a broker's challenge would be signed by the key that signs checkpoints."""
    home = MemberHome(stand.world.member("F77").home)
    log = base64.b64encode(FileSigner.generate("ed25519").public_bytes).decode()
    known = base64.b64encode(stand.world.member("F77").signer("log").public_bytes).decode()
    foreign = base64.b64encode(stand.world.member("H37").signer("log").public_bytes).decode()
    broker = base64.b64encode(stand.world.member("H37").signer("broker").public_bytes).decode()
    for log_key, broker_key in ((log, log), (log, known), (log, foreign), (broker, log), (known, log)):
        with pytest.raises(RegistryRefused) as caught:
            await asyncio.to_thread(_state_node, home, log_key, broker_key)
        assert caught.value.code == "key-reused"


def _state_node(home: MemberHome, log_key: str, broker_key: str) -> None:
    facts, speaker = home.facts, Speaker.member(home)
    node = f"{facts.member}/@n{os.urandom(3).hex()}"
    origin = log_origin(facts.genesis, NodeId.parse(node), 1)

    async def work(client: RegistryClient) -> None:
        await speaker.say(
            client, Node, node, log=NodeLog(key=log_key, origin=origin), broker_key=broker_key,
            valid_from=encode_time(datetime.now(UTC) - timedelta(minutes=1)),
        )  # fmt: skip

    call_registry(facts.registry, work)


def test_a_member_cannot_grant_itself_access_to_anothers_service(stand: Stand) -> None:
    """E66 writes an access document for G01's service under its own key: the registry refuses it."""
    home = MemberHome(stand.world.member("E66").home)
    speaker = Speaker.member(home)
    service = "VN-TEST/GOV/G01/desk/notes"

    async def work(client: RegistryClient) -> None:
        await speaker.say(
            client, Access, f"{service}#evil", client="VN-TEST/GOV/E66/desk", service=service, purposes=("*",),
            grounds=("*",), operations=None, fields=(),
        )  # fmt: skip

    with pytest.raises(RegistryRefused) as caught:
        call_registry(home.facts.registry, work)
    assert caught.value.code in ("member-signature-missing", "author-wrong", "provider-signature-missing"), caught.value


def test_joining_with_another_genesis_is_refused(stand: Stand) -> None:
    with pytest.raises(CommandFailed) as caught:
        stand.world.command(
            "join", "--member", "VN-TEST/GOV/Z", "--home", str(stand.world.folder / "Z"), "--name", "en=Z",
            "--registry", stand.world.registry_url, "--genesis", "sha256:" + "ab" * 32,
        )  # fmt: skip
    assert caught.value.code == "wrong-genesis"
