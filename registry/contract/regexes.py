"""Regular expressions that strangers write: only what a linear-time engine takes, within a size.

It matches nothing itself.
"""

from __future__ import annotations

from functools import lru_cache

import jsonschema_rs

from registry.contract.budget import Budget


def engine_options(budget: Budget) -> jsonschema_rs.RegexOptions:
    """Returns the engine's options: linear time, bounded program size."""
    return jsonschema_rs.RegexOptions(size_limit=budget.pattern_program_bytes)


def pattern_refusal(pattern: str, budget: Budget) -> tuple[str, str] | None:
    """Returns (code, message) when `pattern` cannot be used, else None.

    Lookaround and backreferences have no linear-time form and are refused with everything else that the engine does
    not take.
    """
    if len(pattern) > budget.pattern_chars:
        return "over-budget-pattern", f"the regular expression has more than {budget.pattern_chars} characters"
    return _compile_refusal(pattern, budget.pattern_program_bytes)


@lru_cache(maxsize=4096)
def _compile_refusal(pattern: str, program_bytes: int) -> tuple[str, str] | None:
    options = jsonschema_rs.RegexOptions(size_limit=program_bytes)
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError):
        message = (
            "not a regular expression that the linear-time engine takes (no lookaround, no backreference, bounded)"
        )
        return "pattern", message
    return None
