"""Media types (RFC 9110 §8.3): parse, classify. It knows no bodies."""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - RFC 9110 token, not a secret
_TYPE: Final = re.compile(rf"({_TOKEN}/{_TOKEN})[ \t]*((?:;.*)?)", re.DOTALL)
_PARAMETER: Final = re.compile(rf';[ \t]*(?:({_TOKEN})=("(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"|{_TOKEN}))?[ \t]*')


def parse_media_type(value: str) -> tuple[str, dict[str, str]] | None:
    """Returns (lower-case essence, parameters by lower-case name), or None when malformed or a parameter repeats."""
    if len(value) > 255 or not value.isascii() or (match := _TYPE.fullmatch(value.strip(" \t"))) is None:
        return None
    parameters: dict[str, str] = {}
    rest, place = match.group(2), 0
    while place < len(rest):
        part = _PARAMETER.match(rest, place)
        if part is None:
            return None
        place = part.end()
        if part.group(1) is not None:
            name, text = part.group(1).lower(), part.group(2)
            if name in parameters:
                return None
            parameters[name] = re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
    return match.group(1).lower(), parameters


def is_json(essence: str) -> bool:
    """Says whether bodies of this type are JSON."""
    return essence == "application/json" or essence.endswith("+json")


def is_xml(essence: str) -> bool:
    """Says whether bodies of this type are XML."""
    return essence in {"application/xml", "text/xml"} or essence.endswith("+xml")
