"""Fields that a request body marks: who is not granted one may not send it; nothing of a request is ever cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contract_documents import request_contract

from registry.contract import (
    CompiledContract,
    FieldGrantUnderivable,
    RequestInvalid,
    compile_contract,
    derive_granted,
    marked_fields,
)

CHANGES = {
    "type": "object",
    "additionalProperties": False,
    "required": ["changes"],
    "properties": {
        "changes": {
            "type": "object",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": {
                "phone": {"type": "string"},
                "residence": {"type": "string", "x-lienthong-field": "change-residence"},
            },
        }
    },
}
CONTRACT = request_contract(CHANGES)


def send(compiled: CompiledContract, body: Any) -> None:
    match = compiled.route("POST", "/things")
    compiled.validate_request(match, "", (), "application/json", json.dumps(body).encode())


def test_marked_fields_of_a_request_are_fields_of_the_operation() -> None:
    assert marked_fields(CONTRACT) == {"read": ("change-residence",)}


def test_who_is_granted_the_field_may_send_it() -> None:
    for granted in (None, frozenset({"change-residence"})):
        send(compile_contract(CONTRACT, granted), {"changes": {"residence": "00001", "phone": "1"}})


def test_who_is_not_granted_the_field_is_refused_and_the_place_is_named() -> None:
    compiled = compile_contract(CONTRACT, frozenset())
    send(compiled, {"changes": {"phone": "1"}})
    with pytest.raises(RequestInvalid) as refusal:
        send(compiled, {"changes": {"residence": "00001", "phone": "1"}})
    assert ("body", "/changes/residence") in [(one.where, one.pointer) for one in refusal.value.violations]
    assert "00001" not in str(refusal.value.violations)


def test_answers_of_an_operation_are_not_touched_by_marks_in_its_request() -> None:
    derived = derive_granted(CONTRACT, frozenset())
    assert derived.withheld == {}
    assert derived.operations["read"].answers == CONTRACT.operations["read"].answers


def test_a_mark_that_cannot_be_forbidden_with_certainty_refuses_the_right() -> None:
    schema = {"anyOf": [{"properties": {"a": {"x-lienthong-field": "a"}}}, {"required": ["b"]}]}
    with pytest.raises(FieldGrantUnderivable):
        derive_granted(request_contract(schema), frozenset())
