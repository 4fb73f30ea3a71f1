"""Parameter and Header objects of OpenAPI to :class:`Parameter`. It decodes no values."""

from __future__ import annotations

import re
from typing import Final

from registry.contract import pointer
from registry.contract.dialect import Translator
from registry.contract.model import Json, Location, Parameter, Scalar, Schema
from registry.contract.reader import Reader

_KNOWN: Final = frozenset(
    [
        "name",
        "in",
        "description",
        "required",
        "deprecated",
        "allowEmptyValue",
        "style",
        "explode",
        "allowReserved",
        "schema",
        "example",
        "examples",
    ]
)
_HEADER_KNOWN: Final = _KNOWN - {"name", "in", "allowReserved"}
_UNSUPPORTED: Final = {"content": "parameters by content are not supported; use schema"}
_SCALARS: Final[dict[str, Scalar]] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
}
_STYLES: Final = {"path": "simple", "query": "form", "header": "simple"}
_LOCATIONS: Final[dict[str, Location]] = {"path": "path", "query": "query", "header": "header"}
_UNTYPED: Final[tuple[Scalar, bool, bool]] = ("string", False, False)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")
_RESERVED_HEADERS: Final = frozenset(
    [
        "accept",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ]
)
_RESERVED_PREFIXES: Final = ("x-road-", "x-govstack-", "x-lienthong-", "x-forwarded-", "x-http-method")


def read_parameters(reader: Reader, value: Json, at: str) -> list[Parameter]:
    """Returns the parameters of a path item or an operation."""
    if value is None:
        return []
    if not isinstance(value, list):
        reader.faults.add(at, "shape", "parameters must be a list")
        return []
    found = [_parameter(reader, *reader.follow(item, pointer.join(at, i))) for i, item in enumerate(value)]
    return [parameter for parameter in found if parameter is not None]


def read_headers(reader: Reader, value: Json, at: str) -> tuple[Parameter, ...]:
    """Returns the declared headers of an answer."""
    if value is None:
        return ()
    if not isinstance(value, dict):
        reader.faults.add(at, "shape", "headers must be an object")
        return ()
    found = []
    for name, item in value.items():
        place = pointer.join(at, name)
        target, target_at = reader.follow(item, place)
        members = reader.members(target, target_at, _HEADER_KNOWN, unsupported=_UNSUPPORTED)
        _check_header_name(reader, name, place)
        found.append(_typed(reader, members, target_at, name, "header", reader.answers))
    if len({header.name.lower() for header in found}) != len(found):
        reader.faults.add(at, "duplicate", "header names differ in case only")
    return tuple(found)


def _parameter(reader: Reader, value: Json, at: str) -> Parameter | None:
    members = reader.members(
        value, at, _KNOWN, extensions=frozenset({"x-lienthong-allow-slash"}), unsupported=_UNSUPPORTED
    )
    name = reader.text(members, "name", at, required=True)
    place = members.get("in")
    location = _LOCATIONS.get(place) if isinstance(place, str) else None
    if location is None:
        what = "cookie parameters are not supported" if place == "cookie" else "in must be path, query or header"
        reader.faults.add(pointer.join(at, "in"), "unsupported", what)
        return None
    if location == "header":
        _check_header_name(reader, name, pointer.join(at, "name"))
    if location == "path" and members.get("required") is not True:
        reader.faults.add(pointer.join(at, "required"), "shape", "a path parameter must be required: true")
    return _typed(reader, members, at, name, location, reader.requests)


def _typed(
    reader: Reader, members: dict[str, Json], at: str, name: str, location: Location, translator: Translator
) -> Parameter:
    for key in ("allowEmptyValue", "allowReserved"):
        if reader.flag(members, key, at):
            reader.faults.add(pointer.join(at, key), "unsupported", f"{key} is not supported")
    if "schema" not in members:
        reader.faults.add(at, "parameter-untyped", "a parameter needs a schema")
    place = pointer.join(at, "schema")
    schema = translator.root(members.get("schema", {}), place)
    kind = _kind(schema) or _UNTYPED
    if kind is _UNTYPED:
        message = "the schema must say type: string, integer, number, boolean, or array of one of these"
        reader.faults.add(place, "parameter-untyped", message)
    scalar, array, plain = kind
    slash = reader.flag(members, "x-lienthong-allow-slash", at)
    if slash and (location != "path" or scalar != "string" or array):
        message = "x-lienthong-allow-slash is for string path parameters"
        reader.faults.add(pointer.join(at, "x-lienthong-allow-slash"), "unsupported", message)
    return Parameter(
        name=name,
        location=location,
        required=reader.flag(members, "required", at),
        scalar=scalar,
        array=array,
        explode=_explode(reader, members, at, location, array=array),
        allow_slash=slash,
        schema=schema,
        plain=plain,
        pointer=at,
    )


def _explode(reader: Reader, members: dict[str, Json], at: str, location: Location, *, array: bool) -> bool:
    if members.get("style", _STYLES[location]) != _STYLES[location]:
        reader.faults.add(pointer.join(at, "style"), "unsupported", f"only style {_STYLES[location]} is supported here")
    # Without objects, explode only matters for arrays in queries; elsewhere both forms are the same.
    explode = reader.flag(members, "explode", at, default=location == "query")
    return explode and location == "query" and array


def _kind(schema: Schema) -> tuple[Scalar, bool, bool] | None:
    """Returns (scalar, is an array, says nothing more) of a parameter's schema, or None when it is not decided."""
    own = _resolved(schema, schema)
    if own is None:
        return None
    scalar = _scalar(own)
    if scalar is not None:
        return scalar, False, own.keys() <= {"type", "$defs"}
    if own.get("type") != "array":
        return None
    items = _resolved(own.get("items"), schema)
    inner = _scalar(items) if items is not None else None
    if inner is None or items is None:
        return None
    return inner, True, own.keys() <= {"type", "items", "$defs"} and items.keys() <= {"type"}


def _scalar(schema: dict[str, Json]) -> Scalar | None:
    name = schema.get("type")
    return _SCALARS.get(name) if isinstance(name, str) else None


def _resolved(schema: Json, root: Schema) -> dict[str, Json] | None:
    """Returns the schema that says the type, following references that stand alone."""
    for _ in range(64):
        if not isinstance(schema, dict):
            return None
        ref = schema.get("$ref")
        if not isinstance(ref, str) or "type" in schema:
            return schema
        target = pointer.from_fragment(ref[1:])
        _, found = pointer.resolve(root, target or "")
        if schema.keys() - {"$ref", "$defs"} and isinstance(found, dict):
            # Siblings narrow what is referred to: never plain.
            found = {**found, "allOf": []}
        schema = found
    return None


def _check_header_name(reader: Reader, name: str, at: str) -> None:
    lower = name.lower()
    if not _HEADER_NAME.fullmatch(name):
        reader.faults.add(at, "shape", "not a header name")
    elif lower in _RESERVED_HEADERS or lower.startswith(_RESERVED_PREFIXES):
        reader.faults.add(at, "header-reserved", "the bus or HTTP itself owns this header; remove it from the contract")
