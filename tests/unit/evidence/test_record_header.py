import json
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.errors import HeaderMalformed
from evidence.header import MAX_HEADER_BYTES, TYPES, Header, decode, encode, uuid7

HEX = "0123456789abcdef" * 4
QUERY = Header(
    specversion="1.0",
    id="01920000-0000-7000-8000-000000000001",
    time="2026-11-23T01:02:03.000004Z",
    type="query",
    source="VN/GOV/H37/onedoor",
    node="VN/GOV/H37/@n1",
    to="VN/GOV/G01/population/citizens",
    operation="getCitizen",
    expires="2026-11-23T01:02:13.000004Z",
    keyid=HEX,
    sealdigest=HEX,
    partdigest=HEX,
    bodydigest=HEX,
    dir=f"120 {HEX}",
)
ANSWER = msgspec.structs.replace(
    QUERY,
    type="answer",
    source="VN/GOV/G01/population/citizens",
    node="VN/GOV/G01/@n1",
    to="VN/GOV/H37/onedoor",
    operation=None,
    expires=None,
    inreplyto=HEX,
    class_="ok",
)

digests = st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex)
part = st.text("ABCxyz019'()+,-.=", min_size=1, max_size=12).filter(lambda text: text not in {".", ".."})


@st.composite
def headers(draw):
    kind = draw(st.sampled_from(TYPES))
    replies = kind in {"answer", "receipt", "result", "refusal", "outcome"}
    classes = ["undelivered", "timedout", "rejected", "unknown"] if kind == "outcome" else ["ok", "refused", "failed"]
    member = f"VN/GOV/{draw(part)}"
    return Header(
        specversion="1.0",
        id=uuid7(draw(st.integers(0, 2**48 - 1)), draw(st.binary(min_size=10, max_size=10))),
        time="2026-11-23T01:02:03.000004Z",
        type=kind,
        source=f"{member}/{draw(part)}" + draw(st.sampled_from(["", "/citizens"])),
        node=f"{member}/@n1",
        to=draw(
            st.sampled_from(["VN/GOV/G01", "VN/GOV/G01/a", "VN/GOV/G01/a/b", "VN/GOV/G01/@n2", "VN/GOV/m%E1%BB%99t"])
        ),
        operation=draw(st.none() | st.text("abc._-ộ ", min_size=1, max_size=20)),
        expires=draw(st.none() | st.just("2026-11-23T01:02:04.000004Z")),
        inreplyto=HEX if replies else None,
        class_=draw(st.sampled_from(classes)) if replies else None,
        keyid=draw(digests),
        sealdigest=draw(digests),
        partdigest=draw(digests),
        bodydigest=draw(digests),
        dir=draw(st.none() | st.just(f"0 {HEX}")),
    )


@given(headers())
def test_every_header_survives_its_encoding(header):
    data = encode(header)
    assert decode(data) == header
    assert b"null" not in data
    assert json.loads(data)["id"] == header.id


def test_the_encoding_is_fixed_byte_for_byte():
    assert encode(ANSWER) == (
        b'{"specversion":"1.0","id":"01920000-0000-7000-8000-000000000001","time":"2026-11-23T01:02:03.000004Z",'
        b'"type":"answer","source":"VN/GOV/G01/population/citizens","node":"VN/GOV/G01/@n1","to":"VN/GOV/H37/onedoor",'
        b'"inreplyto":"%(h)b","class":"ok","keyid":"%(h)b","sealdigest":"%(h)b","partdigest":"%(h)b","bodydigest":"%(h)b",'
        b'"dir":"120 %(h)b"}' % {b"h": HEX.encode()}
    )


@given(headers(), st.integers(0, 2000), st.integers(0, 255))
def test_a_changed_byte_never_decodes_to_the_same_header(header, at, byte):
    data = bytearray(encode(header))
    at %= len(data)
    if data[at] == byte:
        byte ^= 1
    data[at] = byte
    try:
        changed = decode(bytes(data))
    except HeaderMalformed:
        return
    assert changed != header
    assert encode(changed) == bytes(data)


def attack(pattern: bytes, replacement: bytes, header: Header = QUERY) -> bytes:
    data, count = re.subn(pattern, lambda _: replacement, encode(header), count=1)
    assert count == 1
    return data


