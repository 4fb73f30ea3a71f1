"""What changed between two versions of a contract, and whether it breaks callers. Modest on purpose.

Compared exactly: operations, parameters, media types, statuses, and in schemas types, enumerations, properties,
required names, items and bounds. Everything else in a schema is compared as a whole, and any difference there counts
as breaking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple

from registry.contract import keywords, pointer
from registry.contract.model import Contract, Json, Operation, Parameter, Representation, Schema

_WAYS: Final[tuple[Literal["query", "command"], ...]] = ("query", "command")
_MOST: Final = 1_000
#: Bounds that get tighter as they grow, and those that get tighter as they shrink.
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_COMPARED: Final = frozenset(
    {"$ref", "$defs", "type", "enum", "properties", "required", "items", keywords.MARK, *_LOWER, *_UPPER}
)


class Change(NamedTuple):
    """One difference.

    Attributes:
        pointer: Place in the new contract, or in the old one when it was removed.
        kind: Stable, kebab-case.
        breaking: A caller written for the old contract may fail.
        message: For people.
    """

    pointer: str
    kind: str
    breaking: bool
    message: str


def diff_contracts(old: Contract, new: Contract) -> list[Change]:
    """Returns the changes from `old` to `new`, at most 1,000."""
    changes: list[Change] = []
    for identifier, operation in old.operations.items():
        if identifier not in new.operations:
            changes.append(Change(operation.pointer, "operation-removed", True, f"operation {identifier} is gone"))
        else:
            _operation(operation, new.operations[identifier], changes)
    for identifier, operation in new.operations.items():
        if identifier not in old.operations:
            changes.append(Change(operation.pointer, "operation-added", False, f"operation {identifier} is new"))
    return changes[:_MOST]


def _operation(old: Operation, new: Operation, changes: list[Change]) -> None:
    if (old.method, _shape(old.path_template)) != (new.method, _shape(new.path_template)):
        changes.append(Change(new.pointer, "operation-moved", True, "the method or path of the operation changed"))
    if old.deprecated != new.deprecated:
        text = "the operation is deprecated now" if new.deprecated else "the operation is no longer deprecated"
        changes.append(Change(new.pointer, "deprecation-changed", False, text))
    for way in _WAYS:
        if old.offers(way) != new.offers(way):
            now = "no longer" if old.offers(way) else "now also"
            changes.append(
                Change(new.pointer, "delivery-changed", old.offers(way), f"it can {now} be called as a {way}")
            )
    _parameters(old, new, changes)
    at = pointer.join(new.pointer, "requestBody")
    if new.request_required and not old.request_required:
        changes.append(Change(at, "body-required", True, "the request body is required now"))
    _media_types(old.request, new.request, at, "request", changes)
    answers = {answer.status: answer for answer in new.answers}
    for answer in old.answers:
        if answer.status not in answers:
            changes.append(Change(answer.pointer, "answer-removed", True, f"status {answer.status} is gone"))
        else:
            other = answers.pop(answer.status)
            _media_types(answer.representations, other.representations, other.pointer, "answer", changes)
    changes += [Change(one.pointer, "answer-added", False, f"status {one.status} is new") for one in answers.values()]


def _shape(template: str) -> tuple[str, ...]:
    """A path parameter's name is no business of a caller's."""
    return tuple("{}" if part.startswith("{") else part for part in template.split("/"))


def _parameters(old: Operation, new: Operation, changes: list[Change]) -> None:
    before, after = _by_place(old.parameters), _by_place(new.parameters)
    for place, parameter in before.items():
        if place not in after:
            kind = "parameter-removed"
            breaking = parameter.location == "query" and not new.additional_query
            changes.append(Change(parameter.pointer, kind, breaking, f"parameter {parameter.name} is gone"))
            continue
        other = after[place]
        if other.required and not parameter.required:
            changes.append(Change(other.pointer, "parameter-required", True, f"parameter {other.name} is required now"))
        elif parameter.required and not other.required:
            changes.append(
                Change(other.pointer, "parameter-optional", False, f"parameter {other.name} is optional now")
            )
        _Schemas(parameter.schema, other.schema, "request", changes).compare(pointer.join(other.pointer, "schema"))
    for place, parameter in after.items():
        if place not in before:
            text = f"parameter {parameter.name} is new"
            changes.append(Change(parameter.pointer, "parameter-added", parameter.required, text))


def _by_place(parameters: Iterable[Parameter]) -> dict[tuple[str, str], Parameter]:
    positions = {"path": 0}
    found: dict[tuple[str, str], Parameter] = {}
    for parameter in parameters:
        name = parameter.name.lower() if parameter.location == "header" else parameter.name
        if parameter.location == "path":
            # Names of path parameters are free; their order in the declaration is the best there is.
            name = str(positions["path"])
            positions["path"] += 1
        found[parameter.location, name] = parameter
    return found


def _media_types(
    old: tuple[Representation, ...], new: tuple[Representation, ...], at: str, direction: str, changes: list[Change]
) -> None:
    after = {one.media_type: one for one in new}
    for one in old:
        other = after.pop(one.media_type, None)
        if other is None:
            changes.append(Change(one.pointer, "media-type-removed", True, f"{one.media_type} is gone"))
            continue
        place = pointer.join(other.pointer, "schema")
        _Schemas(_any(one.schema), _any(other.schema), direction, changes).compare(place)
        if (one.xsd, one.xsd_root) != (other.xsd, other.xsd_root):
            changes.append(Change(other.pointer, "xsd-changed", True, "the XSD changed; compare it by hand"))
    for one in after.values():
        # A first representation of a body that was empty changes what is sent.
        breaking = direction == "answer" and not old
        changes.append(Change(one.pointer, "media-type-added", breaking, f"{one.media_type} is new"))


def _any(schema: Schema | None) -> Schema:
    return True if schema is None else schema


class _Schemas:
    """Compares two self-contained schemas; in requests tighter is breaking, in answers wider is."""

    def __init__(self, old: Schema, new: Schema, direction: str, changes: list[Change]) -> None:
        self._roots = old, new
        self._tight_breaks = direction == "request"
        self._changes = changes
        self._seen: set[tuple[int, int]] = set()

    def compare(self, at: str) -> None:
        """Compares the roots; `at` is the place of the new one."""
        self._pair(*self._roots, at)

    def _add(self, at: str, kind: str, message: str, *, tighter: bool, wider: bool) -> None:
        breaking = tighter if self._tight_breaks else wider
        self._changes.append(Change(at, kind, breaking, message))

    def _pair(self, old: Json, new: Json, at: str) -> None:
        old, new = _resolved(old, self._roots[0]), _resolved(new, self._roots[1])
        if (id(old), id(new)) in self._seen or len(self._changes) >= _MOST:
            return
        self._seen.add((id(old), id(new)))
        if not isinstance(old, dict) or not isinstance(new, dict):
            if _plain(old) != _plain(new):
                self._add(at, "schema-changed", "the schema changed", tighter=True, wider=True)
            return
        self._types(old, new, at)
        self._enum(old, new, at)
        self._properties(old, new, at)
        self._bounds(old, new, at)
        if "items" in old and "items" in new:
            self._pair(old["items"], new["items"], pointer.join(at, "items"))
        elif ("items" in old) != ("items" in new):
            self._add(at, "items-changed", "items changed", tighter="items" in new, wider="items" in old)
        if _rest(old, self._roots[0]) != _rest(new, self._roots[1]):
            self._add(at, "schema-changed", "other parts of the schema changed", tighter=True, wider=True)

    def _types(self, old: dict[str, Json], new: dict[str, Json], at: str) -> None:
        before, after = _types(old), _types(new)
        if before != after:
            message = "the type changed"
            self._add(at, "type-changed", message, tighter=not before <= after, wider=not after <= before)

    def _enum(self, old: dict[str, Json], new: dict[str, Json], at: str) -> None:
        before, after = _values(old), _values(new)
        if before == after:
            return
        removed = after is not None and (before is None or not before <= after)
        added = before is not None and (after is None or not after <= before)
        kind = "enum-changed" if removed and added else "enum-narrowed" if removed else "enum-extended"
        self._add(pointer.join(at, "enum"), kind, "the declared values changed", tighter=removed, wider=added)

    def _properties(self, old: dict[str, Json], new: dict[str, Json], at: str) -> None:
        before, after = _mapping(old, "properties"), _mapping(new, "properties")
        required = _names(new) - _names(old)
        freed = _names(old) - _names(new)
        closed = new.get("additionalProperties") is False
        for name in before.keys() - after.keys():
            place = pointer.join(at, "properties", name)
            self._add(place, "property-removed", f"property {name} is gone", tighter=closed, wider=True)
        for name in after.keys() - before.keys():
            place = pointer.join(at, "properties", name)
            self._add(place, "property-added", f"property {name} is new", tighter=name in required, wider=False)
        for name in sorted(required & before.keys() | required - after.keys()):
            message = f"property {name} is required now"
            self._add(pointer.join(at, "required"), "property-required", message, tighter=True, wider=False)
        for name in sorted(freed & after.keys()):
            message = f"property {name} is optional now"
            self._add(pointer.join(at, "required"), "property-optional", message, tighter=False, wider=True)
        for name in before.keys() & after.keys():
            place = pointer.join(at, "properties", name)
            if _mark(before[name]) != _mark(after[name]):
                breaking = _mark(after[name]) is not None
                self._changes.append(Change(place, "field-mark-changed", breaking, "the marked field changed"))
            self._pair(before[name], after[name], place)

    def _bounds(self, old: dict[str, Json], new: dict[str, Json], at: str) -> None:
        for names, sign in ((_LOWER, 1), (_UPPER, -1)):
            for name in names:
                before, after = old.get(name), new.get(name)
                if before == after:
                    continue
                # An absent bound is looser than every other.
                tighter = before is None or (after is not None and sign * _number(after) > sign * _number(before))
                wider = not tighter
                place = pointer.join(at, name)
                self._add(place, "bound-changed", f"{name} changed", tighter=tighter, wider=wider)


def _resolved(schema: Json, root: Schema) -> Json:
    # References never lead in a circle without going down: parsing refuses that.
    while isinstance(schema, dict) and schema.keys() - {"$defs", keywords.MARK} == {"$ref"}:
        ref = schema["$ref"]
        target = pointer.from_fragment(ref[1:]) if isinstance(ref, str) else None
        schema = pointer.resolve(root, target or "")[1]
    return schema


def _number(value: Json) -> float:
    return value if isinstance(value, int | float) else 0.0


def _rest(schema: Mapping[str, Json], root: Schema) -> Json:
    """The part that is compared as a whole, with what it refers to (by name; names are places in the contract)."""
    rest: dict[str, Json] = {key: value for key, value in schema.items() if key not in _COMPARED}
    if "$ref" in schema:
        rest["$ref"] = _resolved({"$ref": schema["$ref"]}, root)
    return rest


def _plain(schema: Json) -> Json:
    return True if schema == {} else schema


def _types(schema: Mapping[str, Json]) -> frozenset[str]:
    value = schema.get("type")
    names = value if isinstance(value, list) else [value] if isinstance(value, str) else sorted(keywords.TYPES)
    types = {name for name in names if isinstance(name, str)}
    return frozenset(types | {"integer"} if "number" in types else types)


def _values(schema: Mapping[str, Json]) -> frozenset[str] | None:
    value = schema.get("enum")
    return frozenset(map(repr, value)) if isinstance(value, list) else None


def _names(schema: Mapping[str, Json]) -> set[str]:
    value = schema.get("required")
    return {name for name in value if isinstance(name, str)} if isinstance(value, list) else set()


def _mapping(schema: Mapping[str, Json], keyword: str) -> dict[str, Json]:
    value = schema.get(keyword)
    return value if isinstance(value, dict) else {}


def _mark(schema: Json) -> str | None:
    mark = schema.get(keywords.MARK) if isinstance(schema, dict) else None
    return mark if isinstance(mark, str) else None
