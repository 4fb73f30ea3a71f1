"""Salted digests: what the header says of contents that may later be erased (protocol.md "Record").

The salt is fresh, secret (it travels inside the seal) and 32 bytes long, so that nobody can guess contents from the
digest. This module makes no salts: randomness comes from the caller.
"""

from hashlib import sha256
from hmac import compare_digest

from evidence.errors import DigestMismatch, SaltInvalid

SALT_BYTES = 32


def salted_digest(salt: bytes, data: bytes) -> str:
    """SHA-256 over the salt followed by the data.

    Args:
        salt: Exactly 32 bytes.
        data: The particulars or the body.

    Returns:
        64 lower-case hex digits.

    Raises:
        SaltInvalid: The salt has another length; with a shorter one, data could slide into the salt.
    """
    if len(salt) != SALT_BYTES:
        raise SaltInvalid(
            f"a salt has {len(salt)} bytes instead of {SALT_BYTES}: use fresh random bytes of that length"
        )
    return sha256(salt + data).hexdigest()


def verify_salted_digest(digest: str, salt: bytes, data: bytes) -> None:
    """Check opened contents against the digest in a signed header.

    Raises:
        DigestMismatch: The contents are not those that were signed; they must not be used.
        SaltInvalid: The salt is not 32 bytes.
    """
    if not compare_digest(salted_digest(salt, data).encode(), digest.encode()):
        raise DigestMismatch("opened contents do not match the digest in the signed header: drop them")
