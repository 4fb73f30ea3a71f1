from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import SettingsInvalid
from adapters.kinds.sql import SqlKind
from adapters.kinds.sql.applying import REASONS, check
from adapters.kinds.sql.updates import read_updates
from adapters.port import SilentObserver

FIELD = {"column": "phone", "pattern": "[0-9]+"}
GOOD: dict[str, Any] = {
    "table": "person",
    "key": "number",
    "fields": {"a.phone": FIELD, "sex": {"column": "sex", "codes": {"male": "1"}}},
}


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"table": "person; DROP TABLE x"}, "updates.change.table"),
        ({"key": 'number" --'}, "updates.change.key"),
        ({"version": "a b"}, "updates.change.version"),
        ({"effects": "x(y)"}, "updates.change.effects"),
        ({"reviews": ""}, "updates.change.reviews"),
        ({"fields": {}}, "updates.change.fields"),
        ({"fields": {"a": {"column": "number"}}}, "updates.change.fields"),
        ({"fields": {"a": {"column": "version"}}}, "updates.change.fields"),
        ({"fields": {"a": {"column": "x"}, "b": {"column": "x"}}}, "updates.change.fields"),
        ({"fields": {"a": {"column": "x = 1, y"}}}, "updates.change.fields.a.column"),
        ({"fields": {"a": {"column": "x", "pattern": "("}}}, "updates.change.fields.a.pattern"),
        ({"fields": {"a": {"column": "x", "type": "integer", "pattern": "1"}}}, "updates.change.fields.a"),
        ({"fields": {"a": {"column": "x", "codes": {"b": "1"}, "values": ["b"]}}}, "updates.change.fields.a.codes"),
        ({"fields": {"a": {"column": "x", "reference": {"table": "t t", "column": "c"}}}}, "updates.change.fields.a.reference.table"),
        ({"identifier": {"from": "nowhere"}}, "updates.change.identifier.from"),
        ({"identifier": {"from": "path.id", "optional": True}}, "updates.change.identifier"),
        ({"identifier": {"from": "path.id", "type": "date"}}, "updates.change.identifier"),
        ({"changes": "query.x"}, "updates.change.changes"),
        ({"based_on": "body"}, "updates.change.based_on.from"),
        ({"keep_days": 0}, "updates.change.keep_days"),
        ({"state_operation": "change"}, "updates.change"),
        ({"tabel": "x"}, "updates.change.tabel"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused_with_their_key(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        read_updates({"change": {**GOOD, **settings}}, "sqlite")
    assert refusal.value.key == key


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"updates": {"change": GOOD}, "immutable": True}, "immutable"),
        ({"updates": {"change": GOOD}, "operations": {"change": {"statement": "SELECT 1 AS a", "answer": "$a"}}}, "operations.change"),
        ({}, "operations"),
    ],
)  # fmt: skip
def test_a_source_says_what_does_not_go_together(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        SqlKind().build({"database": "sqlite:///x.db", **settings}, SilentObserver())
    assert refusal.value.key == key


def test_codes_are_stored_and_values_are_said() -> None:
    update = read_updates({"change": GOOD}, "sqlite")["change"]
    assert check(update, {"sex": "male", "a": {"phone": "12"}}) == ({"sex": "1", "a.phone": "12"}, {})
    assert check(update, {"sex": "1"}) == ({}, {"sex": "value-not-allowed"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "phone", "sex", "x"]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "sex", "b"]), JSON, min_size=1))
def test_whatever_is_proposed_every_leaf_is_a_value_of_its_type_or_has_a_reason(changes: dict[str, Any]) -> None:
    for dialect in ("sqlite", "postgresql"):
        update = read_updates({"change": GOOD}, dialect)["change"]
        values, reasons = check(update, changes)
        assert set(reasons.values()) <= REASONS.keys()
        assert values.keys() <= update.fields.keys()
        assert all(isinstance(value, str) for value in values.values())
