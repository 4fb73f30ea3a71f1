"""Hand-made queries on the real broker against a provider's real gateway: each is dropped under its own code.

A dropped message leaves no byte in the log and never reaches the back end (`Stand.dropped` looks at both).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sqlite3
from collections.abc import AsyncIterator

import msgspec
import pytest
from forging import Draft, HandNode, Stand, checkpoint_note, message, sealing_pair
from nats.aio.client import Client
from world import eventually

from bus import envelope as wire
from bus.sealing.contents import pack, salted_hex
from bus.sealing.epoch import message_aad, sealdigest
from evidence import header, leaf, merkle
from evidence.header import uuid7
from evidence.log.reader import LogReader
from evidence.signer import FileSigner


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


async def send(connection: Client, node: HandNode, data: bytes, *, subject: str = "", reply: str = "") -> None:
    await connection.publish(subject or node.subject(), data, reply or node.inbox)
    await connection.flush()


async def ask(connection: Client, node: HandNode, data: bytes) -> bytes:
    """Sends and waits for what comes back."""
    inbox = node.inbox
    subscription = await connection.subscribe(inbox)
    await connection.publish(node.subject(), data, inbox)
    got = await subscription.next_msg(10)
    await subscription.unsubscribe()
    return bytes(got.data)


async def test_the_genuine_hand_made_query_is_served(stand: Stand, evil_nats: Client) -> None:
    """Without this, every other test here could pass for the wrong reason."""
    draft = stand.evil.query("/notes/genuine")
    reached = len(stand.world.backend.received)
    data = await ask(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))
    told, particulars, body = stand.evil.open_answer(data)
    assert (told.type, told.class_, particulars.status, body) == ("answer", "ok", 200, b'{"ok":true}')
    assert told.inreplyto == merkle.leaf_hash(draft.leaf).hex()
    assert stand.world.backend.received[reached].target == "/notes/genuine"


async def test_a_replayed_query_is_dropped(stand: Stand, evil_nats: Client) -> None:
    draft = stand.evil.query()
    data = message(draft, stand.evil.log(draft.leaf))
    await ask(evil_nats, stand.evil, data)
    async with stand.dropped("replayed", times=3):
        for _ in range(3):
            await send(evil_nats, stand.evil, data)


async def test_a_query_replayed_after_a_restart_of_the_gateway_is_dropped(stand: Stand, evil_nats: Client) -> None:
    draft = stand.evil.query(expires_s=60)
    data = message(draft, stand.evil.log(draft.leaf))
    await ask(evil_nats, stand.evil, data)
    stand.world.kill_gateway("G01")
    stand.world.start_gateway("G01")
    async with stand.dropped("replayed"):
        await send(evil_nats, stand.evil, data)


async def test_the_same_id_with_other_contents_is_dropped(stand: Stand, evil_nats: Client) -> None:
    first = stand.evil.query("/notes/first")
    await ask(evil_nats, stand.evil, message(first, stand.evil.log(first.leaf)))
    second = stand.evil.query("/notes/second", id=first.header.id)
    async with stand.dropped("replayed"):
        await send(evil_nats, stand.evil, message(second, stand.evil.log(second.leaf)))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"operation": "adminOnly"}, id="operation"),
        pytest.param({"time": "2026-01-01T00:00:00.000000Z"}, id="time"),
        pytest.param({"bodydigest": "0" * 64}, id="bodydigest"),
        pytest.param({"partdigest": "0" * 64}, id="partdigest"),
        pytest.param({"dir": f"1 {'0' * 64}"}, id="dir"),
        pytest.param({"source": "VN-TEST/GOV/E66/other"}, id="source"),
    ],
)
async def test_an_altered_header_is_dropped(stand: Stand, evil_nats: Client, changes: dict[str, str]) -> None:
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    async with stand.dropped("proof-invalid"):
        await send(evil_nats, stand.evil, message(draft.with_header(**changes), logged))


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda data: data.replace(b'"query"', b'"outcome"'), id="type"),
        pytest.param(lambda data: data.replace(b'{"specversion"', b'{ "specversion"'), id="space"),
        pytest.param(lambda data: data.replace(b'"type"', b'"x":"y","type"'), id="unknown-attribute"),
        pytest.param(lambda data: data[:-1] + b',"dir":"1 ' + b"0" * 64 + b'"}', id="attribute-twice"),
        pytest.param(lambda data: data.replace(b"getNote", b"get\\u004eote"), id="second-spelling"),
        pytest.param(lambda data: data[:-1], id="cut-off"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"\xff" * 64, id="no-text"),
    ],
)
async def test_a_header_in_another_form_is_dropped(stand: Stand, evil_nats: Client, bend: object) -> None:
    draft = stand.evil.query()
    bent = bend(draft.header_bytes)  # type: ignore[operator]
    logged = stand.evil.log(leaf.wrap(leaf.EXCHANGE, bent))
    async with stand.dropped("header-malformed"):
        await send(evil_nats, stand.evil, message(draft, logged, header=bent))


@pytest.mark.parametrize("part", ["ciphertext", "nonce", "wrapped"])
async def test_an_altered_seal_is_dropped_and_the_genuine_query_still_works(
    stand: Stand, evil_nats: Client, part: str
) -> None:
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    whole = getattr(draft, part)
    for at in (0, len(whole) // 2, len(whole) - 1):
        altered = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        async with stand.dropped("seal-digest-mismatch"):
            await send(evil_nats, stand.evil, message(draft, logged, **{part: altered}))
    data = await ask(evil_nats, stand.evil, message(draft, logged))
    assert stand.evil.open_answer(data)[1].status == 200


async def test_a_truncated_message_is_dropped_at_every_length(stand: Stand, evil_nats: Client) -> None:
    draft = stand.evil.query()
    data = message(draft, stand.evil.log(draft.leaf))
    lengths = [*range(24), *range(24, len(data), 97), len(data) - 1]
    async with stand.dropped("envelope-malformed", times=len(lengths)):
        for length in lengths:
            await evil_nats.publish(stand.evil.subject(), data[:length], stand.evil.inbox)
        await evil_nats.flush()
    assert stand.evil.open_answer(await ask(evil_nats, stand.evil, data))[1].status == 200


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"version": 2}, "version-unsupported", id="version"),
        pytest.param({"nonce": b"short"}, "envelope-malformed", id="nonce"),
        pytest.param({"path": b"x" * 31}, "envelope-malformed", id="path-not-of-hashes"),
        pytest.param({"path": b"x" * 32 * 64}, "envelope-malformed", id="path-too-long"),
        pytest.param({"index": -1}, "envelope-malformed", id="negative-index"),
        pytest.param({"index": 2**62, "size": 1}, "envelope-malformed", id="index-over-size"),
        pytest.param({"size": 2**63}, "envelope-malformed", id="size-too-large"),
        pytest.param({"note": b"x" * 9_000}, "envelope-malformed", id="note-too-long"),
        pytest.param({"wrapped": b"x" * 5_000}, "envelope-malformed", id="wrapped-too-long"),
        pytest.param({"header": b"x" * 70_000}, "envelope-malformed", id="header-too-long"),
        pytest.param({"ciphertext": b"x" * 5_000_000}, "envelope-too-large", id="too-large"),
    ],
)
async def test_an_envelope_out_of_shape_is_dropped(
    stand: Stand, evil_nats: Client, changes: dict[str, object], code: str
) -> None:
    draft = stand.evil.query()
    async with stand.dropped(code):
        await send(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf), **changes))


@pytest.mark.parametrize("start", [b"\x99\x01", b"\x99\x02"])
async def test_a_message_that_is_nested_without_end_is_dropped(stand: Stand, evil_nats: Client, start: bytes) -> None:
    async with stand.dropped("envelope-malformed"):
        await send(evil_nats, stand.evil, start + b"\x91" * 8_000)


@pytest.mark.parametrize("field", ["index", "path", "size"])
async def test_a_bent_proof_is_dropped(stand: Stand, evil_nats: Client, field: str) -> None:
    filler = stand.evil.query()
    stand.evil.log(filler.leaf)
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    changes = {"index": logged.index - 1, "size": logged.size + 1, "path": bytes(len(logged.path))}
    async with stand.dropped("proof-invalid"):
        await send(evil_nats, stand.evil, message(draft, logged, **{field: changes[field]}))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"to": "VN-TEST/GOV/H37/desk/notes"}, "not-addressed-to-us", id="another-member"),
        pytest.param({"to": "VN-TEST/GOV/G01X/desk/notes"}, "not-addressed-to-us", id="longer-member"),
        pytest.param({"to": "VN-OTHER/GOV/G01/desk/notes"}, "not-addressed-to-us", id="another-instance"),
        pytest.param({"source": "VN-TEST/GOV/H37/onedoor"}, "source-not-of-node", id="another-source"),
        pytest.param({"node": "VN-TEST/GOV/H37/@n1"}, "proof-of-another-node", id="another-node"),
        pytest.param({"node": "VN-TEST/GOV/E66/@n2"}, "proof-of-another-node", id="another-node-of-its-own"),
        pytest.param({"type": "command"}, "type-unexpected", id="command-as-query"),
        pytest.param({"type": "answer", "inreplyto": "0" * 64, "class_": "ok"}, "type-unexpected", id="answer"),
        pytest.param({"expires": None}, "expires-missing", id="without-expires"),
        pytest.param({"time": "2036-01-01T00:00:00.000000Z"}, "clock-ahead", id="from-the-future"),
        pytest.param({"expires": "2036-01-01T00:00:00.000000Z"}, "expires-too-late", id="for-ever"),
        pytest.param({"expires": "2026-01-01T00:00:00.000000Z"}, "expired", id="expired"),
    ],
)
async def test_a_truly_logged_query_that_is_not_for_us_or_not_now_is_dropped(
    stand: Stand, evil_nats: Client, fields: dict[str, object], code: str
) -> None:
    draft = stand.evil.query(**fields)
    async with stand.dropped(code):
        await send(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))


async def test_a_query_that_expired_on_the_way_is_dropped(stand: Stand, evil_nats: Client) -> None:
    draft = stand.evil.query(expires_s=-0.001)
    async with stand.dropped("expired"):
        await send(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))


async def test_a_query_for_another_member_is_not_served_by_the_one_whose_subject_it_came_on(
    stand: Stand, evil_nats: Client
) -> None:
    """Re-addressed on the way: E66 meant its query for H37; it arrives at G01."""
    draft = stand.evil.query(provider="H37", to="VN-TEST/GOV/H37/desk/notes")
    async with stand.dropped("not-addressed-to-us"):
        await send(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))


async def test_the_subject_must_name_the_sender_of_the_record(stand: Stand, all_rights: Client) -> None:
    draft = stand.evil.query()
    data = message(draft, stand.evil.log(draft.leaf))
    async with stand.dropped("subject-mismatch"):
        await send(all_rights, stand.evil, data, subject="lt.q.GOV~G01.GOV~H37")


async def test_the_broker_lets_a_node_speak_only_as_itself(stand: Stand, all_rights: Client) -> None:
    """A denied publish never arrives; each is tried before one that does arrive, on the same connection."""
    world = stand.world
    heard: list[str] = []

    async def hear(got: object) -> None:
        if not got.subject.endswith(".pull"):  # type: ignore[attr-defined]  # the broker's words to the gateways
            heard.append(got.subject)  # type: ignore[attr-defined]

    await all_rights.subscribe("lt.>", cb=hear)
    await all_rights.subscribe("_I.>", cb=hear)
    await all_rights.subscribe("$JS.API.STREAM.>", cb=hear)
    await all_rights.flush()
    connection = await world.nats_connection(as_node="E66")
    for subject in (
        "lt.q.GOV~G01.GOV~H37",
        "lt.q.GOV~G01.GOV~E66.x",
        "lt.k.GOV~G01~n1.GOV~H37~n1",
        "lt.dir.checkpoint",
        "lt.dir.entries.0",
        "$JS.API.STREAM.PURGE.LT_DIR",
        "$JS.API.STREAM.DELETE.LT_DIR",
        "$JS.API.STREAM.CREATE.X",
    ):
        await connection.publish(subject, b"x")
    for subject in ("lt.q.GOV~H37.GOV~E66", "lt.k.GOV~G01~n1.GOV~E66~n1"):
        await connection.publish(subject, b"x")
    await connection.flush()
    await connection.close()
    await eventually(lambda: len(heard) >= 2)
    assert sorted(heard) == ["lt.k.GOV~G01~n1.GOV~E66~n1", "lt.q.GOV~H37.GOV~E66"]


async def test_the_broker_lets_a_node_hear_only_what_is_for_it(stand: Stand, all_rights: Client) -> None:
    connection = await stand.world.nats_connection(as_node="E66")
    heard: list[str] = []

    async def hear(got: object) -> None:
        heard.append(got.subject)  # type: ignore[attr-defined]

    for subject in ("lt.>", ">", "lt.q.GOV~G01.*", "_I.>", "_I.GOV~H37~n1.>", "lt.k.>", "$JS.API.>"):
        await connection.subscribe(subject, cb=hear)
        await connection.subscribe(subject, queue="q~GOV~E66", cb=hear)
    await connection.subscribe("_I.GOV~E66~n1.>", cb=hear)
    await connection.flush()
    for _ in range(100):  # until something is heard: a connection may be made anew meanwhile
        for subject in ("lt.q.GOV~F77.GOV~H37", "_I.GOV~H37~n1.x", "lt.k.GOV~F77~n1.GOV~H37~n1", "_I.GOV~E66~n1.last"):
            await all_rights.publish(subject, b"x")
        await all_rights.flush()
        with contextlib.suppress(AssertionError):
            await eventually(lambda: heard, deadline_s=0.2)
            break
    await connection.close()
    assert set(heard) == {"_I.GOV~E66~n1.last"}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "_I.GOV~H37~n1.abc.def",
        "_I.GOV~E66~n1",
        "_I.GOV~E66~n1.",
        "_I.GOV~E66~n10.abc",
        "_I.GOV~E66~n1.*",
        "_I.GOV~E66~n1.>",
        "_I.GOV~E66~n1.a$b",
        "_I.GOV~E66~n1." + "a" * 81,
        "$JS.API.STREAM.PURGE.LT_DIR",
        "lt.q.GOV~H37.GOV~G01",
        "lt.dir.checkpoint",
    ],
)
async def test_a_foreign_reply_subject_is_dropped(stand: Stand, all_rights: Client, reply: str) -> None:
    """With the rights of the whole account, so that nothing but the gateway stands in the way."""
    draft = stand.evil.query()
    data = message(draft, stand.evil.log(draft.leaf))
    heard: list[str] = []

    async def hear(got: object) -> None:
        heard.append(got.subject)  # type: ignore[attr-defined]

    if reply and not reply.startswith("_I.") and not reply.startswith("$JS"):
        await all_rights.subscribe(reply, cb=hear)
    async with stand.dropped("reply-subject-foreign"):
        await all_rights.publish(stand.evil.subject(), data, reply)
        await all_rights.flush()
    assert not heard, "the provider answered to a subject that is not the caller's inbox"


async def test_a_reply_subject_that_acknowledges_for_a_stream_is_stopped_by_the_broker_already(
    stand: Stand, all_rights: Client
) -> None:
    """The second message is counted, the first never arrived."""
    draft = stand.evil.query()
    data = message(draft, stand.evil.log(draft.leaf))
    async with stand.dropped("reply-subject-foreign"):
        for reply in ("$JS.ACK.LT_DIR.x", "_I.GOV~H37~n1.x"):
            await all_rights.publish(stand.evil.subject(), data, reply)
        await all_rights.flush()


async def test_a_foreign_signature_is_dropped(stand: Stand, evil_nats: Client) -> None:
    """The checkpoint names the right log and has the right root, but another key signed it."""
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    root = stand.evil.frontier.root()
    forged = checkpoint_note(stand.evil.origin, logged.size, root, FileSigner.generate("ed25519"))
    async with stand.dropped("checkpoint-invalid"):
        await send(evil_nats, stand.evil, message(draft, logged, note=forged))


async def test_a_checkpoint_with_the_right_key_id_and_a_wrong_signature_is_dropped(
    stand: Stand, evil_nats: Client
) -> None:
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    async with stand.dropped("checkpoint-invalid"):
        await send(evil_nats, stand.evil, message(draft, logged, note=_other_signature(logged.note)))


def _other_signature(note: bytes) -> bytes:
    """The same text and key id; the last byte of the signature differs."""
    text, _, line = note.rpartition(b" ")
    raw = base64.b64decode(line)
    return text + b" " + base64.b64encode(raw[:-1] + bytes([raw[-1] ^ 1])) + b"\n"


async def test_a_forged_checkpoint_that_comes_first_does_not_poison_the_memory(stand: Stand, evil_nats: Client) -> None:
    """Forged first, then genuine, then the forged again: only the genuine one is ever believed."""
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    forged = message(draft, logged, note=_other_signature(logged.note))
    async with stand.dropped("checkpoint-invalid"):
        await send(evil_nats, stand.evil, forged)
    assert stand.evil.open_answer(await ask(evil_nats, stand.evil, message(draft, logged)))[1].status == 200
    async with stand.dropped("checkpoint-invalid"):
        await send(evil_nats, stand.evil, forged)


async def test_a_forged_root_first_is_no_fork_of_the_genuine_log(stand: Stand, evil_nats: Client) -> None:
    """A stranger must not be able to have a peer quarantined: the root that he invents was never signed."""
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    invented = checkpoint_note(stand.evil.origin, logged.size, b"\1" * 32, FileSigner.generate("ed25519"))
    async with stand.dropped("checkpoint-invalid"):
        await send(evil_nats, stand.evil, message(draft, logged, note=invented))
    assert stand.evil.open_answer(await ask(evil_nats, stand.evil, message(draft, logged)))[1].status == 200


async def test_a_remembered_checkpoint_serves_only_leaves_that_are_in_it(stand: Stand, evil_nats: Client) -> None:
    first = stand.evil.query()
    logged = stand.evil.log(first.leaf)
    await ask(evil_nats, stand.evil, message(first, logged))
    never_logged = stand.evil.query()
    async with stand.dropped("proof-invalid"):
        await send(evil_nats, stand.evil, message(never_logged, logged))


async def test_a_checkpoint_of_another_log_by_a_known_node_is_dropped(stand: Stand, evil_nats: Client) -> None:
    """F77's log proves nothing about what E66 said."""
    draft = stand.evil.query()
    other = stand.hand("F77")
    other.signer = FileSigner.generate("ed25519")
    logged = other.log(draft.leaf)
    async with stand.dropped("proof-of-another-node"):
        await send(evil_nats, stand.evil, message(draft, logged))


