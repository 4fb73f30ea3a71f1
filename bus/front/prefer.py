"""The request header `Prefer` (RFC 7240). Pure; unknown preferences are ignored, as the RFC asks."""

from __future__ import annotations

from collections.abc import Iterable


def preferences(values: Iterable[str]) -> dict[str, str]:
    """Preferences by lower-case name with their values, empty where there is none; the first of equal ones counts.

    Args:
        values: of all `Prefer` fields of a request, in order.
    """
    found: dict[str, str] = {}
    for value in values:
        for item in value.split(","):
            name, _, told = item.partition(";")[0].partition("=")
            if name.strip():
                found.setdefault(name.strip().lower(), told.strip().strip('"'))
    return found


def wait_s(values: Iterable[str], longest_s: int) -> int | None:
    """Seconds of `wait`, at most `longest_s`; None when it is not there or no number."""
    told = preferences(values).get("wait", "")
    if not (told.isascii() and told.isdigit()) or len(told) > 9:
        return None
    return min(int(told), longest_s)
