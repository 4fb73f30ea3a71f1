"""A contract's bytes to a :class:`Contract`, or every reason why not.

It compiles no validators and makes no network calls.

Order matters: cheap bounds first, then references, then the cost of the schemas, and only then the checks whose own
cost nobody bounds (regular expressions are compiled with a size limit, the specification's meta-schema comes last).
"""

from __future__ import annotations

import re
from typing import Final

from registry.contract import pointer
from registry.contract.budget import DEFAULT, Budget
from registry.contract.cost import CostModel
from registry.contract.dialect import Translator, local_target
from registry.contract.document import load_document
from registry.contract.errors import ContractOverBudget, ContractRejected, Fault
from registry.contract.faults import Faults
from registry.contract.graph import build_graph
from registry.contract.metacheck import check_meta
from registry.contract.model import Contract, Json, Operation
from registry.contract.operation_objects import read_paths, read_servers
from registry.contract.reader import Reader

_VERSION: Final = re.compile(r"3\.([01])\.[0-9]{1,3}")
_ROOT_KNOWN: Final = frozenset(
    ["openapi", "info", "servers", "paths", "components", "security", "tags", "externalDocs"]
)
_ROOT_UNSUPPORTED: Final = {"webhooks": "webhooks are not supported"}
_COMPONENTS: Final = frozenset(
    [
        "schemas",
        "responses",
        "parameters",
        "examples",
        "requestBodies",
        "headers",
        "securitySchemes",
        "links",
        "callbacks",
        "pathItems",
    ]
)
_DIALECTS: Final = frozenset(
    {"https://spec.openapis.org/oas/3.1/dialect/base", "https://json-schema.org/draft/2020-12/schema"}
)


def parse_contract(document: bytes, budget: Budget = DEFAULT, *, meta: bool = True) -> Contract:
    """Reads an OpenAPI 3.0 or 3.1 document (JSON or YAML) that may come from a stranger.

    Args:
        document: UTF-8 bytes; JSON when they begin with ``{``.
        budget: What it may cost.
        meta: Also check against the specification's own schema; leave out for a document that passed before.

    Raises:
        ContractRejected: With every reason found, each with its JSON pointer.
        ContractOverBudget: It would cost more than the budget.
    """
    tree = load_document(document, budget)
    legacy = _legacy(tree)
    faults = Faults(budget)
    _refuse_remote(tree, faults)
    requests = Translator(tree, legacy=legacy, direction="request", faults=faults, budget=budget)
    answers = Translator(tree, legacy=legacy, direction="answer", faults=faults, budget=budget)
    reader = Reader(tree, legacy, budget, faults, requests, answers)
    info = _frame(reader)
    operations = read_paths(reader, tree.get("paths"))
    faults.refuse()
    _bound(requests, budget, faults)
    _bound(answers, budget, faults)
    faults.refuse()
    _bound_compiled(operations, budget)
    if meta:
        check_meta(tree, legacy=legacy)
    return Contract(
        openapi="3.0" if legacy else "3.1",
        title=reader.text(info, "title", "/info"),
        version=reader.text(info, "version", "/info"),
        operations=operations,
    )


def _legacy(tree: dict[str, Json]) -> bool:
    version = tree.get("openapi")
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise ContractRejected([Fault("/openapi", "openapi-version", "only OpenAPI 3.0 and 3.1 are supported")])
    return match.group(1) == "0"


def _refuse_remote(tree: dict[str, Json], faults: Faults) -> None:
    """Finds every remote ``$ref``, also where nothing reaches, so that no later step can fetch one.

    A key ``$ref`` with a string is taken for a reference wherever it stands, in examples too.
    """
    stack: list[tuple[Json, str]] = [(tree, "")]
    while stack:
        value, at = stack.pop()
        if isinstance(value, dict):
            ref = value.get("$ref")
            if isinstance(ref, str) and local_target(ref) is None:
                faults.add(pointer.join(at, "$ref"), "remote-reference", "references must be local: #/…")
            stack.extend((item, pointer.join(at, key)) for key, item in value.items())
        elif isinstance(value, list):
            stack.extend((item, pointer.join(at, i)) for i, item in enumerate(value))


def _frame(reader: Reader) -> dict[str, Json]:
    """Checks the root object around the paths and returns ``info``."""
    known = _ROOT_KNOWN if reader.legacy else _ROOT_KNOWN | {"jsonSchemaDialect"}
    root = reader.members(reader.document, "", known, unsupported=_ROOT_UNSUPPORTED)
    if root.get("jsonSchemaDialect", next(iter(_DIALECTS))) not in _DIALECTS:
        message = "only JSON Schema 2020-12 and the OpenAPI 3.1 base dialect are supported"
        reader.faults.add("/jsonSchemaDialect", "dialect", message)
    read_servers(reader, root.get("servers"), "/servers")
    if "components" in root:
        reader.members(root["components"], "/components", _COMPONENTS)
    info = root.get("info")
    if not isinstance(info, dict):
        reader.faults.add("/info", "shape", "info must be an object")
        return {}
    reader.text(info, "title", "/info", required=True)
    reader.text(info, "version", "/info", required=True)
    return info


def _bound(translator: Translator, budget: Budget, faults: Faults) -> None:
    """Bounds everything of one direction at once: targets are shared, so they are looked at once."""
    everything: dict[str, Json] = {"$defs": {**translator.targets, **translator.roots}}
    try:
        graph, found = build_graph(everything, budget)
    except ContractOverBudget as error:
        moved = [fault._replace(pointer=_origin(fault.pointer)) for fault in error.errors]
        raise ContractOverBudget(moved) from None
    for fault in found:
        faults.add(_origin(fault.pointer), fault.code, fault.message)
    if found:
        return
    model = CostModel(graph, budget)
    for at in translator.roots:
        model.check(graph.index[pointer.join("", "$defs", at)], at)


def _origin(at: str) -> str:
    """Returns the place in the contract for a place in the joint document, whose definitions are named by pointers."""
    tokens = pointer.split(at)
    return tokens[1] + pointer.render(tokens[2:]) if len(tokens) > 1 else at


def _bound_compiled(operations: dict[str, Operation], budget: Budget) -> None:
    total = 0
    for operation in operations.values():
        schemas = [parameter.schema for parameter in operation.parameters]
        schemas += [body.schema for body in operation.request if body.schema is not None]
        for answer in operation.answers:
            schemas += [body.schema for body in answer.representations if body.schema is not None]
            schemas += [header.schema for header in answer.headers]
        for schema in schemas:
            shared = schema.get("$defs") if isinstance(schema, dict) else None
            total += 1 + (len(shared) if isinstance(shared, dict) else 0)
        if total > budget.compiled_schemas:
            message = f"the operations together need more than {budget.compiled_schemas} schemas"
            raise ContractOverBudget([Fault(operation.pointer, "over-budget-compiled", message)])