async def test_the_provider_cannot_pass_a_clients_header_off_from_its_own_log(stand: Stand, all_rights: Client) -> None:
    """G01's own log holds H37's header as received. Sent again with G01's proof it is not H37's word."""
    world = stand.world
    seen: list[bytes] = []

    async def hear(got: object) -> None:
        seen.append(got.data)  # type: ignore[attr-defined]

    tap = await all_rights.subscribe("lt.q.GOV~G01.GOV~H37", cb=hear)
    await all_rights.flush()
    assert (await world.call_async(stand.client, "G01/desk/notes", "/notes/mine")).status == 200
    await eventually(lambda: seen)
    await tap.unsubscribe()
    genuine = wire.decode(seen[0], len(seen[0]))
    received = leaf.wrap(leaf.EXCHANGE, genuine.header)
    reader = LogReader(world.member("G01").log_db)
    try:
        size = int(world.metric("G01", "lienthong_log_size"))
        index = next(at for at in range(size - 1, -1, -1) if reader.leaf(at) == received)
        proof = reader.prove(index, size)
    finally:
        reader.close()
    resent = msgspec.structs.replace(genuine, index=proof.index, size=proof.size, path=proof.path, note=proof.note)
    for subject, reply in (
        ("lt.q.GOV~G01.GOV~H37", "_I.GOV~H37~n1.abcdef"),
        ("lt.q.GOV~G01.GOV~G01", "_I.GOV~G01~n1.abcdef"),
    ):
        async with stand.dropped("proof-of-another-node"):
            await all_rights.publish(subject, wire.encode(resent), reply)
            await all_rights.flush()


