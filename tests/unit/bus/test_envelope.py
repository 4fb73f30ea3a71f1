import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import envelope as wire
from bus.errors import DROP_CODES, Dropped

GOOD = wire.Envelope(1, b"header", 3, 7, b"h" * 96, b"note", b"wrapped", b"n" * 32, b"cipher")
BYTES = wire.encode(GOOD)
FIELDS = [field.name for field in msgspec.structs.fields(wire.Envelope)]
LIMIT = 10_000_000


@st.composite
def envelopes(draw):
    size = draw(st.integers(1, 2**63 - 1))
    return wire.Envelope(
        version=1,
        header=draw(st.binary(max_size=200)),
        index=draw(st.integers(0, size - 1)),
        size=size,
        path=draw(st.integers(0, 63)) * b"p" * 32,
        note=draw(st.binary(max_size=200)),
        wrapped=draw(st.binary(max_size=200)),
        nonce=draw(st.binary(min_size=32, max_size=32)),
        ciphertext=draw(st.binary(max_size=400)),
    )


@given(envelopes())
def test_every_envelope_survives_the_wire(envelope):
    assert wire.decode(wire.encode(envelope), LIMIT) == envelope


def dropped(data: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(Dropped) as caught:
        wire.decode(data, limit)
    assert caught.value.code in DROP_CODES
    return caught.value.code


@pytest.mark.parametrize("length", range(len(BYTES)))
def test_an_envelope_cut_anywhere_is_malformed(length):
    assert dropped(BYTES[:length]) == "envelope-malformed"


def test_bytes_after_an_envelope_are_malformed():
    assert dropped(BYTES + b"\0") == "envelope-malformed"
    assert dropped(BYTES * 2) == "envelope-malformed"


def test_an_element_too_many_or_too_few_is_malformed():
    values = list(msgspec.structs.astuple(GOOD))
    assert dropped(msgspec.msgpack.encode([*values, b""])) == "envelope-malformed"
    assert dropped(msgspec.msgpack.encode(values[:-1])) == "envelope-malformed"
    assert dropped(msgspec.msgpack.encode(dict(zip(FIELDS, values, strict=True)))) == "envelope-malformed"


@pytest.mark.parametrize("at", range(len(FIELDS)))
@pytest.mark.parametrize("value", [None, "text", 1.5, True, [], {}, -1, 2**64 - 1, b"bytes"])
def test_a_member_of_another_type_is_malformed(at, value):
    values = list(msgspec.structs.astuple(GOOD))
    if type(values[at]) is type(value) and not (isinstance(value, int) and value in (-1, 2**64 - 1)):
        return
    values[at] = value
    if at == 0 and isinstance(value, int) and not isinstance(value, bool):
        assert dropped(msgspec.msgpack.encode(values)) in {"version-unsupported", "envelope-malformed"}
    else:
        assert dropped(msgspec.msgpack.encode(values)) == "envelope-malformed"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("nested", [b"\x91", b"\x81\x01"])
def test_a_message_that_is_nested_without_end_is_malformed(version, nested):
    assert dropped(b"\x99" + bytes([version]) + nested * 8_000) == "envelope-malformed"


@pytest.mark.parametrize("version", [0, 2, 255, -1])
def test_an_unsupported_version_is_told(version):
    assert dropped(msgspec.msgpack.encode(msgspec.structs.replace(GOOD, version=version))) == "version-unsupported"


@pytest.mark.parametrize(
    "changes",
    [
        {"header": b"h" * 65_536},
        {"path": b"p" * 2_048},
        {"path": b"p" * 33},
        {"note": b"n" * 8_193},
        {"wrapped": b"w" * 4_097},
        {"nonce": b"n" * 31},
        {"nonce": b"n" * 33},
        {"index": -1},
        {"index": 7},
        {"index": 0, "size": 0},
        {"size": 2**63},
    ],
)
def test_a_member_over_its_bound_is_malformed(changes):
    assert dropped(wire.encode(msgspec.structs.replace(GOOD, **changes))) == "envelope-malformed"


def test_the_largest_members_pass():
    largest = msgspec.structs.replace(
        GOOD, header=b"h" * 65_535, path=b"p" * 63 * 32, note=b"n" * 8_192, wrapped=b"w" * 4_096, size=2**63 - 1
    )
    data = wire.encode(largest)
    assert wire.decode(data, len(data)) == largest
    assert dropped(data, len(data) - 1) == "envelope-too-large"
    assert len(data) < wire.OVERHEAD_BYTES


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_dropped(data):
    with contextlib.suppress(Dropped):
        found = wire.decode(data, LIMIT)
        assert wire.decode(wire.encode(found), LIMIT) == found


@given(st.integers(0, len(BYTES) - 1), st.integers(1, 255))
def test_an_altered_byte_is_read_or_dropped(at, change):
    altered = bytearray(BYTES)
    altered[at] ^= change
    with contextlib.suppress(Dropped):
        wire.decode(bytes(altered), LIMIT)
