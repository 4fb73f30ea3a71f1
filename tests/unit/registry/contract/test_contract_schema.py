from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from registry.contract import ContractOverBudget, ContractRejected, SchemaRefused, compile_schema
from registry.contract.budget import Budget
from registry.contract.schema import MAX_VIOLATIONS

META = "https://json-schema.org/draft/2020-12/schema"
names = st.sampled_from(["a", "b", "c"])
numbers = st.integers(-3, 6) | st.sampled_from([0.5, 1.0, 2.5, -0.25, 1e3])
scalars = st.none() | st.booleans() | numbers | st.sampled_from(["", "a", "ab", "abc", "é", "12"])
instances = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3), max_leaves=12
)
counts = st.integers(0, 3)
types = st.sampled_from(["string", "number", "integer", "boolean", "object", "array", "null"])
patterns = st.sampled_from(["^a", "b$", "^[0-9]+$", "a|b", "^.{2}$"])


def keyword_sets(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    mapped = st.dictionaries(names, inner, max_size=3)
    single = {
        "type": types | st.lists(types, min_size=1, max_size=3, unique=True),
        "enum": st.lists(scalars, min_size=1, max_size=3),
        "const": instances,
        "minimum": numbers,
        "maximum": numbers,
        "exclusiveMinimum": numbers,
        "exclusiveMaximum": numbers,
        "multipleOf": st.sampled_from([1, 2, 3, 0.5]),
        "minLength": counts,
        "maxLength": counts,
        "pattern": patterns,
        "minItems": counts,
        "maxItems": counts,
        "uniqueItems": st.booleans(),
        "minProperties": counts,
        "maxProperties": counts,
        "required": st.lists(names, max_size=2, unique=True),
        "dependentRequired": st.dictionaries(names, st.lists(names, max_size=2, unique=True), max_size=2),
        "properties": mapped,
        "patternProperties": st.dictionaries(patterns, inner, max_size=2),
        "additionalProperties": inner,
        "propertyNames": inner,
        "unevaluatedProperties": inner,
        "items": inner,
        "prefixItems": several,
        "contains": inner,
        "minContains": counts,
        "maxContains": counts,
        "unevaluatedItems": inner,
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "dependentSchemas": mapped,
        "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y", "#anchored"]),
    }
    return st.lists(st.sampled_from(sorted(single)), max_size=4, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: single[name] for name in chosen})
    )


schemas = st.recursive(st.booleans() | keyword_sets(st.booleans()), keyword_sets, max_leaves=6)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas, schemas, schemas, st.lists(instances, min_size=3, max_size=8))
def test_verdicts_are_those_of_the_reference_implementation(
    root: Any, one: Any, other: Any, given_instances: list[Any]
) -> None:
    anchored = (
        {**other, "$anchor": "anchored"} if isinstance(other, dict) else {"$anchor": "anchored", "allOf": [other]}
    )
    schema = {"$defs": {"x": one, "y": anchored}, "allOf": [root]}
    try:
        validator = compile_schema(schema)
    except ContractOverBudget:
        return
    oracle = Draft202012Validator(schema)
    for instance in given_instances:
        expected = oracle.is_valid(instance)
        assert validator.is_valid(instance) == expected
        assert bool(validator.validate(instance)) != expected


