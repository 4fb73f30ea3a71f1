"""Reads a constant SQL statement once and numbers its `:name` parameters. Pure.

The only change ever made to a statement is the replacement of `:name` by the database's own mark (`?` for SQLite, `$n`
for PostgreSQL) outside quotes and comments. Values never come near the text.

This is a tokenizer, not a parser: whether the statement makes sense is for the database to say.
"""

import re
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["sqlite", "postgresql"]

_SHARED = r"""
    (?P<line_comment>--[^\n]*)
  | (?P<block_comment>/\*(?P<inside>.*?)\*/)
  | (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
  | (?P<cast>::)
  | (?P<parameter>:[A-Za-z_][A-Za-z0-9_]*)
  | (?P<semicolon>;)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*|[0-9][A-Za-z0-9_.]*)
"""
_OPEN_QUOTE = r"|(?P<open>['\"]|/\*)"
_TOKENS: dict[str, re.Pattern[str]] = {
    "sqlite": re.compile(
        r"(?P<other_quoted>`(?:[^`]|``)*`|\[[^\]]*\])|"
        + _SHARED
        + _OPEN_QUOTE
        + r"|(?P<foreign>[?@$#`\[])|(?P<other>.)",
        re.DOTALL | re.VERBOSE,
    ),
    "postgresql": re.compile(
        r"(?P<other_quoted>[eE]'(?:[^'\\]|''|\\.)*'|\$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff]"
        r"[A-Za-z0-9_\x80-\U0010ffff]*)?)\$.*?\$(?P=tag)\$)|(?P<foreign>\$)|"
        r"(?P<uncertain>[uU]&['\"]|[eE]')|" + _SHARED + _OPEN_QUOTE + r"|(?P<other>.)",
        re.DOTALL | re.VERBOSE,
    ),
}

_BEFORE_EVERY_COLUMN = frozenset({"select", "distinct", "all", ",", ".", "returning"})


class StatementRefused(ValueError):
    """The statement cannot be used as a constant with named parameters; the message says why."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the database gets it.

    Attributes:
        text: With the database's own marks.
        order: Parameter names in the order of the values to bind. PostgreSQL: each name once. SQLite: once a mark.
    """

    text: str
    order: tuple[str, ...]


def read_statement(text: str, dialect: Dialect) -> Statement:
    """Number the parameters of a statement.

    Args:
        text: One statement; a last semicolon is allowed.
        dialect: Whose quoting rules count.

    Raises:
        StatementRefused: Empty, several statements, an unclosed quote, or another way of naming parameters.
    """
    if "\x00" in text:
        raise StatementRefused("it holds a NUL character")
    reading = _Reading(dialect)
    for token in _TOKENS[dialect].finditer(text):
        reading.take(token)
    if not reading.says_something:
        raise StatementRefused("it is empty")
    return Statement("".join(reading.out).strip(), tuple(reading.order))


class _Reading:
    """State of one pass over the tokens."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.out: list[str] = []
        self.order: list[str] = []
        self.says_something = False
        self._before = ""
        self._ended = False

    def take(self, token: re.Match[str]) -> None:
        kind, text = token.lastgroup, token.group()
        if kind == "line_comment" or (kind == "other" and text.isspace()):
            self.out.append(text)
            return
        if kind == "block_comment":
            # PostgreSQL nests comments, SQLite does not: what looks nested is refused instead of guessed.
            if "/*" in text[2:]:
                raise StatementRefused("it has a comment inside a comment")
            self.out.append(text)
            return
        if self._ended:
            raise StatementRefused("it holds more than one statement")
        self._take_code(kind, text)

    def _take_code(self, kind: str | None, text: str) -> None:
        if kind == "semicolon":
            self._ended = True
            return
        if kind in {"open", "uncertain"}:
            raise StatementRefused("it has a quote or comment that is not closed, or a U& string")
        if kind == "foreign":
            raise StatementRefused(f"{text} is not allowed outside quotes; name parameters like :name")
        if text == "*" and self._before in _BEFORE_EVERY_COLUMN:
            # a column added to the table would shift what the answer's template was compiled against
            raise StatementRefused("it selects *; name the columns")
        self.says_something = True
        self._before = text.lower()
        self.out.append(self._mark(text[1:]) if kind == "parameter" else text)

    def _mark(self, name: str) -> str:
        if self.dialect == "sqlite":
            self.order.append(name)
            return "?"
        if name not in self.order:
            self.order.append(name)
        return f"${self.order.index(name) + 1}"