async def test_another_receiver_cannot_pass_a_clients_header_off_from_its_own_log(
    stand: Stand, evil_nats: Client, all_rights: Client
) -> None:
    """E66 logs H37's captured header truly in its own log and sends it to G01 with that proof."""
    seen: list[bytes] = []

    async def hear(got: object) -> None:
        seen.append(got.data)  # type: ignore[attr-defined]

    tap = await all_rights.subscribe("lt.q.GOV~G01.GOV~H37", cb=hear)
    await all_rights.flush()
    assert (await stand.world.call_async(stand.client, "G01/desk/notes", "/notes/mine")).status == 200
    await eventually(lambda: seen)
    await tap.unsubscribe()
    genuine = wire.decode(seen[0], len(seen[0]))
    logged = stand.evil.log(leaf.wrap(leaf.EXCHANGE, genuine.header))
    resent = msgspec.structs.replace(genuine, index=logged.index, size=logged.size, path=logged.path, note=logged.note)
    async with stand.dropped("proof-of-another-node"):
        await send(evil_nats, stand.evil, wire.encode(resent))


async def test_another_instance_with_the_same_names_and_keys_is_foreign(stand: Stand, evil_nats: Client) -> None:
    """Same instance name, member, node and key; only the genesis differs."""
    twin = HandNode(stand.world, "E66", stand.view, genesis="ab" * 32)
    draft = twin.query()
    async with stand.dropped("instance-foreign"):
        await send(evil_nats, twin, message(draft, twin.log(draft.leaf)))


