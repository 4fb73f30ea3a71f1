"""Parameter values as text to typed values, in OpenAPI's default styles. It knows no requests.

``simple`` in paths and headers, ``form`` in queries; percent-decoding is strict, ``+`` in a query is a space.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_to_bytes

from registry.contract.errors import Violation
from registry.contract.model import Parameter, Scalar
from registry.contract.schema import SchemaValidator

_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,39})")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HEADER_TEXT: Final = re.compile(r"[\x20-\x7e\t]*")
MAX_ITEMS: Final = 1_000


class ValueRefused(ValueError):
    """A text is not a value of the declared type.

    Attributes:
        rule: ``percent``, ``utf8``, ``type``, ``items`` or ``characters``.
    """

    def __init__(self, rule: str, message: str) -> None:
        self.rule = rule
        super().__init__(message)


def decode_percent(text: str) -> str:
    """Returns `text` percent-decoded.

    Raises:
        ValueRefused: A bad or incomplete ``%``, or bytes that are not UTF-8, or a NUL.
    """
    if "%" not in text:
        return text
    if _BAD_PERCENT.search(text):
        raise ValueRefused("percent", "has a bad or incomplete percent-encoding")
    try:
        decoded = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueRefused("utf8", "is not UTF-8 after percent-decoding") from None
    if "\x00" in decoded:
        raise ValueRefused("characters", "contains a NUL character")
    return decoded


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text) is None:
        raise ValueRefused("type", "must be an integer in plain decimal form")
    return int(text)


def _number(text: str) -> int | float:
    if _INTEGER.fullmatch(text) is not None:
        return int(text)
    if _NUMBER.fullmatch(text) is None or not math.isfinite(float(text)):
        raise ValueRefused("type", "must be a finite number in JSON form")
    return float(text)


def _boolean(text: str) -> bool:
    if text == "true":
        return True
    if text == "false":
        return False
    raise ValueRefused("type", "must be true or false")


_CONVERT: Final[dict[Scalar, Callable[[str], object] | None]] = {
    "string": None,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}


class ValueReader:
    """Reads the values of one declared parameter.

    Attributes:
        name: As declared.
        key: The name to look for: lower case for headers.
        required: The parameter must be there.
        repeats: The parameter may occur more than once.
    """

    __slots__ = ("_array", "_convert", "_query", "_raw", "_validator", "_where", "key", "name", "repeats", "required")

    def __init__(self, parameter: Parameter, validator: SchemaValidator | None) -> None:
        self.name = parameter.name
        self.key = parameter.name.lower() if parameter.location == "header" else parameter.name
        self.required = parameter.required
        self.repeats = parameter.explode or (parameter.array and parameter.location == "header")
        self._where = parameter.location
        self._array = parameter.array
        self._query = parameter.location == "query"
        self._raw = parameter.location == "header"
        self._convert = _CONVERT[parameter.scalar]
        self._validator = validator

    def read(self, texts: list[str], found: list[Violation]) -> object:
        """Returns the value of the raw `texts` (one each time the parameter occurs); adds to `found` what is wrong."""
        try:
            if len(texts) > 1 and not self.repeats:
                found.append(Violation(self._where, self.name, "repeated", "must not be repeated"))
            value = self._items(texts) if self._array else self._scalar(texts[0])
        except ValueRefused as error:
            found.append(Violation(self._where, self.name, error.rule, str(error)))
            return None
        validator = self._validator
        if validator is not None and not validator.accepts(value):
            found.extend(
                item._replace(pointer=self.name + item.pointer) for item in validator.explain(value, self._where)
            )
        return value

    def _items(self, texts: list[str]) -> list[object]:
        if not (self.repeats and self._query):
            texts = [part for text in texts if text for part in text.split(",")]
        if len(texts) > MAX_ITEMS:
            raise ValueRefused("items", f"has more than {MAX_ITEMS} items")
        return [self._scalar(text) for text in texts]

    def _scalar(self, text: str) -> object:
        if self._raw:
            if _HEADER_TEXT.fullmatch(text) is None:
                raise ValueRefused("characters", "must be visible ASCII")
            text = text.strip(" \t")
        else:
            if self._query and "+" in text:
                text = text.replace("+", " ")
            if "%" in text:
                text = decode_percent(text)
        return text if self._convert is None else self._convert(text)
