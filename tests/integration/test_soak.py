"""Half a minute of commands under random faults, always the same ones; others and longer with `make soak SECONDS=… SEED=…`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS, SEED, RATE, DEADLINE_S = 30, 7, 60, 110


@pytest.mark.slow
def test_half_a_minute_of_faults_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    seed = SEED
    out = tmp_path / "soak"
    command = [sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS), "--seed", str(seed), "--out", str(out)]
    command += ["--rate", str(RATE), "--drain", "25"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    lines = run.stdout.splitlines()
    assert lines, run.stderr[-3000:]
    assert run.returncode == 0, f"make soak SECONDS={SECONDS} SEED={seed}: {lines[-1]}{run.stderr[-3000:]}"
    found = json.loads(lines[-1])
    assert found["ok"]
    assert (found["lost"], found["effects_twice"], found["unmatched"]) == (0, 0, 0)
    assert found["accepted"] > 300, found
    assert sum(found["kills"].values()) >= 1, found
    states = ("completed", "failed", "dead", "cancelled", "expired", "pending")
    assert found["accepted"] == sum(found[state] for state in states)
