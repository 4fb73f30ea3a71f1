"""A version of the wire that the product does not have: 2, an array with one element more. For tests of upgrades only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from bus import envelope as wire

NEXT = 2
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, bytes, int, int, bytes, bytes, bytes, bytes, bytes, bytes]).decode
_MARK = b"next"


def _write(envelope: wire.Envelope) -> bytes:
    return _encode((NEXT, *msgspec.structs.astuple(envelope)[1:], _MARK))


def _read(data: bytes) -> wire.Envelope:
    *fields, mark = _decode(data)
    if mark != _MARK:
        raise msgspec.ValidationError("no mark")
    return wire.Envelope(*fields)


CODEC = wire.Codec(_write, _read)


@contextmanager
def next_wire() -> Iterator[None]:
    """This process is of the next version meanwhile."""
    before = {name: value.copy() if isinstance(value, dict) else value for name, value in vars(wire.KNOWN).items()}
    wire.KNOWN.add(NEXT, CODEC)
    try:
        yield
    finally:
        vars(wire.KNOWN).update(before)
