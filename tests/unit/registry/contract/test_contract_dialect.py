from __future__ import annotations

from typing import Any

import pytest
from contract_documents import JSON, answer_contract, request_contract

from registry.contract import AnswerInvalid, RequestInvalid, compile_contract


def answers(schema: Any, body: bytes, schemas: Any = None, version: str = "3.0.3") -> bool:
    compiled = compile_contract(answer_contract(schema, schemas, version=version))
    try:
        compiled.validate_answer("read", 200, JSON, body)
    except AnswerInvalid:
        return False
    return True


def asks(schema: Any, body: bytes, schemas: Any = None, version: str = "3.0.3") -> bool:
    compiled = compile_contract(request_contract(schema, schemas, version=version))
    try:
        compiled.validate_request(compiled.route("POST", "/things"), "", (), JSON, body)
    except RequestInvalid:
        return False
    return True


@pytest.mark.parametrize(
    ("schema", "body", "valid"),
    [
        ({"type": "string", "nullable": True}, b"null", True),
        ({"type": "string", "nullable": False}, b"null", False),
        ({"type": "string", "nullable": True, "enum": ["a"]}, b"null", False),
        ({"type": "string", "nullable": True, "enum": ["a", None]}, b"null", True),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, b"1", False),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, b"1", True),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, b"1", False),
        ({"type": "integer", "format": "int32"}, b"2147483647", True),
        ({"type": "integer", "format": "int32"}, b"2147483648", False),
        ({"type": "integer", "format": "int64"}, b"9223372036854775808", False),
        ({"type": "number", "format": "double"}, b"1.5", True),
        ({"type": "string", "format": "password"}, b'"x"', True),
        ({"type": "string", "format": "byte"}, b'"YQ=="', True),
        ({"type": "string", "format": "byte"}, b'"Y"', False),
        ({"type": "string", "format": "byte", "allOf": [{"maxLength": 3}]}, b'"YQ=="', False),
        ({"type": "string", "format": "date", "description": "d", "example": "e", "x-any": 1}, b'"2024-13-01"', False),
        ({"type": "object", "additionalProperties": False}, b'{"a":1}', False),
        ({"type": "object", "additionalProperties": {"type": "string"}}, b'{"a":1}', False),
        ({"type": "array", "items": {"type": "string"}}, b"[1]", False),
    ],
)
def test_openapi_30_schemas_mean_what_they_say(schema: Any, body: bytes, valid: bool) -> None:
    assert answers(schema, body) is valid


@pytest.mark.parametrize(
    ("schema", "body", "valid"),
    [
        ({"type": ["string", "null"], "$comment": "c", "examples": ["a"]}, b"null", True),
        ({"exclusiveMinimum": 1}, b"1", False),
        ({"contentEncoding": "base64"}, b'"*"', False),
        ({"const": {"a": 1}}, b'{"a":1}', True),
        ({"prefixItems": [{"type": "string"}], "items": False}, b'["a",1]', False),
        (
            {"$schema": "https://json-schema.org/draft/2020-12/schema", "unevaluatedProperties": False},
            b'{"a":1}',
            False,
        ),
        ({"$defs": {"x": {"type": "string"}}, "properties": {"a": True}}, b'{"a":1}', True),
        (False, b"1", False),
        (True, b"1", True),
    ],
)
def test_openapi_31_schemas_mean_what_they_say(schema: Any, body: bytes, valid: bool) -> None:
    assert answers(schema, body, version="3.1.0") is valid


def test_references_work_with_every_character_that_names_can_have() -> None:
    schemas = {"A": {"properties": {'a b/c~{é}%"': {"type": "string"}}}}
    schema = {"properties": {"x": {"$ref": "#/components/schemas/A/properties/a%20b~1c~0%7B%C3%A9%7D%25%22"}}}
    assert answers(schema, b'{"x":"a"}', schemas, "3.1.0")
    assert not answers(schema, b'{"x":1}', schemas, "3.1.0")


def test_a_reference_may_stand_beside_other_keywords_in_31() -> None:
    schema = {"$ref": "#/components/schemas/A", "maxLength": 2}
    assert not answers(schema, b'"abc"', {"A": {"type": "string"}}, "3.1.0")
    assert not answers(schema, b"1", {"A": {"type": "string"}}, "3.1.0")


def test_a_reference_ignores_harmless_neighbours_in_30() -> None:
    schema = {"$ref": "#/components/schemas/A", "description": "d", "x-any": 1}
    assert answers(schema, b'"abc"', {"A": {"type": "string"}})


READ_ONLY = {
    "type": "object",
    "required": ["id", "name"],
    "properties": {
        "id": {"$ref": "#/components/schemas/Id"},
        "name": {"type": "string"},
        "secret": {"type": "string", "writeOnly": True},
        "other": {"$ref": "#/components/schemas/Plain"},
    },
}
PARTS = {"Id": {"type": "string", "readOnly": True}, "Plain": {"type": "string"}}


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_a_read_only_property_is_not_required_in_a_request(version: str) -> None:
    assert asks(READ_ONLY, b'{"name":"a"}', PARTS, version)
    assert not answers(READ_ONLY, b'{"name":"a"}', PARTS, version)


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_a_write_only_property_never_comes_back(version: str) -> None:
    assert asks(READ_ONLY, b'{"name":"a","secret":"s"}', PARTS, version)
    assert not answers(READ_ONLY, b'{"id":"1","name":"a","secret":"s"}', PARTS, version)
    assert answers(READ_ONLY, b'{"id":"1","name":"a","other":"o"}', PARTS, version)


def test_a_read_only_property_need_not_be_required_at_all() -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string", "readOnly": True}}}
    assert asks(schema, b'{"id":"1"}')


def test_one_component_can_serve_both_directions_recursively() -> None:
    schemas = {
        "A": {"type": "object", "properties": {"n": {"$ref": "#/components/schemas/A"}, "v": {"type": "integer"}}}
    }
    assert asks({"$ref": "#/components/schemas/A"}, b'{"n":{"n":{"v":1}}}', schemas)
    assert not asks({"$ref": "#/components/schemas/A"}, b'{"n":{"n":{"v":"1"}}}', schemas)
