"""The JSON Schema 2020-12 keywords: which hold schemas, and the shapes of the rest. It walks nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from registry.contract.model import Json

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MARK: Final = "x-lienthong-field"

#: Keywords whose value is one schema that applies to the same value.
INPLACE_ONE: Final = ("not", "if", "then", "else")
#: Keywords whose value is a list of schemas that apply to the same value.
INPLACE_LIST: Final = ("allOf", "anyOf", "oneOf")
#: Keywords whose value maps names to schemas.
SCHEMA_MAPS: Final = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
#: Keywords whose value is one schema that applies to children.
CHILD_ONE: Final = (
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "contains",
    "unevaluatedItems",
)
#: All keywords whose value is one schema.
SCHEMA_ONE: Final = (*INPLACE_ONE, *CHILD_ONE, "contentSchema")
#: All keywords whose value is a list of schemas.
SCHEMA_LISTS: Final = (*INPLACE_LIST, "prefixItems")

#: Standard keywords that compile_schema refuses: their meaning depends on the path taken, or on other documents.
DYNAMIC: Final = frozenset({"$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"})

TYPES: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})

#: Formats that the engine asserts.
FORMATS: Final = frozenset(
    [
        "date",
        "date-time",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uri",
        "uri-reference",
        "iri",
        "iri-reference",
        "uuid",
        "uri-template",
        "json-pointer",
        "relative-json-pointer",
        "regex",
    ]
)

#: Formats of the OpenAPI registry that say nothing beyond the type.
SILENT_FORMATS: Final = frozenset({"float", "double", "password"})
#: Formats of the OpenAPI registry as bounds.
INTEGER_FORMATS: Final = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
BASE64_PATTERN: Final = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def is_number(value: Json) -> bool:
    """Says whether `value` is a JSON number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: Json) -> bool:
    """Says whether `value` is a non-negative integer (1.0 counts, as in JSON Schema)."""
    return is_number(value) and value >= 0 and float(value).is_integer()  # type: ignore[operator,arg-type]


def is_string(value: Json) -> bool:
    """Says whether `value` is a string."""
    return isinstance(value, str)


def is_flag(value: Json) -> bool:
    """Says whether `value` is true or false."""
    return isinstance(value, bool)


def is_names(value: Json) -> bool:
    """Says whether `value` is a list of distinct strings."""
    return (
        isinstance(value, list) and all(isinstance(v, str) for v in value) and len(set(map(str, value))) == len(value)
    )


def is_type(value: Json) -> bool:
    """Says whether `value` is a type name or a list of distinct type names."""
    if isinstance(value, list):
        return bool(value) and is_names(value) and TYPES.issuperset(map(str, value))
    return isinstance(value, str) and value in TYPES


def is_divisor(value: Json) -> bool:
    """Says whether `value` is a number above zero."""
    return is_number(value) and value > 0  # type: ignore[operator]


def is_dependencies(value: Json) -> bool:
    """Says whether `value` maps names to lists of names."""
    return isinstance(value, dict) and all(map(is_names, value.values()))


def is_values(value: Json) -> bool:
    """Says whether `value` is a list that is not empty."""
    return isinstance(value, list) and bool(value)


#: Keywords without schemas, and what their values must be.
PLAIN: Final[dict[str, Callable[[Json], bool]]] = {
    "type": is_type,
    "enum": is_values,
    "const": lambda _value: True,
    "multipleOf": is_divisor,
    "maximum": is_number,
    "minimum": is_number,
    "exclusiveMaximum": is_number,
    "exclusiveMinimum": is_number,
    "maxLength": is_count,
    "minLength": is_count,
    "pattern": is_string,
    "maxItems": is_count,
    "minItems": is_count,
    "uniqueItems": is_flag,
    "maxContains": is_count,
    "minContains": is_count,
    "maxProperties": is_count,
    "minProperties": is_count,
    "required": is_names,
    "dependentRequired": is_dependencies,
    "format": is_string,
}
#: Keywords that only inform.
INFORM: Final = frozenset(
    [
        "title",
        "description",
        "default",
        "deprecated",
        "readOnly",
        "writeOnly",
        "example",
        "examples",
        "externalDocs",
        "xml",
        "$comment",
    ]
)
