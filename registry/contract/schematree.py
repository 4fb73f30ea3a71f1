"""One answer schema as a tree of places, with the marked properties in it. It changes nothing.

Places are JSON pointers inside the self-contained document; :meth:`SchemaTree.origin` gives the place in the
contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from registry.contract import keywords, pointer
from registry.contract.model import Json

_CONDITIONS: Final = ("not", "if", "then", "else")
_NULL: Final[dict[str, Json]] = {"type": "null"}


class SchemaTree:
    """Finds marks and what applies where.

    Attributes:
        document: The self-contained schema.
        marks: All field names marked in it.
        hidden: Something marked is not granted.
        hidden_names: Property names that are marked with an ungranted field somewhere.
        kept: Property names that are declared without such a mark somewhere.
    """

    def __init__(self, document: dict[str, Json], at: str, granted: frozenset[str]) -> None:
        self.document = document
        self._at = at
        self._granted = granted
        self._schemas: dict[str, dict[str, Json]] = {}
        self._edges: dict[str, list[str]] = {}
        self._collect()
        self.marks: set[str] = set()
        hidden_names: set[str] = set()
        kept: set[str] = set()
        for place, schema in self._schemas.items():
            properties = _mapping(schema, "properties")
            self.marks.update(name for name in map(_mark, properties.values()) if name is not None)
            hidden = self.hidden_properties(place)
            hidden_names |= hidden
            kept |= properties.keys() - hidden
        self.hidden = bool(hidden_names)
        self.hidden_names = frozenset(hidden_names)
        self.kept = frozenset(kept)
        self._reaching = self._reverse_reach()

    def _collect(self) -> None:
        stack: list[tuple[str, Json]] = [("", self.document)]
        while stack:
            place, schema = stack.pop()
            if not isinstance(schema, dict):
                continue
            self._schemas[place] = schema
            children = list(_children(schema, place))
            stack.extend(children)
            self._edges[place] = [child for child, _ in children if not child.startswith("/$defs/") or place != ""]
            if isinstance(schema.get("$ref"), str):
                self._edges[place].append(self._target(schema))

    def _target(self, schema: dict[str, Json]) -> str:
        ref = schema["$ref"]
        return (pointer.from_fragment(ref[1:]) or "") if isinstance(ref, str) else ""

    def _reverse_reach(self) -> set[str]:
        parents: dict[str, list[str]] = {}
        for place, children in self._edges.items():
            for child in children:
                parents.setdefault(child, []).append(place)
        reaching = {place for place in self._schemas if self.hidden_properties(place)}
        stack = list(reaching)
        while stack:
            for parent in parents.get(stack.pop(), ()):
                if parent not in reaching:
                    reaching.add(parent)
                    stack.append(parent)
        return reaching

    def origin(self, place: str) -> str:
        """Returns the JSON pointer in the contract for a place in this document."""
        tokens = pointer.split(place)
        if len(tokens) > 1 and tokens[0] == "$defs":
            return tokens[1] + pointer.render(tokens[2:])
        return self._at + place

    def schema(self, place: str) -> dict[str, Json]:
        """Returns the schema object at `place`; a boolean schema is an empty one here."""
        return self._schemas.get(place, {})

    def hidden_properties(self, place: str) -> frozenset[str]:
        """Returns the properties that the schema at `place` marks with a field that is not granted."""
        found = []
        for name, value in _mapping(self.schema(place), "properties").items():
            mark = _mark(value)
            if mark is not None and mark not in self._granted:
                found.append(name)
        return frozenset(found)

    def reaches(self, places: Iterable[str]) -> bool:
        """Says whether an ungranted mark is at or anywhere below one of `places`."""
        return not self._reaching.isdisjoint(places)

    def certain(self, place: str) -> list[tuple[str, int, str]]:
        """Returns (keyword, index, place) of the schemas that certainly apply wherever the one at `place` does."""
        schema = self.schema(place)
        found: list[tuple[str, int, str]] = []
        if isinstance(schema.get("$ref"), str):
            found.append(("$ref", 0, self._target(schema)))
        found += [("allOf", i, pointer.join(place, "allOf", i)) for i in range(len(_listed(schema, "allOf")))]
        for keyword in ("anyOf", "oneOf"):
            if (only := _null_or(schema, keyword)) is not None:
                found.append((keyword, only, pointer.join(place, keyword, only)))
        return found

    def members(self, entries: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """Returns the places that certainly apply where `entries` do, and those that apply under a condition."""
        members: dict[str, None] = {}
        conditional: list[str] = []
        stack = list(reversed(entries))
        while stack:
            place = stack.pop()
            if place not in members:
                members[place] = None
                stack.extend(inner for _, _, inner in self.certain(place))
                conditional.extend(self._conditional(place))
        return list(members), conditional

    def _conditional(self, place: str) -> Iterator[str]:
        schema = self.schema(place)
        for keyword in _CONDITIONS:
            if keyword in schema:
                yield pointer.join(place, keyword)
        for keyword in ("anyOf", "oneOf"):
            if _null_or(schema, keyword) is None:
                yield from (pointer.join(place, keyword, i) for i in range(len(_listed(schema, keyword))))
        for key in _mapping(schema, "dependentSchemas"):
            yield pointer.join(place, "dependentSchemas", key)

    def property_names(self, members: list[str]) -> list[str]:
        """Returns the names that `members` list as properties, each once."""
        return list(dict.fromkeys(name for place in members for name in _mapping(self.schema(place), "properties")))

    def property_entries(self, members: list[str], name: str) -> tuple[str, ...]:
        """Returns the places that apply to the property `name`."""
        return tuple(
            pointer.join(place, "properties", name)
            for place in members
            if name in _mapping(self.schema(place), "properties")
        )

    def longest_prefix(self, members: list[str]) -> int:
        """Returns the length of the longest ``prefixItems``."""
        return max(len(_listed(self.schema(place), "prefixItems")) for place in members)

    def item_entries(self, members: list[str], index: int) -> tuple[str, ...]:
        """Returns the places that apply to the item at `index`."""
        found = []
        for place in members:
            schema = self.schema(place)
            if index < len(_listed(schema, "prefixItems")):
                found.append(pointer.join(place, "prefixItems", index))
            elif "items" in schema:
                found.append(pointer.join(place, "items"))
        return tuple(found)

    def under(self, place: str, keyword: str) -> list[str]:
        """Returns the places of the schemas that `keyword` of the schema at `place` holds."""
        schema = self.schema(place)
        if keyword not in schema:
            return []
        if keyword in keywords.SCHEMA_MAPS:
            return [pointer.join(place, keyword, key) for key in _mapping(schema, keyword)]
        return [pointer.join(place, keyword)]

    def touches(self, place: str, changed: Iterable[str], drop: frozenset[str], *, items: bool) -> bool:
        """Says whether the verdict of the conditional schema at `place` could depend on what a cut changes.

        Args:
            place: A schema that applies to the same value under a condition.
            changed: Properties that are dropped or changed below.
            drop: Properties that are dropped.
            items: Items are changed below.
        """
        names, seen, stack = frozenset(changed), set[str](), [place]
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            schema = self.schema(current)
            if _object_touches(schema, names, drop) or (items and _array_touches(schema)):
                return True
            stack.extend(inner for _, _, inner in self.certain(current))
            stack.extend(self._conditional(current))
        return False


def _object_touches(schema: dict[str, Json], names: frozenset[str], drop: frozenset[str]) -> bool:
    if "enum" in schema or "const" in schema:
        return True
    if not names:
        return False
    open_ended = ("additionalProperties", "unevaluatedProperties", "patternProperties")
    counted = ("minProperties", "maxProperties", "propertyNames") if drop else ()
    if (
        not names.isdisjoint(_mapping(schema, "properties"))
        or any(schema.get(keyword, True) is not True for keyword in open_ended)
        or any(keyword in schema for keyword in counted)
    ):
        return True
    mentioned = {name for name in _listed(schema, "required") if isinstance(name, str)}
    mentioned.update(_mapping(schema, "dependentSchemas"))
    for key, others in _mapping(schema, "dependentRequired").items():
        mentioned.add(key)
        mentioned.update(name for name in (others if isinstance(others, list) else []) if isinstance(name, str))
    return not drop.isdisjoint(mentioned)


def _array_touches(schema: dict[str, Json]) -> bool:
    return any(keyword in schema for keyword in ("items", "prefixItems", "contains", "uniqueItems", "unevaluatedItems"))


def _children(schema: dict[str, Json], place: str) -> Iterator[tuple[str, Json]]:
    for keyword in keywords.SCHEMA_ONE:
        if keyword in schema:
            yield pointer.join(place, keyword), schema[keyword]
    for keyword in keywords.SCHEMA_LISTS:
        yield from ((pointer.join(place, keyword, i), item) for i, item in enumerate(_listed(schema, keyword)))
    for keyword in keywords.SCHEMA_MAPS:
        yield from ((pointer.join(place, keyword, key), item) for key, item in _mapping(schema, keyword).items())


def _null_or(schema: dict[str, Json], keyword: str) -> int | None:
    """Returns the index of the only alternative besides ``{"type": "null"}``, or None when there is a real choice."""
    others = [i for i, item in enumerate(_listed(schema, keyword)) if item != _NULL]
    return others[0] if len(others) == 1 else None


def _mark(schema: Json) -> str | None:
    mark = schema.get(keywords.MARK) if isinstance(schema, dict) else None
    return mark if isinstance(mark, str) else None


def _mapping(schema: dict[str, Json], keyword: str) -> dict[str, Json]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _listed(schema: dict[str, Json], keyword: str) -> list[Json]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []
