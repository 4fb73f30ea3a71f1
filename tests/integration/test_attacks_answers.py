"""A hand-made provider on the real broker against a client's real gateway: only a proven answer is delivered.

H37's client system calls `E66/desk/notes`; the test answers as E66, byte by byte. Each call ends in exactly one closing
record of H37's log, whatever came back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from forging import HandNode, Stand, checkpoint_note, message, sealing_pair
from nats.aio.client import Client
from nats.aio.msg import Msg
from world import Answer

from bus import envelope as wire
from bus.sealing.contents import Particulars, encode_particulars, pack
from bus.sealing.epoch import message_aad, sealdigest
from evidence import header, leaf, merkle
from evidence.header import Header
from evidence.log.reader import LogReader
from evidence.signer import FileSigner

Respond = Callable[[Header, bytes], bytes]


@pytest.fixture
async def evil_nats(stand: Stand) -> AsyncIterator[Client]:
    connection = await stand.world.nats_connection(as_node="E66")
    yield connection
    await connection.close()


@asynccontextmanager
async def provider(connection: Client, respond: Respond) -> AsyncIterator[None]:
    """Answers each query to E66 with `respond(header, leaf)`."""

    async def on_query(got: Msg) -> None:
        received = wire.decode(got.data, len(got.data)).header
        answer = respond(header.decode(received), leaf.wrap(leaf.EXCHANGE, received))
        await connection.publish(got.reply, answer)

    subscription = await connection.subscribe("lt.q.GOV~E66.*", queue="q~GOV~E66", cb=on_query)
    await connection.flush()
    try:
        yield
    finally:
        await subscription.unsubscribe()


async def call(stand: Stand, connection: Client, respond: Respond, path: str = "/notes/1", **options: str) -> Answer:
    """One call of H37 to the hand-made provider; checks that the request got one closing record."""
    size = stand.world.metric("H37", "lienthong_log_size")
    async with provider(connection, respond):
        answer = await stand.world.call_async(stand.client, "E66/desk/notes", path, **options)
    assert stand.world.metric("H37", "lienthong_log_size") == size + 2
    return answer


def closing(stand: Stand) -> Header:
    """The newest record of H37's log."""
    with LogReader(stand.world.member("H37").log_db) as reader:
        return header.decode(leaf.unwrap(reader.leaf(int(stand.world.metric("H37", "lienthong_log_size")) - 1))[1])


def genuine(evil: HandNode, **options: object) -> Respond:
    """A truthful provider."""

    def respond(request: Header, request_leaf: bytes) -> bytes:
        draft = evil.answer(request, request_leaf, **options)  # type: ignore[arg-type]
        return message(draft, evil.log(draft.leaf))

    return respond