async def test_a_seal_of_another_instance_cannot_be_opened_in_this_one(stand: Stand, evil_nats: Client) -> None:
    """The header is logged here, but the contents were sealed for the same names in another instance."""
    twin = HandNode(stand.world, "E66", stand.view, genesis="ab" * 32)
    draft = twin.query()
    reached = len(stand.world.backend.received)
    data = await ask(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))
    told, particulars, body = stand.evil.open_answer(data)
    assert (told.type, told.class_, particulars.fault) == ("refusal", "refused", "request-malformed")
    assert b"seal" in body
    assert len(stand.world.backend.received) == reached


async def test_an_unknown_node_of_this_instance_is_dropped(stand: Stand, evil_nats: Client) -> None:
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    origin = stand.evil.origin.replace("@n1", "@n9")
    note = checkpoint_note(origin, logged.size, stand.evil.frontier.root(), stand.evil.signer)
    async with stand.dropped("node-unknown"):
        await send(evil_nats, stand.evil, message(draft, logged, note=note))


async def test_another_incarnation_that_was_never_declared_is_dropped(stand: Stand, evil_nats: Client) -> None:
    draft = stand.evil.query()
    logged = stand.evil.log(draft.leaf)
    origin = stand.evil.origin.removesuffix("/1") + "/2"
    note = checkpoint_note(origin, logged.size, stand.evil.frontier.root(), stand.evil.signer)
    async with stand.dropped("node-unknown"):
        await send(evil_nats, stand.evil, message(draft, logged, note=note))


