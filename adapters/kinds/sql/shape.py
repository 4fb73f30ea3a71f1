"""Turns rows into the JSON of an answer by a template. Pure.

A template is JSON. A text leaf `$column` stands for the value of that column, `$column:converter` for the converted
value; `$$…` is text that begins with `$`. In an answer of many rows `$*` stands for the list of rows, each shaped by
the item template, and `$#` for their number. Members whose value is NULL are left out, and so are objects in which
nothing is left.

A template is compiled once against the columns that a statement delivers; whether the answer keeps the contract is
looked at by the bus.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from adapters.errors import BackendAnswerInvalid, SettingsInvalid
from adapters.kinds.settings import dotted

Row = Sequence[object]
Shaper = Callable[[Row], object]
Converter = Callable[[object], object]

_PARTIAL_LENGTHS = {4: "year", 6: "month", 8: "day"}
_MAX_DEPTH = 32


def converters(enums: Mapping[str, Mapping[str, object]]) -> dict[str, Converter]:
    """The built-in converters and one for each declared enumeration.

    Args:
        enums: By name: stored code (as text) → value in the answer.

    Raises:
        SettingsInvalid: An enumeration has the name of a built-in converter.
    """
    for name in enums:
        if name in _BUILT_IN:
            raise SettingsInvalid(f"enums.{name}", "a converter of this name is built in; choose another")
    return {**_BUILT_IN, **{name: _enum(dict(codes)) for name, codes in enums.items()}}


def compile_row(
    template: object, columns: Sequence[str], known: Mapping[str, Converter], key: str, *, keep_empty: bool = True
) -> Shaper:
    """Compile a template for one row.

    Args:
        template: The JSON template.
        columns: Names of the columns that the statement delivers, in order.
        known: Converters by name.
        key: Dotted key of the template, for errors.
        keep_empty: Answer `{}` when nothing is left, not None.

    Raises:
        SettingsInvalid: A column or converter is not known, a column is delivered twice, or the template is too deep.
    """
    if len(set(columns)) != len(columns):
        raise SettingsInvalid(key, "the statement delivers two columns of one name; name them apart with AS")
    shaper = _compile(template, {name: place for place, name in enumerate(columns)}, known, key, 0)
    if shaper is None:
        return lambda _row: template
    if not keep_empty:
        return shaper
    empty: object = {} if isinstance(template, dict) else None

    def shaped(row: Row) -> object:
        value = shaper(row)
        return empty if value is None else value

    return shaped


def _compile(
    template: object, places: Mapping[str, int], known: Mapping[str, Converter], key: str, depth: int
) -> Shaper | None:
    """A shaper, or None for a part that is the same for every row."""
    if depth > _MAX_DEPTH:
        raise SettingsInvalid(key, f"is nested deeper than {_MAX_DEPTH}")
    if isinstance(template, str):
        return _leaf(template, places, known, key)
    if isinstance(template, dict):
        return _object(template, places, known, key, depth)
    if isinstance(template, list | tuple):
        parts = [
            _compile(part, places, known, f"{key}[{index}]", depth + 1) or _constant(part)
            for index, part in enumerate(template)
        ]
        return lambda row: [value for part in parts if (value := part(row)) is not None]
    if template is None or isinstance(template, bool | int | float):
        return None
    raise SettingsInvalid(key, "a template holds only text, numbers, booleans, lists and tables")


def _constant(value: object) -> Shaper:
    text = value[1:] if isinstance(value, str) and value.startswith("$$") else value
    return lambda _row: text


def _leaf(template: str, places: Mapping[str, int], known: Mapping[str, Converter], key: str) -> Shaper | None:
    if not template.startswith("$"):
        return None
    if template.startswith("$$"):
        return _constant(template)
    column, _, converter = template[1:].partition(":")
    if column not in places:
        raise SettingsInvalid(key, f"the statement delivers no column {column!r}")
    place = places[column]
    convert = _plain if not converter else known.get(converter)
    if convert is None:
        names = ", ".join(sorted(known))
        raise SettingsInvalid(key, f"no converter is called {converter!r}; known are {names}")
    made = convert  # bound here, so that the closure needs no check

    def value(row: Row) -> object:
        found = row[place]
        if found is None:
            return None
        try:
            return made(found)
        except (ValueError, TypeError, KeyError, ArithmeticError):
            raise BackendAnswerInvalid(f"{key}: column {column!r} holds a value that does not fit") from None

    return value


def _object(
    template: Mapping[str, object], places: Mapping[str, int], known: Mapping[str, Converter], key: str, depth: int
) -> Shaper:
    members: list[tuple[str, int, Shaper]] = []
    constants: dict[str, object] = {}
    for name, part in template.items():
        shaper = _compile(part, places, known, dotted(key, name), depth + 1)
        if shaper is None and part is not None:
            constants[name] = part
        elif shaper is not None:
            # a column as it is, which most are, is taken without a call when it is text
            place = places.get(part[1:], -1) if isinstance(part, str) else -1
            members.append((name, place, shaper))
    if not members:
        return lambda _row: dict(constants)

    def shaped(row: Row) -> object:
        values: dict[str, object] = {}
        for name, place, shaper in members:
            if place >= 0:
                found = row[place]
                if found is None:
                    continue
                if found.__class__ is str:
                    values[name] = found
                    continue
            value = shaper(row)
            if value is not None:
                values[name] = value
        if not values:
            return None  # constants alone say nothing of a row
        return {**constants, **values} if constants else values

    return shaped


def _plain(value: object) -> object:
    """Without a converter: text, numbers and booleans as they are, dates as ISO 8601."""
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise ValueError


def _text(value: object) -> str:
    return str(_plain(value))


def _integer(value: object) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    if isinstance(value, str | int | float | Decimal):
        return int(value)
    raise ValueError


def _number(value: object) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise TypeError
    return value if isinstance(value, int) else float(value)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in {0, 1}:
        return bool(value)
    raise ValueError


def _date(value: object) -> str:
    if isinstance(value, datetime):
        raise TypeError  # which day it is depends on the place
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and len(value) in {8, 10}:
        return date.fromisoformat(value).isoformat()
    raise ValueError


def _timestamp(value: object) -> str:
    instant = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    if instant.tzinfo is None:
        raise ValueError
    return instant.isoformat()


def _partial_digits(value: object) -> str:
    digits = _text(value).replace("-", "")
    if not digits.isascii() or not digits.isdigit() or len(digits) not in _PARTIAL_LENGTHS:
        raise ValueError
    return digits


def _partial_date(value: object) -> str:
    digits = _partial_digits(value)
    return "-".join(part for part in (digits[:4], digits[4:6], digits[6:]) if part)


def _date_precision(value: object) -> str:
    return _PARTIAL_LENGTHS[len(_partial_digits(value))]


def _enum(codes: dict[str, object]) -> Converter:
    return lambda value: codes[value if isinstance(value, str) else _text(value)]


_BUILT_IN: dict[str, Converter] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
    "partial-date": _partial_date,
    "date-precision": _date_precision,
}
