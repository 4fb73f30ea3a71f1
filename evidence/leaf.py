"""Leaves of a log: a prefix that names the kind, followed by the bytes (protocol.md "Record").

The prefix keeps a record of one kind from ever being read as another. Control leaves are this room's own: `Boot` marks
each start of a log.

This module does not hash leaves (`evidence.merkle`) and does not read exchange headers (`evidence.header`).
"""

import re
from typing import Literal

import msgspec

from evidence.errors import LeafMalformed, LeafTooLarge
from evidence.stamps import TIME

EXCHANGE = b"lienthong/v1/exchange\n"
DIRECTORY = b"lienthong/v1/directory\n"
ADMIN = b"lienthong/v1/admin\n"
CONTROL = b"lienthong/v1/control\n"
KINDS = (EXCHANGE, DIRECTORY, ADMIN, CONTROL)
KIND_NAMES = {kind: kind[13:-1].decode() for kind in KINDS}
"""Prefix to plain word: "exchange", "directory", "admin", "control"."""

MAX_LEAF_BYTES = 65_535

_BOOT = re.compile(rf"[0-9A-Za-z_-]{{16,128}}\n{TIME}")


def wrap(kind: bytes, data: bytes) -> bytes:
    """Make a leaf.

    Args:
        kind: One of the prefixes `EXCHANGE`, `DIRECTORY`, `ADMIN`, `CONTROL`.
        data: The bytes of the record.

    Raises:
        LeafMalformed: `kind` is none of the prefixes.
        LeafTooLarge: The leaf would exceed 65,535 bytes.
    """
    if kind not in KIND_NAMES:
        raise LeafMalformed("a leaf must begin with one of the four known prefixes")
    leaf = kind + data
    if len(leaf) > MAX_LEAF_BYTES:
        raise LeafTooLarge(
            f"a leaf of {len(leaf)} bytes exceeds {MAX_LEAF_BYTES}: carry the contents outside, log their digest",
            size_bytes=len(leaf),
        )
    return leaf


def unwrap(leaf: bytes) -> tuple[bytes, bytes]:
    """Split a leaf into its prefix and its bytes.

    Returns:
        `(kind, data)`, the kind being one of the prefix constants.

    Raises:
        LeafMalformed: No known prefix, or longer than 65,535 bytes.
    """
    if len(leaf) > MAX_LEAF_BYTES:
        raise LeafMalformed(f"a leaf of {len(leaf)} bytes exceeds {MAX_LEAF_BYTES}")
    for kind in KINDS:
        if leaf.startswith(kind):
            return kind, leaf[len(kind) :]
    raise LeafMalformed("a leaf does not begin with a known prefix: it was not written by this protocol")


class Boot(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The control leaf that each start of a log appends before anything else.

    Attributes:
        kind: Always "boot".
        id: Fresh and unguessable, so that two copies of one log part at once.
        time: When the log was opened, as `evidence.stamps.encode_time` writes it.
    """

    kind: Literal["boot"] = "boot"
    id: str
    time: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Boot)


def encode_control(control: Boot) -> bytes:
    """Encode a control struct and wrap it as a leaf.

    Raises:
        LeafMalformed: The id is not 16 to 128 characters of `[0-9A-Za-z_-]`, or the time is misspelt.
    """
    if not _BOOT.fullmatch(f"{control.id}\n{control.time}"):
        raise LeafMalformed("a boot leaf needs an id of 16 to 128 letters, digits, '-' or '_', and a UTC time")
    return CONTROL + _encoder.encode(control)


def decode_control(data: bytes) -> Boot:
    """Read the bytes of a control leaf (without prefix); accepted only in the one exact encoding.

    Raises:
        LeafMalformed: Anything else.
    """
    try:
        control = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise LeafMalformed("a control leaf is not one of the known control records") from None
    if encode_control(control) != CONTROL + data:
        raise LeafMalformed("a control leaf is not in the exact encoding")
    return control