async def test_swapped_contents_are_refused_although_their_header_is_proven(stand: Stand, evil_nats: Client) -> None:
    """A sender that lies in its own digests gets a signed refusal; nothing reaches the back end."""
    for field in ("partdigest", "bodydigest"):
        draft = stand.evil.query(**{field: "0" * 64})
        reached = len(stand.world.backend.received)
        data = await ask(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))
        told, particulars, _ = stand.evil.open_answer(data)
        assert (told.type, particulars.fault) == ("refusal", "request-malformed")
        assert len(stand.world.backend.received) == reached


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(b"\0" * 256, id="empty"),
        pytest.param(b"\xff" * 256, id="length-out-of-range"),
        pytest.param(pack(bytes(64), b"\x91\xa1\x80", b""), id="particulars-no-utf8"),
        pytest.param(pack(bytes(64), b"\x91" * 5_000, b""), id="particulars-deep"),
        pytest.param(pack(bytes(3), b"\x90", b""), id="short-salts"),
    ],
)
async def test_malformed_contents_are_refused_with_a_record(stand: Stand, evil_nats: Client, plain: bytes) -> None:
    """The seal opens and the digests are right, but what is inside is not what it should be."""
    evil, pair = stand.evil, sealing_pair(stand.world, "G01", "query")
    told = evil.query().header
    inside = plain[4:]
    fields = {}
    with contextlib.suppress(msgspec.MsgspecError, ValueError):
        salts, encoded, body = msgspec.msgpack.decode(inside[: int.from_bytes(plain[:4], "big")])
        fields = {"partdigest": salted_hex(salts[:32], encoded), "bodydigest": salted_hex(salts[32:], body)}
    aad = message_aad(evil.genesis, told.node, told.to, told.id, pair.keyid)
    receiver = stand.world.member_id("G01")
    sealed = evil.sealer.seal(plain, receiver=receiver, key=pair.public_key, use="query", aad=aad)
    made = msgspec.structs.replace(told, sealdigest=sealdigest(*sealed), **fields)
    draft = Draft(made, header.encode(made), *sealed)
    reached = len(stand.world.backend.received)
    got, particulars, _ = evil.open_answer(await ask(evil_nats, evil, message(draft, evil.log(draft.leaf))))
    assert (got.type, particulars.fault) == ("refusal", "request-malformed")
    assert len(stand.world.backend.received) == reached


