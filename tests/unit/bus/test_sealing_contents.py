import contextlib
import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.sealing.contents import (
    ContentsMalformed,
    Particulars,
    bucket,
    decode_particulars,
    encode_particulars,
    pack,
    salted_hex,
    unpack,
)

SALTS = bytes(range(64))
texts = st.text(st.characters(codec="utf-8"), max_size=20)
pieces = st.binary(max_size=300) | st.integers(0, 140_000).map(lambda size: b"b" * size)


@st.composite
def particulars(draw):
    names = [field.name for field in msgspec.structs.fields(Particulars)]
    values = {name: draw(texts) for name in names if name not in {"headers", "status", "body_bytes"}}
    headers = draw(st.lists(st.tuples(texts, texts), max_size=3).map(tuple))
    return Particulars(**values, headers=headers, status=draw(st.integers(0, 599)), body_bytes=draw(st.integers(0)))


@given(particulars().filter(lambda found: found.body_bytes < 2**63))
def test_particulars_survive_their_encoding(found):
    assert decode_particulars(encode_particulars(found)) == found


@given(st.binary(min_size=64, max_size=64), pieces, pieces)
def test_contents_survive_packing_and_fill_a_bucket(salts, encoded, body):
    plain = pack(salts, encoded, body)
    assert unpack(plain) == (salts, encoded, body)
    assert len(plain) == bucket(len(plain))


@given(st.integers(1, 10_000_000))
def test_buckets_are_powers_of_two_then_steps(size):
    found = bucket(size)
    assert found >= max(size, 256)
    if found <= 64 * 1024:
        assert found.bit_count() == 1
        assert found == 256 or found < 2 * size
    else:
        assert found % (64 * 1024) == 0
        assert found - size < 64 * 1024


@pytest.mark.parametrize(
    ("size", "padded"), [(1, 256), (256, 256), (257, 512), (65_536, 65_536), (65_537, 131_072), (131_073, 196_608)]
)
def test_bucket_edges(size, padded):
    assert bucket(size) == padded


def test_sealed_parts_of_true_and_false_have_the_same_size():
    def sealed(body):
        told = Particulars(status=200, content_type="application/json", body_bytes=len(body))
        return pack(SALTS, encode_particulars(told), body)

    assert len(sealed(b"true")) == len(sealed(b"false"))


def test_the_digest_is_salted():
    assert salted_hex(b"s" * 32, b"data") == hashlib.sha256(b"s" * 32 + b"data").hexdigest()


PLAIN = pack(SALTS, b"particulars", b"body")
FRAMED = 4 + int.from_bytes(PLAIN[:4])


def framed(value) -> bytes:
    inner = msgspec.msgpack.encode(value)
    return (len(inner).to_bytes(4) + inner).ljust(bucket(len(inner) + 4), b"\0")


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\0\0\0\1",
        PLAIN[:-1],
        PLAIN + b"\0",
        PLAIN.ljust(512, b"\0"),
        b"\xff" * 256,
        (253).to_bytes(4) + PLAIN[4:],
        PLAIN[:-1] + b"\1",
        PLAIN[:FRAMED] + b"\1" + PLAIN[FRAMED + 1 :],
        (FRAMED - 5).to_bytes(4) + PLAIN[4:],
        (FRAMED - 3).to_bytes(4) + PLAIN[4:],
        bytes(256),
        framed((SALTS, b"p")),
        framed((SALTS, b"p", b"b", b"more")),
        framed((SALTS, "p", b"b")),
        framed([SALTS, b"p", 7]),
        framed(None),
        framed({"salts": SALTS}),
        framed((SALTS[:-1], b"p", b"b")),
        framed((SALTS + b"x", b"p", b"b")),
    ],
)
def test_contents_in_another_form_are_refused(plain):
    with pytest.raises(ContentsMalformed):
        unpack(plain)


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(plain):
    with contextlib.suppress(ContentsMalformed):
        salts, _, _ = unpack(plain)
        assert len(salts) == 64


@given(st.integers(0, FRAMED - 1), st.integers(1, 255))
def test_an_altered_byte_never_raises_anything_else(at, change):
    altered = bytearray(PLAIN)
    altered[at] ^= change
    with contextlib.suppress(ContentsMalformed):
        unpack(bytes(altered))


@pytest.mark.parametrize(
    "value",
    [None, ["GET"] * 16, ["GET", 7], [""] * 4 + [[["a"]]], {"method": "GET"}, [""] * 10 + ["200"]],
)
def test_particulars_in_another_form_are_refused(value):
    with pytest.raises(ContentsMalformed):
        decode_particulars(msgspec.msgpack.encode(value))


@given(st.binary(max_size=80))
def test_any_bytes_are_particulars_or_refused(data):
    with contextlib.suppress(ContentsMalformed):
        decode_particulars(data)
