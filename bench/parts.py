"""Parts that are measured alone run in processes of their own, so that memory means something."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from bench.processes import BenchFailed, Children


def measure(
    children: Children, module: str, facts: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Runs `python -m module FACTS`; the last line that it prints is the result.

    Raises:
        BenchFailed: It failed.
    """
    name = module.rpartition(".")[2]
    child = children.start(name, [sys.executable, "-m", module, json.dumps(dict(facts))], env, pipes=True)
    printed, _ = child.process.communicate()
    children.stop(child)
    if child.process.returncode != 0 or not printed.strip():
        raise BenchFailed(f"{module} ended with code {child.process.returncode}:\n{child.tail()}")
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result
