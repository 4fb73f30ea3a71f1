"""The envelope: the whole body of one NATS message.

A MessagePack array `[version, header, index, size, path, note, wrapped key, nonce, ciphertext]` (protocol.md, On the
wire). NATS headers carry no meaning. This module checks shape and size only.
"""

from __future__ import annotations

import msgspec

from bus.errors import Dropped

VERSION = 1
SPOKEN = (1,)
MAX_HEADER_BYTES = 65_535
MAX_PATH_BYTES = 63 * 32
MAX_NOTE_BYTES = 8_192
MAX_WRAPPED_BYTES = 4_096
OVERHEAD_BYTES = 80_000


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One message: header bytes as logged, its proof (index, size, path of 32-byte hashes, note), the seal."""

    version: int
    header: bytes
    index: int
    size: int
    path: bytes
    note: bytes
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode


def encode(envelope: Envelope) -> bytes:
    """Wire form."""
    return _encode(envelope)


def decode(data: bytes, max_bytes: int) -> Envelope:
    """Reads the wire form; exact, within limits.

    Raises:
        Dropped: `envelope-too-large`, `envelope-malformed` or `version-unsupported`.
    """
    if len(data) > max_bytes:
        raise Dropped("envelope-too-large")
    try:
        envelope = _decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise Dropped("envelope-malformed") from error
    if envelope.version not in SPOKEN:
        raise Dropped("version-unsupported")
    if (
        len(envelope.header) > MAX_HEADER_BYTES
        or len(envelope.path) > MAX_PATH_BYTES
        or len(envelope.path) % 32
        or len(envelope.note) > MAX_NOTE_BYTES
        or len(envelope.wrapped) > MAX_WRAPPED_BYTES
        or len(envelope.nonce) != 32
        or not 0 <= envelope.index < envelope.size < 2**63
    ):
        raise Dropped("envelope-malformed")
    return envelope