async def test_the_genuine_hand_made_answer_is_delivered(stand: Stand, evil_nats: Client) -> None:
    answer = await call(stand, evil_nats, genuine(stand.evil, body=b'{"hand":"made"}'))
    assert (answer.status, answer.body) == (200, b'{"hand":"made"}')
    assert closing(stand).type == "answer"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        pytest.param({"node": "VN-TEST/GOV/F77/@n1"}, "proof-of-another-node", id="another-node"),
        pytest.param({"source": "VN-TEST/GOV/G01/desk/notes"}, "source-not-of-node", id="another-source"),
        pytest.param({"to": "VN-TEST/GOV/F77/onedoor"}, "not-addressed-to-us", id="another-addressee"),
        pytest.param({"type": "receipt"}, "type-unexpected", id="receipt"),
        pytest.param({"type": "query", "inreplyto": None, "class_": None}, "type-unexpected", id="query"),
        pytest.param({"time": "2036-01-01T00:00:00.000000Z"}, "clock-ahead", id="from-the-future"),
        pytest.param({"time": "2026-01-01T00:00:00.000000Z"}, "expired", id="too-old"),
    ],
)
async def test_an_answer_of_somebody_or_sometime_else_is_dropped(
    stand: Stand, evil_nats: Client, fields: dict[str, object], code: str
) -> None:
    async with stand.world_dropped("H37", code):
        answer = await call(stand, evil_nats, genuine(stand.evil, **fields))
    assert (answer.status, answer.code) == (502, "answer-unverifiable")
    assert answer.json()["acted"] == "unknown"
    assert answer.headers["x-road-error"] == "Server.ClientProxy.InvalidResponse"
    told = closing(stand)
    assert (told.type, told.class_) == ("outcome", "rejected")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"inreplyto": "ab" * 32}, id="inreplyto"),
        pytest.param({"source": "VN-TEST/GOV/E66/desk/other"}, id="source"),
        pytest.param({"source": "VN-TEST/GOV/E66/desk"}, id="source-without-service"),
        pytest.param({"to": "VN-TEST/GOV/H37/other"}, id="another-subsystem"),
        pytest.param({"operation": "adminOnly"}, id="operation"),
        pytest.param({"operation": None}, id="without-operation"),
    ],
)
async def test_a_proven_answer_that_does_not_match_the_request_in_every_field_is_not_delivered(
    stand: Stand, evil_nats: Client, fields: dict[str, object]
) -> None:
    answer = await call(stand, evil_nats, genuine(stand.evil, **fields))
    assert (answer.status, answer.code) == (502, "answer-unverifiable")
    assert closing(stand).class_ == "rejected"


async def test_an_earlier_answer_sent_again_is_not_delivered(stand: Stand, evil_nats: Client) -> None:
    kept: list[bytes] = []

    def keep(request: Header, request_leaf: bytes) -> bytes:
        kept.append(genuine(stand.evil, body=b'{"n":1}')(request, request_leaf))
        return kept[0]

    assert (await call(stand, evil_nats, keep)).status == 200
    answer = await call(stand, evil_nats, lambda *_: kept[0])
    assert (answer.status, answer.code) == (502, "answer-unverifiable")


@pytest.mark.parametrize("field", ["ciphertext", "nonce", "wrapped"])
async def test_an_answer_with_an_altered_seal_is_dropped(stand: Stand, evil_nats: Client, field: str) -> None:
    def respond(request: Header, request_leaf: bytes) -> bytes:
        draft = stand.evil.answer(request, request_leaf)
        whole = getattr(draft, field)
        return message(draft, stand.evil.log(draft.leaf), **{field: bytes([whole[0] ^ 1]) + whole[1:]})

    async with stand.world_dropped("H37", "seal-digest-mismatch"):
        assert (await call(stand, evil_nats, respond)).code == "answer-unverifiable"


async def test_a_foreign_signed_answer_is_dropped(stand: Stand, evil_nats: Client) -> None:
    def respond(request: Header, request_leaf: bytes) -> bytes:
        draft = stand.evil.answer(request, request_leaf)
        logged = stand.evil.log(draft.leaf)
        root = stand.evil.frontier.root()
        return message(
            draft, logged, note=checkpoint_note(stand.evil.origin, logged.size, root, FileSigner.generate("ed25519"))
        )

    async with stand.world_dropped("H37", "checkpoint-invalid"):
        assert (await call(stand, evil_nats, respond)).code == "answer-unverifiable"


async def test_another_member_cannot_answer_in_the_providers_place(stand: Stand, evil_nats: Client) -> None:
    """F77 logs an answer that calls itself E66's, truly, in F77's log."""
    other = stand.hand("F77")

    def respond(request: Header, request_leaf: bytes) -> bytes:
        draft = other.answer(request, request_leaf)
        return message(draft, other.log(draft.leaf))

    async with stand.world_dropped("H37", "source-not-of-node"):
        assert (await call(stand, evil_nats, respond)).code == "answer-unverifiable"


