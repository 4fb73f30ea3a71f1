"""JSON Schema 2020-12 to a fast validator, refusing what it cannot support. It knows nothing of OpenAPI.

Refused: ``$dynamicRef``, ``$dynamicAnchor``, ``$vocabulary`` and other dialects, remote references (the 2020-12 meta-
schema itself is known), references into unknown keywords, lookaround and backreferences, schemas whose validation is
not bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import jsonschema_rs
import msgspec

from registry.contract import pointer
from registry.contract.budget import DEFAULT, Budget
from registry.contract.cost import CostModel
from registry.contract.errors import ContractOverBudget, Fault, SchemaRefused, Violation
from registry.contract.graph import build_graph
from registry.contract.jsonbytes import within_depth
from registry.contract.model import Json, Schema
from registry.contract.regexes import engine_options

MAX_VIOLATIONS: Final = 20

_LIMITS: Final = {
    "minLength": "must have at least {limit} characters",
    "maxLength": "must have at most {limit} characters",
    "minItems": "must have at least {limit} items",
    "maxItems": "must have at most {limit} items",
    "minProperties": "must have at least {limit} properties",
    "maxProperties": "must have at most {limit} properties",
    "minimum": "must be {limit} or more",
    "maximum": "must be {limit} or less",
    "exclusiveMinimum": "must be more than {limit}",
    "exclusiveMaximum": "must be less than {limit}",
}
_PLAIN: Final = {
    "pattern": "does not match the declared pattern",
    "enum": "is not one of the declared values",
    "const": "is not the declared value",
    "format": "does not have the declared format",
    "multipleOf": "is not a multiple of the declared number",
    "uniqueItems": "repeats an item",
    "additionalProperties": "has a property that is not declared",
    "unevaluatedProperties": "has a property that is not declared",
    "additionalItems": "has an item that is not declared",
    "unevaluatedItems": "has an item that is not declared",
    "propertyNames": "has a property whose name is not allowed",
    "contains": "contains too few or too many matching items",
    "anyOf": "fits none of the declared alternatives",
    "oneOf": "must fit exactly one of the declared alternatives",
    "not": "fits a schema that is excluded",
    "falseSchema": "is not allowed here",
}


class SchemaValidator:
    """A compiled schema. It is immutable and may be shared by threads.

    Attributes:
        accepts: The engine's own check, without the depth check: only for values whose depth is already bounded.
    """

    __slots__ = ("_depth", "_engine", "_names", "accepts")

    def __init__(self, engine: jsonschema_rs.Validator, names: Iterable[str], depth: int) -> None:
        self._engine = engine
        self._names = frozenset(names)
        self._depth = depth
        self.accepts = engine.is_valid

    def is_valid(self, value: object) -> bool:
        """Says whether `value` (JSON as Python objects) is valid; too deep or not JSON at all is not."""
        try:
            return self._shallow(value) and self.accepts(value)
        except (ValueError, TypeError):
            return False

    def validate(self, value: object) -> list[Violation]:
        """Returns what is wrong with `value`, at most :data:`MAX_VIOLATIONS` entries; empty when it is valid."""
        try:
            if not self._shallow(value):
                return [Violation("", "", "depth", f"nests deeper than {self._depth} levels")]
            return self.explain(value)
        except (ValueError, TypeError):
            return [Violation("", "", "json", "is not JSON")]

    def explain(self, value: object, where: str = "", base: str = "") -> list[Violation]:
        """Like :meth:`validate` for a value of bounded depth, with every pointer under `base`."""
        if self.accepts(value):
            return []
        found = []
        for error in self._engine.iter_errors(value):
            found.append(self._violation(error, value, where, base))
            if len(found) == MAX_VIOLATIONS:
                break
        return found

    def _violation(self, error: jsonschema_rs.ValidationError, value: object, where: str, base: str) -> Violation:
        rule = error.kind.name
        path = self._public_path(error.instance_path, value)
        return Violation(where, base + pointer.render(path), rule, _message(rule, error.kind))

    def _public_path(self, path: list[str | int], value: object) -> list[str | int]:
        """Replaces every name that the schema does not declare.

        The engine reports a property name made of digits as a number, so the value decides what a token is.
        """
        shown: list[str | int] = []
        for token in path:
            if isinstance(value, list) and isinstance(token, int):
                shown.append(token)
                value = value[token]
                continue
            name = str(token)
            shown.append(name if name in self._names else "*")
            value = value.get(name) if isinstance(value, dict) else None
        return shown

    def _shallow(self, value: object) -> bool:
        if not isinstance(value, dict | list):
            return True
        try:
            return within_depth(msgspec.json.encode(value), self._depth)
        except RecursionError:
            return False


def compile_schema(schema: Schema, *, budget: Budget = DEFAULT, formats: bool = True) -> SchemaValidator:
    """Compiles a JSON Schema 2020-12.

    Args:
        schema: The schema as Python objects.
        budget: What it may cost.
        formats: Assert ``format`` (unknown formats are then refused) or treat it as an annotation, which is the
            specification's default.

    Raises:
        SchemaRefused: Invalid or not supported; with pointers into `schema`.
        ContractOverBudget: Validation would not stay within the budget.
    """
    graph, faults = build_graph(schema, budget, formats=formats)
    if any(fault.code.startswith("over-budget") for fault in faults):
        raise ContractOverBudget(faults)
    if faults:
        raise SchemaRefused(faults)
    CostModel(graph, budget).check(0, "")
    return build_validator(schema, graph.names, budget, formats=formats)


def build_validator(
    schema: Schema, names: Iterable[str], budget: Budget = DEFAULT, *, formats: bool = True
) -> SchemaValidator:
    """Compiles a schema whose graph and cost were checked before; `names` are the property names it declares.

    Raises:
        SchemaRefused: The engine does not take it.
    """
    try:
        engine = jsonschema_rs.Draft202012Validator(
            schema,
            offline=True,
            validate_formats=formats,
            pattern_options=engine_options(budget),
        )
    except jsonschema_rs.ValidationError as error:
        place = pointer.render(error.instance_path)
        raise SchemaRefused([Fault(place, "engine", "the validator does not take this schema")]) from None
    except (ValueError, jsonschema_rs.ReferencingError):
        raise SchemaRefused([Fault("", "engine", "the validator does not take this schema")]) from None
    return SchemaValidator(engine, names, budget.depth)


def _message(rule: str, kind: jsonschema_rs.ValidationErrorKind) -> str:
    if rule in _LIMITS:
        return _LIMITS[rule].format(limit=_short(getattr(kind, "limit", None)))
    if rule == "required":
        return f"lacks the required property {getattr(kind, 'property', '')!s}"
    if rule == "type":
        return f"must be of type {' or '.join(getattr(kind, 'types', []))}"
    return _PLAIN.get(rule, f"does not satisfy {rule}")


def _short(limit: Json) -> str:
    return str(limit)[:40]
