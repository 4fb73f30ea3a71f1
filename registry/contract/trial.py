"""Tries a stranger's contract in a child process with limits, so that no document can take the gateway with it.

The child parses, compiles and validates samples; see :mod:`registry.contract.trial_child`. What it cannot do within
its limits is over budget, whatever the reason.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

import registry
from registry.contract.budget import DEFAULT
from registry.contract.errors import ContractOverBudget, ContractRejected, Fault, TrialUnfinished
from registry.contract.trial_child import Verdict

_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "SYSTEMROOT")


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """What one trial may use.

    Attributes:
        cpu_s: CPU seconds of the child, its start included.
        memory_bytes: Its address space.
        deadline_s: Wall-clock seconds until it is killed.
    """

    cpu_s: int = 5
    memory_bytes: int = 1_073_741_824
    deadline_s: float = 15.0


DEFAULT_LIMITS = TrialLimits()


def trial(document: bytes, limits: TrialLimits = DEFAULT_LIMITS) -> None:
    """Tries `document`; returns when it passed. Blocks for up to ``limits.deadline_s`` seconds.

    Raises:
        TrialUnfinished: The child gave no verdict within its limits.
        ContractOverBudget: It found the budget exceeded.
        ContractRejected: The document is not a supported contract.
    """
    _refuse_size(document)
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            _command(limits),
            input=document,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            timeout=limits.deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _unfinished("it took too long") from None
    _conclude(done.returncode, done.stdout)


async def trial_async(document: bytes, limits: TrialLimits = DEFAULT_LIMITS) -> None:
    """Like :func:`trial`, without blocking the event loop; a cancelled trial kills its child.

    Raises:
        TrialUnfinished, ContractOverBudget: As :func:`trial`.
        ContractRejected: As :func:`trial`.
    """
    _refuse_size(document)
    child = await asyncio.create_subprocess_exec(
        *_command(limits),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(document), limits.deadline_s)
    except TimeoutError:
        raise _unfinished("it took too long") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    _conclude(child.returncode, output)


def _command(limits: TrialLimits) -> list[str]:
    arguments = ["--cpu-s", str(limits.cpu_s), "--memory-bytes", str(limits.memory_bytes)]
    return [sys.executable, "-s", "-P", "-m", "registry.contract.trial_child", *arguments]


def _environment() -> dict[str, str]:
    # Nothing of the gateway's environment but what an interpreter needs; the same code as the parent's.
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, "PYTHONPATH": str(Path(registry.__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}


def _refuse_size(document: bytes) -> None:
    if len(document) > DEFAULT.document_bytes:
        message = f"the document has more than {DEFAULT.document_bytes} bytes"
        raise ContractOverBudget([Fault("", "over-budget-size", message)])


def _conclude(status: int | None, output: bytes) -> None:
    if status != 0:
        raise _unfinished("it used up its processor time or memory")
    try:
        verdict = msgspec.json.decode(output, type=Verdict)
    except msgspec.MsgspecError:
        raise _unfinished("it gave no verdict") from None
    faults = [Fault(*fault) for fault in verdict.faults]
    if verdict.over_budget:
        raise ContractOverBudget(faults)
    if faults:
        raise ContractRejected(faults)


def _unfinished(what: str) -> TrialUnfinished:
    return TrialUnfinished([Fault("", "over-budget-trial", f"the trial was stopped: {what}")])