async def test_the_operation_that_was_authorised_is_the_one_that_is_called(stand: Stand, evil_nats: Client) -> None:
    """The header says getNote, the sealed path says adminOnly."""
    draft = stand.evil.query("/admin/1", operation="getNote")
    reached = len(stand.world.backend.received)
    data = await ask(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))
    told, particulars, _ = stand.evil.open_answer(data)
    assert (told.type, particulars.fault) == ("refusal", "request-invalid")
    assert len(stand.world.backend.received) == reached


@pytest.mark.parametrize(
    ("path", "fault"),
    [("/notes/../admin/1", "path-refused"), ("/notes/%2e%2e", "path-refused"), ("/notes//1", "path-refused"),
     ("notes/1", "path-refused"), ("/notes/a\r\nX: y", "path-refused"), ("/nowhere", "operation-unknown")],
)  # fmt: skip
async def test_the_provider_refuses_paths_itself_whatever_the_clients_gateway_let_through(
    stand: Stand, evil_nats: Client, path: str, fault: str
) -> None:
    draft = stand.evil.query(path)
    reached = len(stand.world.backend.received)
    data = await ask(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))
    assert stand.evil.open_answer(data)[1].fault == fault
    assert len(stand.world.backend.received) == reached


async def test_identity_headers_of_a_malicious_gateway_do_not_reach_the_back_end(
    stand: Stand, evil_nats: Client
) -> None:
    headers = (("X-Road-Client", "VN-TEST/GOV/H37/onedoor"), ("x_road_userid", "boss"), ("X-LienThong-Key", "k"))
    draft = stand.evil.query("/notes/forged-identity", particulars={"headers": headers})
    reached = len(stand.world.backend.received)
    await ask(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))
    got = stand.world.backend.received[reached]
    assert [v for k, v in got.headers if k.lower().replace("_", "-") == "x-road-client"] == ["VN-TEST/GOV/E66/onedoor"]
    assert not [k for k, _ in got.headers if k.lower().replace("_", "-") in ("x-road-userid", "x-lienthong-key")]