async def test_an_answer_that_was_never_logged_is_dropped(stand: Stand, evil_nats: Client) -> None:
    def respond(request: Header, request_leaf: bytes) -> bytes:
        return message(
            stand.evil.answer(request, request_leaf), stand.evil.log(stand.evil.answer(request, request_leaf).leaf)
        )

    async with stand.world_dropped("H37", "proof-invalid"):
        assert (await call(stand, evil_nats, respond)).code == "answer-unverifiable"


@pytest.mark.parametrize("field", ["partdigest", "bodydigest"])
async def test_an_answer_whose_contents_differ_from_its_digests_is_not_delivered(
    stand: Stand, evil_nats: Client, field: str
) -> None:
    answer = await call(stand, evil_nats, genuine(stand.evil, **{field: "0" * 64}))
    assert (answer.status, answer.code) == (502, "answer-unverifiable")


async def test_an_answer_sealed_for_another_use_is_not_delivered(stand: Stand, evil_nats: Client) -> None:
    """Sealed for H37's query key instead of the node's answer key."""

    def respond(request: Header, request_leaf: bytes) -> bytes:
        draft = stand.evil.sealed(
            Particulars(status=200, content_type="application/json"), b"{}",
            to=request.source, receiver="VN-TEST/GOV/H37", pair=sealing_pair(stand.world, "H37", "query"), use="query",
            type="answer", source=request.to, operation=request.operation, class_="ok",
            inreplyto=merkle.leaf_hash(request_leaf).hex(),
        )  # fmt: skip
        return message(draft, stand.evil.log(draft.leaf))

    assert (await call(stand, evil_nats, respond)).code == "answer-unverifiable"


async def test_contents_bound_to_another_record_cannot_be_moved_under_a_new_header(
    stand: Stand, evil_nats: Client
) -> None:
    """The seal of one answer under the header of another: the additional data differs, so it does not open."""

    def respond(request: Header, request_leaf: bytes) -> bytes:
        first, second = (stand.evil.answer(request, request_leaf) for _ in range(2))
        moved = second.with_header(sealdigest=sealdigest(first.wrapped, first.nonce, first.ciphertext))
        moved = msgspec_moved(moved, first)
        return message(moved, stand.evil.log(moved.leaf))

    def msgspec_moved(draft, other):  # type: ignore[no-untyped-def]
        return type(draft)(draft.header, draft.header_bytes, other.wrapped, other.nonce, other.ciphertext)

    assert (await call(stand, evil_nats, respond)).code == "answer-unverifiable"


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(b"\0" * 256, id="empty"),
        pytest.param(b"\xff" * 256, id="length-out-of-range"),
        pytest.param(pack(bytes(64), b"\x90", b"{}"), id="particulars-empty"),
        pytest.param(pack(bytes(64), b"\x91\xa1\x80", b"{}"), id="particulars-no-utf8"),
        pytest.param(pack(bytes(10), encode_particulars(Particulars()), b"{}"), id="short-salts"),
        pytest.param(pack(bytes(64), encode_particulars(Particulars()), b"{}") + bytes(256), id="other-bucket"),
    ],
)
async def test_malformed_contents_are_not_delivered(stand: Stand, evil_nats: Client, plain: bytes) -> None:
    def respond(request: Header, request_leaf: bytes) -> bytes:
        evil, pair = stand.evil, sealing_pair(stand.world, "H37", "answer")
        draft = evil.answer(request, request_leaf)
        told = draft.header
        aad = message_aad(evil.genesis, told.node, told.to, told.id, pair.keyid)
        wrapped, nonce, ciphertext = evil.sealer.seal(
            plain, receiver=request.node, key=pair.public_key, use="answer", aad=aad
        )
        made = msgspec.structs.replace(told, sealdigest=sealdigest(wrapped, nonce, ciphertext))
        sent = type(draft)(made, header.encode(made), wrapped, nonce, ciphertext)
        return message(sent, evil.log(sent.leaf))

    assert (await call(stand, evil_nats, respond)).code == "answer-unverifiable"


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"not json"), (200, b"[1]"), (200, b'{"a":1,"a":2}'), (200, b"[" * 100 + b"]" * 100), (201, b"{}"),
     (302, b""), (99, b"{}"), (0, b"{}"), (600, b"{}"), (-1, b"{}")],
)  # fmt: skip
async def test_a_proven_answer_that_breaks_the_contract_is_logged_but_not_delivered(
    stand: Stand, evil_nats: Client, status: int, body: bytes
) -> None:
    answer = await call(stand, evil_nats, genuine(stand.evil, status=status, body=body))
    assert (answer.status, answer.code) == (502, "answer-invalid")
    assert closing(stand).type == "answer"


