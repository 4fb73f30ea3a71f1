"""Child processes of a run: own process groups, ended with their parent, stopped in every case."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
ROOT = Path(__file__).resolve().parent.parent
LIENTHONG = (sys.executable, "-m", "console.cli")
STOP_DEADLINE_S = 20.0


class BenchFailed(RuntimeError):
    """The run means nothing: something did not start, answered wrongly, or broke a rule of measuring."""


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One process and everything that it starts.

    Args:
        name: For messages, and of its log file.
        command: Program and arguments.
        folder: Where its error output goes.
        env: Added to the environment.
        pipes: Whether to talk with it over standard input and output.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        env: Mapping[str, str] | None = None,
        pipes: bool = False,
    ) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no other thread runs when children are started
                text=True,
            )

    @property
    def pid(self) -> int:
        """Process id, also of its group."""
        return self.process.pid

    def check(self) -> None:
        """Says so when it has ended.

        Raises:
            BenchFailed: With the end of its output.
        """
        if self.process.poll() is not None:
            raise BenchFailed(f"{self.name} ended with code {self.process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self.output.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Sends one line of JSON and waits for one.

        Raises:
            BenchFailed: It ended.
        """
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(question) + "\n")
            stdin.flush()
        return self._answer(stdout)

    def _answer(self, stdout: IO[str]) -> dict[str, Any]:
        line = stdout.readline()
        if not line:
            self.process.wait(STOP_DEADLINE_S)
            raise BenchFailed(f"{self.name} gave no answer:\n{self.tail()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for its whole group."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_DEADLINE_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Children:
    """All processes of a run; leaving the context stops them, the last one first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._running):
            child.stop()
        self._running.clear()

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None, pipes: bool = False
    ) -> Child:
        """Starts a process."""
        child = Child(name, command, self.folder, env, pipes)
        self._running.append(child)
        return child

    def stop(self, child: Child) -> None:
        """Stops one before the others."""
        if child in self._running:
            self._running.remove(child)
            child.stop()

    def wait_for(self, what: str, ready: Callable[[], Any], deadline_s: float = 30.0) -> Any:
        """Polls until `ready` gives something true.

        Raises:
            BenchFailed: A process ended, or the time is over.
        """
        until_s = time.monotonic() + deadline_s
        while time.monotonic() < until_s:
            for child in self._running:
                child.check()
            found = ready()
            if found:
                return found
            time.sleep(0.02)
        tails = "\n".join(f"--- {child.name}\n{child.tail()}" for child in self._running)
        raise BenchFailed(f"{what} was not ready within {deadline_s:g} s\n{tails}")


def read_json(path: Path) -> dict[str, Any] | None:
    """An announced file, None while it is not there."""
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts


def raise_on_signals() -> None:
    """Makes SIGTERM and SIGHUP end the run like control-C: what was started is stopped."""

    def ended(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
