"""What travels inside the seal: particulars, body and the salts of their digests.

Padded to buckets so that lengths do not tell answers apart (powers of two from 256 bytes to 64 KiB, then steps of 64
KiB). Pure: salts are arguments.
"""

from __future__ import annotations

import hashlib

import msgspec

from evidence.errors import EvidenceError

SALT_BYTES = 32
_SMALLEST_BUCKET = 256
_STEP = 64 * 1024


class ContentsMalformed(EvidenceError):
    """The opened seal does not hold what it should; the record is refused."""

    code = "contents-malformed"
    disposition = "reject"


class Particulars(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is not for the log's readers: who acted, for what purpose, and the request line.

    `headers` are the user's own headers that travel; `status` is the exact HTTP status of an answer (0 in requests);
    `fault` is the error code when the body is a problem of the bus and not the back end's answer.
    """

    method: str = ""
    path: str = ""
    query: str = ""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    official: str = ""
    issue: str = ""
    represented_party: str = ""
    purpose: str = ""
    legal_basis: str = ""
    status: int = 0
    body_bytes: int = 0
    trace: str = ""
    request_hash: str = ""
    fault: str = ""


# msgspec passes the error of text that is no UTF-8 on as it is: it is caught beside its own wherever it decodes.
_encoder = msgspec.msgpack.Encoder()
_particulars = msgspec.msgpack.Decoder(Particulars)
_outer = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes])


def encode_particulars(particulars: Particulars) -> bytes:
    """Canonical bytes of the particulars: the input of `partdigest`."""
    return _encoder.encode(particulars)


def salted_hex(salt: bytes, data: bytes) -> str:
    """`partdigest` and `bodydigest`: SHA-256 over a fresh 32-byte salt and the data, lower-case hex."""
    return hashlib.sha256(salt + data).hexdigest()


def bucket(size: int) -> int:
    """Padded length in bytes for contents of `size` bytes."""
    if size <= _STEP:
        return max(_SMALLEST_BUCKET, 1 << (size - 1).bit_length())
    return -(-size // _STEP) * _STEP


def pack(salts: bytes, particulars: bytes, body: bytes) -> bytes:
    """Plaintext of the seal; `salts` is 64 bytes: the particulars' salt, then the body's."""
    plain = _encoder.encode((salts, particulars, body))
    framed = len(plain).to_bytes(4, "big") + plain
    return framed.ljust(bucket(len(framed)), b"\0")


def unpack(plain: bytes) -> tuple[bytes, bytes, bytes]:
    """Salts (64 bytes), encoded particulars, body.

    Raises:
        ContentsMalformed: wrong framing, padding or types.
    """
    length = int.from_bytes(plain[:4], "big")
    if len(plain) < _SMALLEST_BUCKET or length > len(plain) - 4 or bucket(length + 4) != len(plain):
        raise ContentsMalformed("the sealed contents have a wrong length")
    try:
        salts, particulars, body = _outer.decode(plain[4 : 4 + length])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ContentsMalformed("the sealed contents are not in the agreed form") from error
    if len(salts) != 2 * SALT_BYTES:
        raise ContentsMalformed("the salts have a wrong length")
    if not plain.endswith(bytes(len(plain) - 4 - length)):
        raise ContentsMalformed("the padding of the sealed contents is not empty")
    return salts, particulars, body


def decode_particulars(data: bytes) -> Particulars:
    """Reads particulars.

    Raises:
        ContentsMalformed: not in the agreed form.
    """
    try:
        return _particulars.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ContentsMalformed("the particulars are not in the agreed form") from error
