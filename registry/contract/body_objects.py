"""Request bodies, responses and media types of OpenAPI to :class:`Representation` and :class:`Answer`.

It reads no bodies.
"""

from __future__ import annotations

import re
from typing import Final

from registry.contract import mediatype, pointer
from registry.contract.dialect import Translator
from registry.contract.model import Answer, Json, Kind, Representation, Schema
from registry.contract.parameter_objects import read_headers
from registry.contract.reader import Reader
from registry.contract.xmlbody import xsd_refusal

_XSD, _XSD_ROOT, _MAX_BYTES = "x-lienthong-xsd", "x-lienthong-xsd-root", "x-lienthong-max-bytes"
_STATUS: Final = re.compile(r"[2-5](?:[0-9]{2}|XX)|default")
_ROOT_NAME: Final = re.compile(r"(?:\{[^{}\s]+\})?[A-Za-z_][\w.\-]*")
_OPAQUE_SCHEMA: Final = frozenset({"type", "format", "maxLength"})


def read_request_body(reader: Reader, value: Json, at: str) -> tuple[tuple[Representation, ...], bool]:
    """Returns the representations of a request body, and whether it must be there."""
    if value is None:
        return (), False
    value, at = reader.follow(value, at)
    members = reader.members(value, at, frozenset({"description", "content", "required"}))
    content = _content(reader, members.get("content"), pointer.join(at, "content"), reader.requests)
    if members and not content:
        reader.faults.add(pointer.join(at, "content"), "shape", "a request body needs a media type")
    return content, reader.flag(members, "required", at)


def read_answers(reader: Reader, value: Json, at: str) -> tuple[Answer, ...]:
    """Returns the declared answers of an operation."""
    if not isinstance(value, dict) or not value:
        reader.faults.add(at, "shape", "an operation must declare its responses")
        return ()
    answers = []
    for status, item in value.items():
        place = pointer.join(at, status)
        if status.startswith("x-"):
            continue
        if not _STATUS.fullmatch(status):
            reader.faults.add(place, "status", "must be a status of 200 to 599, 2XX to 5XX, or default")
            continue
        answers.append(_answer(reader, status, *reader.follow(item, place)))
    return tuple(answers)


def _answer(reader: Reader, status: str, value: Json, at: str) -> Answer:
    unsupported = {"links": "links are not supported"}
    members = reader.members(value, at, frozenset({"description", "headers", "content"}), unsupported=unsupported)
    content = _content(reader, members.get("content"), pointer.join(at, "content"), reader.answers)
    headers = read_headers(reader, members.get("headers"), pointer.join(at, "headers"))
    return Answer(status=status, representations=content, headers=headers, pointer=at)


def _content(reader: Reader, value: Json, at: str, translator: Translator) -> tuple[Representation, ...]:
    if value is None:
        return ()
    if not isinstance(value, dict):
        reader.faults.add(at, "shape", "content must be an object")
        return ()
    found: dict[str, Representation] = {}
    for key, item in value.items():
        place = pointer.join(at, key)
        essence = _essence(reader, key, place)
        if essence in found:
            reader.faults.add(place, "duplicate", "this media type is declared twice")
        found[essence] = _representation(reader, essence, item, place, translator)
    return tuple(found.values())


def _essence(reader: Reader, key: str, at: str) -> str:
    parsed = mediatype.parse_media_type(key)
    if parsed is None:
        reader.faults.add(at, "media-type", "not a media type")
        return key
    essence, parameters = parsed
    if {name: text.lower() for name, text in parameters.items()} not in ({}, {"charset": "utf-8"}):
        reader.faults.add(at, "media-type", "no parameter but charset=utf-8 is supported")
    if "*" in essence and not (essence == "*/*" or re.fullmatch(r"[^*/]+/\*", essence)):
        reader.faults.add(at, "media-type", "the only ranges are type/* and */*")
    return essence


def _representation(reader: Reader, essence: str, value: Json, at: str, translator: Translator) -> Representation:
    members = reader.members(
        value,
        at,
        frozenset({"schema", "example", "examples"}),
        extensions=frozenset({_XSD, _XSD_ROOT, _MAX_BYTES}),
        unsupported={"encoding": "encoding is not supported"},
    )
    kind: Kind = "json" if mediatype.is_json(essence) else "xml" if mediatype.is_xml(essence) else "opaque"
    schema: Schema | None = None
    max_bytes = _max_bytes(reader, members, at)
    xsd: str | None = None
    if kind == "json":
        if "schema" in members:
            schema = translator.root(members["schema"], pointer.join(at, "schema"))
    elif kind == "xml":
        xsd = _xsd(reader, members, at)
    else:
        max_bytes = min(max_bytes, _opaque_limit(reader, members, at))
    for key in (_XSD, _XSD_ROOT):
        if kind != "xml" and key in members:
            reader.faults.add(pointer.join(at, key), "unsupported", "an XSD is for XML media types")
    return Representation(
        media_type=essence,
        kind=kind,
        schema=schema,
        xsd=xsd,
        xsd_root=_xsd_root(reader, members, at),
        max_bytes=max_bytes,
        pointer=at,
    )


def _max_bytes(reader: Reader, members: dict[str, Json], at: str) -> int:
    value = members.get(_MAX_BYTES, reader.budget.body_bytes)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= reader.budget.body_bytes:
        return value
    message = f"must be an integer from 1 to {reader.budget.body_bytes}"
    reader.faults.add(pointer.join(at, _MAX_BYTES), "shape", message)
    return reader.budget.body_bytes


def _xsd(reader: Reader, members: dict[str, Json], at: str) -> str | None:
    if "schema" in members:
        message = f"XML is validated by {_XSD}, not by a JSON schema"
        reader.faults.add(pointer.join(at, "schema"), "media-type-schema", message)
    if _XSD not in members:
        reader.faults.add(at, "media-type-schema", f"an XML media type needs {_XSD} with the XSD text")
        return None
    text = reader.text(members, _XSD, at, required=True)
    refusal = xsd_refusal(text, reader.budget)
    if refusal is not None:
        reader.faults.add(pointer.join(at, _XSD), *refusal)
        return None
    return text


def _xsd_root(reader: Reader, members: dict[str, Json], at: str) -> str | None:
    root = reader.text(members, _XSD_ROOT, at)
    if root and not _ROOT_NAME.fullmatch(root):
        reader.faults.add(pointer.join(at, _XSD_ROOT), "shape", "must be local or {namespace}local")
    return root or None


def _opaque_limit(reader: Reader, members: dict[str, Json], at: str) -> int:
    """Opaque bodies are judged by type and size; the only schemas that say no more are binary strings."""
    schema, place = members.get("schema", {}), pointer.join(at, "schema")
    if isinstance(schema, dict):
        plain = {key: value for key, value in schema.items() if key not in {"title", "description", "example"}}
        if not plain:
            return reader.budget.body_bytes
        limit = plain.get("maxLength", reader.budget.body_bytes)
        binary = plain.get("type") == "string" and plain.get("format") == "binary"
        if binary and plain.keys() <= _OPAQUE_SCHEMA and isinstance(limit, int) and not isinstance(limit, bool):
            return max(0, limit)
    message = "a body of this media type is opaque: no schema, or type: string, format: binary, maxLength"
    reader.faults.add(place, "media-type-schema", message)
    return reader.budget.body_bytes
