"""A line to the broker that can be cut: a TCP proxy between one gateway and the broker. Changes no byte."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

_CHUNK_BYTES = 65_536


class Loop:
    """An event loop in a thread, for what has to go on while the harness waits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="soak-loop")
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], deadline_s: float = 10.0) -> Any:
        """Runs a coroutine there and waits for what it gives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(deadline_s)

    def close(self) -> None:
        """Ends whatever runs there, and the thread."""

        async def end() -> None:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        with contextlib.suppress(TimeoutError):
            self.run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Wire:
    """One such line.

    Attributes:
        port: where the gateway connects to.
    """

    def __init__(self, loop: Loop, target_port: int) -> None:
        self._loop, self._target = loop, target_port
        self._whole = True
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server = loop.run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._whole:
                raise ConnectionResetError
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            self._open -= {writer, far_writer}
            for one in (writer, far_writer):
                one.transport.abort()

    def cut(self) -> None:
        """Breaks what is connected and refuses what comes."""

        async def work() -> None:
            self._whole = False
            for writer in list(self._open):
                writer.transport.abort()

        self._loop.run(work())

    def mend(self) -> None:
        """Lets connections through again."""
        self._whole = True

    def close(self) -> None:
        """Stops listening."""

        async def work() -> None:
            self._server.close()

        self.cut()
        self._loop.run(work())


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
