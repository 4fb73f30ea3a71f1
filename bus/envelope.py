"""The envelope: the whole body of one NATS message, in each version of the wire that this program reads.

A version says how an `Envelope` is written, never what is in it: the logged header, its proof and the sealed part are
the same in all of them, so a record can be sent in one version today and in another one tomorrow. Version 1 is a
MessagePack array `[version, header, index, size, path, note, wrapped key, nonce, ciphertext]` (protocol.md, On the
wire); in every version the first element of the array is the version. NATS headers carry no meaning.

Checks shape and size only. Which version a receiver reads is said by the directory: `bus.exchange.versions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from bus.errors import Dropped

VERSION = 1
MAX_HEADER_BYTES = 65_535
MAX_PATH_BYTES = 63 * 32
MAX_NOTE_BYTES = 8_192
MAX_WRAPPED_BYTES = 4_096
OVERHEAD_BYTES = 80_000


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One message: header bytes as logged, its proof (index, size, path of 32-byte hashes, note), the seal.

    `version` is the one in which it came, or in which it is to be written.
    """

    version: int
    header: bytes
    index: int
    size: int
    path: bytes
    note: bytes
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes


class VersionUnsupported(Dropped):
    """A message in a version that this program does not read.

    Attributes:
        version: as it says; a number of any size.
    """

    def __init__(self, version: int) -> None:
        super().__init__("version-unsupported")
        self.version = version


class Codec(NamedTuple):
    """How one version is written and read.

    Attributes:
        encode: any envelope, whatever its `version` says.
        decode: raises `msgspec.ValidationError` or `msgspec.DecodeError` for what is not exactly of the form.
    """

    encode: Callable[[Envelope], bytes]
    decode: Callable[[bytes], Envelope]


class Wire:
    """The versions that a program knows.

    Attributes:
        codecs: by version. One that is not spoken any more stays as long as something may be stored in it.
        newest: N.
        spoken: N and N-1, the newest first: what is sent, and what is read from others.
        stored: the version in which envelopes are kept here or given to the other nodes of the member: the oldest one
            spoken, because a program one step behind has to read it, be it another node's or this one's tomorrow.
    """

    def __init__(self) -> None:
        self.codecs: dict[int, Codec] = {}
        self.newest = self.stored = 0
        self.spoken: tuple[int, ...] = ()

    def add(self, version: int, codec: Codec) -> None:
        """Makes a version known; before anything is sent or read."""
        self.codecs[version] = codec
        self.newest = max(self.codecs)
        self.spoken = tuple(one for one in (self.newest, self.newest - 1) if one in self.codecs)
        self.stored = self.spoken[-1]


class _First(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first element; the others are of their version."""

    version: int


_encode_1 = msgspec.msgpack.Encoder().encode
_decode_1 = msgspec.msgpack.Decoder(Envelope).decode
_first = msgspec.msgpack.Decoder(_First).decode


def _write_1(envelope: Envelope) -> bytes:
    return _encode_1(envelope if envelope.version == 1 else msgspec.structs.replace(envelope, version=1))


KNOWN = Wire()
KNOWN.add(1, Codec(_write_1, _decode_1))


def encode(envelope: Envelope) -> bytes:
    """Wire form, in the version that the envelope names; it is a known one."""
    return KNOWN.codecs[envelope.version].encode(envelope)


def in_version(envelope: Envelope, version: int) -> Envelope:
    """The same record, to be written in another version."""
    return envelope if envelope.version == version else msgspec.structs.replace(envelope, version=version)


def decode(data: bytes, max_bytes: int) -> Envelope:
    """Reads the wire form of a version that is spoken; exact, within limits.

    Raises:
        Dropped: `envelope-too-large` or `envelope-malformed`.
        VersionUnsupported: it is of another version.
    """
    return _read(data, max_bytes, KNOWN.spoken)


def encode_stored(envelope: Envelope) -> bytes:
    """The form in which an envelope is kept, see `Wire.stored`."""
    return encode(in_version(envelope, KNOWN.stored))


def decode_stored(data: bytes, max_bytes: int) -> Envelope:
    """Reads what was kept, by this program or by one before it, in any version that is known.

    Raises:
        Dropped: as `decode`.
    """
    return _read(data, max_bytes, KNOWN.codecs)


def _read(data: bytes, max_bytes: int, versions: tuple[int, ...] | dict[int, Codec]) -> Envelope:
    if len(data) > max_bytes:
        raise Dropped("envelope-too-large")
    try:
        version = _first(data).version
        if version not in versions:
            raise VersionUnsupported(version)
        envelope = KNOWN.codecs[version].decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise Dropped("envelope-malformed") from error  # what stands behind the version may be nested without end
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