@pytest.mark.parametrize(
    "told",
    [
        {"headers": (("x-note", "a\r\nx-road-error: forged"),)},
        {"headers": (("x-note\r\nx-bad", "a"),)},
        {"headers": (("x note", "a"),)},
        {"headers": (("", "a"),)},
        {"headers": (("x-note", "a\0b"),)},
        {"content_type": "application/json\r\nx-bad: y"},
        {"content_type": "application/json; a=\"\u2028\ud7ff\""},
    ],
)  # fmt: skip
async def test_header_injection_by_a_provider_is_refused(
    stand: Stand, evil_nats: Client, told: dict[str, object]
) -> None:
    def respond(request: Header, request_leaf: bytes) -> bytes:
        particulars = Particulars(**{"status": 200, "content_type": "application/json", **told})  # type: ignore[arg-type]
        draft = stand.evil.sealed(
            particulars, b"{}", to=request.source, receiver=request.node,
            pair=sealing_pair(stand.world, "H37", "answer"), use="answer", type="answer", source=request.to,
            operation=request.operation, class_="ok", inreplyto=merkle.leaf_hash(request_leaf).hex(),
        )  # fmt: skip
        return message(draft, stand.evil.log(draft.leaf))

    answer = await call(stand, evil_nats, respond)
    assert "x-bad" not in answer.headers
    assert answer.headers.get("x-road-error") != "forged"
    assert (answer.status, answer.code) == (502, "answer-invalid") or "x-note" not in answer.headers, answer


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"code":"access-denied","detail":"\xff"}', id="no-utf8"),
        pytest.param(b'{"code":"x","detail":"y","z":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep"),
        pytest.param(b'{"code":"x"}', id="incomplete"),
        pytest.param(b'{"code":"access-denied","detail":"<b>\\r\\nX-Bad: 1","retry_after_s":"x"}', id="wrong-type"),
    ],
)
async def test_a_refusal_that_cannot_be_read_is_a_broken_answer(stand: Stand, evil_nats: Client, body: bytes) -> None:
    answer = await call(stand, evil_nats, refusing(stand, body))
    assert (answer.status, answer.code) == (502, "answer-invalid")
    assert closing(stand).type == "refusal"


async def test_a_refusal_under_a_code_that_nobody_knows_is_a_failure_of_the_back_end(
    stand: Stand, evil_nats: Client
) -> None:
    answer = await call(stand, evil_nats, refusing(stand, b'{"code":"made-up","detail":"d","acted":"maybe"}'))
    assert (answer.status, answer.code, answer.json()["acted"]) == (502, "backend-failed", "unknown")


async def test_words_of_a_stranger_become_no_labels_of_metrics(stand: Stand, evil_nats: Client) -> None:
    """Otherwise a provider could fill a gateway's memory, or its monitoring with texts of its own."""
    for at in range(3):
        body = b'{"code":"access-denied","detail":"d","reason":"canary-label-%d"}' % at
        assert (await call(stand, evil_nats, refusing(stand, body))).code == "access-denied"
    before = stand.world.metric("H37", "lienthong_refusals_total", code="no-access-right")
    body = b'{"code":"access-denied","detail":"d","reason":"no-access-right"}'
    assert (await call(stand, evil_nats, refusing(stand, body))).json()["reason"] == "no-access-right"
    assert stand.world.metric("H37", "lienthong_refusals_total", code="no-access-right") == before + 1
    assert "canary-label" not in str(stand.world.metrics("H37"))