@pytest.mark.parametrize(
    "data",
    [
        attack(rb'"type":"query",', b'"type":"event","type":"query",'),
        attack(rb"}$", b',"data":{}}'),
        attack(rb"}$", b',"class":null}'),
        attack(rb'"operation":"getCitizen"', b'"operation":""'),
        attack(rb'"operation":"getCitizen"', b'"operation":"get\\u0043itizen"'),
        attack(rb'"operation":"getCitizen"', b'"operation":"get\\nCitizen"'),
        attack(rb'"operation":"getCitizen"', b'"operation":"get\\"Citizen"'),
        attack(rb'"operation":"getCitizen"', b'"operation":"' + b"x" * 256 + b'"'),
        attack(rb'"operation":"getCitizen"', b'"operation":7'),
        attack(rb'"operation":"getCitizen"', b'"operation":"\xff"'),
        attack(rb":", b": "),
        attack(rb"^", b" "),
        attack(rb"$", b"\n"),
        attack(rb'"1\.0"', b'"1.1"'),
        attack(rb'"query"', b'"question"'),
        attack(rb"01920000-", b"01920000"),
        attack(rb"-7000-", b"-4000-"),
        attack(rb"\.000004Z", b"Z"),
        attack(rb"2026-11-23", b"2026-11-31"),
        attack(rb'"expires":"2026-11-23T01', b'"expires":"2026-11-23T25'),
        attack(rb"VN/GOV/H37/onedoor", b"VN/GOV/H37"),
        attack(rb"VN/GOV/H37/onedoor", b"VN:GOV:H37:onedoor"),
        attack(rb"VN/GOV/H37/onedoor", b"VN/GOV/H37/%6Fnedoor"),
        attack(rb"VN/GOV/H37/onedoor", b"VN/GOV/H37/.."),
        attack(rb"VN/GOV/H37/onedoor", b"VN/GOV/H37/@n1"),
        attack(rb"VN/GOV/H37/onedoor", b"VN/GOV/H37/" + b"x" * 3000),
        attack(rb"VN/GOV/H37/@n1", b"VN/GOV/H37/n1"),
        attack(rb"VN/GOV/G01/population/citizens", b"VN"),
        attack(rb'"keyid":"0', b'"keyid":"A'),
        attack(rb'"keyid":"0', b'"keyid":"'),
        attack(rb'"dir":"120', b'"dir":"0120'),
        attack(rb'"dir":"120', b'"dir":"-1'),
        attack(rb'"inreplyto":"[0-9a-f]+",', b"", ANSWER),
        attack(rb'"class":"ok",', b"", ANSWER),
        attack(rb'"class":"ok"', b'"class":"timedout"', ANSWER),
        attack(rb'"type":"answer"', b'"type":"outcome"', ANSWER),
        attack(rb'"type":"answer"', b'"type":"query"', ANSWER),
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (MAX_HEADER_BYTES + 1),
    ],
)
def test_another_form_of_a_header_is_refused(data):
    with pytest.raises(HeaderMalformed):
        decode(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "x"),
        ("time", "2026-11-23T01:02:03Z"),
        ("expires", "never"),
        ("operation", ""),
        ("operation", "a\nb"),
        ("source", "VN/GOV/H37"),
        ("node", "VN/GOV/H37/n1"),
        ("to", "nobody"),
        ("keyid", "AB"),
        ("dir", HEX),
        ("inreplyto", HEX),
        ("class_", "ok"),
    ],
)
def test_a_header_that_no_receiver_would_accept_is_not_encoded(field, value):
    with pytest.raises(HeaderMalformed):
        encode(msgspec.structs.replace(QUERY, **{field: value}))


def test_the_refusal_names_the_field_and_not_its_value():
    with pytest.raises(HeaderMalformed, match="partdigest") as caught:
        encode(msgspec.structs.replace(QUERY, partdigest="secret"))
    assert caught.value.field == "partdigest"
    assert "secret" not in str(caught.value)


def test_a_field_cannot_run_into_its_neighbour():
    with pytest.raises(HeaderMalformed):
        encode(msgspec.structs.replace(QUERY, operation="getCitizen\n2026-11-23T01:02:13.000004Z", expires=None))


def test_a_header_longer_than_a_leaf_is_not_encoded():
    # no single field can grow so far; the bound is for the whole
    with pytest.raises(HeaderMalformed):
        encode(msgspec.structs.replace(QUERY, operation="ộ" * 30_000))
