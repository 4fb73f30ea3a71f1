"""Sample values for a schema, to try its validators with. They need not be valid; they go where the schema goes."""

from __future__ import annotations

from registry.contract import pointer
from registry.contract.model import Json, Schema

_MAX_VALUES = 2_000
_MAX_DEPTH = 60


def sample(schema: Schema) -> Json:
    """Returns a value that follows `schema` down through properties, items and references, recursion included.

    Args:
        schema: A self-contained document.
    """
    return _Sampler(schema).value(schema, 0)


class _Sampler:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MAX_VALUES

    def value(self, schema: Json, depth: int) -> Json:
        self._left -= 1
        parts = self._parts(schema)
        if depth >= _MAX_DEPTH or self._left <= 0:
            return None
        properties = {name: inner for part in parts for name, inner in _mapping(part, "properties").items()}
        if properties:
            return {name: self.value(inner, depth + 1) for name, inner in properties.items()}
        for part in parts:
            for keyword in ("items", "additionalProperties"):
                inner = part.get(keyword)
                if isinstance(inner, dict):
                    value = self.value(inner, depth + 1)
                    return [value, value] if keyword == "items" else {"a": value, "b": value}
        return "a" * 64

    def _parts(self, schema: Json) -> list[dict[str, Json]]:
        """Returns the schema and what it combines, each once."""
        found: list[dict[str, Json]] = []
        stack = [schema]
        while stack and len(found) < 50:
            current = stack.pop()
            if not isinstance(current, dict) or any(current is part for part in found):
                continue
            found.append(current)
            ref = current.get("$ref")
            if isinstance(ref, str):
                stack.append(pointer.resolve(self._root, pointer.from_fragment(ref[1:]) or "")[1])
            for keyword in ("allOf", "anyOf", "oneOf"):
                inner = current.get(keyword)
                stack.extend(inner if isinstance(inner, list) else [])
        return found


def _mapping(schema: dict[str, Json], keyword: str) -> dict[str, Json]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}
