from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from registry.contract.budget import DEFAULT, Budget
from registry.contract.document import load_document
from registry.contract.errors import ContractOverBudget, ContractRejected
from registry.contract.yamlbytes import load_yaml

texts = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=6)
scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


@given(values)
def test_json_is_read_alike_as_yaml(value: Any) -> None:
    assert load_yaml(json.dumps(value, ensure_ascii=False).encode(), DEFAULT) == value


@given(values)
def test_what_another_library_writes_is_read_back(value: Any) -> None:
    # It writes YAML 1.1, where 1e3 is text and stands without quotation marks; in YAML 1.2 it is a number.
    assume(not re.search(r'"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+"', json.dumps(value)))
    assert load_yaml(yaml.safe_dump(value, allow_unicode=True).encode(), DEFAULT) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("2024-01-31", "2024-01-31"),
        ("12:30:00", "12:30:00"),
        ("~", None),
        ("True", True),
        ("1.50", 1.5),
        ("1e3", 1000.0),
        ("-7", -7),
        ("'007'", "007"),
        ("! tagged", "tagged"),
        ("1_000", "1_000"),
        ("{200: a, null: b, true: c}", {"200": "a", "null": "b", "true": "c"}),
        ("|\n a\n b\n", "a\nb\n"),
        ("[&a 1, *a]", [1, 1]),
        ("x: &a [1, {b: 2}]\ny: *a", {"x": [1, {"b": 2}], "y": [1, {"b": 2}]}),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: Any) -> None:
    assert load_yaml(text.encode(), DEFAULT) == value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: 1\na: 2", "duplicate-name"),
        ("!!python/object:os.system x", "yaml-tag"),
        ("!mine [1]", "yaml-tag"),
        ("<<: {a: 1}", "yaml-key"),
        ("&k a: 1", "yaml-key"),
        ("? [1]\n: 2", "yaml-key"),
        ("x: &a k\n? *a\n: 2", "yaml-key"),
        ("&a [*a]", "yaml-alias"),
        ("*nowhere", "yaml-alias"),
        ("012", "yaml-number"),
        ("0x1F", "yaml-number"),
        (".inf", "yaml-number"),
        (".nan", "yaml-number"),
        ("1e999", "yaml-number"),
        ("a: [", "yaml"),
        ("--- 1\n--- 2", "yaml"),
        ("", "yaml"),
        ("\x00", "yaml"),
    ],
)
def test_constructs_that_readers_disagree_on_are_refused(text: str, code: str) -> None:
    with pytest.raises(ContractRejected) as caught:
        load_yaml(text.encode(), DEFAULT)
    assert caught.value.errors[0].code == code


def test_bytes_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(ContractRejected, match="UTF-8"):
        load_yaml(b"a: \xff", DEFAULT)


def test_doubling_aliases_are_refused_before_they_are_expanded() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
    with pytest.raises(ContractOverBudget) as caught:
        load_yaml(bomb.encode(), Budget(nodes=10_000))
    assert caught.value.errors[0].code == "over-budget-nodes"


def test_aliases_cannot_nest_past_the_depth() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 80))
    with pytest.raises(ContractOverBudget) as caught:
        load_yaml(chain.encode(), DEFAULT)
    assert caught.value.errors[0].code == "over-budget-depth"


def test_deep_flow_collections_are_refused() -> None:
    with pytest.raises(ContractOverBudget):
        load_yaml(b"[" * 65, DEFAULT)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[1]", "shape"),
        (b"- 1", "shape"),
        (b'{"a":1,"a":2}', "duplicate-name"),
        (b'{"a":', "json"),
        (b"{" + b'"a":[' * 80, "over-budget-depth"),
        (b'{"a":[' + b"1," * 300 + b"1]}", "over-budget-nodes"),
        (b" " * 2000, "over-budget-size"),
    ],
)
def test_a_document_is_one_object_within_the_budget(data: bytes, code: str) -> None:
    with pytest.raises(ContractRejected) as caught:
        load_document(data, Budget(document_bytes=1500, nodes=200))
    assert caught.value.errors[0].code == code
    assert isinstance(caught.value, ContractOverBudget) == code.startswith("over-budget")


def test_colons_inside_strings_are_not_counted_as_values() -> None:
    assert load_document(b'{"a":"' + b":" * 300 + b'"}', Budget(nodes=200)) == {"a": ":" * 300}
