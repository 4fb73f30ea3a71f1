from __future__ import annotations

from typing import Any

import pytest
from contract_documents import JSON, answer_contract, operation, parsed, request_contract

from registry.contract import Change, Contract, diff_contracts

QUERY = {"name": "q", "in": "query", "schema": {"type": "string"}}
HEADER = {"name": "X-A", "in": "header", "schema": {"type": "string"}}
PATH = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def kinds(changes: list[Change]) -> set[tuple[str, bool]]:
    return {(change.kind, change.breaking) for change in changes}


def one(**members: Any) -> Contract:
    return parsed({"/things": {"post": operation(**members)}})


def test_a_contract_does_not_differ_from_itself() -> None:
    schemas = {"A": {"properties": {"n": {"$ref": "#/components/schemas/A"}, "b": {"not": {"type": "null"}}}}}
    contract = answer_contract({"$ref": "#/components/schemas/A"}, schemas)
    assert diff_contracts(contract, contract) == []
    assert diff_contracts(contract, answer_contract({"$ref": "#/components/schemas/A"}, schemas)) == []


BODY = {"content": {JSON: {}}}
OPERATIONS: list[tuple[str, Contract, Contract, set[tuple[str, bool]]]] = [
    ("removed and added", one(operationId="a"), one(operationId="b"),
     {("operation-removed", True), ("operation-added", False)}),
    ("moved", one(), parsed({"/other": {"post": operation()}}), {("operation-moved", True)}),
    ("path parameter renamed", parsed({"/{id}": {"get": operation(parameters=[PATH])}}),
     parsed({"/{key}": {"get": operation(parameters=[{**PATH, "name": "key"}])}}), set()),
    ("parameter required", one(parameters=[QUERY]), one(parameters=[{**QUERY, "required": True}]),
     {("parameter-required", True)}),
    ("parameter optional", one(parameters=[{**QUERY, "required": True}]), one(parameters=[QUERY]),
     {("parameter-optional", False)}),
    ("optional parameter added", one(), one(parameters=[QUERY]), {("parameter-added", False)}),
    ("required parameter added", one(), one(parameters=[{**QUERY, "required": True}]), {("parameter-added", True)}),
    ("query parameter removed", one(parameters=[QUERY]), one(), {("parameter-removed", True)}),
    ("header removed", one(parameters=[HEADER]), one(), {("parameter-removed", False)}),
    ("parameter type", one(parameters=[QUERY]), one(parameters=[{**QUERY, "schema": {"type": "integer"}}]),
     {("type-changed", True)}),
    ("body required", one(requestBody=BODY), one(requestBody={**BODY, "required": True}), {("body-required", True)}),
    ("media type removed", one(requestBody=BODY), one(requestBody={"content": {"a/b": {}}}),
     {("media-type-removed", True), ("media-type-added", False)}),
    ("a command only", one(), one(**{"x-lienthong-delivery": "command"}), {("delivery-changed", True)}),
    ("a command too", one(**{"x-lienthong-delivery": "query"}), one(), {("delivery-changed", False)}),
    ("answer removed", one(responses={"200": {"description": ""}, "201": {"description": ""}}), one(),
     {("answer-removed", True)}),
    ("answer added", one(), one(responses={"200": {"description": ""}, "404": {"description": ""}}),
     {("answer-added", False)}),
    ("answer gets a body", one(), one(responses={"200": {"description": "", "content": {JSON: {}}}}),
     {("media-type-added", True)}),
    ("XSD", one(requestBody={"content": {"text/xml": {"x-lienthong-xsd":
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a"/></xs:schema>'}}}),
     one(requestBody={"content": {"text/xml": {"x-lienthong-xsd":
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="b"/></xs:schema>'}}}),
     {("xsd-changed", True)}),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), [c[1:] for c in OPERATIONS], ids=[c[0] for c in OPERATIONS])
def test_changes_around_schemas(old: Contract, new: Contract, expected: set[tuple[str, bool]]) -> None:
    assert kinds(diff_contracts(old, new)) == expected


A = {"type": "object", "properties": {"a": {"type": "string"}}}
MARKED = {"x-lienthong-field": "f"}
# old, new, kind, breaking in a request, breaking in an answer
SCHEMAS: list[tuple[Any, Any, str, bool, bool]] = [
    ({"type": "string"}, {"type": "integer"}, "type-changed", True, True),
    ({"type": "integer"}, {"type": "number"}, "type-changed", False, True),
    ({"type": ["string", "null"]}, {"type": "string"}, "type-changed", True, False),
    ({}, {"type": "string"}, "type-changed", True, False),
    ({"enum": ["a", "b"]}, {"enum": ["a"]}, "enum-narrowed", True, False),
    ({"enum": ["a"]}, {"enum": ["a", "b"]}, "enum-extended", False, True),
    ({"enum": ["a"]}, {"enum": ["b"]}, "enum-changed", True, True),
    ({"enum": ["a"]}, {}, "enum-extended", False, True),
    ({}, {"enum": ["a"]}, "enum-narrowed", True, False),
    (A, {**A, "properties": {**A["properties"], "b": {}}}, "property-added", False, False),
    (A, {**A, "properties": {**A["properties"], "b": {}}, "required": ["b"]}, "property-added", True, False),
    ({**A, "additionalProperties": False}, {"type": "object", "additionalProperties": False},
     "property-removed", True, True),
    (A, {"type": "object"}, "property-removed", False, True),
    (A, {**A, "required": ["a"]}, "property-required", True, False),
    ({**A, "required": ["a"]}, A, "property-optional", False, True),
    ({"maxLength": 5}, {"maxLength": 3}, "bound-changed", True, False),
    ({"maxLength": 5}, {"maxLength": 8}, "bound-changed", False, True),
    ({"minimum": 5}, {"minimum": 8}, "bound-changed", True, False),
    ({"minimum": 5}, {}, "bound-changed", False, True),
    ({}, {"minimum": 5}, "bound-changed", True, False),
    ({"items": {"type": "string"}}, {"items": {"type": "integer"}}, "type-changed", True, True),
    ({"items": {}}, {}, "items-changed", False, True),
    ({}, {"items": {}}, "items-changed", True, False),
    ({"pattern": "a"}, {"pattern": "b"}, "schema-changed", True, True),
    ({"oneOf": [{"type": "null"}]}, {"oneOf": [{"type": "string"}]}, "schema-changed", True, True),
    (True, False, "schema-changed", True, True),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "kind", "request_breaks", "answer_breaks"), SCHEMAS)
def test_changes_of_schemas_break_by_direction(
    old: Any, new: Any, kind: str, request_breaks: bool, answer_breaks: bool
) -> None:
    asked = diff_contracts(request_contract(old), request_contract(new))
    answered = diff_contracts(answer_contract(old), answer_contract(new))
    assert (kind, request_breaks) in kinds(asked)
    assert (kind, answer_breaks) in kinds(answered)


def test_true_and_empty_are_the_same() -> None:
    assert diff_contracts(request_contract(True), request_contract({})) == []


def test_a_new_mark_breaks_and_a_lifted_one_does_not() -> None:
    plain, marked = answer_contract({"properties": {"a": {}}}), answer_contract({"properties": {"a": MARKED}})
    assert kinds(diff_contracts(plain, marked)) == {("field-mark-changed", True)}
    assert kinds(diff_contracts(marked, plain)) == {("field-mark-changed", False)}


def test_changes_behind_references_are_found_where_they_are_used() -> None:
    old = answer_contract({"items": {"$ref": "#/components/schemas/A"}}, {"A": A})
    new = answer_contract({"items": {"$ref": "#/components/schemas/A"}}, {"A": {"type": "object"}})
    changes = diff_contracts(old, new)
    assert [change.pointer for change in changes] == [
        "/paths/~1things/get/responses/200/content/application~1json/schema/items/properties/a"
    ]


def test_a_reference_with_neighbours_is_compared_as_a_whole() -> None:
    old = answer_contract({"$ref": "#/components/schemas/A", "maxProperties": 3}, {"A": A})
    new = answer_contract({"$ref": "#/components/schemas/A", "maxProperties": 3}, {"A": {"type": "object"}})
    assert kinds(diff_contracts(old, new)) == {("schema-changed", True)}


def test_the_list_of_changes_is_bounded() -> None:
    many = {"properties": {f"p{i}": {} for i in range(1_100)}}
    assert len(diff_contracts(answer_contract(many), answer_contract({}))) == 1_000
