"""One thread that reads the store: questions that come together are answered together, with one wake-up each way.

Reads only, over one connection. Knows no tables.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from pathlib import Path
from typing import Any

from evidence.errors import SourceUnreadable

_Asked = tuple[asyncio.Future[list[Any]], str, tuple[object, ...]]
_Given = tuple[asyncio.Future[list[Any]], list[Any] | SourceUnreadable]
_MOST = 64


class ReaderThread:
    """Reads one database file, which is there already.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._asked: deque[_Asked] = deque()
        self._awake = False
        self._wake: queue.SimpleQueue[asyncio.AbstractEventLoop | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="delivery-reader", daemon=True)
        self._thread.start()

    async def ask(self, sql: str, params: tuple[object, ...]) -> list[Any]:
        """All rows.

        Raises:
            SourceUnreadable: the file cannot be read.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        self._asked.append((future, sql, params))
        if not self._awake:
            self._awake = True
            self._wake.put(loop)
        return await future

    def close(self) -> None:
        """Ends the thread, once what was asked is answered."""
        self._wake.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (loop := self._wake.get()) is not None:
                given: list[_Given] = []
                while self._asked and len(given) < _MOST:
                    future, sql, params = self._asked.popleft()
                    given.append((future, self._read(sql, params)))
                try:
                    loop.call_soon_threadsafe(self._give, loop, given)
                except RuntimeError:
                    return  # the loop is closed: nobody is left to tell
        finally:
            if self._db is not None:
                self._db.close()

    def _read(self, sql: str, params: tuple[object, ...]) -> list[Any] | SourceUnreadable:
        try:
            if self._db is None:
                self._db = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, cached_statements=256)
            return self._db.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            unreadable = SourceUnreadable(f"the exchange log {self._path} cannot be read ({error})")
            unreadable.__cause__ = error
            return unreadable

    def _give(self, loop: asyncio.AbstractEventLoop, given: list[_Given]) -> None:
        """In the event loop."""
        if self._asked:
            self._wake.put(loop)
        else:
            self._awake = False
        for future, found in given:
            if future.done():
                continue
            if isinstance(found, SourceUnreadable):
                future.set_exception(found)
            else:
                future.set_result(found)
