import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.kinds.sql.text import Dialect, Statement, StatementRefused, read_statement


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT a FROM t WHERE b = :b", Statement("SELECT a FROM t WHERE b = $1", ("b",))),
        ("SELECT :b::int, :c, :b", Statement("SELECT $1::int, $2, $1", ("b", "c"))),
        ("SELECT ':b', \":b\", ':''b' , :c", Statement("SELECT ':b', \":b\", ':''b' , $1", ("c",))),
        ("SELECT E'\\':b', :c", Statement("SELECT E'\\':b', $1", ("c",))),
        ("SELECT datE':b', :c", Statement("SELECT datE':b', $1", ("c",))),
        ("SELECT $$ :b $$, $x$ :b $$ $x$, :c", Statement("SELECT $$ :b $$, $x$ :b $$ $x$, $1", ("c",))),
        ("SELECT 1 -- :b\n, :c", Statement("SELECT 1 -- :b\n, $1", ("c",))),
        ("SELECT 1 /* :b ; */ , :c;", Statement("SELECT 1 /* :b ; */ , $1", ("c",))),
        ("SELECT a ? 'b', count(*), 2 * :c ; -- end", Statement("SELECT a ? 'b', count(*), 2 * $1  -- end", ("c",))),
        ("SELECT a[1:2] FROM t", Statement("SELECT a[1:2] FROM t", ())),
        ("SELECT a$1 FROM t", Statement("SELECT a$1 FROM t", ())),
    ],
)
def test_postgresql_parameters_are_numbered_outside_quotes_comments_and_casts(text: str, expected: Statement) -> None:
    assert read_statement(text, "postgresql") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT :b, :c, :b", Statement("SELECT ?, ?, ?", ("b", "c", "b"))),
        ("SELECT [:b], `:b`, ':b', \":b\", :c", Statement("SELECT [:b], `:b`, ':b', \":b\", ?", ("c",))),
        ("SELECT '\\', :c", Statement("SELECT '\\', ?", ("c",))),
    ],
)
def test_sqlite_parameters_become_question_marks(text: str, expected: Statement) -> None:
    assert read_statement(text, "sqlite") == expected


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    "text",
    [
        "", "  -- nothing", ";", "SELECT 1; DROP TABLE t", "SELECT 1;;x", "SELECT 'open", 'SELECT "open',
        "SELECT /* open",
        "SELECT $1", "SELECT 1 /* a /* b */ */", "SELECT * FROM t", "SELECT a, * FROM t", "SELECT t.* FROM t",
        "SELECT DISTINCT * FROM t", "SELECT 1\x00",
    ],
)  # fmt: skip
def test_what_is_not_one_constant_statement_with_named_columns_is_refused(text: str, dialect: Dialect) -> None:
    with pytest.raises(StatementRefused):
        read_statement(text, dialect)


@pytest.mark.parametrize("text", ["SELECT ?", "SELECT @a", "SELECT $a", "SELECT `open", "SELECT [open", "SELECT #a"])
def test_other_ways_of_naming_parameters_are_refused_for_sqlite(text: str) -> None:
    with pytest.raises(StatementRefused):
        read_statement(text, "sqlite")


@pytest.mark.parametrize("text", ["SELECT U&'d!0061t' UESCAPE '!'", "SELECT $x$ open", "SELECT E'\\'"])
def test_strings_that_cannot_be_read_with_certainty_are_refused_for_postgresql(text: str) -> None:
    with pytest.raises(StatementRefused):
        read_statement(text, "postgresql")


LITERALS = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20)


@given(LITERALS, LITERALS)
def test_sqlite_sees_the_same_literals_before_and_after(first: str, second: str) -> None:
    def quoted(value: str) -> str:
        return "'" + value.replace("'", "''") + "'"

    read = read_statement(f"SELECT {quoted(first)} AS a, :x AS b, {quoted(second)} AS c /* :y */", "sqlite")
    assert read.order == ("x",)
    connection = sqlite3.connect(":memory:")
    try:
        assert connection.execute(read.text, ("bound",)).fetchone() == (first, "bound", second)
    finally:
        connection.close()


@given(st.text(max_size=60), st.sampled_from(["sqlite", "postgresql"]))
def test_any_text_is_read_or_refused_and_only_marks_change(text: str, dialect: Dialect) -> None:
    try:
        read = read_statement(text, dialect)
    except StatementRefused:
        return
    if not read.order:
        assert read.text == text.replace(";", "").strip() or ";" in text
