"""Bytes of a contract to JSON values, within the budget. It knows nothing of OpenAPI."""

from __future__ import annotations

from registry.contract.budget import Budget
from registry.contract.errors import ContractOverBudget, ContractRejected, Fault
from registry.contract.jsonbytes import JsonMalformed, decode_json
from registry.contract.model import Json
from registry.contract.yamlbytes import load_yaml


def load_document(document: bytes, budget: Budget) -> dict[str, Json]:
    """Returns the document's top object; JSON when it begins with ``{``, otherwise YAML.

    Raises:
        ContractRejected: Neither, or not an object.
        ContractOverBudget: Too large, too deep, too many values.
    """
    if len(document) > budget.document_bytes:
        message = f"the document has more than {budget.document_bytes} bytes"
        raise ContractOverBudget([Fault("", "over-budget-size", message)])
    json = document[:256].lstrip()[:1] == b"{"
    value = _load_json(document, budget) if json else load_yaml(document, budget)
    if not isinstance(value, dict):
        raise ContractRejected([Fault("", "shape", "the document must be an object")])
    return value


def _load_json(document: bytes, budget: Budget) -> Json:
    try:
        value, _ = decode_json(document, budget.depth)
    except JsonMalformed as error:
        if error.rule == "depth":
            raise ContractOverBudget([Fault("", "over-budget-depth", str(error))]) from None
        raise ContractRejected([Fault("", error.rule, str(error))]) from None
    # Every value but the first follows a bracket, a comma or a colon.
    if sum(map(document.count, (b"[", b",", b":"))) > budget.nodes and count_values(value) > budget.nodes:
        raise ContractOverBudget([Fault("", "over-budget-nodes", f"more than {budget.nodes} values")])
    return value


def count_values(value: Json) -> int:
    """Returns how many JSON values `value` consists of, itself included."""
    total, stack = 0, [value]
    while stack:
        item = stack.pop()
        total += 1
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return total
