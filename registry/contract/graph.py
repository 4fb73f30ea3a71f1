"""A schema document as a graph of who is evaluated where. It compiles and validates nothing.

Every place that can hold a schema becomes a node; its edges say whether the other schema sees the same value (in
place) or a child of it, and which child.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin

from registry.contract import keywords, pointer
from registry.contract.budget import Budget
from registry.contract.errors import ContractOverBudget, Fault
from registry.contract.model import Json, Schema
from registry.contract.regexes import pattern_refusal

_NO_BASE = "lienthong:schema"


@dataclass(slots=True)
class Node:
    """One schema object or boolean.

    Attributes:
        at: JSON pointer in the document.
        weight: Cost of the schema itself in plain evaluations.
        inplace: Nodes evaluated against the same value.
        named: Per property name, the node for its value.
        other: Node for properties that are not named (`additionalProperties`).
        any_property: Nodes that may see any property's value or name.
        prefix: Nodes of `prefixItems`.
        items: Node for the remaining items.
        any_item: Nodes that may see any item.
    """

    at: str
    schema: Json
    resource: str
    base: str
    weight: int = 1
    inplace: list[int] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)
    other: int | None = None
    any_property: list[int] = field(default_factory=list)
    prefix: list[int] = field(default_factory=list)
    items: int | None = None
    any_item: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Graph:
    """All nodes of a document; `index` finds them by pointer."""

    nodes: list[Node]
    index: dict[str, int]
    names: frozenset[str]


class _Builder:
    def __init__(self, budget: Budget, *, formats: bool) -> None:
        self.budget = budget
        self.formats = formats
        self.nodes: list[Node] = []
        self.index: dict[str, int] = {}
        self.resources: dict[str, str] = {}
        self.anchors: dict[tuple[str, str], int] = {}
        self.faults: list[Fault] = []
        self.names: set[str] = set()
        self.patterns = 0
        self.enum_values = 0
        self.metaschema: int | None = None

    def fault(self, at: str, code: str, message: str) -> None:
        if len(self.faults) < self.budget.faults:
            self.faults.append(Fault(at, code, message))

    def collect(self, root: Schema) -> None:
        """Makes all nodes, depth first, without recursion."""
        self.resources[_NO_BASE] = ""
        stack: list[tuple[Json, str, str, str]] = [(root, "", "", _NO_BASE)]
        while stack:
            schema, at, resource, base = stack.pop()
            if at.count("/") > 2 * self.budget.depth:
                raise ContractOverBudget([Fault(at, "over-budget-depth", "the schema nests too deep")])
            if not isinstance(schema, dict | bool):
                self.fault(at, "shape", "a schema must be an object or a boolean")
                continue
            if len(self.nodes) >= self.budget.schemas:
                message = f"more than {self.budget.schemas} schemas"
                raise ContractOverBudget([Fault(at, "over-budget-schemas", message)])
            node = Node(at, schema, resource, base)
            self.index[at] = len(self.nodes)
            self.nodes.append(node)
            if isinstance(schema, dict):
                self._identify(node, schema)
                self._check(node, schema)
                stack.extend((child, place, node.resource, node.base) for child, place in self._children(node, schema))

    def _identify(self, node: Node, schema: dict[str, Json]) -> None:
        identifier = schema.get("$id")
        if isinstance(identifier, str):
            if "#" in identifier.rstrip("#"):
                self.fault(node.at, "id", "an $id must not carry a fragment")
            node.base = _joined(node.base, identifier.rstrip("#"))
            node.resource = node.at
            if self.resources.setdefault(node.base, node.at) != node.at:
                self.fault(node.at, "id", "two schemas have the same $id")
        elif identifier is not None:
            self.fault(pointer.join(node.at, "$id"), "shape", "$id must be a string")
        anchor = schema.get("$anchor")
        if isinstance(anchor, str):
            if self.anchors.setdefault((node.resource, anchor), self.index[node.at]) != self.index[node.at]:
                self.fault(node.at, "anchor", "two schemas have the same $anchor")
        elif anchor is not None:
            self.fault(pointer.join(node.at, "$anchor"), "shape", "$anchor must be a string")

    def _check(self, node: Node, schema: dict[str, Json]) -> None:
        for name in keywords.DYNAMIC.intersection(schema):
            self.fault(pointer.join(node.at, name), "unsupported-keyword", f"{name} is not supported")
        if schema.get("$schema", keywords.DIALECT) not in {keywords.DIALECT, keywords.DIALECT + "#"}:
            self.fault(pointer.join(node.at, "$schema"), "dialect", "only JSON Schema 2020-12 is supported")
        for name, fits in keywords.PLAIN.items():
            if name in schema and not fits(schema[name]):
                self.fault(pointer.join(node.at, name), "shape", f"the value of {name} has the wrong form")
        self._check_patterns(node, schema)
        fmt = schema.get("format")
        if self.formats and isinstance(fmt, str) and fmt not in keywords.FORMATS:
            self.fault(pointer.join(node.at, "format"), "format", "this format is not supported")
        values = schema.get("enum")
        if isinstance(values, list):
            self.enum_values += len(values)
            if self.enum_values > self.budget.enum_values:
                message = f"more than {self.budget.enum_values} enum values"
                raise ContractOverBudget([Fault(pointer.join(node.at, "enum"), "over-budget-enum", message)])
            # Strings are looked up; everything else is compared one by one.
            node.weight += sum(1 for value in values if not isinstance(value, str))
        if isinstance(required := schema.get("required"), list):
            self.names.update(name for name in required if isinstance(name, str))

    def _check_patterns(self, node: Node, schema: dict[str, Json]) -> None:
        found = [("pattern", schema.get("pattern"))]
        if isinstance(mapping := schema.get("patternProperties"), dict):
            found += [("patternProperties", key) for key in mapping]
            node.weight += len(mapping)
        for keyword, text in found:
            if not isinstance(text, str):
                continue
            self.patterns += 1
            if self.patterns > self.budget.patterns:
                message = f"more than {self.budget.patterns} regular expressions"
                raise ContractOverBudget([Fault(node.at, "over-budget-patterns", message)])
            if (refusal := pattern_refusal(text, self.budget)) is not None:
                place = (keyword, text) if keyword == "patternProperties" else (keyword,)
                self.fault(pointer.join(node.at, *place), *refusal)

    def _children(self, node: Node, schema: dict[str, Json]) -> Iterator[tuple[Json, str]]:
        for name in keywords.SCHEMA_ONE:
            if name in schema:
                yield schema[name], pointer.join(node.at, name)
        for name in keywords.SCHEMA_LISTS:
            if name in schema:
                value = schema[name]
                if not isinstance(value, list) or not value:
                    self.fault(pointer.join(node.at, name), "shape", f"{name} must be a list that is not empty")
                    continue
                yield from ((child, pointer.join(node.at, name, i)) for i, child in enumerate(value))
        for name in keywords.SCHEMA_MAPS:
            if name in schema:
                value = schema[name]
                if not isinstance(value, dict):
                    self.fault(pointer.join(node.at, name), "shape", f"{name} must be an object")
                    continue
                if name == "properties":
                    self.names.update(value)
                yield from ((child, pointer.join(node.at, name, key)) for key, child in value.items())

    def connect(self) -> None:
        """Draws the edges, once every node is known."""
        for node in self.nodes[:]:
            if isinstance(node.schema, dict):
                self._connect(node, node.schema)

    def _connect(self, node: Node, schema: dict[str, Json]) -> None:
        def at(*tokens: str | int) -> int:
            return self.index[pointer.join(node.at, *tokens)]

        if "$ref" in schema:
            target = self._target(node, schema["$ref"])
            if target is not None:
                node.inplace.append(target)
        node.inplace += [at(name) for name in keywords.INPLACE_ONE if name in schema]
        for name in keywords.INPLACE_LIST:
            node.inplace += [at(name, i) for i in range(len(_listed(schema, name)))]
        node.inplace += [at("dependentSchemas", key) for key in _mapped(schema, "dependentSchemas")]
        node.named = {key: at("properties", key) for key in _mapped(schema, "properties")}
        node.any_property = [at("patternProperties", key) for key in _mapped(schema, "patternProperties")]
        node.any_property += [at(name) for name in ("unevaluatedProperties", "propertyNames") if name in schema]
        node.other = at("additionalProperties") if "additionalProperties" in schema else None
        node.prefix = [at("prefixItems", i) for i in range(len(_listed(schema, "prefixItems")))]
        node.items = at("items") if "items" in schema else None
        node.any_item = [at(name) for name in ("contains", "unevaluatedItems") if name in schema]

    def _target(self, node: Node, ref: Json) -> int | None:
        place = pointer.join(node.at, "$ref")
        if not isinstance(ref, str):
            self.fault(place, "shape", "$ref must be a string")
            return None
        uri, fragment = urldefrag(node.base + ref if ref.startswith("#") else _joined(node.base, ref))
        if uri == keywords.DIALECT and not fragment:
            return self._metaschema_node()
        # A reference that names no embedded resource is remote, wherever it points.
        resource = node.resource if ref.startswith("#") else self.resources.get(uri)
        if resource is None:
            self.fault(place, "remote-reference", "references must stay inside the document")
            return None
        inner = pointer.from_fragment(fragment)
        found = self.anchors.get((resource, fragment)) if inner is None else self.index.get(resource + inner)
        if found is None:
            self.fault(place, "reference", "the reference points to no schema of this document")
        return found

    def _metaschema_node(self) -> int:
        # The engine carries the 2020-12 meta-schema; its own recursion is linear in the value.
        if self.metaschema is None:
            self.metaschema = len(self.nodes)
            self.nodes.append(Node("", True, "", _NO_BASE, weight=100))
        return self.metaschema


def build_graph(root: Schema, budget: Budget, *, formats: bool = True) -> tuple[Graph, list[Fault]]:
    """Returns the graph of `root` and everything that is wrong with it; with faults the graph is not usable.

    Args:
        root: A JSON Schema 2020-12 document.
        budget: Limits; counted while walking.
        formats: Whether unknown formats are faults.

    Raises:
        ContractOverBudget: A count exceeds the budget.
    """
    builder = _Builder(budget, formats=formats)
    builder.collect(root)
    if not builder.faults:
        builder.connect()
    return Graph(builder.nodes, builder.index, frozenset(builder.names)), builder.faults


def _joined(base: str, reference: str) -> str:
    try:
        return urljoin(base, reference)
    except ValueError:
        # No address at all: the engine refuses it as an identifier, and as a reference it finds nothing.
        return "invalid:"


def _listed(schema: dict[str, Json], name: str) -> list[Json]:
    value = schema.get(name)
    return value if isinstance(value, list) else []


def _mapped(schema: dict[str, Json], name: str) -> dict[str, Json]:
    value = schema.get(name)
    return value if isinstance(value, dict) else {}
