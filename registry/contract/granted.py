"""The contract as granted: without the fields that a right does not grant. Pure; it cuts no data itself.

In answers a field that is not granted is cut out; in request bodies, where a mark says what a caller may state or
change, it is forbidden: nothing of what somebody sends is silently dropped.

Every place of an answer is looked at as a *location*: all schemas that certainly apply to the value there (through
``$ref``, ``allOf`` and the null-or-this idiom of ``anyOf``/``oneOf``). A marked property is removed from all of them,
and its name is forbidden there, so what slips through a cut fails validation. Where a schema applies only under a
condition, or to names or items it does not list, removal could change what the rest means: then the right is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from registry.contract import pointer
from registry.contract.errors import FieldGrantUnderivable
from registry.contract.model import Answer, Contract, Json, Operation, Representation, Schema
from registry.contract.schematree import SchemaTree

_MAX_LOCATIONS: Final = 5_000


@dataclass(slots=True)
class Plan:
    """What to remove at one location and below; plans may be cyclic, as schemas are."""

    drop: frozenset[str] = frozenset()
    named: dict[str, Plan] = field(default_factory=dict)
    prefix: list[Plan | None] = field(default_factory=list)
    items: Plan | None = None


@dataclass(frozen=True, slots=True)
class Derived:
    """One answer schema as granted.

    Attributes:
        schema: Without what is withheld.
        plan: How to cut data to it; None when nothing is withheld.
        dropped: Property names that are removed somewhere.
        kept: Property names that stay declared somewhere.
    """

    schema: Schema | None
    plan: Plan | None
    dropped: frozenset[str]
    kept: frozenset[str]


def marked_fields(contract: Contract) -> dict[str, tuple[str, ...]]:
    """Returns, per operationId, the sorted names of the fields that its answers and its request body mark."""
    return {
        identifier: tuple(sorted(_operation_marks(operation) | _request_marks(operation)))
        for identifier, operation in contract.operations.items()
    }


def derive_granted(contract: Contract, granted: frozenset[str]) -> Contract:
    """Returns the contract with every marked property removed whose field is not in `granted`.

    An operation from which something is withheld keeps its JSON representations only; so does a request body.

    Raises:
        FieldGrantUnderivable: A withheld field is marked where it cannot be removed with certainty.
    """
    operations = {}
    withheld = {}
    for identifier, operation in contract.operations.items():
        hidden = _operation_marks(operation) - granted
        derived = _derive_operation(operation, granted) if hidden else operation
        operations[identifier] = _derive_request(derived, granted) if _request_marks(operation) - granted else derived
        if hidden:
            withheld[identifier] = frozenset(hidden)
    return replace(contract, operations=operations, withheld={**contract.withheld, **withheld})


def derive_answer(representation: Representation, granted: frozenset[str]) -> Derived:
    """Returns one JSON representation's schema as granted, with the plan to cut data to it.

    Raises:
        FieldGrantUnderivable: As :func:`derive_granted`.
    """
    schema, at = representation.schema, pointer.join(representation.pointer, "schema")
    if not isinstance(schema, dict):
        return Derived(schema, None, frozenset(), frozenset())
    tree = SchemaTree(schema, at, granted)
    if not tree.hidden:
        return Derived(schema, None, frozenset(), tree.kept)
    derivation = _Derivation(tree)
    plan = derivation.location(("",))
    return Derived(derivation.document(), plan, tree.hidden_names, tree.kept)


def required_names(schema: Json) -> frozenset[str]:
    """Returns the property names that a schema document asks for, anywhere and under whatever condition."""
    found: set[str] = set()
    stack = [schema]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            found.update(name for name in _listed(value, "required") if isinstance(name, str))
            for others in _mapping(value, "dependentRequired").values():
                if isinstance(others, list):
                    found.update(other for other in others if isinstance(other, str))
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return frozenset(found)


def _operation_marks(operation: Operation) -> set[str]:
    found: set[str] = set()
    for answer in operation.answers:
        for representation in answer.representations:
            if isinstance(representation.schema, dict):
                found |= SchemaTree(representation.schema, "", frozenset()).marks
    return found


def _request_marks(operation: Operation) -> set[str]:
    found: set[str] = set()
    for representation in operation.request:
        if isinstance(representation.schema, dict):
            found |= SchemaTree(representation.schema, "", frozenset()).marks
    return found


def _derive_request(operation: Operation, granted: frozenset[str]) -> Operation:
    kept = []
    for representation in operation.request:
        if representation.kind == "json":
            derived = derive_answer(representation, granted)
            if missing := required_names(derived.schema) & (derived.dropped - derived.kept):
                reason = (
                    f"{', '.join(sorted(missing))} is required where it is not declared, and names a withheld field"
                )
                raise FieldGrantUnderivable(pointer.join(representation.pointer, "schema"), reason)
            kept.append(replace(representation, schema=derived.schema))
    return replace(operation, request=tuple(kept))


def _derive_operation(operation: Operation, granted: frozenset[str]) -> Operation:
    return replace(operation, answers=tuple(_derive_one(answer, granted) for answer in operation.answers))


def _derive_one(answer: Answer, granted: frozenset[str]) -> Answer:
    kept = tuple(
        replace(representation, schema=derive_answer(representation, granted).schema)
        for representation in answer.representations
        if representation.kind == "json"
    )
    return replace(answer, representations=kept, only_json=True)


class _Derivation:
    """Derives one schema document; every location gets definitions of its own, so that sharing mixes no contexts."""

    def __init__(self, tree: SchemaTree) -> None:
        self._tree = tree
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._numbers: dict[tuple[str, ...], int] = {}
        self._definitions: dict[str, Json] = {}
        self._root: dict[str, Json] = {}

    def document(self) -> dict[str, Json]:
        """Returns the derived document after ``location(("",))``; definitions that nothing uses are left out."""
        original = self._tree.document.get("$defs")
        available: dict[str, Json] = {**(original if isinstance(original, dict) else {}), **self._definitions}
        used = _used_definitions(self._root, available)
        return {**self._root, "$defs": used} if used else self._root

    def location(self, entries: tuple[str, ...]) -> Plan:
        """Derives the location where the schemas at `entries` apply; returns its plan (recursion shares it)."""
        if entries in self._plans:
            return self._plans[entries]
        if len(self._plans) >= _MAX_LOCATIONS:
            raise FieldGrantUnderivable(
                self._tree.origin(entries[0]), "the marked schemas are combined in too many ways"
            )
        plan = self._plans[entries] = Plan()
        self._numbers[entries] = len(self._numbers)
        members, conditional = self._tree.members(entries)
        for place in conditional:
            self._refuse_marks(place, "a field is marked in an alternative or a condition")
        plan.drop = frozenset(name for member in members for name in self._tree.hidden_properties(member))
        self._children(members, plan)
        self._check_conditional(members, conditional, plan)
        rewrite = _Rewrite(self._tree, self._numbers, plan, entries, members)
        for member in members:
            out = rewrite.member(member)
            if member == "":
                self._root = out
            self._definitions[self._name(member, entries)] = out
        return plan

    def _children(self, members: list[str], plan: Plan) -> None:
        tree = self._tree
        for member in members:
            for keyword in ("patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames"):
                self._refuse_marks_under(member, keyword)
            for keyword in ("contains", "unevaluatedItems"):
                self._refuse_marks_under(member, keyword)
        for name in tree.property_names(members):
            if name not in plan.drop:
                entries = tree.property_entries(members, name)
                if tree.reaches(entries):
                    self._refuse_open(members, name)
                    plan.named[name] = self.location(entries)
        longest = tree.longest_prefix(members)
        for place in range(longest + 1):
            entries = tree.item_entries(members, place)
            if place < longest and tree.reaches(entries) and any(entry.endswith("/items") for entry in entries):
                at = tree.origin(entries[0])
                raise FieldGrantUnderivable(at, "a withheld field is under items of different lengths combined")
            below = self.location(entries) if tree.reaches(entries) else None
            if place < longest:
                plan.prefix.append(below)
            else:
                plan.items = below

    def _refuse_open(self, members: list[str], name: str) -> None:
        """A schema for names that it does not list would see the cut value too."""
        for member in members:
            schema = self._tree.schema(member)
            listed = name in _mapping(schema, "properties")
            for keyword in ("additionalProperties", "unevaluatedProperties", "patternProperties"):
                says = schema.get(keyword)
                if isinstance(says, dict) and says and not (listed and keyword == "additionalProperties"):
                    at = pointer.join(self._tree.origin(member), keyword)
                    raise FieldGrantUnderivable(at, "this also applies to a property that holds a withheld field")

    def _check_conditional(self, members: list[str], conditional: list[str], plan: Plan) -> None:
        changed = plan.drop | plan.named.keys()
        items = plan.items is not None or any(below is not None for below in plan.prefix)
        for member in members:
            schema = self._tree.schema(member)
            for keyword in ("enum", "const"):
                if keyword in schema:
                    at = pointer.join(self._tree.origin(member), keyword)
                    raise FieldGrantUnderivable(at, f"{keyword} would compare the value with the withheld field")
            if items:
                for keyword in ("contains", "unevaluatedItems"):
                    if isinstance(schema.get(keyword), dict):
                        at = pointer.join(self._tree.origin(member), keyword)
                        raise FieldGrantUnderivable(at, "this also applies to items that hold a withheld field")
        for place in conditional:
            if self._tree.touches(place, changed, plan.drop, items=items):
                message = "this alternative or condition depends on a withheld field"
                raise FieldGrantUnderivable(self._tree.origin(place), message)

    def _refuse_marks_under(self, member: str, keyword: str) -> None:
        for place in self._tree.under(member, keyword):
            self._refuse_marks(place, f"a field is marked under {keyword}")

    def _refuse_marks(self, place: str, reason: str) -> None:
        if self._tree.reaches((place,)):
            raise FieldGrantUnderivable(self._tree.origin(place), reason)

    def _name(self, member: str, entries: tuple[str, ...]) -> str:
        return definition_name(self._tree, member, self._numbers[entries])


def definition_name(tree: SchemaTree, member: str, number: int) -> str:
    """Returns the name of a derived definition: where it comes from, and the number of its location."""
    return f"{tree.origin(member)}@{number}"


@dataclass(slots=True)
class _Rewrite:
    """Writes the members of one location without what is dropped there."""

    tree: SchemaTree
    numbers: Mapping[tuple[str, ...], int]
    plan: Plan
    entries: tuple[str, ...]
    members: list[str]

    def member(self, member: str) -> dict[str, Json]:
        schema = self.tree.schema(member)
        out: dict[str, Json] = {key: value for key, value in schema.items() if key != "$defs"}
        self._in_place(member, schema, out)
        self._properties(member, schema, out)
        self._items(member, schema, out)
        return out

    def _in_place(self, member: str, schema: dict[str, Json], out: dict[str, Json]) -> None:
        for keyword, place, inner in self.tree.certain(member):
            reference = self._reference(inner, self.entries)
            if keyword == "$ref":
                out["$ref"] = reference["$ref"]
            else:
                listed = _listed(out, keyword)
                out[keyword] = [*listed[:place], reference, *listed[place + 1 :]]

    def _properties(self, member: str, schema: dict[str, Json], out: dict[str, Json]) -> None:
        drop, own = self.plan.drop, _mapping(schema, "properties")
        if own:
            out["properties"] = {
                name: self._child(pointer.join(member, "properties", name), name, value)
                for name, value in own.items()
                if name not in drop
            }
        if not drop:
            return
        if isinstance(required := schema.get("required"), list):
            out["required"] = [name for name in required if name not in drop]
        if isinstance(dependent := schema.get("dependentRequired"), dict):
            out["dependentRequired"] = {
                name: [other for other in others if other not in drop]
                for name, others in dependent.items()
                if name not in drop and isinstance(others, list)
            }
        if isinstance(least := schema.get("minProperties"), int | float):
            out["minProperties"] = max(0, int(least) - len(drop))
        forbidden = sorted(drop.intersection(own))
        if forbidden:
            out["allOf"] = [*_listed(out, "allOf"), {"properties": dict.fromkeys(forbidden, False)}]

    def _items(self, member: str, schema: dict[str, Json], out: dict[str, Json]) -> None:
        plan, prefix = self.plan, schema.get("prefixItems")
        if isinstance(prefix, list):
            out["prefixItems"] = [
                self._item(pointer.join(member, "prefixItems", place), place, value)
                for place, value in enumerate(prefix)
            ]
        if "items" in schema:
            out["items"] = self._item(pointer.join(member, "items"), None, schema["items"])
        if plan.items is not None or any(below is not None for below in plan.prefix):
            # Items that differed only in what is withheld are equal now.
            out.pop("uniqueItems", None)

    def _child(self, place: str, name: str, value: Json) -> Json:
        if name not in self.plan.named:
            return value
        return self._reference(place, self.tree.property_entries(self.members, name))

    def _item(self, place: str, index: int | None, value: Json) -> Json:
        longest = self.tree.longest_prefix(self.members)
        where = longest if index is None else index
        entries = self.tree.item_entries(self.members, where)
        if entries not in self.numbers or not self.tree.reaches(entries):
            return value
        return self._reference(place, entries)

    def _reference(self, place: str, entries: tuple[str, ...]) -> dict[str, Json]:
        name = definition_name(self.tree, place, self.numbers[entries])
        return {"$ref": "#/$defs/" + pointer.to_fragment(pointer.escape(name))}


def _used_definitions(root: dict[str, Json], available: dict[str, Json]) -> dict[str, Json]:
    used: dict[str, Json] = {}
    stack: list[Json] = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            ref = value.get("$ref")
            if isinstance(ref, str) and ref.startswith("#/$defs/"):
                name = pointer.split(pointer.from_fragment(ref[1:]) or "")[1]
                if name not in used:
                    used[name] = available[name]
                    stack.append(available[name])
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return used


def _mapping(schema: dict[str, Json], keyword: str) -> dict[str, Json]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _listed(schema: dict[str, Json], keyword: str) -> list[Json]:
    value = schema.get(keyword)
    return value if isinstance(value, list) else []
