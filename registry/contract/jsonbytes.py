"""Strict JSON from bytes: bounded depth, no duplicate names, finite numbers. It knows nothing of schemas.

msgspec decodes; it keeps the last of duplicate names and recurses, so both are checked around it.
"""

from __future__ import annotations

import json

import msgspec

from registry.contract.model import Json

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'"[]{}'))
_OPEN_CLOSE = bytes.maketrans(b"[]", b"{}")


class JsonMalformed(ValueError):
    """The bytes are not JSON as RFC 8259 and this bus want it.

    Attributes:
        rule: ``json``, ``depth`` or ``duplicate-name``.
    """

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(message)


def json_depth(body: bytes, limit: int) -> int:
    """Returns the nesting depth of arrays and objects in `body`, or `limit` + 1 when it is deeper or unbalanced.

    Args:
        body: JSON text; brackets inside strings do not count.
        limit: Greatest depth of interest.
    """
    # Without escaped backslashes and escaped quotes every remaining quote delimits a string.
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = body.translate(None, _NOT_STRUCTURE)
    if b'"' in marks:
        marks = b"".join(marks.split(b'"')[::2])
    marks = marks.translate(_OPEN_CLOSE)
    # Each pass removes the innermost level of every branch: the number of passes is the depth.
    depth = 0
    while marks:
        depth += 1
        if depth > limit:
            return depth
        marks = marks.replace(b"{}", b"")
    return depth


def within_depth(body: bytes, limit: int) -> bool:
    """Says whether `body` nests at most `limit` deep; the common case costs two byte counts."""
    return body.count(b"{") + body.count(b"[") <= limit or json_depth(body, limit) <= limit


def decode_json(body: bytes, depth: int = 64) -> tuple[Json, bytes]:
    """Decodes strictly and returns the value and its compact re-encoding.

    Args:
        body: UTF-8 JSON text without a byte order mark.
        depth: Greatest nesting.

    Raises:
        JsonMalformed: Not JSON, too deep, a duplicate name, a number out of range.
    """
    if body.count(b"{") + body.count(b"[") > depth and json_depth(body, depth) > depth:
        raise JsonMalformed("depth", f"JSON nests deeper than {depth} levels or is unbalanced")
    try:
        value: Json = _decode(body)
        encoded = _encode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        raise JsonMalformed("json", "not valid JSON (RFC 8259, UTF-8, finite numbers)") from None
    # A colon outside strings is one member; dropping a duplicate member drops its colons. Colons inside strings are the
    # same on both sides unless written as an escape, and only then the slow way decides.
    if b"\\u003" in body:
        _refuse_duplicates(body)
    elif body.count(b":") != encoded.count(b":"):
        raise JsonMalformed("duplicate-name", "an object names a member twice")
    return value, encoded


def _refuse_duplicates(body: bytes) -> None:
    def distinct(pairs: list[tuple[str, object]]) -> None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise JsonMalformed("duplicate-name", "an object names a member twice")

    json.loads(body, object_pairs_hook=distinct)
