from __future__ import annotations

import time
from typing import Any

import pytest

from registry.contract import ContractOverBudget, compile_schema
from registry.contract.budget import Budget


def ladder(rungs: int, keyword: str = "allOf") -> dict[str, Any]:
    """2^rungs evaluations in a document of a few hundred bytes."""
    steps = {f"s{i}": {keyword: [{"$ref": f"#/$defs/s{i + 1}"}] * 2} for i in range(rungs)}
    return {"$ref": "#/$defs/s0", "$defs": {**steps, f"s{rungs}": {"type": "string"}}}


BOMBS: dict[str, Any] = {
    "doubled allOf": ladder(24),
    "doubled anyOf": ladder(24, "anyOf"),
    "doubled oneOf": ladder(24, "oneOf"),
    "doubled properties": {
        "$ref": "#/$defs/s0",
        "$defs": {
            **{
                f"s{i}": {
                    "properties": {"a": {"allOf": [{"$ref": f"#/$defs/s{i + 1}"}, {"$ref": f"#/$defs/s{i + 1}"}]}}
                }
                for i in range(30)
            },
            "s30": True,
        },
    },
    "branching recursion": {"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}},
    "recursion by name and pattern": {"properties": {"a": {"$ref": "#"}}, "patternProperties": {"a": {"$ref": "#"}}},
    "recursion by items and contains": {"items": {"$ref": "#"}, "contains": {"$ref": "#"}},
    "recursion by prefix and unevaluated": {"prefixItems": [{"$ref": "#"}], "unevaluatedItems": {"$ref": "#"}},
    "recursion by rest of two": {
        "allOf": [{"properties": {"a": {"$ref": "#"}}}, {"additionalProperties": {"$ref": "#"}}],
    },
    "recursion in both alternatives": {
        "oneOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}, "b": True}}]
    },
    "a schema that is itself": {"$ref": "#"},
    "a schema that contains itself": {"allOf": [{"not": {"$ref": "#"}}]},
    "two that are each other": {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}},
    },
    "objects compared one by one": {"properties": {"a": {"enum": [{"n": i} for i in range(5_000)]}}},
    "repetition of repetition": {"pattern": "(a{1,1000}){1,1000}"},
    "repetition of repetition of repetition": {"pattern": "((a{1,90}){1,90}){1,90}"},
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_quickly(name: str) -> None:
    started = time.process_time()
    with pytest.raises(ContractOverBudget):
        compile_schema(BOMBS[name])
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "all": {"items": {"$ref": "#"}}}},
        {"anyOf": [{"type": "null"}, {"properties": {"next": {"$ref": "#"}}}]},
        {"anyOf": [{"items": {"$ref": "#"}}, {"properties": {"next": {"$ref": "#"}}}]},
        {"properties": {"next": {"$ref": "#"}}, "additionalProperties": {"type": "string"}},
        {"additionalProperties": {"$ref": "#"}, "unevaluatedProperties": False},
        {"prefixItems": [{"$ref": "#"}, True], "items": {"$ref": "#"}},
        {"dependentSchemas": {"a": {"required": ["b"]}}, "propertyNames": {"maxLength": 5}, "then": True},
        ladder(6),
        {"enum": [f"code{i}" for i in range(15_000)]},
    ],
)
def test_plain_recursion_and_modest_sharing_are_allowed(schema: Any) -> None:
    assert compile_schema(schema).is_valid(None) in {True, False}


def test_what_is_entangled_too_much_to_be_bounded_is_refused() -> None:
    wide = {"allOf": [{"properties": {f"p{i}": True for i in range(50)}} for _ in range(50)]}
    with pytest.raises(ContractOverBudget) as caught:
        compile_schema(wide, budget=Budget(analysis_steps=1_000))
    assert caught.value.errors[0].code == "over-budget-analysis"
