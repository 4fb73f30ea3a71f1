"""A :class:`Contract` to a :class:`CompiledContract`. It answers no calls itself."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from registry.contract import pointer
from registry.contract.bodies import AnswerBody, Body
from registry.contract.budget import DEFAULT, Budget
from registry.contract.compiled import CompiledAnswer, CompiledContract, CompiledOperation
from registry.contract.cut import Cutter, cutter
from registry.contract.errors import ContractRejected, Fault, FieldGrantUnderivable
from registry.contract.granted import Derived, derive_answer, derive_granted, required_names
from registry.contract.model import Answer, Contract, Json, Operation, Parameter, Representation, Schema
from registry.contract.schema import SchemaValidator, build_validator
from registry.contract.values import ValueReader
from registry.contract.xmlbody import XmlValidator


def compile_contract(
    contract: Contract, granted: frozenset[str] | None = None, *, budget: Budget = DEFAULT
) -> CompiledContract:
    """Compiles a parsed contract.

    Args:
        contract: From :func:`parse_contract`, with the same budget.
        granted: Names of marked fields that the right grants; None for all of them.
        budget: Depth and pattern sizes.

    Raises:
        FieldGrantUnderivable: The contract as granted cannot be derived.
        ContractRejected: An engine does not take a schema.
    """
    effective = contract if granted is None else derive_granted(contract, granted)
    builder = _Builder(budget)
    compiled = {}
    for identifier, operation in effective.operations.items():
        cutters: dict[str, Cutter] = {}
        if granted is not None and identifier in effective.withheld:
            cutters = _cutters(contract.operations[identifier], granted)
        compiled[identifier] = builder.operation(operation, cutters)
    return CompiledContract(effective, compiled)


def _cutters(original: Operation, granted: frozenset[str]) -> dict[str, Cutter]:
    derived: dict[str, Derived] = {}
    for answer in original.answers:
        for representation in answer.representations:
            if representation.kind == "json":
                derived[_key(answer, representation)] = derive_answer(representation, granted)
    dropped = frozenset[str]().union(*(one.dropped for one in derived.values()))
    for answer in original.answers:
        for representation in answer.representations:
            if (one := derived.get(_key(answer, representation))) is not None:
                _refuse_required(one, dropped, representation.pointer)
    return {key: cutter(one, dropped) for key, one in derived.items()}


def _refuse_required(derived: Derived, dropped: frozenset[str], at: str) -> None:
    """A name that is removed wherever it stands must not be required where nothing declares it."""
    missing = required_names(derived.schema) & (dropped - derived.kept)
    if missing:
        reason = f"{', '.join(sorted(missing))} is required where it is not declared, and names a withheld field"
        raise FieldGrantUnderivable(pointer.join(at, "schema"), reason)


def _key(answer: Answer, representation: Representation) -> str:
    return f"{answer.status} {representation.media_type}"


class _Builder:
    """Builds validators, equal schemas once."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._schemas: dict[bytes, SchemaValidator] = {}
        self._xsds: dict[tuple[str, str | None], XmlValidator] = {}

    def operation(self, operation: Operation, cutters: dict[str, Cutter]) -> CompiledOperation:
        answers = {}
        for answer in operation.answers:
            bodies = [self._answer_body(answer, one, cutters) for one in answer.representations]
            answers[answer.status] = CompiledAnswer(answer, bodies, self._readers(answer.headers))
        requests = [
            Body(one, self._schema(one.schema, one.pointer), self._xml(one), self._budget.depth)
            for one in operation.request
        ]
        return CompiledOperation(operation, self._readers(operation.parameters), requests, answers)

    def _answer_body(self, answer: Answer, one: Representation, cutters: dict[str, Cutter]) -> AnswerBody:
        schema = self._schema(one.schema, one.pointer)
        return AnswerBody(one, schema, self._xml(one), self._budget.depth, cutters.get(_key(answer, one)))

    def _readers(self, parameters: Iterable[Parameter]) -> tuple[ValueReader, ...]:
        return tuple(
            ValueReader(one, None if one.plain else self._schema(one.schema, one.pointer)) for one in parameters
        )

    def _schema(self, schema: Schema | None, at: str) -> SchemaValidator | None:
        if schema is None or schema is True:
            return None
        key = msgspec.json.encode(schema)
        if key not in self._schemas:
            try:
                self._schemas[key] = build_validator(schema, declared_names(schema), self._budget)
            except ContractRejected as error:
                found = [Fault(at, fault.code, fault.message) for fault in error.errors]
                raise ContractRejected(found) from None
        return self._schemas[key]

    def _xml(self, representation: Representation) -> XmlValidator | None:
        if representation.xsd is None:
            return None
        key = representation.xsd, representation.xsd_root
        if key not in self._xsds:
            try:
                self._xsds[key] = XmlValidator(*key, self._budget.depth)
            except ValueError as error:
                raise ContractRejected([Fault(representation.pointer, "xsd", str(error))]) from None
        return self._xsds[key]


def declared_names(schema: Schema) -> set[str]:
    """Returns every name that a violation may show: what the schema, a published document, says itself."""
    names: set[str] = set()
    stack: list[Json] = [schema]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            names.update(value)
            stack.extend(value.values())
        elif isinstance(value, list):
            names.update(item for item in value if isinstance(item, str))
            stack.extend(item for item in value if isinstance(item, dict | list))
    return names
