"""The header of an exchange record: what is logged and signed (protocol.md "Record").

A header is a CloudEvents 1.0 JSON object without data, in one exact encoding: fixed field order, compact, no nulls,
UTF-8 unescaped. `decode` accepts bytes only if encoding the result again gives the same bytes, so there are no
duplicate or unknown keys and no second spelling of the same header.

This module does not verify who said it, whether it is in a log, or whether the parties exist.
"""

import re
from datetime import datetime
from functools import lru_cache
from typing import Literal

import msgspec

from evidence.errors import HeaderMalformed, IdentifierInvalid
from evidence.identifiers import MAX_IDENTIFIER_CHARS, MemberId, NodeId, ServiceId, SubsystemId
from evidence.leaf import EXCHANGE, MAX_LEAF_BYTES
from evidence.stamps import TIME, UUID7, decode_time, encode_time, is_uuid7, uuid7

__all__ = [
    "MAX_HEADER_BYTES",
    "TYPES",
    "Header",
    "decode",
    "decode_time",
    "encode",
    "encode_made",
    "encode_time",
    "is_uuid7",
    "uuid7",
]

MAX_HEADER_BYTES = MAX_LEAF_BYTES - len(EXCHANGE)

Type = Literal["query", "answer", "command", "receipt", "result", "event", "refusal", "outcome"]
TYPES: tuple[Type, ...] = ("query", "answer", "command", "receipt", "result", "event", "refusal", "outcome")

AnswerClass = Literal["ok", "refused", "failed"]
OutcomeClass = Literal["undelivered", "timedout", "rejected", "unknown"]


class Header(
    msgspec.Struct,
    kw_only=True,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={"class_": "class"},
):
    """One record header; the order of the fields is the order on the wire.

    Attributes:
        specversion: CloudEvents version, always "1.0".
        id: UUIDv7 of the record.
        time: When it was made, by the author's clock: a claim.
        type: One of `TYPES`.
        source: Speaking subsystem or service, slash form.
        node: The node whose log signs, slash form.
        to: The addressee, slash form.
        operation: OpenAPI `operationId`.
        expires: Instant after which the provider drops it.
        inreplyto: Leaf hash of the request, 64 hex digits.
        class_: "ok", "refused", "failed"; in outcomes "undelivered", "timedout", "rejected", "unknown".
        keyid: SHA-256 of the public sealing key, 64 hex digits.
        sealdigest: SHA-256 over wrapped key, nonce and ciphertext, 64 hex digits.
        partdigest: Salted SHA-256 of the particulars, 64 hex digits.
        bodydigest: Salted SHA-256 of the body, 64 hex digits.
        dir: Size and root of the directory view that decided, `"<size> <64 hex digits>"`.
    """

    specversion: Literal["1.0"]
    id: str
    time: str
    type: Type
    source: str
    node: str
    to: str
    operation: str | None = None
    expires: str | None = None
    inreplyto: str | None = None
    class_: AnswerClass | OutcomeClass | None = None
    keyid: str | None = None
    sealdigest: str | None = None
    partdigest: str | None = None
    bodydigest: str | None = None
    dir: str | None = None


_HEX = r"[0-9a-f]{64}"
_ANSWERS = "answer|receipt|result|refusal"

# One expression over all fields joined by newlines costs a third of one per field. No class below matches a newline, so
# a field cannot run into its neighbour. An absent field is the empty string.
_FIELDS: tuple[tuple[str, str], ...] = (
    ("id", UUID7),
    ("time", TIME),
    ("operation", r"[^\x00-\x1f\x7f\"\\]{0,255}"),
    ("expires", rf"(?:{TIME})?"),
    ("keyid", rf"(?:{_HEX})?"),
    ("sealdigest", rf"(?:{_HEX})?"),
    ("partdigest", rf"(?:{_HEX})?"),
    ("bodydigest", rf"(?:{_HEX})?"),
    ("dir", rf"(?:(?:0|[1-9][0-9]{{0,18}}) {_HEX})?"),
    (
        "inreplyto",
        # the type decides what an answer must carry
        (
            rf"(?:(?:query|command|event)\n\n|(?:{_ANSWERS})\n{_HEX}\n(?:ok|refused|failed)"
            rf"|outcome\n{_HEX}\n(?:undelivered|timedout|rejected|unknown))"
        ),
    ),
)
_WHOLE = re.compile("\n".join(pattern for _, pattern in _FIELDS))
_EACH = tuple((name, re.compile(pattern)) for name, pattern in _FIELDS)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Header).decode


