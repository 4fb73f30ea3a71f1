"""The agencies' dossier applications: processes behind the gateways that take commands. Kept apart from the bus."""

from __future__ import annotations

import asyncio
import secrets
import socket
from pathlib import Path

from console.demo.cast import Service
from console.demo.processes import SAMPLE, Child, Processes

_FIRST_PORT, _PORTS = 20_000, 10_000


class Applications:
    """One application for each service that takes dossiers; it keeps its port over restarts.

    Args:
        processes: Runs them.
        work: Folder for their files.
    """

    def __init__(self, processes: Processes, work: Path) -> None:
        self._processes = processes
        self._work = work
        self._ports: dict[str, int] = {}
        self._children: dict[str, Child] = {}

    def address(self, service: Service) -> str:
        """Where it listens, or will."""
        return f"http://127.0.0.1:{self._ports.setdefault(service.code, free_port())}"

    def effects(self, service: Service) -> Path:
        """Its file: one line for each effect."""
        return self._work / f"{service.code.replace('/', '-')}-effects.jsonl"

    async def start(self, service: Service) -> None:
        """Start it and wait until it listens.

        Raises:
            DemoFailed: It does not.
        """
        port = self.address(service).rpartition(":")[2]
        name = f"application-{service.code.replace('/', '-')}"
        arguments = [*SAMPLE, "dossiers", "--effects", str(self.effects(service)), "--port", port]
        child = self._children[service.code] = await self._processes.start(name, arguments)
        await self._processes.wait_for(child, f"port {port}", lambda: _listens(int(port)))

    async def kill(self, service: Service) -> None:
        """SIGKILL to it."""
        await self._processes.kill(self._children.pop(service.code))


def free_port() -> int:
    """A free port below those that outgoing connections take, so that it is still free in a moment."""
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
