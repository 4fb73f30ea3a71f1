"""Builds the recorder and runs a program under it. What it needs is a C compiler; without one the tests are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("recorder.c")
ROOT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """The library; skips the test if nothing here can compile it."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        if os.environ.get("LIENTHONG_TEST_ALL"):
            pytest.fail("a C compiler is missing")
        pytest.skip("no C compiler: what a power cut leaves behind cannot be recorded")
    library = folder / "recorder.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


def surroundings(library: Path, under: Path, journal: Path, *, ignores_sync: bool = False) -> dict[str, str]:
    """Environment of a recorded program."""
    found = {"LD_PRELOAD": str(library), "POWERCUT_UNDER": str(under), "POWERCUT_JOURNAL": str(journal)}
    return found | ({"POWERCUT_IGNORES_SYNC": "1"} if ignores_sync else {})


def run(library: Path, under: Path, program: Path, *args: str, ignores_sync: bool = False) -> Path:
    """Runs a Python program to its end; its journal."""
    under.mkdir(parents=True, exist_ok=True)
    journal = under.with_suffix(".journal")
    made = surroundings(library, under, journal, ignores_sync=ignores_sync)
    run = subprocess.Popen(
        [sys.executable, str(program), *args], env={**os.environ, **made, "PYTHONPATH": str(ROOT)}, cwd=ROOT
    )
    assert run.wait(60) == 0
    return journal.with_name(f"{journal.name}.{run.pid}")
