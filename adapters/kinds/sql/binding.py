"""Takes the values for a statement's parameters out of a request. Pure.

A parameter names the place where its value stands and the type that it has there. A value of another type is refused,
not bent; the refusal names the place and never the value. Types are bound as such, never as text in a statement.
"""

import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Literal

from adapters.errors import RequestUnusable, SettingsInvalid
from adapters.kinds.settings import Settings, dotted
from adapters.port import AdapterRequest

ParameterType = Literal["text", "integer", "number", "boolean", "date", "timestamp", "name", "partial-date"]
Taker = Callable[[AdapterRequest], object]
Binder = Callable[[AdapterRequest], object]

_IDENTITY = ("official", "issue", "represented_party", "purpose", "legal_basis", "client", "service", "exchange_id")
_PLACES = "path.x, query.x, header.x, body.a.b, identity.<" + "|".join(_IDENTITY) + ">"


class ParameterSettings(Settings, frozen=True, rename={"place": "from"}):
    """Where one parameter of a statement comes from.

    Attributes:
        place: `path.x`, `query.x`, `header.x`, `body.a.b` or `identity.official` (written `from`).
        type: What the value must be. `name` is text brought to one form (Unicode NFC, upper case, single spaces);
            `partial-date` is `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, bound without hyphens.
        optional: Bind NULL when the request does not have it.
        default: Bind this when the request does not have it.
    """

    place: str
    type: ParameterType = "text"
    optional: bool = False
    default: str | int | float | bool | None = None


def make_binder(settings: ParameterSettings, key: str, *, dates_as_text: bool) -> Binder:
    """Make the function that takes one parameter's value out of a request.

    Args:
        settings: The parameter.
        key: Dotted key of the parameter, for errors.
        dates_as_text: Bind dates and instants as ISO 8601 text (SQLite has no such types).

    Raises:
        SettingsInvalid: The place is not one, or the default has another type.
    """
    take = _taker(settings.place, dotted(key, "from"))
    convert = _CONVERTERS[settings.type]
    as_text = dates_as_text and settings.type in {"date", "timestamp"}
    place, absent_is_fine = settings.place, settings.optional or settings.default is not None
    default: object = None
    if settings.default is not None:
        default = _checked_default(settings, key)

    def bind(request: AdapterRequest) -> object:
        value = take(request)
        if value is None:
            if absent_is_fine:
                return default
            raise RequestUnusable(place, "the request does not have it and the mapping needs it")
        try:
            bound = convert(value)
        except (ValueError, TypeError):
            raise RequestUnusable(place, f"is not of type {settings.type}") from None
        return bound.isoformat() if as_text and isinstance(bound, date) else bound

    return bind


def convert(value: object, type_: ParameterType, *, dates_as_text: bool) -> object:
    """Check a JSON value and bring it to the form in which it is bound.

    Args:
        value: From JSON; not None.
        type_: What it must be.
        dates_as_text: As for `make_binder`.

    Raises:
        ValueError, TypeError: It is not of that type.
    """
    bound = _CONVERTERS[type_](value)
    return bound.isoformat() if dates_as_text and isinstance(bound, date) else bound


def _checked_default(settings: ParameterSettings, key: str) -> object:
    try:
        bound = _CONVERTERS[settings.type](settings.default)
    except (ValueError, TypeError):
        raise SettingsInvalid(dotted(key, "default"), f"is not of type {settings.type}") from None
    if isinstance(bound, date):
        raise SettingsInvalid(dotted(key, "default"), "a date or timestamp cannot have a default")
    return bound


def _taker(place: str, key: str) -> Taker:
    where, _, name = place.partition(".")
    if not name:
        raise SettingsInvalid(key, f"is not a place in a request; places are {_PLACES}")
    if where in {"path", "query"}:
        return lambda request: request.parameters.get(name)
    if where == "header":
        return lambda request: _header(request.parameters, name)
    if where == "body":
        steps = tuple(name.split("."))
        return lambda request: _inside(request.json_body, steps)
    if where == "identity" and name in _IDENTITY:
        return lambda request: getattr(request, name) or None
    raise SettingsInvalid(key, f"is not a place in a request; places are {_PLACES}")


def _header(parameters: Mapping[str, object], name: str) -> object:
    if name in parameters:
        return parameters[name]
    wanted = name.lower()
    return next((value for key, value in parameters.items() if key.lower() == wanted), None)


def _inside(value: object, steps: tuple[str, ...]) -> object:
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _text(value: object) -> str:
    # NUL ends a text early in C libraries, PostgreSQL refuses it; lone surrogates cannot be encoded at all
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError
    value.encode()
    return value


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _number(value: object) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value if isinstance(value, float) else _integer(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _date(value: object) -> date:
    text = _text(value)
    if len(text) != 10 or text[7] != "-":  # Python reads week dates too
        raise ValueError
    return date.fromisoformat(text)


def _timestamp(value: object) -> datetime:
    instant = datetime.fromisoformat(_text(value))
    if instant.tzinfo is None:
        raise ValueError
    return instant


def _partial_date(value: object) -> str:
    text = _text(value)
    digits = text.replace("-", "")
    hyphens = tuple(place for place, letter in enumerate(text) if letter == "-")
    if not (digits.isascii() and digits.isdigit()) or (len(digits), hyphens) not in {(4, ()), (6, (4,)), (8, (4, 7))}:
        raise ValueError
    if len(digits) > 4:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:] or 1))
    return digits


def name_key(text: str) -> str:
    """Bring a person's name to the form in which names are compared: NFC, upper case, single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).upper().split())


_CONVERTERS: dict[ParameterType, Callable[[object], object]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "timestamp": _timestamp,
    "name": lambda value: name_key(_text(value)),
    "partial-date": _partial_date,
}