def refusing(stand: Stand, body: bytes) -> Respond:
    """A provider that refuses with a problem of its own making."""

    def respond(request: Header, request_leaf: bytes) -> bytes:
        particulars = Particulars(status=403, content_type="application/problem+json", fault="access-denied")
        draft = stand.evil.sealed(
            particulars, body, to=request.source, receiver=request.node,
            pair=sealing_pair(stand.world, "H37", "answer"), use="answer", type="refusal", source=request.to,
            operation=request.operation, class_="refused", inreplyto=merkle.leaf_hash(request_leaf).hex(),
        )  # fmt: skip
        return message(draft, stand.evil.log(draft.leaf))

    return respond


async def test_bus_headers_of_a_provider_are_not_passed_on(stand: Stand, evil_nats: Client) -> None:
    names = ("x-road-error", "X-Road-Request-Id", "x-lienthong-x", "set-cookie", "server", "connection", "x-powered-by")

    def respond(request: Header, request_leaf: bytes) -> bytes:
        particulars = Particulars(
            status=200,
            content_type="application/json",
            headers=(*((name, "forged") for name in names), ("etag", '"1"')),
        )
        draft = stand.evil.sealed(
            particulars, b"{}", to=request.source, receiver=request.node,
            pair=sealing_pair(stand.world, "H37", "answer"), use="answer", type="answer", source=request.to,
            operation=request.operation, class_="ok", inreplyto=merkle.leaf_hash(request_leaf).hex(),
        )  # fmt: skip
        return message(draft, stand.evil.log(draft.leaf))

    answer = await call(stand, evil_nats, respond)
    assert answer.status == 200
    assert answer.headers["etag"] == '"1"'
    assert "forged" not in answer.headers.values()
    assert "x-road-error" not in answer.headers


@pytest.mark.parametrize(
    ("data", "code", "hint"),
    [
        (msgspec.msgpack.encode((0, "replayed")), "provider-dropped", "replayed"),
        (msgspec.msgpack.encode((0, "<script>")), "provider-dropped", "unknown"),
        (b"\x92\x00\xa1\x80", "answer-unverifiable", ""),
        (b"", "answer-unverifiable", ""),
        (b"\x00", "answer-unverifiable", ""),
        (b"\xc1" * 127, "answer-unverifiable", ""),
        (b"\xc1" * 128, "answer-unverifiable", ""),
        (b"\x00" * 100_000, "answer-unverifiable", ""),
    ],
)
async def test_a_hint_is_never_more_than_a_hint(
    stand: Stand, evil_nats: Client, data: bytes, code: str, hint: str
) -> None:
    before = stand.world.metric("H37", "lienthong_hints_total", code=hint) if hint else 0
    answer = await call(stand, evil_nats, lambda *_: data)
    assert (answer.status, answer.code) == (502, code)
    assert b"script" not in answer.body
    if hint:
        assert stand.world.metric("H37", "lienthong_hints_total", code=hint) == before + 1
    assert closing(stand).class_ == "rejected"


async def test_a_message_to_an_inbox_subject_that_nobody_waits_for_is_ignored(stand: Stand) -> None:
    connection = await stand.world.nats_connection()
    before = stand.snapshot("H37")
    for at in range(100):
        await connection.publish(f"_I.GOV~H37~n1.{at:016x}.{at:024x}", b"x" * 200)
    await connection.flush()
    await connection.close()
    assert (await stand.world.call_async(stand.client, "G01/desk/notes", "/notes/1")).status == 200
    assert stand.snapshot("H37").dropped == before.dropped