async def test_a_query_without_a_right_is_refused_and_both_records_are_logged(stand: Stand, evil_nats: Client) -> None:
    draft = stand.evil.query(source="VN-TEST/GOV/E66/desk")
    reached, size = len(stand.world.backend.received), stand.world.metric("G01", "lienthong_log_size")
    data = await ask(evil_nats, stand.evil, message(draft, stand.evil.log(draft.leaf)))
    told, particulars, _ = stand.evil.open_answer(data)
    assert (told.type, particulars.fault) == ("refusal", "access-denied")
    assert stand.world.metric("G01", "lienthong_log_size") == size + 2
    assert len(stand.world.backend.received) == reached


async def test_a_hundred_thousand_forged_messages_add_no_byte_to_the_log(stand: Stand, evil_nats: Client) -> None:
    """Four kinds of cheap forgery; the gateway still answers afterwards."""
    evil = stand.evil
    draft = evil.query()
    logged = evil.log(draft.leaf)
    good = message(draft, logged)
    forged = [
        good[:400],
        message(draft, logged, ciphertext=draft.ciphertext[:-1] + b"\0"),
        message(evil.query(expires="2026-01-01T00:00:00.000000Z"), logged),
        message(draft.with_header(id=uuid7(1_700_000_000_000, bytes(10))), logged),
    ]
    total = 100_000
    before = stand.snapshot()
    for start in range(0, total, 2_000):
        for at in range(start, start + 2_000):
            await evil_nats.publish(evil.subject(), forged[at % 4])
        await evil_nats.flush(30)
        wanted = start + 2_000
        await asyncio.wait_for(_drops_reach(stand, sum(before.dropped.values()) + wanted), 30)
    after = stand.snapshot()
    assert sum(after.dropped.values()) - sum(before.dropped.values()) == total
    assert (after.log_files, after.log_size) == (before.log_files, before.log_size)
    assert (after.reached, after.source_calls) == (before.reached, before.source_calls)
    assert stand.world.metric("G01", "lienthong_overloaded_total") == 0
    assert evil.open_answer(await ask(evil_nats, evil, good))[1].status == 200


