"""OpenAPI 3.0 and 3.1 schemas to self-contained JSON Schema 2020-12.

It does not compile them, nor judge their cost.

What has no exact counterpart is a fault with its place in the contract. ``readOnly`` properties are not required in
requests, ``writeOnly`` ones must be absent from answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from registry.contract import keywords, pointer
from registry.contract.budget import Budget
from registry.contract.errors import ContractOverBudget, Fault
from registry.contract.faults import Faults
from registry.contract.model import Json, Schema

Direction = Literal["request", "answer"]

FIELD_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_OAS_DIALECTS: Final = frozenset({keywords.DIALECT, "https://spec.openapis.org/oas/3.1/dialect/base"})
_UNSUPPORTED: Final = {
    "discriminator": "discriminators are not supported; write the alternatives so that they exclude each other",
    "$id": "schemas with an address of their own are not supported",
    "$anchor": "anchors are not supported; refer by JSON pointer",
    "contentMediaType": "content keywords are not supported",
    "contentSchema": "content keywords are not supported",
    **dict.fromkeys(keywords.DYNAMIC, "dynamic references and vocabularies are not supported"),
}
_ONLY_31: Final = frozenset(
    [
        "const",
        "if",
        "then",
        "else",
        "dependentSchemas",
        "dependentRequired",
        "prefixItems",
        "contains",
        "minContains",
        "maxContains",
        "propertyNames",
        "patternProperties",
        "unevaluatedItems",
        "unevaluatedProperties",
        "$defs",
        "$comment",
        "$schema",
        "contentEncoding",
        "examples",
    ]
)


@dataclass(slots=True)
class _Place:
    """One schema object on its way: the original, its pointer, what refers to it, and what it becomes."""

    schema: dict[str, Json]
    at: str
    out: dict[str, Json] = field(default_factory=dict)


class Translator:
    """Translates the schemas of one document for one direction, sharing what is referred to.

    Args:
        document: The whole contract.
        legacy: OpenAPI 3.0 dialect.
        direction: Requests or answers.
    """

    def __init__(
        self, document: dict[str, Json], *, legacy: bool, direction: Direction, faults: Faults, budget: Budget
    ) -> None:
        self._document = document
        self._legacy = legacy
        self._direction = direction
        self._faults = faults
        self._budget = budget
        self._targets: dict[str, Schema] = {}
        self._refers: dict[str, set[str]] = {}
        self._current: set[str] = set()
        self._schemas = 0
        self.roots: dict[str, Schema] = {}

    @property
    def targets(self) -> dict[str, Schema]:
        """Every schema that something refers to, by its pointer."""
        return self._targets

    def root(self, schema: Json, at: str) -> Schema:
        """Returns `schema` (found at `at`) as a self-contained document."""
        self._current = set()
        translated = self._schema(schema, at)
        direct = set(self._current)
        while missing := self._missing(direct):
            self._translate_targets(missing)
        self.roots[at] = translated
        if isinstance(translated, dict) and keywords.MARK in translated:
            self.misplaced(at)
        reachable = self._reachable(direct)
        if not reachable or isinstance(translated, bool):
            return translated
        return {**translated, "$defs": {name: self._targets[name] for name in reachable}}

    def _missing(self, direct: set[str]) -> list[str]:
        return [name for name in self._reachable(direct) if name not in self._targets]

    def _reachable(self, direct: set[str]) -> list[str]:
        seen, stack = dict.fromkeys(sorted(direct)), sorted(direct)
        while stack:
            for name in sorted(self._refers.get(stack.pop(), ())):
                if name not in seen:
                    seen[name] = None
                    stack.append(name)
        return list(seen)

    def _translate_targets(self, names: list[str]) -> None:
        for name in names:
            _, schema = pointer.resolve(self._document, name)
            self._current = set()
            translated = self._schema(schema, name)
            self._targets[name] = translated
            self._refers[name] = self._current
            if isinstance(translated, dict) and keywords.MARK in translated:
                self.misplaced(name)

    def _schema(self, schema: Json, at: str) -> Schema:
        self._schemas += 1
        if self._schemas > self._budget.schemas:
            raise ContractOverBudget([Fault(at, "over-budget-schemas", f"more than {self._budget.schemas} schemas")])
        if isinstance(schema, bool) and not self._legacy:
            return schema
        if not isinstance(schema, dict):
            self._faults.add(at, "shape", "a schema must be an object")
            return True
        place = _Place(schema, at)
        if "$ref" in schema:
            self._reference(place)
            if self._legacy:
                self._legacy_siblings(place)
                return place.out
        for name in schema:
            self._keyword(place, name)
        self._together(place)
        return place.out

    def _reference(self, place: _Place) -> None:
        ref, at = place.schema["$ref"], pointer.join(place.at, "$ref")
        target = local_target(ref)
        if target is None:
            self._faults.add(at, "remote-reference", "references must be local: #/…")
            return
        found, _ = pointer.resolve(self._document, target)
        if not found:
            self._faults.add(at, "reference", "the reference points to nothing in this document")
            return
        self._current.add(target)
        place.out["$ref"] = "#/$defs/" + pointer.to_fragment(pointer.escape(target))

    def _legacy_siblings(self, place: _Place) -> None:
        # OpenAPI 3.0 ignores what stands beside $ref; only what constrains nothing may.
        for name in place.schema:
            if name == keywords.MARK:
                self._mark(place)
            elif name != "$ref" and name not in {"description", "summary"} and not name.startswith("x-"):
                message = "OpenAPI 3.0 ignores what stands beside $ref; use allOf"
                self._faults.add(pointer.join(place.at, name), "reference-sibling", message)
            else:
                check_extension(name, pointer.join(place.at, name), frozenset(), self._faults)

    def _keyword(self, place: _Place, name: str) -> None:
        value, at = place.schema[name], pointer.join(place.at, name)
        if name in _UNSUPPORTED:
            self._faults.add(at, "unsupported-keyword", _UNSUPPORTED[name])
        elif name == keywords.MARK:
            self._mark(place)
        elif name.startswith("x-"):
            check_extension(name, at, frozenset(), self._faults)
        elif self._legacy and name in _ONLY_31:
            self._faults.add(at, "unsupported-keyword", f"{name} is not part of OpenAPI 3.0")
        elif name in {"$ref", "format", "nullable", "contentEncoding"}:
            self._special(place, name)
        elif name in keywords.INFORM:
            self._inform(name, value, at)
        elif name == "$schema":
            if value not in _OAS_DIALECTS:
                self._faults.add(
                    at, "dialect", "only JSON Schema 2020-12 and the OpenAPI 3.1 base dialect are supported"
                )
        elif name in keywords.PLAIN:
            self._plain(place, name)
        elif not self._subschemas(place, name):
            self._faults.add(at, "unknown-keyword", "unknown keyword; extensions begin with x-")

    def _inform(self, name: str, value: Json, at: str) -> None:
        if name in {"readOnly", "writeOnly", "deprecated"} and not isinstance(value, bool):
            self._faults.add(at, "shape", f"{name} must be true or false")

    def _special(self, place: _Place, name: str) -> None:
        value, at = place.schema[name], pointer.join(place.at, name)
        if name == "format":
            self._format(place, value, at)
        elif name == "nullable":
            if not self._legacy:
                self._faults.add(at, "unknown-keyword", "nullable is not part of OpenAPI 3.1; use type: [..., 'null']")
            elif not isinstance(value, bool):
                self._faults.add(at, "shape", "nullable must be true or false")
            elif value and "type" not in place.schema:
                self._faults.add(at, "nullable", "nullable has no effect without type in the same schema")
        elif name == "contentEncoding":
            if value == "base64":
                _also(place.out, {"pattern": keywords.BASE64_PATTERN})
            else:
                self._faults.add(at, "unsupported-keyword", "only contentEncoding: base64 is supported")

    def _format(self, place: _Place, value: Json, at: str) -> None:
        if not isinstance(value, str):
            self._faults.add(at, "shape", "format must be a string")
        elif value in keywords.FORMATS:
            place.out["format"] = value
        elif value in keywords.INTEGER_FORMATS:
            low, high = keywords.INTEGER_FORMATS[value]
            _also(place.out, {"minimum": low, "maximum": high})
        elif value == "byte":
            _also(place.out, {"pattern": keywords.BASE64_PATTERN})
        elif value not in keywords.SILENT_FORMATS:
            self._faults.add(at, "format", "this format is not supported; use pattern")

    def _plain(self, place: _Place, name: str) -> None:
        value, at = place.schema[name], pointer.join(place.at, name)
        if self._legacy and name in {"exclusiveMinimum", "exclusiveMaximum"}:
            if not isinstance(value, bool):
                self._faults.add(at, "shape", f"{name} must be true or false in OpenAPI 3.0")
            return
        if not keywords.PLAIN[name](value) or (self._legacy and name == "type" and value not in _LEGACY_TYPES):
            self._faults.add(at, "shape", f"the value of {name} has the wrong form")
            return
        place.out[name] = value

    def _subschemas(self, place: _Place, name: str) -> bool:
        value, at = place.schema[name], pointer.join(place.at, name)
        if name in keywords.SCHEMA_ONE:
            # In OpenAPI 3.0 additionalProperties alone may be a boolean.
            plain = isinstance(value, bool) and name == "additionalProperties"
            place.out[name] = value if plain else self._schema(value, at)
        elif name in keywords.SCHEMA_LISTS:
            if isinstance(value, list) and value:
                # An earlier keyword may have put a translated constraint into allOf.
                out = [self._schema(item, pointer.join(at, i)) for i, item in enumerate(value)]
                earlier = place.out.get(name, [])
                place.out[name] = [*out, *(earlier if isinstance(earlier, list) else [])]
            else:
                self._faults.add(at, "shape", f"{name} must be a list that is not empty")
        elif name in {"$defs", "definitions"}:
            # Definitions are translated when something refers to them.
            return name == "$defs"
        elif name in keywords.SCHEMA_MAPS:
            if isinstance(value, dict):
                place.out[name] = {key: self._schema(item, pointer.join(at, key)) for key, item in value.items()}
            else:
                self._faults.add(at, "shape", f"{name} must be an object")
        else:
            return False
        return True

    def _together(self, place: _Place) -> None:
        """Applies what depends on more than one keyword."""
        schema, out = place.schema, place.out
        if self._legacy:
            self._legacy_bounds(place)
            if schema.get("nullable") is True and isinstance(out.get("type"), str):
                out["type"] = [out["type"], "null"]
            if schema.get("type") == "array" and "items" not in schema:
                self._faults.add(place.at, "shape", "an array needs items in OpenAPI 3.0")
        self._one_way(place)
        self._misplaced_marks(place)

    def _legacy_bounds(self, place: _Place) -> None:
        for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if place.schema.get(flag) is True:
                if bound in place.out:
                    place.out[flag] = place.out.pop(bound)
                else:
                    self._faults.add(pointer.join(place.at, flag), "shape", f"{flag} has no effect without {bound}")

    def _one_way(self, place: _Place) -> None:
        properties = place.out.get("properties")
        flag = "readOnly" if self._direction == "request" else "writeOnly"
        names = [key for key, item in _objects(place.schema.get("properties")) if self._flagged(item, flag)]
        if not names or not isinstance(properties, dict):
            return
        required = place.out.get("required")
        if isinstance(required, list):
            place.out["required"] = [name for name in required if name not in names]
        if flag == "writeOnly":
            place.out["properties"] = {**properties, **dict.fromkeys(names, False)}

    def _flagged(self, item: dict[str, Json], flag: str) -> bool:
        for _ in range(self._budget.depth):
            if item.get(flag) is True:
                return True
            target = local_target(item.get("$ref"))
            found, value = pointer.resolve(self._document, target) if target is not None else (False, None)
            if not found or not isinstance(value, dict):
                return False
            item = value
        return False

    def _mark(self, place: _Place) -> None:
        at, name = pointer.join(place.at, keywords.MARK), place.schema[keywords.MARK]
        if not isinstance(name, str) or not FIELD_NAME.fullmatch(name):
            self._faults.add(at, "field-mark", "a field name is a letter and up to 63 letters, digits, _ . -")
        else:
            place.out[keywords.MARK] = name

    def _misplaced_marks(self, place: _Place) -> None:
        """A mark means something on a property's own schema only; everywhere else it would be ignored."""
        for name, value in place.out.items():
            inner: list[tuple[tuple[str | int, ...], Json]] = []
            if name in keywords.SCHEMA_ONE:
                inner = [((name,), value)]
            elif name in keywords.SCHEMA_LISTS and isinstance(value, list):
                inner = [((name, i), item) for i, item in enumerate(value)]
            elif name in {"patternProperties", "dependentSchemas"} and isinstance(value, dict):
                inner = [((name, key), item) for key, item in value.items()]
            for path, item in inner:
                if isinstance(item, dict) and keywords.MARK in item:
                    self.misplaced(pointer.join(place.at, *path))

    def misplaced(self, at: str) -> None:
        """Adds the fault for a mark on the schema at `at`."""
        message = "only the schema of a property can be marked"
        self._faults.add(pointer.join(at, keywords.MARK), "field-mark-misplaced", message)


_LEGACY_TYPES: Final = ("string", "number", "integer", "boolean", "object", "array")


def local_target(ref: Json) -> str | None:
    """Returns the JSON pointer of a reference ``#/…`` to the same document, or None for every other."""
    if not isinstance(ref, str) or not ref.startswith("#/"):
        return None
    return pointer.from_fragment(ref[1:])


def check_extension(name: str, at: str, known: frozenset[str], faults: Faults) -> None:
    """Adds a fault for an ``x-lienthong-`` extension that means nothing here; other extensions only inform."""
    if name.startswith("x-lienthong-") and name not in known:
        faults.add(at, "unknown-extension", "this x-lienthong extension means nothing here")


def _also(out: dict[str, Json], constraint: dict[str, Json]) -> None:
    earlier = out.get("allOf", [])
    out["allOf"] = [*(earlier if isinstance(earlier, list) else []), constraint]


def _objects(value: Json) -> list[tuple[str, dict[str, Json]]]:
    if not isinstance(value, dict):
        return []
    return [(key, item) for key, item in value.items() if isinstance(item, dict)]
