"""The child process of a trial: limits itself, reads a contract from standard input, writes a verdict to standard
output.

It is started by :mod:`registry.contract.trial` and has no other use. A verdict is one JSON object; no verdict means
that the contract was too much.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from typing import BinaryIO

import msgspec

from registry.contract.budget import DEFAULT
from registry.contract.compile import compile_contract
from registry.contract.compiled import CompiledContract
from registry.contract.errors import CallError, ContractOverBudget, ContractRejected, FieldGrantUnderivable
from registry.contract.model import Contract
from registry.contract.parse import parse_contract
from registry.contract.samples import sample


class Verdict(msgspec.Struct, frozen=True):
    """What the child found: nothing, or the faults, and whether they are about cost."""

    faults: list[tuple[str, str, str]]
    over_budget: bool


def limit_resources(cpu_s: int, memory_bytes: int) -> None:
    """Limits this process for good: CPU seconds, address space, no files, no core."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def judge(document: bytes) -> Verdict:
    """Parses, compiles and tries a contract."""
    try:
        contract = parse_contract(document)
        _try(contract, compile_contract(contract))
        _try_cut(contract)
    except ContractRejected as error:
        faults = [(fault.pointer, fault.code, fault.message) for fault in error.errors]
        return Verdict(faults, isinstance(error, ContractOverBudget))
    return Verdict([], over_budget=False)


def _try(contract: Contract, compiled: CompiledContract) -> None:
    for operation in contract.operations.values():
        for answer in operation.answers:
            status = int(answer.status.replace("XX", "00")) if answer.status != "default" else 599
            for one in answer.representations:
                if one.kind == "json" and one.schema is not None:
                    body = msgspec.json.encode(sample(one.schema))
                    _ignore_verdict(compiled, operation.id, status, one.media_type, body)


def _ignore_verdict(compiled: CompiledContract, operation_id: str, status: int, media_type: str, body: bytes) -> None:
    """Only the cost is on trial: a sample need not be valid."""
    try:
        compiled.cut_answer(operation_id, status, media_type, body)
    except CallError:
        return


def _try_cut(contract: Contract) -> None:
    """Derives and tries the smallest contract as granted, where there is one."""
    try:
        compiled = compile_contract(contract, frozenset())
    except FieldGrantUnderivable:
        return
    _try(contract, compiled)


def main(arguments: Sequence[str], source: BinaryIO, sink: BinaryIO) -> None:
    """Runs one trial with the limits on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu-s", type=int, required=True)
    parser.add_argument("--memory-bytes", type=int, required=True)
    options = parser.parse_args(arguments)
    limit_resources(options.cpu_s, options.memory_bytes)
    document = source.read(DEFAULT.document_bytes + 1)
    sink.write(msgspec.json.encode(judge(document)))
    sink.flush()


if __name__ == "__main__":  # pragma: no cover - this is the child
    main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer)