@pytest.mark.parametrize(
    ("fmt", "valid", "invalid"),
    [
        ("date", "2024-02-29", "2023-02-29"),
        ("date-time", "2024-02-29T10:00:00+07:00", "2024-02-29 10:00"),
        ("time", "10:00:00Z", "25:00:00Z"),
        ("duration", "P1DT2H", "1D"),
        ("email", "an@example.vn", "an"),
        ("hostname", "a.example.vn", "-a-"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", ":::1"),
        ("uri", "urn:a:b", "not a uri"),
        ("uuid", "0190a5d0-7e1b-7c3a-8f00-0123456789ab", "0190a5d0"),
        ("json-pointer", "/a~1b", "a"),
        ("regex", "^a$", "("),
    ],
)
def test_formats_are_asserted_unless_told_otherwise(fmt: str, valid: str, invalid: str) -> None:
    assert compile_schema({"format": fmt}).is_valid(valid)
    assert not compile_schema({"format": fmt}).is_valid(invalid)
    assert compile_schema({"format": fmt}, formats=False).is_valid(invalid)


@pytest.mark.parametrize(
    ("schema", "place", "code"),
    [
        ({"$dynamicRef": "#a"}, "/$dynamicRef", "unsupported-keyword"),
        ({"$dynamicAnchor": "a"}, "/$dynamicAnchor", "unsupported-keyword"),
        ({"$vocabulary": {}}, "/$vocabulary", "unsupported-keyword"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema", "dialect"),
        ({"properties": {"a": {"$ref": "https://example.test/a.json"}}}, "/properties/a/$ref", "remote-reference"),
        ({"$ref": "other.json"}, "/$ref", "remote-reference"),
        ({"$ref": "#/$defs/none"}, "/$ref", "reference"),
        ({"$ref": "#none"}, "/$ref", "reference"),
        ({"$ref": "#/%ff"}, "/$ref", "reference"),
        ({"$ref": "#/unknown/0", "unknown": [{"type": "string"}]}, "/$ref", "reference"),
        ({"$ref": 1}, "/$ref", "shape"),
        ({"pattern": "(?=a)"}, "/pattern", "pattern"),
        ({"pattern": "(?<!a)b"}, "/pattern", "pattern"),
        ({"pattern": "(a)\\1"}, "/pattern", "pattern"),
        ({"pattern": "("}, "/pattern", "pattern"),
        ({"pattern": 3}, "/pattern", "shape"),
        ({"patternProperties": {"(?!x)": True}}, "/patternProperties/(?!x)", "pattern"),
        ({"format": "telephone"}, "/format", "format"),
        ({"type": "str"}, "/type", "shape"),
        ({"type": []}, "/type", "shape"),
        ({"enum": []}, "/enum", "shape"),
        ({"required": ["a", "a"]}, "/required", "shape"),
        ({"required": "a"}, "/required", "shape"),
        ({"minLength": -1}, "/minLength", "shape"),
        ({"minLength": True}, "/minLength", "shape"),
        ({"multipleOf": 0}, "/multipleOf", "shape"),
        ({"minimum": "1"}, "/minimum", "shape"),
        ({"uniqueItems": 1}, "/uniqueItems", "shape"),
        ({"dependentRequired": {"a": "b"}}, "/dependentRequired", "shape"),
        ({"properties": []}, "/properties", "shape"),
        ({"allOf": []}, "/allOf", "shape"),
        ({"items": [True]}, "/items", "shape"),
        ({"not": None}, "/not", "shape"),
        ({"$id": 1}, "/$id", "shape"),
        ({"$anchor": 1}, "/$anchor", "shape"),
        ({"$id": "a#b"}, "", "id"),
        ({"$defs": {"a": {"$id": "http://x.test/a"}, "b": {"$id": "http://x.test/a"}}}, None, "id"),
        ({"$defs": {"a": {"$anchor": "a"}, "b": {"$anchor": "a"}}}, None, "anchor"),
    ],
)
def test_what_cannot_be_supported_is_refused_with_its_place(schema: Any, place: str | None, code: str) -> None:
    with pytest.raises(SchemaRefused) as caught:
        compile_schema(schema)
    assert code in {fault.code for fault in caught.value.errors}
    if place is not None:
        assert place in {fault.pointer for fault in caught.value.errors}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (True, 1, None),
        ({"properties": {"foo": {"$ref": "#"}}, "additionalProperties": False}, {"foo": {"foo": 1}}, {"foo": {"b": 1}}),
        ({"$defs": {"a/b~c%d": {"type": "string"}}, "$ref": "#/$defs/a~1b~0c%25d"}, "x", 1),
        (
            {"$defs": {"a": {"$id": "http://x.test/n", "$anchor": "q", "type": "string"}}, "$ref": "http://x.test/n#q"},
            "",
            1,
        ),
        ({"$id": "http://x.test/a", "$defs": {"b": {"$id": "b", "type": "string"}}, "$ref": "b"}, "", 1),
        ({"$ref": META}, {"minLength": 1}, {"minLength": -1}),
        ({"definitions": {"a": {"type": "null"}}, "$ref": "#/definitions/a"}, None, 1),
        ({"unknown": {"$ref": "nowhere"}, "type": "string"}, "", 1),
        ({"enum": [{"$ref": "#/nowhere"}]}, {"$ref": "#/nowhere"}, 1),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "a"}, {"$ref": 1}),
        ({"$id": "urn:example:root", "$defs": {"s": {"type": "string"}}, "$ref": "urn:example:root#/$defs/s"}, "", 1),
        ({"type": "integer"}, 1e20, 1.5),
        ({"properties": {"a": {"$ref": META}, "b": {"$ref": META}}}, {"a": {}, "b": True}, {"a": 1}),
        ({"maximum": 10**30}, 10**30, 10**31),
    ],
)
def test_references_and_identifiers_inside_the_document_work(schema: Any, good: Any, bad: Any) -> None:
    validator = compile_schema(schema)
    assert validator.is_valid(good)
    if bad is not None:
        assert not validator.is_valid(bad)


