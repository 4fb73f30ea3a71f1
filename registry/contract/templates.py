"""Path templates: their form, and which of two is more specific. It routes nothing."""

from __future__ import annotations

import re
from typing import Final

_LITERAL: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,=:@]+")
_PARAMETER: Final = re.compile(r"\{([^{}/]+)\}")


def split_template(template: str) -> tuple[tuple[str | None, str], ...] | None:
    """Returns the segments of `template` as (literal, "") or (None, parameter name), or None when it is not supported.

    A segment is a literal of plain path characters or exactly one parameter. ``/`` alone is the empty tuple.
    """
    if not template.startswith("/"):
        return None
    if template == "/":
        return ()
    segments: list[tuple[str | None, str]] = []
    parts = template[1:].split("/")
    for place, part in enumerate(parts):
        if parameter := _PARAMETER.fullmatch(part):
            segments.append((None, parameter.group(1)))
        elif _LITERAL.fullmatch(part) and part not in {".", ".."}:
            segments.append((part, ""))
        elif part == "" and place == len(parts) - 1:
            # A trailing slash is a path of its own.
            segments.append(("", ""))
        else:
            return None
    names = [name for literal, name in segments if literal is None]
    return tuple(segments) if len(set(names)) == len(names) else None


def ambiguous(one: tuple[tuple[str | None, str], ...], other: tuple[tuple[str | None, str], ...]) -> bool:
    """Says whether a path can match both templates (of one length) although neither is more specific everywhere."""
    one_wins = other_wins = False
    for (left, _), (right, _) in zip(one, other, strict=True):
        if left is not None and right is not None:
            if left != right:
                return False
        elif left is not None:
            # The empty last segment of a trailing slash is never a parameter's value.
            if left == "":
                return False
            one_wins = True
        elif right is not None:
            if right == "":
                return False
            other_wins = True
    return one_wins == other_wins