async def _drops_reach(stand: Stand, wanted: float) -> None:
    while sum((await asyncio.to_thread(stand.world.dropped, "G01")).values()) < wanted:
        await asyncio.sleep(0.01)


async def test_two_checkpoints_of_one_size_quarantine_the_peer_for_good(stand: Stand) -> None:
    """A fork: same log key, same size, two roots. The evidence outlives a killed gateway; others are not touched."""
    world = stand.world
    forker = stand.hand("F77")
    connection = await world.nats_connection(as_node="F77")
    first, second = forker.query(), forker.query()
    one = forker.log(first.leaf)
    left = forker.frontier
    forker.frontier = merkle.Frontier()
    other = forker.log(second.leaf)
    assert left.size == forker.frontier.size
    assert left.root() != forker.frontier.root()
    alarms = world.metric("G01", "lienthong_alarms_total", code="peer-forked", member="VN-TEST/GOV/F77")
    assert forker.open_answer(await ask(connection, forker, message(first, one)))[1].status == 200
    async with stand.dropped("peer-forked"):
        await send(connection, forker, message(second, other))
    third = forker.query()
    async with stand.dropped("peer-forked"):
        await send(connection, forker, message(third, forker.log(third.leaf)))
    assert world.metric("G01", "lienthong_alarms_total", code="peer-forked") == alarms + 1
    assert _forks(stand) == {forker.origin: {one.note, other.note}}
    world.kill_gateway("G01")
    world.start_gateway("G01")
    assert _forks(stand) == {forker.origin: {one.note, other.note}}
    assert world.admin("G01", "/status").json()["peers_forked"] == [forker.origin]
    again = forker.query()
    async with stand.dropped("peer-forked"):
        await send(connection, forker, message(again, forker.log(again.leaf)))
    await connection.close()
    assert world.call(stand.client, "G01/desk/notes", "/notes/1").status == 200


def _forks(stand: Stand) -> dict[str, set[bytes]]:
    path = stand.world.member("G01").data / "peers.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            origin: {first, second} for origin, first, second in db.execute("SELECT origin, first, second FROM fork")
        }
