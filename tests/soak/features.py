"""Which promises this version keeps; what is not there yet is neither used by the client nor judged."""

from __future__ import annotations

ALL = frozenset({"idempotency", "order", "cancel", "dead"})
MERGED: frozenset[str] = frozenset()


def of(text: str | None) -> frozenset[str]:
    """Features of a comma list, or those of this version."""
    if text is None:
        return MERGED
    found = frozenset(filter(None, text.split(",")))
    if found - ALL:
        raise SystemExit(f"no such feature: {', '.join(sorted(found - ALL))}; there are {', '.join(sorted(ALL))}")
    return found
