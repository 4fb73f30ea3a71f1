"""Contracts as documents: parse, compile, cut as granted, compare, try.

Nothing here knows who calls whom, and nothing here opens a connection.
"""

from __future__ import annotations

from registry.contract.budget import DEFAULT, Budget
from registry.contract.compile import compile_contract
from registry.contract.compiled import AnswerCheck, CompiledContract, Match, Parameters
from registry.contract.diff import Change, diff_contracts
from registry.contract.errors import (
    AnswerInvalid,
    AnswerUndeclared,
    CallError,
    ContractError,
    ContractOverBudget,
    ContractRejected,
    Fault,
    FieldGrantUnderivable,
    MediaTypeUnsupported,
    MethodNotAllowed,
    OperationUnknown,
    PathRefused,
    RequestInvalid,
    SchemaRefused,
    Violation,
)
from registry.contract.granted import derive_granted, marked_fields
from registry.contract.jsonbytes import decode_json, json_depth
from registry.contract.model import Answer, Contract, Operation, Parameter, Representation
from registry.contract.parse import parse_contract
from registry.contract.schema import SchemaValidator, compile_schema
from registry.contract.trial import TrialLimits, trial, trial_async

__all__ = [
    "DEFAULT",
    "Answer",
    "AnswerCheck",
    "AnswerInvalid",
    "AnswerUndeclared",
    "Budget",
    "CallError",
    "Change",
    "CompiledContract",
    "Contract",
    "ContractError",
    "ContractOverBudget",
    "ContractRejected",
    "Fault",
    "FieldGrantUnderivable",
    "Match",
    "MediaTypeUnsupported",
    "MethodNotAllowed",
    "Operation",
    "OperationUnknown",
    "Parameter",
    "Parameters",
    "PathRefused",
    "Representation",
    "RequestInvalid",
    "SchemaRefused",
    "SchemaValidator",
    "TrialLimits",
    "Violation",
    "compile_contract",
    "compile_schema",
    "decode_json",
    "derive_granted",
    "diff_contracts",
    "json_depth",
    "marked_fields",
    "parse_contract",
    "trial",
    "trial_async",
]
