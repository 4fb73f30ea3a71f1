from __future__ import annotations

import json
import string

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from registry_world import SERVICE, World, b64, time_at

from evidence.signer import FileSigner
from registry import documents as d
from registry.errors import DocumentMalformed, RegistryError
from registry.publickeys import decode_base64, decode_ed25519, key_id, spki_public
from registry.view import QuotaLimit

IDENTIFIERS = st.text(string.ascii_letters + string.digits + "/-.#@", min_size=1, max_size=60)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40)
TIMES = st.datetimes().map(lambda at: at.isoformat(timespec="microseconds") + "Z")
QUOTAS = st.builds(QuotaLimit, per_second=st.none() | st.floats(0, 1e6), per_day=st.none() | st.integers(0, 10**9))
HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def access_documents(draw: st.DrawFn) -> d.Access:
    seq = draw(st.integers(0, 5))
    return d.Access(
        instance=draw(WORDS),
        subject=draw(IDENTIFIERS),
        seq=seq,
        issued=draw(TIMES),
        prev=draw(HEX) if seq else None,
        client=draw(IDENTIFIERS),
        service=draw(IDENTIFIERS),
        purposes=tuple(draw(st.lists(WORDS, min_size=1, max_size=4))),
        grounds=tuple(draw(st.lists(WORDS, min_size=1, max_size=4))),
        operations=draw(st.none() | st.lists(WORDS, max_size=3).map(tuple)),
        fields=tuple(draw(st.lists(WORDS, max_size=3))),
        official_required=draw(st.booleans()),
        quota=QuotaLimit(
            per_second=draw(st.none() | st.floats(0, 1e6)), per_day=draw(st.none() | st.integers(0, 10**9))
        ),
        until=draw(st.none() | TIMES),
    )


@given(access_documents())
def test_every_document_survives_its_encoding(document: d.Access) -> None:
    payload = d.encode(document)
    assert d.decode(payload) == document
    assert d.decode_checked(payload) == document


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_exact(data: bytes) -> None:
    try:
        document = d.decode(data)
    except RegistryError:
        return
    assert d.encode(document) == data


@given(access_documents(), st.data())
def test_a_changed_byte_is_refused_or_another_exact_document(document: d.Access, data: st.DataObject) -> None:
    payload = bytearray(d.encode(document))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    try:
        changed = d.decode(bytes(payload))
    except RegistryError:
        return
    assert d.encode(changed) == bytes(payload)
    assert changed != document


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('{"type"', '{ "type"'),
        lambda text: text.replace('"seq":0', '"seq":0,"seq":0'),
        lambda text: text.replace('"seq":0', '"seq":0.0'),
        lambda text: text.replace('"seq":0', '"seq":-1'),
        lambda text: text[:-1] + ',"extra":1}',
        lambda text: text[:-1] + ',"enabled":true}',
        lambda text: text.replace('"type":"service"', '"type":"decree"'),
        lambda text: text.replace("Citizens", "C\\u0069tizens"),
        lambda text: text + " ",
        lambda text: "[" * 100_000,
        lambda text: "x" * 70_000,
        lambda text: text.replace('"issued":"2026', '"issued":"+026'),
        lambda text: text.replace(time_at(8)[:10], "2026-02-30"),
        lambda text: text.replace('"subject"', '"subject":null,"x"'),
    ],
)
def test_another_spelling_of_a_document_is_refused(change: object) -> None:
    world = World()
    world.minute = 7
    text = d.encode(world.service(SERVICE)).decode()
    assert callable(change)
    changed = change(text)
    assert changed != text
    with pytest.raises(DocumentMalformed):
        d.decode(changed.encode())


def test_refusals_never_repeat_a_value() -> None:
    payload = json.dumps({"type": "secret-citizen-number", "x": "secret"}, separators=(",", ":")).encode()
    with pytest.raises(DocumentMalformed) as caught:
        d.decode(payload)
    assert "secret" not in str(caught.value)


def malformed(document: d.AnyDocument) -> None:
    with pytest.raises(DocumentMalformed):
        d.decode(d.encode(document))


def test_documents_with_impossible_contents_are_refused() -> None:
    world = World()
    ed = b64(world.log_signer.public_bytes)
    malformed(world.make_anchor(threshold=2))
    malformed(world.make_anchor(seq=1))
    malformed(world.make_anchor(operators=(d.Operator(keyid="0" * 64, spki=world.operator.spki),)))
    malformed(world.make_anchor(operators=world.make_anchor().operators * 2))
    malformed(world.make_anchor(directory=d.DirectoryKeys(log_key="AAAA", cosigner_key=ed)))
    malformed(world.member(world.provider, aliases=("a", "a")))
    malformed(world.member(world.provider, keys=(d.PinnedKey(spki="AAAA"),)))
    malformed(world.service(operations=(d.Operation(id="a", method="GET", path="/"),) * 2))
    node = "VN-TEST/GOV/G01/@n1"
    malformed(world.node(node, broker_key="!!!!"))
    malformed(world.node(node, until="tomorrow"))
    malformed(world.sealing(node, b"\x01" * 31))
    malformed(world.sealing(node, b"\x01" * 32, subject=f"{node}#{'0' * 64}"))
    malformed(world.sealing(node, b"\x04" + b"\x01" * 64, kem="P-256"))
    malformed(world.sealing(node, b"\x01" * 32, use=("query", "query")))


def test_a_p256_sealing_key_is_accepted_as_an_uncompressed_point() -> None:
    public = spki_public(FileSigner.generate("p256").public_bytes)
    document = World().sealing("VN-TEST/GOV/G01/@n1", public, kem="P-256")
    assert d.decode(d.encode(document)) == document
    assert document.owner == "VN-TEST/GOV/G01/@n1"
    assert document.keyid == key_id(public)


def test_the_types_on_the_wire_are_those_of_the_protocol() -> None:
    assert d.TYPES == (
        "anchor", "member", "node", "sealing", "subsystem", "group", "service", "access", "catalogue", "revocation",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["A", "AAAA=", "AA==AAAA", "AB==", "____", "AAAA\n"])
def test_base64_has_one_spelling(text: str) -> None:
    with pytest.raises(DocumentMalformed):
        decode_base64(text)


def test_an_ed25519_key_has_32_bytes() -> None:
    with pytest.raises(DocumentMalformed):
        decode_ed25519(b64(b"\x01" * 31))
    assert decode_ed25519(b64(b"\x01" * 32)) == b"\x01" * 32


def spki(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_weak_and_strange_member_keys_are_refused() -> None:
    for key in (
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
    ):
        with pytest.raises(DocumentMalformed):
            spki_public(spki(key))
    with pytest.raises(DocumentMalformed):
        spki_public(b"nothing")


def test_a_key_has_one_id_whatever_it_is_used_for() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    assert len(spki_public(spki(key))) == 97
    assert len(spki_public(spki(rsa.generate_private_key(65537, 2048)))) > 256


def test_a_node_that_reads_only_the_first_version_of_the_wire_is_stated_as_ever() -> None:
    node = World().node("VN-TEST/GOV/G01/@n1")
    payload = d.encode(node)
    assert b"wire" not in payload
    assert d.decode(payload).wire == 1
    with pytest.raises(DocumentMalformed):
        d.decode(payload[:-1] + b',"wire":1}')
    more = msgspec.structs.replace(node, wire=2)
    assert d.encode(more) == payload[:-1] + b',"wire":2}'
    assert d.decode(d.encode(more)) == more
    for wrong in (0, -1, 1_001):
        malformed(msgspec.structs.replace(node, wire=wrong))
