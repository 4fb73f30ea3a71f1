from copy import deepcopy

import pytest

from adapters.errors import SettingsInvalid
from adapters.kinds.sql import SqlKind
from adapters.port import SilentObserver

GOOD: dict[str, object] = {
    "database": "sqlite:///x.db",
    "operations": {
        "find": {
            "statement": "SELECT a AS a FROM t WHERE b = :b",
            "parameters": {"b": {"from": "path.b"}},
            "answer": {"a": "$a"},
        }
    },
}


def changed(path: str, value: object) -> dict[str, object]:
    settings = deepcopy(GOOD)
    at: dict[str, object] = settings
    *steps, last = path.split(".")
    for step in steps:
        at = at.setdefault(step, {})  # type: ignore[assignment]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return settings


def test_good_settings_are_taken() -> None:
    SqlKind().build(GOOD, SilentObserver())
    SqlKind().build(changed("database", "postgresql://reader@db.example:5432/x?sslmode=verify-full"), SilentObserver())


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ("database", None, "database"),
        ("database", "mysql://x", "database"),
        ("database", "sqlite://host/x", "database"),
        ("database", "sqlite:///", "database"),
        ("database", "postgresql://u:hunter2@x/y", "database"),
        ("database", "postgresql://x/y?password=hunter2", "database"),
        ("password_file", "/x", "password_file"),
        ("datbase", "x", "datbase"),
        ("connections", 0, "connections"),
        ("waiting", -1, "waiting"),
        ("max_rows", "many", "max_rows"),
        ("operations", {}, "operations"),
        ("operations.find.statment", "x", "operations.find.statment"),
        ("operations.find.statement", None, "operations.find.statement"),
        ("operations.find.statement", "SELECT 1; SELECT 2", "operations.find.statement"),
        ("operations.find.statement", "SELECT a FROM t WHERE b = :b AND c = :c", "operations.find.parameters.c"),
        ("operations.find.parameters.z", {"from": "path.z"}, "operations.find.parameters.z"),
        ("operations.find.parameters.b", {"from": "cookie.b"}, "operations.find.parameters.b.from"),
        ("operations.find.parameters.b", {"from": "path.b", "typ": "x"}, "operations.find.parameters.b.typ"),
        ("operations.find.parameters.b", {"from": "path.b", "type": "x"}, "operations.find.parameters.b.type"),
        ("operations.find.rows", "several", "operations.find.rows"),
        ("operations.find.rows", "many", "operations.find.item"),
        ("operations.find.item", {"a": "$a"}, "operations.find.item"),
        ("operations.find.status", 404, "operations.find.status"),
        ("operations.find.none", {"status": 200}, "operations.find.none.status"),
        ("operations.find.none", {"stat": 404}, "operations.find.none.stat"),
        ("enums", {"date": {"0": "x"}}, "enums.date"),
        ("immutable", "yes", "immutable"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(path: str, value: object, key: str) -> None:
    with pytest.raises(SettingsInvalid) as refusal:
        SqlKind().build(changed(path, value), SilentObserver())
    assert refusal.value.key == key
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ({"rows": "$a"}, "operations.find.answer.rows"),
        ({"n": "$#"}, "operations.find.answer"),
        ({"a": "$*", "b": ["$*"]}, "operations.find.answer"),
    ],
)
def test_an_answer_of_many_says_once_where_the_rows_belong(answer: object, key: str) -> None:
    settings = deepcopy(GOOD)
    operation = settings["operations"]["find"]  # type: ignore[index]
    operation.update(rows="many", item={"a": "$a"}, answer=answer)
    with pytest.raises(SettingsInvalid) as refusal:
        SqlKind().build(settings, SilentObserver())
    assert refusal.value.key == key


def test_a_missing_row_is_only_spoken_of_where_it_may_be_missing() -> None:
    settings = changed("operations.find.rows", "one")
    settings["operations"]["find"]["none"] = {"status": 404}  # type: ignore[index]
    with pytest.raises(SettingsInvalid) as refusal:
        SqlKind().build(settings, SilentObserver())
    assert refusal.value.key == "operations.find.none"
