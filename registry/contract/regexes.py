"""Regular expressions that strangers write: only what a linear-time engine takes, within a size.

It matches nothing itself.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import jsonschema_rs

from registry.contract.budget import Budget

_MAX_REPETITIONS: Final = 1_000
_COUNTED: Final = re.compile(r"\{([0-9]{1,6})(?:,([0-9]{0,6}))?\}")


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
        if _repetitions(pattern) > _MAX_REPETITIONS:
            return "over-budget-pattern", "the counted repetitions of the regular expression multiply too much"
        message = "not a regular expression that the linear-time engine takes (no lookaround, no backreference)"
        return "pattern", message
    return None


def _repetitions(pattern: str) -> int:
    """Only names the likely reason: the engine itself has decided."""
    product = 1
    for low, high in _COUNTED.findall(pattern):
        product *= max(1, int(high or low))
    return product
