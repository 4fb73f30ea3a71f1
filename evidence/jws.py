"""Signed documents: JWS in JSON serialisation (RFC 7515 section 7.2), exact and bounded.

One signature is written flattened, several general. A document is accepted only if encoding its parts again gives the
same bytes: compact JSON, members in the order of RFC 7515, no unprotected header, canonical base64url, protected
headers without duplicate keys. The leaf of a directory log is these exact bytes.

Only ES256, ES384, PS256 and EdDSA (Ed25519) exist here, each bound to its kind of key. What a protected header *means*
(`typ`, genesis, `x5c`) is for the registry; an extension marked `crit` is refused because none is understood.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from evidence.errors import JwsMalformed, KeyUnusable, SignatureInvalid
from evidence.signer import PublicKey, Signer, algorithm_of

ALGORITHMS = ("ES256", "ES384", "PS256", "EdDSA")
MAX_JWS_BYTES = 4 << 20
MAX_PROTECTED_BYTES = 65_536
MAX_SIGNATURES = 32

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)


class _Flattened(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str
    protected: str
    signature: str


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    protected: str
    signature: str


class _General(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload: str
    signatures: list[_Line]


_flattened = msgspec.json.Decoder(_Flattened)
_general = msgspec.json.Decoder(_General)
_object = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class JwsSignature:
    """One signature of a document, not yet verified.

    Attributes:
        protected: The decoded protected header; `alg` is one of `ALGORITHMS`.
        signature: Raw signature bytes.
        signing_input: The bytes that were signed (RFC 7515 section 5.1).
    """

    protected: Mapping[str, Any]
    signature: bytes
    signing_input: bytes


@dataclass(frozen=True, slots=True)
class Jws:
    """A parsed document; nothing is verified yet.

    Attributes:
        payload: The signed bytes.
        signatures: At least one.
    """

    payload: bytes
    signatures: tuple[JwsSignature, ...]


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise JwsMalformed("a JWS contains text that is not base64url") from None
    if _b64(data) != text:
        raise JwsMalformed("a JWS contains base64url in another than the canonical spelling")
    return data


def _sign(payload64: str, protected: Mapping[str, Any], signer: Signer) -> _Line:
    """Sign under a protected header that begins with the signer's own algorithm."""
    if protected.get("alg", signer.algorithm) != signer.algorithm or "crit" in protected:
        raise JwsMalformed("a protected header must not name another algorithm than the signer's, nor have 'crit'")
    header = {"alg": signer.algorithm, **protected}
    protected64 = _b64(_encoder.encode(header))
    return _Line(protected64, _b64(signer.sign(f"{protected64}.{payload64}".encode())))


def sign_flattened(payload: bytes, protected: Mapping[str, Any], signer: Signer) -> bytes:
    """Make a document with one signature.

    Args:
        payload: The bytes to sign.
        protected: Header members besides `alg`, which is put first; values as JSON can hold them.
        signer: Its algorithm decides `alg`.

    Returns:
        The flattened serialisation (RFC 7515 section 7.2.2).

    Raises:
        JwsMalformed: The header names another algorithm or `crit`, or the document exceeds the limits.
    """
    payload64 = _b64(payload)
    line = _sign(payload64, protected, signer)
    return _bounded(_encoder.encode(_Flattened(payload64, line.protected, line.signature)))


def add_signature(document: bytes, protected: Mapping[str, Any], signer: Signer) -> bytes:
    """Add a signature over the same payload.

    Args:
        document: A flattened or general document; its signatures are kept and not verified.
        protected: Header members besides `alg`.
        signer: The further signer.

    Returns:
        The general serialisation (RFC 7515 section 7.2.1).

    Raises:
        JwsMalformed: The document is malformed or would exceed the limits.
    """
    payload64, lines = _decode(document)
    general = _General(payload64, [*lines, _sign(payload64, protected, signer)])
    if len(general.signatures) > MAX_SIGNATURES:
        raise JwsMalformed(f"a JWS may have at most {MAX_SIGNATURES} signatures")
    return _bounded(_encoder.encode(general))


def _bounded(document: bytes) -> bytes:
    if len(document) > MAX_JWS_BYTES:
        raise JwsMalformed(f"a JWS of {len(document)} bytes exceeds {MAX_JWS_BYTES}")
    return document


