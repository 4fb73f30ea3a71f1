"""Public keys as documents carry them, and the one name that a key has whatever it is used for.

Pure. Verifies nothing and holds no private key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from registry.errors import DocumentMalformed


def decode_base64(text: str) -> bytes:
    """Standard base64 with padding, exactly.

    Raises:
        DocumentMalformed: Another alphabet, padding or spelling.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DocumentMalformed("a key is not standard base64") from None
    if base64.b64encode(data).decode() != text:
        raise DocumentMalformed("a key is not in its exact base64 form")
    return data


def decode_ed25519(text: str) -> bytes:
    """A raw Ed25519 public key.

    Raises:
        DocumentMalformed: Not 32 bytes of base64.
    """
    raw = decode_base64(text)
    if len(raw) != 32:
        raise DocumentMalformed("an Ed25519 public key has 32 bytes")
    return raw


def key_id(public: bytes) -> str:
    """The key id: SHA-256 hex of a key's bare public form, the same whatever it is used for.

    Args:
        public: Raw Ed25519 or X25519 key, uncompressed EC point, PKCS#1 RSA key, or the KEM's public form.
    """
    return hashlib.sha256(public).hexdigest()


def spki_public(spki: bytes) -> bytes:
    """The bare public form inside a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), for `key_id`.

    Raises:
        DocumentMalformed: Not an SPKI, or not P-256, P-384 or RSA with at least 2048 bits.
    """
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise DocumentMalformed("a key is not a SubjectPublicKeyInfo") from None
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name in {"secp256r1", "secp384r1"}:
            return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        case rsa.RSAPublicKey() if key.key_size >= 2048:
            return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        case _:
            raise DocumentMalformed("a member's or operator's key is P-256, P-384 or RSA of at least 2048 bits")
