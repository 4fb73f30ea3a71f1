from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from contract_documents import operation, parameter_contract, parsed
from hypothesis import given
from hypothesis import strategies as st

from registry.contract import CompiledContract, RequestInvalid, Violation, compile_contract

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
numbers = st.integers(-(10**20), 10**20) | st.floats(-1e15, 1e15).map(lambda x: x + 0.0)


def query(name: str, schema: Any, **members: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, **members}


def header(name: str, schema: Any, **members: Any) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema, **members}


def listed(scalar: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": scalar}}


TYPED = compile_contract(
    parameter_contract(
        query("s", {"type": "string"}),
        query("i", {"type": "integer", "maximum": 10**21}),
        query("n", {"type": "number"}),
        query("b", {"type": "boolean"}),
        query("many", listed("string")),
        query("few", listed("integer"), explode=False),
        query("odd name[é]", {"type": "string"}),
        query("short", {"type": "string", "maxLength": 3}),
        query("codes", {"type": "array", "items": {"type": "string", "pattern": "^[a-z]$"}, "maxItems": 2}),
        header("X-Trace", {"type": "string", "minLength": 1}),
        header("X-Levels", listed("integer")),
    )
)
PATHS = compile_contract(
    parsed(
        {
            "/{s}/{i}/{l}": {
                "get": operation(
                    parameters=[
                        {"name": "s", "in": "path", "required": True, "schema": {"type": "string"}},
                        {"name": "i", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}},
                        {"name": "l", "in": "path", "required": True, "schema": listed("boolean")},
                    ]
                )
            }
        }
    )
)
REQUIRED = compile_contract(
    parameter_contract(
        query("q", {"type": "string"}, required=True), header("X-Need", {"type": "string"}, required=True)
    )
)
OPEN = compile_contract(parameter_contract(query("q", {"type": "string"}), **{"x-lienthong-additional-query": True}))
BARE = compile_contract(parameter_contract())


def read(raw: str, headers: Any = (), compiled: CompiledContract = TYPED, path: str = "/things") -> dict[str, object]:
    return compiled.validate_request(compiled.route("GET", path), raw, headers, "", b"").values


def refused(raw: str, headers: Any = (), compiled: CompiledContract = TYPED, path: str = "/things") -> list[Violation]:
    with pytest.raises(RequestInvalid) as caught:
        read(raw, headers, compiled, path)
    return list(caught.value.violations)


@given(texts, texts, st.lists(texts, min_size=1, max_size=4))
def test_texts_survive_encoding_and_decoding(one: str, odd: str, many: list[str]) -> None:
    raw = f"s={quote(one, safe='')}&odd%20name%5B%C3%A9%5D={quote(odd, safe='')}"
    raw += "".join("&many=" + quote(item, safe="") for item in many)
    assert read(raw) == {"s": one, "odd name[é]": odd, "many": many}


@given(st.integers(-(10**20), 10**20), numbers, st.booleans(), st.lists(st.integers(-99, 99), max_size=4))
def test_typed_values_survive_encoding_and_decoding(i: int, n: float, b: bool, few: list[int]) -> None:
    raw = f"i={i}&n={quote(repr(n))}&b={'true' if b else 'false'}&few={','.join(map(str, few))}"
    assert read(raw) == {"i": i, "n": n, "b": b, "few": few}


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=10))
def test_header_texts_are_taken_as_they_are(text: str) -> None:
    assert read("", [("x-TRACE", f" {text}\t")]) == {"X-Trace": text}


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        ("", {}),
        ("s=", {"s": ""}),
        ("s=a+b", {"s": "a b"}),
        ("s=a%2Bb", {"s": "a+b"}),
        ("s=a=b", {"s": "a=b"}),
        ("odd+name[%C3%A9]=1", {"odd name[é]": "1"}),
        ("n=1e3", {"n": 1000.0}),
        ("n=-0", {"n": 0}),
        ("few=", {"few": []}),
        ("many=", {"many": [""]}),
        ("codes=a&codes=b", {"codes": ["a", "b"]}),
    ],
)
def test_a_query_is_read_by_its_declared_styles(raw: str, values: dict[str, object]) -> None:
    assert read(raw) == values