def _decode(document: bytes) -> tuple[str, list[_Line]]:
    parsed: _Flattened | _General
    decoder = _general if b'"signatures":[' in _bounded(document) else _flattened
    try:
        parsed = decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise JwsMalformed("not a JWS in flattened or general JSON serialisation") from None
    if _encoder.encode(parsed) != document:
        raise JwsMalformed("a JWS is not in the exact encoding: order, spaces or duplicate members differ")
    if isinstance(parsed, _Flattened):
        return parsed.payload, [_Line(parsed.protected, parsed.signature)]
    if not 1 <= len(parsed.signatures) <= MAX_SIGNATURES:
        raise JwsMalformed(f"a JWS has {len(parsed.signatures)} signatures; 1 to {MAX_SIGNATURES} are accepted")
    return parsed.payload, parsed.signatures


def _decode_protected(text: str) -> Mapping[str, Any]:
    data = _unb64(text)
    if len(data) > MAX_PROTECTED_BYTES:
        raise JwsMalformed(f"a protected header exceeds {MAX_PROTECTED_BYTES} bytes")
    try:
        header = _object.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise JwsMalformed("a protected header is not a JSON object") from None
    if _encoder.encode(header) != data:
        raise JwsMalformed("a protected header is not compact JSON without duplicate members")
    if header.get("alg") not in ALGORITHMS or "crit" in header:
        raise JwsMalformed(f"a protected header needs 'alg' out of {', '.join(ALGORITHMS)}, and no 'crit'")
    return header


def parse(document: bytes) -> Jws:
    """Read a document without verifying its signatures.

    Raises:
        JwsMalformed: Not the exact encoding of a document within the limits.
    """
    payload64, lines = _decode(document)
    payload = _unb64(payload64)
    signatures = tuple(
        JwsSignature(
            _decode_protected(line.protected), _unb64(line.signature), f"{line.protected}.{payload64}".encode()
        )
        for line in lines
    )
    return Jws(payload, signatures)


@lru_cache(maxsize=4096)
def load_public_key(data: bytes) -> PublicKey:
    """Read a public key as `Signer.public_bytes` gives it: 32 raw Ed25519 bytes, or SubjectPublicKeyInfo in DER.

    Raises:
        SignatureInvalid: Neither, or a kind of key that is not used here.
    """
    try:
        if len(data) == 32:
            return ed25519.Ed25519PublicKey.from_public_bytes(data)
        key = serialization.load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureInvalid("a public key is neither raw Ed25519 nor SubjectPublicKeyInfo") from None
    if not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise SignatureInvalid("a public key is not Ed25519, P-256, P-384 or RSA")
    return key


def verify(signature: JwsSignature, public_key: PublicKey | bytes) -> None:
    """Verify one signature of a document.

    Args:
        signature: From `parse`.
        public_key: The key that the caller trusts for this signer; never one taken from the document itself.

    Raises:
        SignatureInvalid: Not by this key, or the algorithm is not the key's own.
    """
    key = load_public_key(public_key) if isinstance(public_key, bytes) else public_key
    try:
        algorithm = algorithm_of(key)
    except KeyUnusable:
        raise SignatureInvalid("the public key is of a kind or size that is not accepted") from None
    if signature.protected.get("alg") != algorithm:
        raise SignatureInvalid(f"the document's algorithm is not {algorithm}, the only one for this key")
    verify_raw(key, signature.signature, signature.signing_input)


def verify_raw(key: PublicKey, signature: bytes, data: bytes) -> None:
    """Verify a signature in the form of `Signer.sign`.

    Raises:
        SignatureInvalid: Not by this key over these bytes.
    """
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _PSS, hashes.SHA256())
        else:
            width, algorithm = (48, hashes.SHA384()) if key.key_size == 384 else (32, hashes.SHA256())
            if len(signature) != 2 * width:
                raise InvalidSignature
            r, s = int.from_bytes(signature[:width]), int.from_bytes(signature[width:])
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm))
    except InvalidSignature:
        raise SignatureInvalid("a signature is not by the expected key over these bytes") from None
