"""The processes of the demonstration: each in a group of its own, none left behind.

A child dies with this process whatever happens to it (PR_SET_PDEATHSIG), and is stopped in order when all goes well.
Start from the main thread only: the death signal follows the thread that started the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bus.errors import BusError

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl
_TAIL_LINES = 15
_STOP_S = 15.0
_POLL_S = 0.03

LIENTHONG = (sys.executable, "-P", "-m", "console.cli")
SAMPLE = (sys.executable, "-P", "-m", "console.sample")
CLIENT = (sys.executable, "-P", "-m", "console.demo.client")
COMMAND_CLIENT = (sys.executable, "-P", "-m", "console.demo.commandclient")


class DemoFailed(BusError):
    """The demonstration cannot go on; the message names the process and shows its last lines."""

    code = "demo-failed"
    title = "The demonstration failed"
    disposition = "halt"


@dataclass(frozen=True, slots=True)
class Child:
    """A long-running process.

    Attributes:
        name: For messages.
        process: The process itself.
        output: File with everything that it wrote.
    """

    name: str
    process: asyncio.subprocess.Process
    output: Path

    def check(self) -> None:
        """Say so if it ended.

        Raises:
            DemoFailed: It did, with its last lines.
        """
        if self.process.returncode is not None:
            raise DemoFailed(f"{self.name} ended with code {self.process.returncode}; its last lines:\n{self.tail()}")

    def tail(self) -> str:
        """Its last lines."""
        return tail(self.output.read_text(encoding="utf-8", errors="replace"))


class Processes:
    """Starts, runs and stops processes.

    Args:
        work: Working folder of all of them; their output goes to `output/` in it.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self._output = work / "output"
        self._output.mkdir(parents=True, exist_ok=True)
        self._children: list[Child] = []

    async def start(self, name: str, arguments: Sequence[str], *, user: str | None = None) -> Child:
        """Start a long-running process.

        Args:
            name: For messages and the name of its output file.
            arguments: Program and arguments.
            user: Account to run as; for PostgreSQL, which refuses to run as root.
        """
        output = self._output / f"{name}.log"
        with output.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                cwd=self._work,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=_dies_with(os.getpid()),
                user=user,
            )
        child = Child(name, process, output)
        self._children.append(child)
        return child

    async def run(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        deadline_s: float = 60.0,
        codes: Sequence[int] = (0,),
        user: str | None = None,
    ) -> bytes:
        """Run a command to its end; what it wrote to stdout.

        Args:
            name: For messages.
            arguments: Program and arguments.
            deadline_s: Then it is killed.
            codes: Exit codes that are right.
            user: Account to run as.

        Raises:
            DemoFailed: Another exit code, or no end within the deadline.
        """
        process = await asyncio.create_subprocess_exec(
            *arguments,
            cwd=self._work,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_dies_with(os.getpid()),
            user=user,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), deadline_s)
        except TimeoutError as error:
            raise DemoFailed(f"{name}: no end after {deadline_s:g} s") from error
        finally:
            if process.returncode is None:
                _kill_group(process)
                await process.wait()
        if process.returncode not in codes:
            said = tail((out + err).decode(errors="replace"))
            raise DemoFailed(f"{name} ended with code {process.returncode}; its last lines:\n{said}")
        return out

    async def wait_for(
        self, child: Child, what: str, there: Callable[[], Awaitable[object]], *, deadline_s: float = 45.0
    ) -> None:
        """Wait until a process has done something that can be looked up.

        Args:
            child: The process.
            what: What is waited for, for messages.
            there: Looks it up; a true result ends the waiting.
            deadline_s: Longest wait.

        Raises:
            DemoFailed: The process ended, or the deadline passed.
        """
        until_s = asyncio.get_running_loop().time() + deadline_s
        while not await there():
            child.check()
            if asyncio.get_running_loop().time() > until_s:
                raise DemoFailed(
                    f"{child.name}: {what} is not there after {deadline_s:g} s; last lines:\n{child.tail()}"
                )
            await asyncio.sleep(_POLL_S)

    async def wait_for_file(self, child: Child, path: Path) -> None:
        """Wait until a process has written the file that says that it is there.

        Raises:
            DemoFailed: The process ended, or the deadline passed.
        """
        await self.wait_for(child, str(path), lambda: asyncio.to_thread(path.exists))

    def check(self) -> None:
        """Say so if a long-running process ended by itself.

        Raises:
            DemoFailed: One did.
        """
        for child in self._children:
            child.check()

    async def stop(self, child: Child) -> int:
        """Stop a process: SIGTERM, then SIGKILL to its whole group; its exit code."""
        process = child.process
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_S)
        _kill_group(process)
        code = await process.wait()
        if child in self._children:
            self._children.remove(child)
        return code

    async def kill(self, child: Child) -> None:
        """SIGKILL to a process and to all that it started, without a word before."""
        _kill_group(child.process)
        await child.process.wait()
        self._children.remove(child)

    async def stop_all(self) -> None:
        """Stop what still runs, the latest first."""
        while self._children:
            await self.stop(self._children[-1])


def _dies_with(parent: int) -> Callable[[], None]:
    def ask() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Ends what is left of a process and of those that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def tail(text: str) -> str:
    """The last lines of a text, indented."""
    lines = text.strip().splitlines()[-_TAIL_LINES:]
    return "\n".join(f"    {line}" for line in lines) or "    (nothing)"


async def together(*works: Coroutine[Any, Any, T]) -> list[T]:
    """Do independent work at the same time; the first failure ends the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(work) for work in works]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in started]