@pytest.mark.parametrize(
    ("raw", "pointer", "rule"),
    [
        ("i=1.0", "i", "type"),
        ("i=01", "i", "type"),
        ("i=%EF%BC%91", "i", "type"),
        ("i=", "i", "type"),
        ("i=+1", "i", "type"),
        ("i=1_000", "i", "type"),
        ("i=" + "9" * 50, "i", "type"),
        ("i=1" + "0" * 22, "i", "maximum"),
        ("n=NaN", "n", "type"),
        ("n=1e999", "n", "type"),
        ("n=.5", "n", "type"),
        ("b=1", "b", "type"),
        ("b=True", "b", "type"),
        ("s=%", "s", "percent"),
        ("s=%4", "s", "percent"),
        ("s=%zz", "s", "percent"),
        ("s=%ff", "s", "utf8"),
        ("s=%00", "s", "characters"),
        ("s=a&s=b", "s", "repeated"),
        ("short=abcd", "short", "maxLength"),
        ("codes=a&codes=B", "codes/1", "pattern"),
        ("codes=a&codes=b&codes=c", "codes", "maxItems"),
        ("few=1,,2", "few", "type"),
        ("few=1&few=2", "few", "repeated"),
        ("few=" + "1," * 1_001 + "1", "few", "items"),
        ("unknown=1", "*", "undeclared"),
        ("un+known=1", "*", "undeclared"),
        ("S=1", "*", "undeclared"),
        ("s", "", "form"),
        ("=1", "", "form"),
        ("s=1&", "", "form"),
        ("s=1&&b=true", "", "form"),
        ("%zz=1", "", "percent"),
        ("s=a;b=c", "", "characters"),
        ("s=é", "", "characters"),
        ("s=a b", "", "characters"),
        ("s=a#b", "", "characters"),
        ("&".join(["many=1"] * 1_001), "", "items"),
    ],
)
def test_a_query_that_is_not_exact_is_refused(raw: str, pointer: str, rule: str) -> None:
    found = refused(raw)
    assert ("query", pointer, rule) in {(item.where, item.pointer, item.rule) for item in found}


def test_the_value_and_an_unknown_name_are_never_repeated() -> None:
    assert "secret" not in repr(refused("secret=1"))
    assert "secret" not in repr(refused("i=secret&short=secret&%zzsecret=1"))


@pytest.mark.parametrize(
    ("headers", "pointer", "rule"),
    [
        ([("X-Trace", "a"), ("x-trace", "b")], "X-Trace", "repeated"),
        ([("X-Trace", "")], "X-Trace", "minLength"),
        ([("X-Trace", "é")], "X-Trace", "characters"),
        ([("X-Levels", "1, x")], "X-Levels", "type"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(headers: Any, pointer: str, rule: str) -> None:
    found = refused("", headers)
    assert ("header", pointer, rule) in {(item.where, item.pointer, item.rule) for item in found}


def test_a_list_header_may_be_split_over_lines() -> None:
    assert read("", [("X-Levels", "1, 2"), ("X-LEVELS", "3"), ("X-Other", "é")]) == {"X-Levels": [1, 2, 3]}


def test_required_parameters_must_be_there() -> None:
    found = refused("", (), REQUIRED)
    assert {(item.where, item.pointer, item.rule) for item in found} == {
        ("query", "q", "required"),
        ("header", "X-Need", "required"),
    }
    assert read("q=a", [("x-need", "b")], REQUIRED) == {"q": "a", "X-Need": "b"}


def test_an_operation_may_let_undeclared_query_parameters_through() -> None:
    assert read("q=a&other=1", (), OPEN) == {"q": "a"}
    assert refused("q=a&other=%zz&%zz=1", (), OPEN)


def test_an_operation_without_parameters_takes_no_query() -> None:
    assert read("", (), BARE) == {}
    assert refused("a=1", (), BARE)


def test_path_values_are_typed() -> None:
    assert read("", (), PATHS, "/a%20b+c/7/true,false") == {"s": "a b+c", "i": 7, "l": [True, False]}
    found = refused("", (), PATHS, "/a/-1/yes")
    assert {(item.where, item.pointer, item.rule) for item in found} == {
        ("path", "i", "minimum"),
        ("path", "l", "type"),
    }


def test_references_in_parameter_schemas_are_followed() -> None:
    contract = parsed(
        {"/things": {"get": operation(parameters=[query("q", {"$ref": "#/components/schemas/A", "maxLength": 2})])}},
        {"A": {"$ref": "#/components/schemas/B"}, "B": {"type": "string", "minLength": 1}},
    )
    compiled = compile_contract(contract)
    assert read("q=ab", (), compiled) == {"q": "ab"}
    assert refused("q=abc", (), compiled)
    assert refused("q=", (), compiled)
