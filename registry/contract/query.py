"""Raw query strings to raw names and values. It types nothing."""

from __future__ import annotations

import re
from typing import Final

from registry.contract.errors import Violation
from registry.contract.values import ValueRefused, decode_percent

MAX_PAIRS: Final = 1_000
# RFC 3986 query characters and the brackets that clients send raw; no semicolon: some servers split there.
_QUERY: Final = re.compile(r"[A-Za-z0-9\-._~!$'()*+,:@/?%&=\[\]]*")


def split_query(raw_query: str, found: list[Violation]) -> dict[str, list[str]]:
    """Returns raw values by decoded name, in order; adds to `found` what is malformed.

    Args:
        raw_query: Without the ``?``.
        found: Receives violations.
    """
    if _QUERY.fullmatch(raw_query) is None:
        found.append(Violation("query", "", "characters", "has a character that must be percent-encoded"))
        return {}
    if raw_query.count("&") >= MAX_PAIRS:
        found.append(Violation("query", "", "items", f"has more than {MAX_PAIRS} parameters"))
        return {}
    values: dict[str, list[str]] = {}
    for pair in raw_query.split("&"):
        name, equals, text = pair.partition("=")
        if not equals or not name:
            found.append(Violation("query", "", "form", "every parameter must be name=value"))
            continue
        if "%" in name or "+" in name:
            try:
                name = decode_percent(name.replace("+", " "))
            except ValueRefused as error:
                found.append(Violation("query", "", error.rule, f"a parameter name {error}"))
                continue
        if name in values:
            values[name].append(text)
        else:
            values[name] = [text]
    return values
