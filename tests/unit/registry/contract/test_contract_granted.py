from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from contract_documents import JSON, answer_contract, operation, parsed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.contract import (
    AnswerInvalid,
    AnswerUndeclared,
    CompiledContract,
    FieldGrantUnderivable,
    compile_contract,
    derive_granted,
    marked_fields,
    parse_contract,
)

NOTHING: frozenset[str] = frozenset()


def marked(name: str, **members: Any) -> dict[str, Any]:
    return {**members, "x-lienthong-field": name}


CITIZEN = {
    "type": "object",
    "required": ["id", "income", "home"],
    "properties": {
        "id": {"type": "string"},
        "income": marked("income", type="integer"),
        "home": marked("address", **{"$ref": "#/components/schemas/Address"}),
        "parents": {"type": "array", "items": {"$ref": "#/components/schemas/Citizen"}},
        "work": {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/Work"}]},
    },
}
SCHEMAS = {
    "Citizen": CITIZEN,
    "Address": {"type": "object", "properties": {"line": {"type": "string"}}},
    "Work": {"allOf": [{"required": ["pay"]}, {"properties": {"pay": marked("income"), "at": {}}}]},
}
CONTRACT = answer_contract({"$ref": "#/components/schemas/Citizen"}, SCHEMAS)


def cut(compiled: CompiledContract, value: Any, **members: Any) -> Any:
    body = json.dumps(value, indent=1).encode()
    result = compiled.cut_answer("read", 200, JSON, body, **members)
    assert result is body or json.loads(result) != value
    return json.loads(result)


A, B = "#/components/schemas/A", "#/components/schemas/B"
PARTS = {"A": {"properties": {"a": marked("a")}}, "B": {"required": ["b"]}}


def cut_by(schema: Any, value: Any, granted: frozenset[str] = NOTHING) -> Any:
    return cut(compile_contract(answer_contract(schema, PARTS), granted), value)


def whole() -> dict[str, Any]:
    return {
        "id": "1",
        "income": 5,
        "home": {"line": "12 Hang Bai"},
        "parents": [{"id": "2", "income": 6, "home": {}, "parents": [{"id": "3", "income": 7, "home": {}}]}],
        "work": {"pay": 8, "at": "there"},
    }


def test_marked_fields_are_listed_per_operation() -> None:
    assert marked_fields(CONTRACT) == {"read": ("address", "income")}
    assert marked_fields(parsed({"/a": {"get": operation()}})) == {"read": ()}


def test_a_field_that_is_not_granted_is_cut_everywhere() -> None:
    compiled = compile_contract(CONTRACT, frozenset({"address"}))
    assert cut(compiled, whole()) == {
        "id": "1",
        "home": {"line": "12 Hang Bai"},
        "parents": [{"id": "2", "home": {}, "parents": [{"id": "3", "home": {}}]}],
        "work": {"at": "there"},
    }
    assert compiled.withheld("read") == {"income"}


def test_nothing_granted_leaves_the_rest() -> None:
    assert cut(compile_contract(CONTRACT, NOTHING), whole()) == {
        "id": "1",
        "parents": [{"id": "2", "parents": [{"id": "3"}]}],
        "work": {"at": "there"},
    }


@pytest.mark.parametrize("granted", [None, frozenset({"address", "income"}), frozenset({"address", "income", "other"})])
def test_with_everything_granted_the_same_bytes_come_back(granted: frozenset[str] | None) -> None:
    body = json.dumps(whole()).encode()
    compiled = compile_contract(CONTRACT, granted)
    assert compiled.cut_answer("read", 200, JSON, body) is body
    assert compiled.withheld("read") == NOTHING


def test_the_same_bytes_come_back_when_there_is_nothing_to_cut() -> None:
    body = b'{"id": "1", "work": null}'
    assert compile_contract(CONTRACT, NOTHING).cut_answer("read", 200, JSON, body) is body


def test_the_receiver_refuses_what_was_not_cut() -> None:
    receiver = compile_contract(CONTRACT, NOTHING)
    with pytest.raises(AnswerInvalid):
        receiver.validate_answer("read", 200, JSON, json.dumps(whole()).encode())
    assert receiver.validate_answer("read", 200, JSON, b'{"id":"1"}').declared


def test_a_field_in_a_place_that_is_not_declared_is_cut_too() -> None:
    value = {"id": "1", "extra": {"deep": [{"income": 9, "line": "kept"}]}, "parents": [], "work": {"at": {"pay": 1}}}
    assert cut(compile_contract(CONTRACT, NOTHING), value) == {
        "id": "1",
        "extra": {"deep": [{"line": "kept"}]},
        "parents": [],
        "work": {"at": {}},
    }


def test_a_name_that_is_also_declared_unmarked_is_cut_only_where_it_is_marked() -> None:
    schema = {"properties": {"name": marked("name"), "firm": {"properties": {"name": {"type": "string"}}}}}
    assert cut_by(schema, {"name": "An", "firm": {"name": "Lien"}, "x": {"name": "y"}}) == {
        "firm": {"name": "Lien"},
        "x": {"name": "y"},
    }


def test_what_does_not_fit_after_the_cut_is_invalid() -> None:
    compiled = compile_contract(CONTRACT, NOTHING)
    for body in (b'{"income":1}', b"[]", b"{", b'{"id":"1","id":"2"}', b'{"id":' + b"[" * 70):
        with pytest.raises(AnswerInvalid):
            compiled.cut_answer("read", 200, JSON, body)


def test_a_cut_answer_has_a_largest_size() -> None:
    document = parsed(
        {
            "/things": {
                "get": operation(
                    responses={
                        "200": {
                            "description": "",
                            "content": {
                                JSON: {"schema": {"properties": {"a": marked("a")}}, "x-lienthong-max-bytes": 10}
                            },
                        }
                    }
                )
            }
        }
    )
    with pytest.raises(AnswerInvalid) as caught:
        compile_contract(document, NOTHING).cut_answer("read", 200, JSON, b'{"b":"1234567"}')
    assert caught.value.violations[0].rule == "size"


def test_other_representations_are_withheld_with_the_fields() -> None:
    answer = {
        "description": "",
        "content": {
            JSON: {"schema": {"properties": {"a": marked("a")}}},
            "text/csv": {},
            "application/hal+json": {},
            "application/problem+json": {"schema": {"properties": {"b": {}}}},
        },
    }
    contract = parsed({"/things": {"get": operation(responses={"200": answer, "404": {
        "description": "", "content": {"text/plain": {}}}})}})  # fmt: skip
    everything, nothing = compile_contract(contract, frozenset({"a"})), compile_contract(contract, NOTHING)
    assert everything.cut_answer("read", 200, "text/csv", b"a") == b"a"
    for status, content_type in ((200, "text/csv"), (404, "text/plain")):
        for call in (nothing.cut_answer, nothing.validate_answer):
            with pytest.raises(AnswerUndeclared):
                call("read", status, content_type, b"a")
    assert nothing.cut_answer("read", 200, "application/hal+json", b'{"x":{"a":1},"b":2}') == b'{"x":{},"b":2}'
    assert nothing.cut_answer("read", 200, "application/problem+json", b'{"a":1,"b":2}') == b'{"b":2}'
    assert nothing.cut_answer("read", 200, JSON, b"", head=True) == b""


def test_an_undeclared_error_is_not_passed_on_when_fields_are_withheld() -> None:
    with pytest.raises(AnswerUndeclared):
        compile_contract(CONTRACT, NOTHING).cut_answer("read", 500, "text/plain", b"income: 5")
    assert compile_contract(CONTRACT, NOTHING).cut_answer("read", 500, "", b"") == b""
    assert compile_contract(CONTRACT).cut_answer("read", 500, "text/plain", b"x") == b"x"


def test_derivation_changes_nothing_but_answers_with_marks() -> None:
    before = copy.deepcopy(CONTRACT)
    assert derive_granted(CONTRACT, frozenset({"address", "income"})) == CONTRACT
    derived = derive_granted(CONTRACT, NOTHING)
    assert before == CONTRACT
    assert marked_fields(derived) == {"read": ()}
    assert derived.withheld == {"read": {"address", "income"}}
    shown = json.dumps(derived.operations["read"].answers[0].representations[0].schema)
    assert '"line"' not in shown


@pytest.mark.parametrize(
    ("schema", "value", "result"),
    [
        ({"oneOf": [{"properties": {"a": marked("a")}}, {"type": "null"}]}, {"a": 1, "b": 2}, {"b": 2}),
        ({"oneOf": [{"type": "object", "properties": {"a": marked("a")}}, {"type": "null"}]}, None, None),
        (
            {
                "properties": {"a": marked("a"), "b": {}},
                "minProperties": 2,
                "dependentRequired": {"a": ["b"], "b": ["a"]},
            },
            {"a": 1, "b": 2},
            {"b": 2},
        ),
        ({"prefixItems": [{"properties": {"a": marked("a")}}], "items": True}, [{"a": 1}, 2], [{}, 2]),
        (
            {
                "prefixItems": [True, {"properties": {"a": marked("a"), "c": {}}}],
                "items": {"properties": {"b": marked("b")}},
            },
            [0, {"a": 1}, {"b": 2, "c": 1}],
            [0, {}, {"c": 1}],
        ),
        ({"items": {"properties": {"a": marked("a")}}, "uniqueItems": True}, [{"a": 1}, {"a": 2}], [{}, {}]),
        (
            {
                "allOf": [
                    {"properties": {"a": marked("a")}},
                    {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                ]
            },
            {"a": 1},
            {},
        ),
        ({"properties": {"a": marked("a")}, "additionalProperties": False}, {"a": 1}, {}),
        (
            {"properties": {"a": marked("a")}, "additionalProperties": {"type": "string"}},
            {"a": 1, "b": "c"},
            {"b": "c"},
        ),
        ({"properties": {"a": marked("a"), "b": {}}, "unevaluatedProperties": False}, {"a": 1, "b": 1}, {"b": 1}),
        (
            {"properties": {"a": marked("a"), "k": {}}, "if": {"required": ["k"]}, "then": {"type": "object"}},
            {"a": 1},
            {},
        ),
        (
            {"properties": {"a": marked("a")}, "anyOf": [{"required": ["b"]}, {"required": ["c"]}]},
            {"a": 1, "c": 1},
            {"c": 1},
        ),
        ({"properties": {"a": marked("a", properties={"b": marked("b")})}}, {"a": {"b": 1}}, {}),
        (
            {"$defs": {}, "allOf": [{"$ref": A}, {"$ref": A}, {"not": {"anyOf": [{"$ref": B}, {"$ref": B}]}}]},
            {"a": 1},
            {},
        ),
        ({"properties": {"a": marked("a"), "b": {}}}, {'x"a': 1, "b": 2}, {'x"a': 1, "b": 2}),
        ({"properties": {"x": {"properties": {"a": marked("a")}}}, "required": ["x"]}, {"x": {"a": 1}}, {"x": {}}),
        (
            {"properties": {"x": {"properties": {"a": marked("a")}}}, "anyOf": [{"required": ["x"]}, {"type": "null"}]},
            {"x": {"a": 1}},
            {"x": {}},
        ),
    ],
)
def test_what_can_be_derived_is(schema: Any, value: Any, result: Any) -> None:
    assert cut_by(schema, value) == result


INNER = {"properties": {"a": marked("a")}}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"not": INNER}, "/not"),
        ({"if": INNER, "then": True}, "/if"),
        ({"if": True, "then": INNER}, "/then"),
        ({"else": INNER, "if": True}, "/else"),
        ({"anyOf": [INNER, {"type": "string"}]}, "/anyOf/0"),
        ({"oneOf": [{"type": "string"}, INNER]}, "/oneOf/1"),
        ({"dependentSchemas": {"b": INNER}}, "/dependentSchemas/b"),
        ({"patternProperties": {"^x": INNER}}, "/patternProperties/^x"),
        ({"additionalProperties": INNER}, "/additionalProperties"),
        ({"unevaluatedProperties": INNER}, "/unevaluatedProperties"),
        ({"contains": INNER}, "/contains"),
        ({"unevaluatedItems": INNER}, "/unevaluatedItems"),
        ({**INNER, "const": {"a": 1}}, "/const"),
        ({**INNER, "enum": [{"a": 1}]}, "/enum"),
        ({"properties": {"x": INNER}, "enum": [{"x": {"a": 1}}]}, "/enum"),
        ({**INNER, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, "/anyOf/0"),
        ({**INNER, "not": {"properties": {"a": {"const": 1}}}}, "/not"),
        ({**INNER, "if": {"minProperties": 2}}, "/if"),
        ({**INNER, "if": {"dependentRequired": {"b": ["a"]}}}, "/if"),
        ({**INNER, "if": {"dependentSchemas": {"a": True}}}, "/if"),
        ({**INNER, "not": {"allOf": [{"anyOf": [{"additionalProperties": False}, True]}]}}, "/not"),
        ({**INNER, "not": {"const": {}}}, "/not"),
        ({**INNER, "if": {"patternProperties": {"a": {"type": "string"}}}}, "/if"),
        ({"properties": {"x": INNER}, "if": {"properties": {"x": {"required": ["a"]}}}}, "/if"),
        ({"items": INNER, "contains": {"required": ["a"]}}, "/contains"),
        ({"items": INNER, "if": {"items": True}}, "/if"),
        ({"allOf": [{"properties": {"x": INNER}}, {"additionalProperties": {"type": "object"}}]},
         "/allOf/1/additionalProperties"),
        ({"properties": {"x": INNER}, "patternProperties": {"x": {"type": "object"}}}, "/patternProperties"),
        ({"allOf": [{"prefixItems": [True]}, {"items": INNER}]}, "/allOf/1/items"),
    ],
)  # fmt: skip
def test_what_cannot_be_derived_with_certainty_is_refused_with_its_place(schema: Any, place: str) -> None:
    contract = answer_contract(schema)
    base = "/paths/~1things/get/responses/200/content/application~1json/schema"
    with pytest.raises(FieldGrantUnderivable) as caught:
        derive_granted(contract, NOTHING)
    assert caught.value.pointer == base + place
    assert derive_granted(contract, frozenset({"a"})) == contract


