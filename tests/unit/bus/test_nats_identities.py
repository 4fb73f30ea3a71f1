import base64
import hashlib

import msgspec
import pytest
from bus_world import NODE_H37, member_entry, node_entry
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from bus.transport import nkeys, permissions
from bus.transport.connection import _sign_nonce
from bus.transport.minting import AccountMinter
from evidence.checkpoint import Checkpoint

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
publics = st.binary(min_size=32, max_size=32)
kinds = st.sampled_from([("operator", "O"), ("account", "A"), ("user", "U")])


@given(kinds, publics)
def test_a_public_key_survives_its_text_form(kind, public):
    text = nkeys.public_text(kind[0], public)
    assert len(text) == 56
    assert text[0] == kind[1]
    assert nkeys.public_bytes(text) == public


def test_a_published_key_reads_as_documented():
    # from the NATS documentation on decentralised authentication
    text = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
    assert nkeys.public_text("user", nkeys.public_bytes(text)) == text


@given(kinds, publics, st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_an_altered_text_is_refused(kind, public, at, letter):
    text = nkeys.public_text(kind[0], public)
    altered = text[:at] + letter + text[at + 1 :]
    if altered == text:
        return
    with pytest.raises(ValueError):
        nkeys.public_bytes(altered)


@pytest.mark.parametrize("text", ["", "U", "UAAA", "é" * 56, "1" * 56, nkeys.public_text("user", PUBLIC).lower()])
def test_a_text_of_another_form_is_refused(text):
    with pytest.raises(ValueError):
        nkeys.public_bytes(text)


def parts_of(jwt: str):
    head, body, signature = jwt.split(".")

    def plain(text):
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    assert "=" not in jwt
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(plain(signature), f"{head}.{body}".encode())
    assert plain(head) == b'{"typ":"JWT","alg":"ed25519-nkey"}'
    claims = msgspec.json.decode(plain(body))
    without = {name: value for name, value in claims.items() if name != "jti"}
    digest = hashlib.new("sha512_256", msgspec.json.encode(without)).digest()
    assert claims["jti"] == base64.b32encode(digest).decode().rstrip("=")
    assert nkeys.decode_claims(jwt) == claims
    return claims


def test_an_operator_signs_for_itself():
    claims = parts_of(nkeys.operator_jwt("VN-DEMO", PUBLIC, KEY.sign, 1_000, b"s" * 32))
    assert claims["iss"] == claims["sub"] == nkeys.public_text("operator", PUBLIC)
    assert claims["nats"]["system_account"] == nkeys.public_text("account", b"s" * 32)


@pytest.mark.parametrize(("jetstream", "storage"), [(True, -1), (False, 0)])
def test_an_account_has_storage_only_when_it_is_said(jetstream, storage):
    claims = parts_of(nkeys.account_jwt("VN", b"a" * 32, PUBLIC, KEY.sign, 1_000, jetstream=jetstream))
    assert claims["sub"] == nkeys.public_text("account", b"a" * 32)
    assert {claims["nats"]["limits"][name] for name in ("disk_storage", "mem_storage", "streams", "consumer")} == {
        storage
    }


async def test_a_node_gets_its_rights_and_an_end():
    minter = AccountMinter(PUBLIC, KEY.sign, lambda: 5_000.7, lifetime_s=60)
    entry = node_entry(NODE_H37, broker_key=b"b" * 32)
    claims = parts_of(await minter.mint(entry, member_entry(entry.member)))
    assert (claims["iat"], claims["exp"], claims["name"]) == (4_999, 5_060, NODE_H37)
    assert claims["sub"] == nkeys.public_text("user", b"b" * 32)
    assert claims["nats"]["pub"] == {"allow": permissions.node_publish(entry.member, NODE_H37)}
    assert claims["nats"]["sub"] == {"allow": permissions.node_subscribe(entry.member, NODE_H37)}
    assert "resp" not in claims["nats"]
    assert claims["nats"]["allowed_connection_types"] == ["STANDARD"]


def test_the_registrys_own_user_has_everything_and_no_end():
    claims = parts_of(AccountMinter(PUBLIC, KEY.sign, lambda: 5_000.0).mint_service_user("registry", b"r" * 32))
    assert "exp" not in claims
    assert claims["nats"]["pub"] == claims["nats"]["sub"] == {}


# --- the broker's challenge -----------------------------------------------------------------------------------------


def test_a_nonce_is_signed():
    assert _sign_nonce("Vp9ZzS2xYtY0i1A", KEY.sign) == base64.b64encode(KEY.sign(b"Vp9ZzS2xYtY0i1A"))


@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "short",
        "a" * 65,
        "lienthong/v1/seal",
        "with space",
        "nonce123\n",
        "nonce+123",
        "nonce=123",
        Checkpoint("0f" * 32 + "/VN/GOV/H37/@n1/1", 5, bytes(32)).text(),
    ],
)
def test_no_other_text_is_signed_as_a_challenge(challenge):
    def sign(data):
        raise AssertionError

    with pytest.raises(ValueError, match="not a nonce"):
        _sign_nonce(challenge, sign)
