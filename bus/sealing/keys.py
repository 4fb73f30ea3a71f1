"""Sealing key pairs: their forms, identifiers and files.

Public form of the default KEM: ML-KEM-768 encapsulation key followed by the X25519 key (1,216 bytes); private form: the
64-byte seed followed by 32 bytes. `keyid` is the SHA-256 of the public form. Plain X25519 and P-256 are settings.
This module does not wrap anything: see epoch.py.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HYBRID = "MLKEM768-X25519"
X25519 = "X25519"
P256 = "P-256"
KEMS = (HYBRID, X25519, P256)

_MLKEM_PUBLIC_BYTES = 1184
_MLKEM_SEED_BYTES = 64
_P256_PUBLIC_BYTES, _P256_PRIVATE_BYTES = 65, 32

_SUITES = {
    HYBRID: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    P256: Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}


class SealingKeyInvalid(ValueError):
    """A sealing key has the wrong form for its KEM."""


def keyid_of(public: bytes) -> str:
    """Identifier of a sealing key: SHA-256 of its public form, lower-case hex."""
    return hashlib.sha256(public).hexdigest()


@dataclass(frozen=True, slots=True)
class SealingPublicKey:
    """A receiver's key: `kem` one of KEMS, `public` its public form."""

    kem: str
    keyid: str
    public: bytes
    key: Any

    @classmethod
    def load(cls, kem: str, public: bytes) -> SealingPublicKey:
        """Reads a public form.

        Raises:
            SealingKeyInvalid: the bytes are not a key of that KEM; nothing can be sealed for it.
        """
        try:
            key: Any
            if kem == HYBRID:
                key = MLKEM768X25519PublicKey(
                    mlkem.MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC_BYTES]),
                    x25519.X25519PublicKey.from_public_bytes(public[_MLKEM_PUBLIC_BYTES:]),
                )
            elif kem == X25519:
                key = x25519.X25519PublicKey.from_public_bytes(public)
            elif kem == P256:
                if len(public) != _P256_PUBLIC_BYTES:  # a compressed point would be a second spelling, with another id
                    raise SealingKeyInvalid("a P-256 key is an uncompressed point of 65 bytes")
                key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
            else:
                raise SealingKeyInvalid(f"unknown KEM {kem}")
        except ValueError as error:
            raise SealingKeyInvalid(f"not a public key of {kem}") from error
        return cls(kem, keyid_of(public), public, key)

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """HPKE base mode, single shot (RFC 9180 section 6.1): enc followed by the ciphertext."""
        return _SUITES[self.kem].encrypt(secret, self.key, info)


@dataclass(frozen=True, slots=True)
class SealingKeyPair:
    """A key pair of a node or member; `private` is the private form, to be kept in a file of mode 0600."""

    public_key: SealingPublicKey
    private: bytes
    key: Any

    @property
    def keyid(self) -> str:
        """Identifier of the pair."""
        return self.public_key.keyid

    @classmethod
    def load(cls, kem: str, private: bytes) -> SealingKeyPair:
        """Reads a private form.

        Raises:
            SealingKeyInvalid: the bytes are not a key of that KEM.
        """
        try:
            key: Any
            if kem == HYBRID:
                ml = mlkem.MLKEM768PrivateKey.from_seed_bytes(private[:_MLKEM_SEED_BYTES])
                x = x25519.X25519PrivateKey.from_private_bytes(private[_MLKEM_SEED_BYTES:])
                key = MLKEM768X25519PrivateKey(ml, x)
                public = ml.public_key().public_bytes_raw() + x.public_key().public_bytes_raw()
            elif kem == X25519:
                key = x25519.X25519PrivateKey.from_private_bytes(private)
                public = key.public_key().public_bytes_raw()
            elif kem == P256:
                if len(private) != _P256_PRIVATE_BYTES:
                    raise SealingKeyInvalid("a private P-256 key has 32 bytes")
                key = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
                public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            else:
                raise SealingKeyInvalid(f"unknown KEM {kem}")
        except ValueError as error:
            raise SealingKeyInvalid(f"not a private key of {kem}") from error
        return cls(SealingPublicKey.load(kem, public), private, key)

    @classmethod
    def generate(cls, kem: str = HYBRID) -> SealingKeyPair:
        """A new key pair from the operating system's randomness."""
        if kem == HYBRID:
            seed = mlkem.MLKEM768PrivateKey.generate().private_bytes_raw()
            return cls.load(kem, seed + x25519.X25519PrivateKey.generate().private_bytes_raw())
        if kem == X25519:
            return cls.load(kem, x25519.X25519PrivateKey.generate().private_bytes_raw())
        number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
        return cls.load(kem, number.to_bytes(32, "big"))

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """Opens what `wrap` made.

        Raises:
            cryptography.exceptions.InvalidTag: not for this key, or altered (translated by the caller).
            ValueError: too short.
        """
        return _SUITES[self.public_key.kem].decrypt(wrapped, self.key, info)