def test_a_mark_beside_a_reference_works_in_both_versions() -> None:
    for version in ("3.0.3", "3.1.0"):
        schema = {"type": "object", "properties": {"a": {"$ref": B, "x-lienthong-field": "a"}}}
        contract = answer_contract(schema, {"B": {"type": "string"}}, version=version)
        assert cut(compile_contract(contract, NOTHING), {"a": "x"}) == {}


def test_places_in_components_are_named() -> None:
    contract = answer_contract({"$ref": "#/components/schemas/A"}, {"A": {"not": INNER}})
    with pytest.raises(FieldGrantUnderivable) as caught:
        derive_granted(contract, NOTHING)
    assert caught.value.pointer == "/components/schemas/A/not"


def test_combinations_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.contract.granted._MAX_LOCATIONS", 1)
    with pytest.raises(FieldGrantUnderivable, match="too many ways"):
        derive_granted(CONTRACT, NOTHING)


def test_a_withheld_name_that_is_required_where_nothing_declares_it_is_refused() -> None:
    inner = {"properties": {"a": {"x-lienthong-field": "f"}}}
    for asks in ({"required": ["a"]}, {"dependentRequired": {"b": ["a"]}}):
        contract = answer_contract({"properties": {"b": inner}, **asks})
        with pytest.raises(FieldGrantUnderivable, match="a is required where it is not declared"):
            compile_contract(contract, NOTHING)
    declared = {"properties": {"b": inner, "a": {"type": "integer"}}, "required": ["a"]}
    assert cut(compile_contract(answer_contract(declared), NOTHING), {"a": 1, "b": {"a": 2}}) == {"a": 1, "b": {}}