def test_violations_name_place_and_rule_but_never_a_value_or_an_undeclared_name() -> None:
    schema = {
        "type": "object",
        "required": ["must"],
        "properties": {"list": {"items": {"maxLength": 3}}},
        "additionalProperties": {"type": "integer"},
        "propertyNames": {"maxLength": 9},
        "maxProperties": 2,
    }
    value = {"list": ["abcd"], "001099012345": "Secret Name", "third": 1}
    found = compile_schema(schema).validate(value)
    assert {(item.pointer, item.rule) for item in found} == {
        ("/list/0", "maxLength"),
        ("/*", "type"),
        ("", "propertyNames"),
        ("", "required"),
        ("", "maxProperties"),
    }
    shown = repr(found)
    assert "Secret" not in shown
    assert "0010" not in shown
    assert "abcd" not in shown


def test_every_rule_has_a_message_without_the_value() -> None:
    cases: list[tuple[Any, Any]] = [
        ({"const": 7}, "hidden"),
        ({"not": True}, "hidden"),
        (False, "hidden"),
        ({"anyOf": [False]}, "hidden"),
        ({"oneOf": [True, True]}, "hidden"),
        ({"contains": False}, ["hidden"]),
        ({"prefixItems": [True], "items": False}, [1, "hidden"]),
        ({"unevaluatedProperties": False}, {"hidden": 1}),
        ({"dependentRequired": {"a": ["b"]}}, {"a": "hidden"}),
        ({"if": True, "then": False}, "hidden"),
    ]
    for schema, value in cases:
        found = compile_schema(schema).validate(value)
        assert found
        assert "hidden" not in repr(found)


def test_violations_are_bounded() -> None:
    assert len(compile_schema({"items": False}).validate([1] * 500)) == MAX_VIOLATIONS


@pytest.mark.parametrize("depth", [65, 5_000, 100_000])
def test_a_value_deeper_than_the_budget_is_invalid_and_crashes_nothing(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    validator = compile_schema({"items": {"$ref": "#"}})
    assert not validator.is_valid(value)
    assert [item.rule for item in validator.validate(value)] == ["depth"]
    while isinstance(value, list):
        value = value.pop()


def test_budgets_of_schemas_patterns_and_values_are_kept() -> None:
    small = Budget(schemas=3, patterns=2, enum_values=3, pattern_chars=10, faults=2)
    for schema, code in [
        ({"allOf": [True, True, True]}, "over-budget-schemas"),
        ({"patternProperties": {"a": True, "b": True}, "pattern": "c"}, "over-budget-patterns"),
        ({"enum": [1, 2, 3, 4]}, "over-budget-enum"),
        ({"pattern": "a" * 11}, "over-budget-pattern"),
    ]:
        with pytest.raises(ContractOverBudget) as caught:
            compile_schema(schema, budget=small)
        assert caught.value.errors[0].code == code
    with pytest.raises(ContractRejected) as several:
        compile_schema({"type": 1, "minLength": "x", "required": 3}, budget=small)
    assert len(several.value.errors) == 2


def test_a_schema_deeper_than_the_budget_is_refused() -> None:
    schema: Any = True
    for _ in range(200):
        schema = {"not": schema}
    with pytest.raises(ContractOverBudget):
        compile_schema(schema)


@pytest.mark.parametrize("value", ["\ud800", object(), [object()], {1: "\ud800"}, {"a": {1, 2}, "b": object()}])
def test_a_value_that_is_not_json_is_invalid(value: Any) -> None:
    validator = compile_schema({"title": "anything"})
    assert not validator.is_valid(value)
    assert [item.rule for item in validator.validate(value)] == ["json"]


@pytest.mark.parametrize(
    "schema",
    [{"$id": "http://[bad"}, {"$ref": "http://[bad"}, {"const": {1: 2}}, {"const": "\ud800"}, {"minimum": 1e999}],
)
def test_a_schema_that_is_no_json_or_has_no_address_is_refused(schema: Any) -> None:
    if schema == {"minimum": 1e999}:
        schema = {"minimum": float("nan")}
    with pytest.raises(SchemaRefused):
        compile_schema(schema)


def test_an_anchor_that_the_engine_refuses_is_refused() -> None:
    with pytest.raises(SchemaRefused):
        compile_schema({"$anchor": "0#"})
