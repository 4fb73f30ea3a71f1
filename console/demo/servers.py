"""The broker of the demonstration as a cluster: three servers, each a process of its own, killed and started by number.

Knows their processes and files only; what is under way meanwhile is the scene's (`console.demo.cluster`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from console.demo.processes import LIENTHONG, Child, DemoFailed, Processes, together

NUMBERS = (1, 2, 3)


class Servers:
    """See the module.

    Args:
        processes: Starts and ends them.
        home: Home of the instance.
        free_port: Gives a free port.

    Attributes:
        kills: How many were killed.
    """

    def __init__(self, processes: Processes, home: Path, free_port: Callable[[], int]) -> None:
        self._processes = processes
        self._home = home
        self._addresses = [f"127.0.0.1:{free_port()}" for _ in NUMBERS]
        self._routes = [f"127.0.0.1:{free_port()}" for _ in NUMBERS]
        self._children: dict[int, Child] = {}
        self.kills = 0

    @property
    def options(self) -> tuple[str, ...]:
        """What `lienthong init instance` is told."""
        return ("--broker-cluster", ",".join(self._addresses), "--broker-routes", ",".join(self._routes))

    @property
    def url(self) -> str:
        """Address of the first."""
        return f"tls://{self._addresses[0]}"

    def folder(self, number: int) -> Path:
        """Of a server."""
        return self._home / "broker" / "servers" / str(number)

    async def start(self, numbers: Iterable[int] = NUMBERS) -> None:
        """Start servers and wait until each takes clients.

        Raises:
            DemoFailed: One did not start.
        """
        await together(*(self._start(number) for number in numbers))

    async def _start(self, number: int) -> None:
        listening = self.folder(number) / "listening.json"
        listening.unlink(missing_ok=True)
        words = ("broker", "--home", str(self._home), "--server", str(number))
        child = await self._processes.start(f"broker-{number}", [*LIENTHONG, *words])
        await self._processes.wait_for_file(child, listening)
        self._children[number] = child

    async def kill(self, numbers: Iterable[int]) -> None:
        """SIGKILL for servers, and for the processes that keep them, all before the first is waited for."""
        numbers = tuple(numbers)
        for number in numbers:
            pid = json.loads((self.folder(number) / "listening.json").read_text())["server_pid"]
            for one in (pid, self._children[number].process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
        for number in numbers:
            await self._processes.stop(self._children.pop(number))
            self.kills += 1

    async def leader(self, stream: str) -> int:
        """The server that leads a stream; 0 while nobody knows.

        Args:
            stream: Its name.
        """
        for number in tuple(self._children):
            found = await asyncio.to_thread(_page, self.folder(number), "/jsz?streams=true&accounts=true")
            for account in found.get("account_details") or []:
                for one in account.get("stream_detail") or []:
                    leader = str((one.get("cluster") or {}).get("leader", ""))
                    if one.get("name") == stream and leader:
                        return int(leader.rpartition("-")[2])
        return 0

    async def until_leader(self, stream: str, other_than: int = 0, deadline_s: float = 30.0) -> int:
        """Wait until a stream has a leader.

        Raises:
            DemoFailed: It has none, or still that one.
        """
        end_s = asyncio.get_running_loop().time() + deadline_s
        while (leader := await self.leader(stream)) in {0, other_than}:
            if asyncio.get_running_loop().time() > end_s:
                raise DemoFailed(f"the stream {stream} has no leader after {deadline_s:g} s")
            await asyncio.sleep(0.1)
        return leader


def _page(folder: Path, path: str) -> dict[str, Any]:
    from urllib.request import urlopen

    try:
        monitor = json.loads((folder / "listening.json").read_text())["monitor"]
        with urlopen(f"{monitor}{path}", timeout=2) as answer:  # noqa: S310 - our own server on loopback
            found: dict[str, Any] = json.loads(answer.read())
    except (OSError, ValueError):
        return {}
    return found
