"""What reading every OpenAPI object needs: known keys, local references, collected faults.

It knows no object's meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from registry.contract import pointer
from registry.contract.budget import Budget
from registry.contract.dialect import Translator, check_extension, local_target
from registry.contract.faults import Faults
from registry.contract.model import Json

_NONE: Final[frozenset[str]] = frozenset()
_MAX_HOPS: Final = 10


@dataclass(frozen=True, slots=True)
class Reader:
    """The document being read, and where findings go."""

    document: dict[str, Json]
    legacy: bool
    budget: Budget
    faults: Faults
    requests: Translator
    answers: Translator

    def members(
        self,
        value: Json,
        at: str,
        known: frozenset[str],
        *,
        extensions: frozenset[str] = _NONE,
        unsupported: dict[str, str] | None = None,
    ) -> dict[str, Json]:
        """Returns `value` as an object whose every key is known, an extension, or a fault."""
        if not isinstance(value, dict):
            self.faults.add(at, "shape", "must be an object")
            return {}
        for key in value:
            if key in known:
                continue
            place = pointer.join(at, key)
            if unsupported is not None and key in unsupported:
                self.faults.add(place, "unsupported", unsupported[key])
            elif key.startswith("x-"):
                check_extension(key, place, extensions, self.faults)
            else:
                self.faults.add(place, "unknown-key", "this key means nothing here; extensions begin with x-")
        return value

    def follow(self, value: Json, at: str) -> tuple[Json, str]:
        """Returns what a reference object leads to and its place; anything else as it is."""
        for _ in range(_MAX_HOPS):
            if not isinstance(value, dict) or "$ref" not in value:
                return value, at
            place = pointer.join(at, "$ref")
            target = local_target(value["$ref"])
            if target is None:
                self.faults.add(place, "remote-reference", "references must be local: #/…")
                return None, at
            if not value.keys() <= {"$ref", "summary", "description"}:
                self.faults.add(at, "reference-sibling", "only summary and description may stand beside $ref")
            found, value = pointer.resolve(self.document, target)
            if not found:
                self.faults.add(place, "reference", "the reference points to nothing in this document")
                return None, at
            at = target
        self.faults.add(at, "reference-loop", "references lead to references without end")
        return None, at

    def text(self, members: dict[str, Json], key: str, at: str, *, required: bool = False) -> str:
        """Returns a string member, or the empty string (a fault when it is required or of another type)."""
        value = members.get(key)
        if isinstance(value, str):
            return value
        if required or value is not None:
            self.faults.add(pointer.join(at, key), "shape", f"{key} must be a string")
        return ""

    def flag(self, members: dict[str, Json], key: str, at: str, *, default: bool = False) -> bool:
        """Returns a boolean member, or `default` (a fault when it has another type)."""
        value = members.get(key, default)
        if isinstance(value, bool):
            return value
        self.faults.add(pointer.join(at, key), "shape", f"{key} must be true or false")
        return default
