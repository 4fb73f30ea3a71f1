"""Pages of the documentation as walk-throughs: their code blocks, typed in an empty folder as a newcomer does."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(text: str, language: str = "sh") -> list[str]:
    """The fenced blocks of a language, in order; those that show what was printed have none."""
    return [block["text"] for block in _BLOCK.finditer(text) if block["language"] == language]


def languages(text: str) -> set[str]:
    return {block["language"] for block in _BLOCK.finditer(text)}


def skip_unless_free(ports: Iterable[int]) -> None:
    if busy := [port for port in ports if not _free(port)]:
        pytest.skip(f"the page's ports are in use on this machine: {busy}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def typed(script: str, folder: Path, timeout_s: float = 110) -> str:
    """What the commands print, in that order, on either stream. Fails with all of it when one of them fails or hangs."""
    process = subprocess.Popen(
        ["bash", "-c", f"set -e\n{script}"],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    late = False
    try:
        printed, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        _end_session(process.pid)
    if late:
        printed, _ = process.communicate(timeout=10)
    assert not late, f"not through after {timeout_s} s:\n{printed}"
    assert process.returncode == 0, printed
    return printed


def _end_session(session: int) -> None:
    """Job control gives each of a page's processes a group of its own; all are in the session that was started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                if os.getsid(int(entry.name)) == session:
                    os.kill(int(entry.name), signal.SIGKILL)


def missing_lines(page: str, printed: str) -> list[str]:
    """Lines that the page shows as printed and that were not; numbers and digests may differ, `…` leaves something out."""
    lines = [_normal(line) for line in printed.splitlines()]
    shown = [line for block in blocks(page, "") for line in block.splitlines()]
    assert len(shown) > 10
    return [line for line in shown if not any(_pattern(line).fullmatch(one) for one in lines)]


def _pattern(shown: str) -> re.Pattern[str]:
    first, *others = shown.split("…")
    parts = [first.rstrip() if others else first, *(part.strip() for part in others)]
    return re.compile(".*".join(re.escape(_normal(part)) for part in parts))


def _normal(text: str) -> str:
    return re.sub(r"[0-9]+(\.[0-9]+)?", "0", re.sub(r"[0-9a-f]{8,64}", "#", text))
