"""The README's code blocks, verbatim, in an empty folder: what a newcomer types."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PORTS = (4222, 8470, 8443, 8444, 9443, 9444)


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    if busy := [port for port in PORTS if not free(port)]:
        pytest.skip(f"the README's ports are in use on this machine: {busy}")
    folder = tmp_path_factory.mktemp("newcomer")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    script = "set -e\n" + "".join(blocks(text[text.index("## Put your own database") :]))
    programs = Path(sys.executable).parent
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=110)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, printed
    return printed


@pytest.mark.slow
def test_the_granted_call_is_answered_without_the_field_that_is_not_granted(output: str) -> None:
    assert '{"plate":"29A-123.45","make":"Sao Mai","firstRegistered":"2019-04-02"}' in output


@pytest.mark.slow
def test_the_call_for_another_purpose_is_refused_with_the_rule(output: str) -> None:
    assert '"code":"access-denied"' in output
    assert "refused   purpose-not-granted" in output


@pytest.mark.slow
def test_the_evidence_of_both_sides_matches(output: str) -> None:
    assert "RECONCILED: 4 matched, 0 explained, 0 unmatched, 0 malformed" in output


def test_every_option_shown_in_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for noun in sorted(set(re.findall(r"^\s*lienthong ([a-z]+)", "\n".join(blocks(text)), re.MULTILINE))):
        shown = subprocess.run(
            [sys.executable, "-m", "console.cli", noun, "--help"], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert shown.returncode == 0, noun