# Soundness: whatever the schema and whatever the backend sends, a withheld name never stands at a marked place.

names = st.sampled_from(["a", "b", "c", "d"])
leaf: st.SearchStrategy[Any] = st.sampled_from([{}, {"type": "integer"}, True])


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    one = st.tuples(inner, st.sampled_from([None, None, "f", "g"])).map(
        lambda pair: (
            {**(pair[0] if isinstance(pair[0], dict) else {}), "x-lienthong-field": pair[1]} if pair[1] else pair[0]
        )
    )
    properties = st.dictionaries(names, one, max_size=3)
    return st.one_of(
        st.fixed_dictionaries(
            {"properties": properties}, optional={"required": st.lists(names, max_size=2, unique=True)}
        ),
        st.fixed_dictionaries({"items": inner}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"anyOf": st.tuples(inner, st.just({"type": "null"})).map(list)}),
        st.fixed_dictionaries({"properties": properties, "allOf": st.lists(inner, min_size=1, max_size=1)}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=2, max_size=2)}),
    )


answer_schemas = st.recursive(leaf, objects, max_leaves=8)
bodies = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


def leaks(value: Any, schema: Any, granted: frozenset[str]) -> bool:
    """An independent reading: follows every certain keyword and looks for a withheld property."""
    if not isinstance(schema, dict):
        return False
    certain = list(schema.get("allOf", []))
    if len([item for item in schema.get("anyOf", []) if item != {"type": "null"}]) == 1 and value is not None:
        certain += [item for item in schema["anyOf"] if item != {"type": "null"}]
    if any(leaks(value, item, granted) for item in certain):
        return True
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            mark = inner.get("x-lienthong-field") if isinstance(inner, dict) else None
            if name in value and ((mark is not None and mark not in granted) or leaks(value[name], inner, granted)):
                return True
    if isinstance(value, list) and "items" in schema:
        return any(leaks(item, schema["items"], granted) for item in value)
    return False


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    answer_schemas,
    st.lists(bodies, min_size=1, max_size=6),
    st.sampled_from([NOTHING, frozenset("f"), frozenset("fg")]),
)
def test_a_withheld_name_never_stands_at_a_marked_place(schema: Any, sent: list[Any], granted: frozenset[str]) -> None:
    document = {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {"/x": {"get": operation(responses={"200": {"description": "", "content": {JSON: {"schema": {
            "properties": {"root": schema}}}}}})}},
    }  # fmt: skip
    contract = parse_contract(json.dumps(document).encode(), meta=False)
    try:
        compiled = compile_contract(contract, granted)
    except FieldGrantUnderivable:
        return
    root = {"properties": {"root": schema}}
    for value in sent:
        body = json.dumps({"root": value}).encode()
        try:
            result = json.loads(compiled.cut_answer("read", 200, JSON, body))
        except AnswerInvalid:
            continue
        assert not leaks(result, root, granted)
        assert compiled.validate_answer("read", 200, JSON, json.dumps(result).encode()).declared
        if leaks({"root": value}, root, granted):
            with pytest.raises(AnswerInvalid):
                compiled.validate_answer("read", 200, JSON, body)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(answer_schemas, st.lists(bodies, min_size=1, max_size=6))
def test_a_valid_answer_stays_valid_when_it_is_cut(schema: Any, sent: list[Any]) -> None:
    contract = parse_contract(
        json.dumps(
            {
                "openapi": "3.1.0",
                "info": {"title": "t", "version": "1"},
                "paths": {"/x": {"get": operation(responses={"200": {"description": "", "content": {JSON: {"schema": {
                    "allOf": [schema]}}}}})}},
            }
        ).encode(),
        meta=False,
    )  # fmt: skip
    full = compile_contract(contract)
    try:
        nothing = compile_contract(contract, NOTHING)
    except FieldGrantUnderivable:
        return
    for value in sent:
        body = json.dumps(value).encode()
        try:
            full.validate_answer("read", 200, JSON, body)
        except AnswerInvalid:
            continue
        nothing.cut_answer("read", 200, JSON, body)
