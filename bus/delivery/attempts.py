"""When the next attempt at a task is, and how many were made: kept in a small file of its own beside the log.

Nothing here is told to anybody, so nothing here needs a record. A file that is lost or torn makes attempts come
earlier, never later, and loses no command: what is to be done stands in the log's database. Writes are in order and not
waited for; a process that is killed keeps them, a machine that loses power may not.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from bus.errors import StoreTooNew

_log = structlog.get_logger("lienthong.delivery")
_VERSION = 1
_TABLE = (
    "CREATE TABLE IF NOT EXISTS attempt (idx INTEGER PRIMARY KEY, attempts INTEGER NOT NULL, due_s REAL NOT NULL,"
    " code TEXT NOT NULL, detail TEXT NOT NULL)"
)
_MOST_DOUBLINGS = 30

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How attempts at a service's commands follow each other.

    Attributes:
        first_s: wait after the first attempt that did not succeed; doubled each time.
        longest_s: longest wait.
        age_s: after this time a command is a dead letter.
        most: after this many attempts, too.
    """

    first_s: float = 5.0
    longest_s: float = 900.0
    age_s: float = 259_200.0
    most: int = 1_000

    def wait_s(self, made: int, random: int, asked_s: float = 0.0) -> float:
        """Wait after `made` attempts: between half and all of what is due, and what the source asked for.

        Args:
            made: attempts so far.
            random: 0 to 255.
            asked_s: what the source asked to wait; at most `longest_s` of it counts.
        """
        due_s = min(self.first_s * 2.0 ** min(max(made - 1, 0), _MOST_DOUBLINGS), self.longest_s)
        return max(due_s * (0.5 + random / 510), min(asked_s, self.longest_s))

    def over(self, made: int, age_s: float) -> bool:
        """Whether no further attempt is made."""
        return made >= self.most or age_s >= self.age_s


class Made(msgspec.Struct, frozen=True):
    """What was tried at a task: attempts, when the next one is (seconds since 1970), why the last one failed."""

    attempts: int = 0
    due_s: float = 0.0
    code: str = ""
    detail: str = ""


class AttemptBook:
    """Attempts at the open tasks of one node.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="attempts")

    async def load(self) -> dict[int, float]:
        """When the next attempts are, by log index.

        Raises:
            StoreTooNew: a newer version wrote the file.
        """
        return dict(await self._run(lambda db: db.execute("SELECT idx, due_s FROM attempt").fetchall(), []))

    async def get(self, idx: int) -> Made:
        """What was tried so far."""
        sql = "SELECT attempts, due_s, code, detail FROM attempt WHERE idx = ?"
        row = await self._run(lambda db: db.execute(sql, (idx,)).fetchone(), None)
        return Made() if row is None else Made(*row)

    async def get_all(self, indexes: Iterable[int]) -> dict[int, Made]:
        """What was tried at each of these, where something was."""
        return {idx: made for idx in indexes if (made := await self.get(idx)).attempts}

    def put(self, idx: int, made: Made) -> None:
        """An attempt was made, and another one follows."""
        row = (idx, made.attempts, made.due_s, made.code, made.detail)
        self._write("INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?, ?)", [row])

    def forget(self, indexes: Iterable[int]) -> None:
        """These have their end."""
        self._write("DELETE FROM attempt WHERE idx = ?", [(idx,) for idx in indexes])

    def _write(self, sql: str, rows: list[tuple[object, ...]]) -> None:
        def write() -> None:
            try:
                with self._opened() as db:
                    db.executemany(sql, rows)
            except sqlite3.Error as error:  # attempts come earlier after a restart, no more
                self._db = None
                _log.warning("attempts.unwritten", error=type(error).__name__)

        self._thread.submit(write)

    async def _run(self, ask: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        def work() -> T:
            try:
                return ask(self._opened())
            except sqlite3.Error as error:
                self._db = None
                _log.warning("attempts.unread", error=type(error).__name__)
                return otherwise

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            db = sqlite3.connect(self._path)
            try:
                (version,) = db.execute("PRAGMA user_version").fetchone()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # torn: it is only about when attempts are
                db.close()
                self._path.replace(self._path.with_suffix(".damaged"))
                _log.warning("attempts.damaged", kept=f"{self._path.stem}.damaged")
                raise
            if version > _VERSION:
                db.close()
                raise StoreTooNew(f"{self._path} was written by a newer version of lienthong; use that version")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(_TABLE)
            db.execute(f"PRAGMA user_version = {_VERSION}")
            self._db = db
        return self._db

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        self._thread.submit(self._disconnect)
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
