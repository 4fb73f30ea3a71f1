"""Cuts an answer's data to what a right grants. It derives nothing: plans come from :mod:`granted`.

Two passes. The structural one follows the schema and removes marked properties. The second removes, wherever it
stands, a property whose name is declared nowhere else: what a backend sends in an unexpected place does not slip
through.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from registry.contract.granted import Derived, Plan
from registry.contract.model import Json

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Cutter:
    """How to cut one representation.

    Attributes:
        plan: Structural part; None when this representation has no marks itself.
        everywhere: Property names to remove wherever they stand.
        traces: The same names as they look in compact JSON.
    """

    plan: Plan | None
    everywhere: frozenset[str]
    traces: tuple[bytes, ...]

    def cut(self, value: Json, encoded: bytes) -> bytes | None:
        """Removes from `value`, in place, what is withheld.

        Args:
            value: A decoded body of bounded depth; changed in place.
            encoded: Its compact encoding before the cut.

        Returns:
            The new encoding, or None when nothing had to be removed.
        """
        changed = self.plan is not None and _cut(value, self.plan)
        if changed:
            encoded = _encode(value)
        for trace in self.traces:
            if trace in encoded:
                if _sweep(value, self.everywhere):
                    changed = True
                    encoded = _encode(value)
                break
        return encoded if changed else None


def cutter(derived: Derived, dropped: frozenset[str]) -> Cutter:
    """Returns how to cut a representation, given all property names that its operation drops anywhere."""
    everywhere = dropped - derived.kept
    return Cutter(derived.plan, everywhere, tuple(_encode(name) + b":" for name in sorted(everywhere)))


def _cut(value: Json, plan: Plan) -> bool:
    changed = False
    if isinstance(value, dict):
        for name in plan.drop:
            if name in value:
                del value[name]
                changed = True
        for name, below in plan.named.items():
            if name in value and _cut(value[name], below):
                changed = True
    elif isinstance(value, list):
        listed = plan.prefix
        for place, item in enumerate(value):
            inner = listed[place] if place < len(listed) else plan.items
            if inner is not None and _cut(item, inner):
                changed = True
    return changed


def _sweep(value: Json, names: frozenset[str]) -> bool:
    changed = False
    if isinstance(value, dict):
        for name in names.intersection(value):
            del value[name]
            changed = True
        for item in value.values():
            changed = _sweep(item, names) or changed
    elif isinstance(value, list):
        for item in value:
            changed = _sweep(item, names) or changed
    return changed
