"""NATS identities: the text forms of Ed25519 keys and the JWTs of operator mode.

Text form: unpadded base32 of prefix, 32 bytes and CRC-16 (XMODEM, little endian), as NATS documents it; JWT header
`{"typ":"JWT","alg":"ed25519-nkey"}`. Pure but for the signing callable it is given.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_PREFIX = {"operator": 14 << 3, "account": 0, "user": 20 << 3, "seed": 18 << 3}
Sign = Callable[[bytes], bytes]


def public_text(kind: str, public: bytes) -> str:
    """Public key of `kind` (operator, account, user), 32 raw bytes, as NATS writes it: 56 characters."""
    raw = bytes([_PREFIX[kind]]) + public
    return _base32(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little"))


def public_bytes(text: str) -> bytes:
    """Raw 32 bytes of a public key's text form.

    Raises:
        ValueError: not such a text, or its checksum is wrong.
    """
    raw = base64.b32decode(text + "=" * (-len(text) % 8))
    if len(raw) != 35 or binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise ValueError("not a NATS public key")
    return raw[1:33]


def seed_text(private: bytes) -> str:
    """Seed of a user's private key, 32 raw bytes, as NATS writes it in credentials files."""
    kind = _PREFIX["user"]
    raw = bytes([_PREFIX["seed"] | kind >> 5, (kind & 31) << 3]) + private
    return _base32(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little"))


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def encode_jwt(claims: Mapping[str, Any], sign: Sign) -> str:
    """A NATS JWT over `claims` (without `jti`, which is their hash)."""
    body = dict(claims)
    body["jti"] = _base32(hashlib.new("sha512_256", msgspec.json.encode(body)).digest())
    head = _base64url(b'{"typ":"JWT","alg":"ed25519-nkey"}')
    signing_input = f"{head}.{_base64url(msgspec.json.encode(body))}"
    return f"{signing_input}.{_base64url(sign(signing_input.encode()))}"


def verify_jwt(jwt: str) -> dict[str, Any]:
    """Claims of a JWT whose signature is that of the key which it names as its issuer.

    Who the issuer may be is the caller's question.

    Raises:
        ValueError: not a NATS JWT, or the signature is not the issuer's.
    """
    try:
        head, body, signature = jwt.split(".")
        if msgspec.json.decode(_unbase64url(head)) != {"typ": "JWT", "alg": "ed25519-nkey"}:
            raise ValueError("not a NATS JWT")
        claims = msgspec.json.decode(_unbase64url(body), type=dict[str, Any])
        issuer = Ed25519PublicKey.from_public_bytes(public_bytes(str(claims.get("iss", ""))))
        issuer.verify(_unbase64url(signature), f"{head}.{body}".encode())
    except (InvalidSignature, msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError("not a NATS JWT of its issuer") from error
    return claims


def _unbase64url(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def decode_claims(jwt: str) -> dict[str, Any]:
    """Claims of a JWT, *unverified*: for its own holder (expiry, name)."""
    body = jwt.split(".")[1]
    claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def operator_jwt(name: str, public: bytes, sign: Sign, issued_at_s: int, system_account: bytes) -> str:
    """Self-signed operator JWT."""
    key = public_text("operator", public)
    return encode_jwt(
        {
            "iat": issued_at_s,
            "iss": key,
            "name": name,
            "sub": key,
            "nats": {"type": "operator", "version": 2, "system_account": public_text("account", system_account)},
        },
        sign,
    )


def account_jwt(
    name: str,
    public: bytes,
    operator: bytes,
    sign: Sign,
    issued_at_s: int,
    *,
    jetstream: bool,
    exports: Sequence[Mapping[str, str]] = (),
    imports: Sequence[Mapping[str, str]] = (),
    revocations: Mapping[str, int] | None = None,
) -> str:
    """Account JWT signed by the operator.

    Args:
        name: of the account.
        public: of the account, 32 raw bytes.
        operator: public key of the operator, 32 raw bytes.
        sign: signs with the operator's private key.
        issued_at_s: a server takes no JWT that is older than the one it has.
        jetstream: whether the account may have streams.
        exports: what other accounts may import.
        imports: what it imports.
        revocations: text form of user keys, with the time up to which what was issued to them is refused.
    """
    storage = -1 if jetstream else 0
    limits = {
        "subs": -1,
        "data": -1,
        "payload": -1,
        "imports": -1,
        "exports": -1,
        "wildcards": True,
        "conn": -1,
        "leaf": -1,
        "mem_storage": storage,
        "disk_storage": storage,
        "streams": -1 if jetstream else 0,
        "consumer": -1 if jetstream else 0,
    }
    nats: dict[str, Any] = {
        "type": "account",
        "version": 2,
        "limits": limits,
        "default_permissions": {"pub": {}, "sub": {}},
    }
    lists = {"exports": list(exports), "imports": list(imports), "revocations": dict(revocations or {})}
    nats.update({key: value for key, value in lists.items() if value})
    return encode_jwt(
        {
            "iat": issued_at_s,
            "iss": public_text("operator", operator),
            "name": name,
            "sub": public_text("account", public),
            "nats": nats,
        },
        sign,
    )


def user_jwt(
    name: str,
    public: bytes,
    account: bytes,
    sign: Sign,
    issued_at_s: int,
    *,
    expires_at_s: int | None,
    publish: list[str] | None,
    subscribe: list[str] | None,
    connection_types: tuple[str, ...] = ("STANDARD",),
) -> str:
    """User JWT signed by the account; `publish` and `subscribe` None: everything in the account; empty: nothing."""
    nats: dict[str, Any] = {
        "type": "user",
        "version": 2,
        "pub": _allowed(publish),
        "sub": _allowed(subscribe),
        "subs": -1,
        "data": -1,
        "payload": -1,
        "allowed_connection_types": list(connection_types),
    }
    claims: dict[str, Any] = {
        "iat": issued_at_s,
        "iss": public_text("account", account),
        "name": name,
        "sub": public_text("user", public),
        "nats": nats,
    }
    if expires_at_s is not None:
        claims["exp"] = expires_at_s
    return encode_jwt(claims, sign)


def _allowed(names: list[str] | None) -> dict[str, list[str]]:
    if names is None:
        return {}
    return {"allow": names} if names else {"deny": [">"]}  # to a server an empty list of what is allowed is everything
