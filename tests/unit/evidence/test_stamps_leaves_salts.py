from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import DigestMismatch, HeaderMalformed, LeafMalformed, LeafTooLarge, SaltInvalid
from evidence.leaf import (
    ADMIN,
    CONTROL,
    DIRECTORY,
    EXCHANGE,
    KIND_NAMES,
    KINDS,
    MAX_LEAF_BYTES,
    Boot,
    decode_control,
    encode_control,
    unwrap,
    wrap,
)
from evidence.salted import salted_digest, verify_salted_digest
from evidence.stamps import decode_time, encode_time, is_uuid7, uuid7

SALT = bytes(range(32))


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_made_uuid_has_the_shape_and_the_time(unix_ms, random):
    text = uuid7(unix_ms, random)
    assert is_uuid7(text)
    assert int(text.replace("-", "")[:12], 16) == unix_ms


def test_a_uuid_of_rfc_9562_is_recognised_and_others_are_not():
    assert is_uuid7("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")  # RFC 9562 appendix A.6
    assert not is_uuid7("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    assert not is_uuid7("919108f7-52d1-4320-9bac-f847db4148a8")
    assert not is_uuid7("")


@pytest.mark.parametrize(("unix_ms", "random"), [(-1, b"0" * 10), (2**48, b"0" * 10), (0, b"")])
def test_a_uuid_needs_arguments_of_the_right_size(unix_ms, random):
    with pytest.raises(ValueError, match="uuid7"):
        uuid7(unix_ms, random)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)))  # noqa: DTZ001  hypothesis wants them naive
def test_every_instant_survives_its_text(naive):
    instant = naive.replace(tzinfo=UTC)
    assert decode_time(encode_time(instant)) == instant


def test_an_instant_of_another_zone_is_written_in_utc():
    at = datetime(2026, 11, 23, 7, 0, tzinfo=timezone(timedelta(hours=7)))
    assert encode_time(at) == "2026-11-23T00:00:00.000000Z"


def test_a_naive_instant_is_a_mistake():
    with pytest.raises(ValueError, match="aware"):
        encode_time(datetime(2026, 1, 1))  # noqa: DTZ001  the point of the test


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23T00:00:00Z",
        "2026-11-23T00:00:00.000000+00:00",
        "2026-11-23 00:00:00.000000Z",
        "2026-02-30T00:00:00.000000Z",
        "2026-11-23T24:00:00.000000Z",
        "",
    ],
)
def test_a_time_in_another_spelling_or_no_date_at_all_is_refused(text):
    with pytest.raises(HeaderMalformed):
        decode_time(text)


@given(st.sampled_from(KINDS), st.binary(max_size=300))
def test_a_leaf_is_wrapped_and_unwrapped(kind, data):
    assert unwrap(wrap(kind, data)) == (kind, data)


def test_the_kinds_have_plain_names():
    assert [KIND_NAMES[kind] for kind in (EXCHANGE, DIRECTORY, ADMIN, CONTROL)] == [
        "exchange",
        "directory",
        "admin",
        "control",
    ]


def test_a_leaf_of_unknown_kind_is_refused():
    with pytest.raises(LeafMalformed):
        wrap(b"lienthong/v2/exchange\n", b"")
    with pytest.raises(LeafMalformed):
        unwrap(b"lienthong/v1/exchang")


def test_the_largest_leaf_fits_and_one_more_byte_does_not():
    assert len(wrap(EXCHANGE, b"x" * (MAX_LEAF_BYTES - len(EXCHANGE)))) == MAX_LEAF_BYTES
    with pytest.raises(LeafTooLarge) as caught:
        wrap(EXCHANGE, b"x" * (MAX_LEAF_BYTES - len(EXCHANGE) + 1))
    assert caught.value.size_bytes == MAX_LEAF_BYTES + 1
    with pytest.raises(LeafMalformed):
        unwrap(EXCHANGE + b"x" * MAX_LEAF_BYTES)


def test_a_boot_leaf_survives_its_encoding():
    boot = Boot(id="x" * 16, time="2026-11-23T00:00:00.000000Z")
    kind, data = unwrap(encode_control(boot))
    assert kind == CONTROL
    assert data == b'{"kind":"boot","id":"xxxxxxxxxxxxxxxx","time":"2026-11-23T00:00:00.000000Z"}'
    assert decode_control(data) == boot


@pytest.mark.parametrize("boot_id", ["short", "x" * 129, "with spaces in it", 'quote"quote"quote'])
def test_a_boot_leaf_needs_a_proper_id(boot_id):
    with pytest.raises(LeafMalformed):
        encode_control(Boot(id=boot_id, time="2026-11-23T00:00:00.000000Z"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"kind":"halt","id":"xxxxxxxxxxxxxxxx","time":"2026-11-23T00:00:00.000000Z"}',
        b'{"kind":"boot", "id":"xxxxxxxxxxxxxxxx","time":"2026-11-23T00:00:00.000000Z"}',
        b'{"kind":"boot","id":"xxxxxxxxxxxxxxxx","time":"2026-11-23T00:00:00Z"}',
        b'{"kind":"boot","id":"xxxxxxxxxxxxxxxx","time":"2026-11-23T00:00:00.000000Z","id":"xxxxxxxxxxxxxxxx"}',
    ],
)
def test_a_control_leaf_in_another_form_is_refused(data):
    with pytest.raises(LeafMalformed):
        decode_control(data)


def test_a_salted_digest_is_sha256_over_salt_and_data():
    assert salted_digest(SALT, b"") == "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_only_the_same_contents_match_a_digest(data, other):
    digest = salted_digest(SALT, data)
    verify_salted_digest(digest, SALT, data)
    if other != data:
        with pytest.raises(DigestMismatch):
            verify_salted_digest(digest, SALT, other)


def test_a_digest_in_another_spelling_does_not_match():
    with pytest.raises(DigestMismatch):
        verify_salted_digest(salted_digest(SALT, b"x").upper() + "é", SALT, b"x")


@pytest.mark.parametrize("salt", [b"", SALT[:-1], SALT + b"x"])
def test_a_salt_of_another_length_is_refused(salt):
    with pytest.raises(SaltInvalid):
        salted_digest(salt, b"data")
