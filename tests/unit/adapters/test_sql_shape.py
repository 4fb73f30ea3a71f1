from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import BackendAnswerInvalid, SettingsInvalid
from adapters.kinds.sql.shape import compile_row, converters

KNOWN = converters({"sex": {"0": "unknown", "1": "male"}})


def shaped(template: object, **row: object) -> object:
    return compile_row(template, tuple(row), KNOWN, "answer")(tuple(row.values()))


def test_columns_constants_and_nested_objects_are_put_together() -> None:
    template = {"kind": "citizen", "name": {"full": "$name"}, "codes": ["$a", "x", "$b"], "price": "$$5", "n": 3}
    assert shaped(template, name="An", a="1", b=None) == {
        "kind": "citizen", "name": {"full": "An"}, "codes": ["1", "x"], "price": "$5", "n": 3,
    }  # fmt: skip


def test_nulls_and_what_they_leave_empty_are_left_out() -> None:
    assert shaped({"a": "$a", "b": {"c": {"d": "$b"}}, "e": {"k": 1, "f": "$b"}}, a="1", b=None) == {"a": "1"}
    assert shaped({"a": "$a"}, a=None) == {}


@pytest.mark.parametrize(
    ("converter", "stored", "value"),
    [
        ("", "x", "x"), ("", 1, 1), ("", date(2026, 1, 2), "2026-01-02"), ("", Decimal("1.50"), "1.50"),
        ("", UUID(int=1), "00000000-0000-0000-0000-000000000001"), ("text", 7, "7"), ("integer", "7", 7),
        ("integer", 7.0, 7), ("number", "1.5", 1.5), ("number", Decimal("1.5"), 1.5), ("boolean", 1, True),
        ("boolean", False, False), ("date", "20260102", "2026-01-02"), ("date", date(2026, 1, 2), "2026-01-02"),
        ("timestamp", datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        ("partial-date", "1960", "1960"), ("partial-date", "196005", "1960-05"),
        ("partial-date", 19600512, "1960-05-12"),
        ("date-precision", "1960", "year"), ("date-precision", "1960-05", "month"),
        ("date-precision", "19600512", "day"),
        ("sex", "1", "male"), ("sex", 0, "unknown"),
    ],
)  # fmt: skip
def test_a_converter_gives_the_contracts_form(converter: str, stored: object, value: object) -> None:
    leaf = f"$c:{converter}" if converter else "$c"
    assert shaped(leaf, c=stored) == value
    assert shaped({"x": leaf}, c=stored) == {"x": value}


@pytest.mark.parametrize(
    ("leaf", "stored"),
    [
        ("$c:sex", "9"), ("$c:integer", "x"), ("$c:integer", 1.5), ("$c:boolean", 2), ("$c:boolean", "yes!"),
        ("$c:date", "x"),
        ("$c:date", datetime(2026, 1, 1, tzinfo=UTC)), ("$c:timestamp", "2026-01-01"), ("$c:partial-date", "19"),
        ("$c", b"x"),
    ],
)  # fmt: skip
def test_a_stored_value_that_does_not_fit_is_named_by_place_and_not_by_value(leaf: str, stored: object) -> None:
    with pytest.raises(BackendAnswerInvalid, match=r"answer\.x: column 'c'") as refusal:
        shaped({"x": leaf}, c=stored)
    assert str(stored) not in str(refusal.value).replace("answer.x", "").replace("column 'c'", "")


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ({"a": {"b": "$none"}}, "answer.a.b"),
        ({"a": ["$c", "$none"]}, "answer.a[1]"),
        ({"a": "$c:roman"}, "answer.a"),
        ({"a": {1, 2}}, "answer.a"),
    ],
)
def test_a_template_that_names_what_is_not_there_is_refused(template: object, key: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        compile_row(template, ("c",), KNOWN, "answer")
    assert refusal.value.key == key


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(SettingsInvalid):
        compile_row({"a": "$c"}, ("c", "c"), KNOWN, "answer")


def test_a_template_without_end_is_refused() -> None:
    template: dict[str, object] = {}
    template["a"] = template
    with pytest.raises(SettingsInvalid):
        compile_row(template, ("c",), KNOWN, "answer")


def test_an_enumeration_may_not_take_a_built_in_name() -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        converters({"date": {}})
    assert refusal.value.key == "enums.date"


@given(st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5) | st.integers(), max_size=6))
def test_every_value_that_is_there_arrives_and_no_null_does(row: dict[str, object]) -> None:
    columns = tuple(f"c{place}" for place in range(len(row)))
    template = {name: f"${column}" for name, column in zip(row, columns, strict=True)}
    made = compile_row(template, columns, {}, "answer")(tuple(row.values()))
    assert made == {name: value for name, value in row.items() if value is not None}