def _texts(header: Header) -> tuple[str, ...]:
    h = header
    return (
        h.id,
        h.time,
        h.operation or "",
        h.expires or "",
        h.keyid or "",
        h.sealdigest or "",
        h.partdigest or "",
        h.bodydigest or "",
        h.dir or "",
        f"{h.type}\n{h.inreplyto or ''}\n{h.class_ or ''}",
    )


@lru_cache(maxsize=4096)
def _forms(text: str) -> frozenset[type]:
    """Which identifiers the text is, in canonical spelling."""
    found = set()
    for form in (MemberId, SubsystemId, ServiceId, NodeId):
        try:
            if str(form.parse(text)) == text:
                found.add(form)
        except IdentifierInvalid:
            continue
    return frozenset(found)


_SPEAKERS = frozenset({SubsystemId, ServiceId})
_ADDRESSEES = frozenset({MemberId, SubsystemId, ServiceId, NodeId})
_NODES = frozenset({NodeId})


def _check_identifier(name: str, text: str, allowed: frozenset[type]) -> None:
    if len(text) > MAX_IDENTIFIER_CHARS or allowed.isdisjoint(_forms(text)):
        raise HeaderMalformed(
            f"header attribute {name!r} is not an identifier of the required kind in canonical spelling: "
            "the record is not accepted",
            field=name,
        )


def _refuse(header: Header) -> HeaderMalformed:
    """Find the field that the joined expression did not match; there is always one."""
    fields = zip(_texts(header), _EACH, strict=True)
    name = next(name for text, (name, pattern) in fields if not pattern.fullmatch(text))
    hint = " (with 'type' and 'class')" if name == "inreplyto" else ""
    return HeaderMalformed(
        f"header attribute {name!r}{hint} does not have the required form: the record is not accepted", field=name
    )


def _check(header: Header) -> None:
    if not _WHOLE.fullmatch("\n".join(_texts(header))):
        raise _refuse(header)
    try:
        datetime.fromisoformat(header.time)
        if header.expires is not None:
            datetime.fromisoformat(header.expires)
    except ValueError:
        raise HeaderMalformed("a header time is no instant of the calendar", field="time") from None
    _check_identifier("source", header.source, _SPEAKERS)
    _check_identifier("node", header.node, _NODES)
    _check_identifier("to", header.to, _ADDRESSEES)


def _refuse_empty(data: bytes) -> None:
    # no field may contain a quotation mark, so two in a row are an empty text: a second spelling of "absent"
    if b'""' in data:
        raise HeaderMalformed("a header attribute is empty: leave it out instead")


def encode(header: Header) -> bytes:
    """Encode a header in its one exact form.

    Raises:
        HeaderMalformed: A field does not have the required form; no receiver would accept it. (The forms bound every
            field, so a valid header always fits into a leaf.)
    """
    _check(header)
    data = _encode(header)
    _refuse_empty(data)
    return data


def encode_made(header: Header) -> bytes:
    """Encode a header that was made of parts in their required forms (times, ids, identifiers of a directory).

    Does not look at the fields again; a mistake shows at the receiver, who accepts nothing else than `decode` does.
    """
    return _encode(header)


def decode(data: bytes) -> Header:
    """Read a header; the hash of a record is always over these received bytes.

    Raises:
        HeaderMalformed: Not the exact encoding of a valid header; the record must not be accepted or logged.
    """
    if len(data) > MAX_HEADER_BYTES:
        raise HeaderMalformed(f"a header of {len(data)} bytes exceeds {MAX_HEADER_BYTES}")
    try:
        header = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise HeaderMalformed("a header is not the JSON object that the protocol describes") from None
    if _encode(header) != data:
        raise HeaderMalformed("a header is not in the exact encoding: order, spelling, nulls or duplicate keys differ")
    _check(header)
    _refuse_empty(data)
    return header
