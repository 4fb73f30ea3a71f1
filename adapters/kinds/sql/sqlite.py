"""SQLite behind the kind `sql`: a few threads, each with a connection of its own.

Connections are opened read-only (`mode=ro` and `query_only`) unless the settings say otherwise. A statement past its
deadline is ended by SQLite's progress handler, so a thread never hangs. A file that was replaced by another (the usual
way to publish a snapshot) is opened anew within a second.

Results come back to the event loop in bunches: one wake-up serves all that finished meanwhile.
"""

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from adapters.errors import (
    Acted,
    AdapterError,
    BackendBusy,
    BackendTimeout,
    BackendUnreachable,
    MappingInvalid,
    SourceNotOpen,
)
from adapters.kinds.sql.database import MAX_STEP_ROWS, Fetched, Made, Steps
from adapters.kinds.sql.settings import SqlSettings
from adapters.kinds.sql.text import Statement

_STEPS_BETWEEN_LOOKS = 20_000  # virtual machine instructions: well under a millisecond
_LOOK_AT_FILE_S = 1.0
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_NOT_THERE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PROTOCOL,
}


class _Job:
    """One statement, or one transaction, on its way through a thread."""

    __slots__ = ("acted", "answer", "dropped", "future", "limit", "made", "statement", "steps", "until_s", "values")

    def __init__(
        self,
        statement: str,
        values: Sequence[object],
        limit: int,
        until_s: float,
        future: asyncio.Future[Fetched],
        acted: Acted,
        steps: Steps[Any] | None = None,
    ) -> None:
        self.steps = steps
        self.made: Any = None  # what the steps returned
        self.acted: Acted = acted
        self.statement = statement
        self.values = values
        self.limit = limit
        self.until_s = until_s
        self.future = future
        self.dropped = False
        self.answer: Fetched | AdapterError | None = None

    def expire(self) -> None:
        """The deadline is over: the waiter is told, the thread stops at its next look."""
        self.dropped = True
        if not self.future.done():
            self.future.set_exception(BackendTimeout("the database did not answer in time", acted=self.acted))


class SqliteDatabase:
    """See `adapters.kinds.sql.database.Database`."""

    def __init__(self, path: str, settings: SqlSettings) -> None:
        self._path = path
        self._settings = settings
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[_Job] = deque()
        self._waking = False
        self._pending = 0
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    async def open(self) -> None:
        """Start the threads; they open the file with their first statement."""
        if self._loop is not None:
            return
        self._loop, self._closing = asyncio.get_running_loop(), False
        for number in range(self._settings.connections):
            worker = _Worker(self._path, self._settings, self._jobs, self._finished)
            thread = threading.Thread(target=worker.run, name=f"lienthong-sqlite-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    async def close(self) -> None:
        """End the threads; what waits is answered first, within its deadline."""
        self._closing = True  # what came after the threads' last job would never be looked at
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            await asyncio.to_thread(thread.join, self._settings.statement_timeout_s + 1)
        self._loop = None

    async def fetch(self, statement: Statement, values: Sequence[object], limit: int, deadline_s: float) -> Fetched:
        """Run a statement in one of the threads.

        Raises:
            AdapterError: See `adapters.kinds.sql.database.Database.fetch`.
        """
        allowed_s, future = self._room(deadline_s)
        acted: Acted = "no" if self._settings.read_only else "unknown"
        job = _Job(statement.text, values, limit, time.monotonic() + allowed_s, future, acted)
        return await self._through_a_thread(job, allowed_s)

    async def transact(self, steps: Steps[Made], deadline_s: float) -> Made:
        """Run a transaction in one of the threads.

        Raises:
            AdapterError: See `adapters.kinds.sql.database.Database.transact`.
        """
        allowed_s, future = self._room(deadline_s)
        job = _Job("", (), 0, time.monotonic() + allowed_s, future, "unknown", steps)
        await self._through_a_thread(job, allowed_s)
        made: Made = job.made
        return made

    def _room(self, deadline_s: float) -> tuple[float, asyncio.Future[Fetched]]:
        loop = self._loop
        if loop is None or self._closing:
            raise SourceNotOpen("this source is not open", acted="no")
        if self._pending >= self._settings.connections + self._settings.waiting:
            raise BackendBusy("too many calls wait for this database; not asked, try again later", acted="no")
        return min(deadline_s, self._settings.statement_timeout_s), loop.create_future()

    async def _through_a_thread(self, job: _Job, allowed_s: float) -> Fetched:
        future = job.future
        self._pending += 1
        self._jobs.put(job)
        # a statement that may write is left to its thread, which knows whether it took effect
        grace_s = 0.0 if self._settings.read_only else 1.0
        timer = future.get_loop().call_later(allowed_s + grace_s, job.expire)
        try:
            return await future
        finally:
            timer.cancel()
            job.dropped = True

    async def describe(self, statement: Statement) -> tuple[str, ...]:
        """Columns of a statement, found by running it with NULLs; empty when statements may write.

        Raises:
            AdapterError: See `adapters.kinds.sql.database.Database.fetch`.
        """
        if not self._settings.read_only:
            return ()
        nothing = (None,) * len(statement.order)
        return (await self.fetch(statement, nothing, 0, self._settings.statement_timeout_s)).columns

    def _finished(self, job: _Job) -> None:
        """Called in a thread. One wake-up of the loop is enough for all that finish before it runs."""
        self._done.append(job)
        loop = self._loop
        if not self._waking and loop is not None:
            self._waking = True
            try:
                loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _deliver(self) -> None:
        self._waking = False  # first: what is appended from here on wakes the loop again
        done = self._done
        while done:
            job = done.popleft()
            self._pending -= 1
            if job.future.done():
                continue
            if isinstance(job.answer, Fetched):
                job.future.set_result(job.answer)
            elif job.answer is not None:
                job.future.set_exception(job.answer)
            else:
                job.future.cancel()


class _Worker:
    """One thread with one connection."""

    def __init__(
        self, path: str, settings: SqlSettings, jobs: "SimpleQueue[_Job | None]", finished: Callable[[_Job], None]
    ) -> None:
        self._path = Path(path).absolute()
        self._settings = settings
        self._jobs = jobs
        self._finished = finished
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._look_at_s = 0.0
        self._job: _Job | None = None
        self._failed_acted: Acted = "no" if settings.read_only else "unknown"

    def run(self) -> None:
        """Work until told to stop."""
        while (job := self._jobs.get()) is not None:
            if not job.dropped:
                self._job = job
                job.answer = self._answer(job)
            self._finished(job)
        self._drop()

    def _answer(self, job: _Job) -> Fetched | AdapterError:
        try:
            connection = self._connected()
            return self._run(connection, job) if job.steps is None else self._transact(connection, job, job.steps)
        except sqlite3.Error as error:
            return self._translated(error)
        except AdapterError as error:
            return error
        except OverflowError:
            return MappingInvalid("a value is beyond what SQLite can hold; look at the parameter's type", acted="no")
        except OSError as error:
            return BackendUnreachable(f"the database file cannot be used: {error.strerror}", acted="no")

    def _run(self, connection: sqlite3.Connection, job: _Job) -> Fetched:
        cursor = connection.execute(job.statement, job.values)
        try:
            rows = cursor.fetchmany(job.limit + 1) if job.limit else []
            columns = tuple([column[0] for column in cursor.description or ()])
        finally:
            cursor.close()
        return Fetched(columns, rows)

    def _transact(self, connection: sqlite3.Connection, job: _Job, steps: Steps[Any]) -> Fetched:
        """The steps between BEGIN and COMMIT; what is not committed is rolled back."""
        connection.execute("BEGIN IMMEDIATE")  # the lock that a later write would need: no deadlock half way
        try:
            step = next(steps)
            while True:
                cursor = connection.execute(step.statement.text, step.values)
                rows = cursor.fetchmany(MAX_STEP_ROWS)
                columns = tuple([column[0] for column in cursor.description or ()])
                cursor.close()
                step = steps.send(Fetched(columns, rows))
        except StopIteration as ended:
            job.made = ended.value
            connection.execute("COMMIT")
        finally:
            steps.close()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return Fetched((), ())

    def _connected(self) -> sqlite3.Connection:
        now_s = time.monotonic()
        if self._connection is not None and now_s < self._look_at_s:
            return self._connection
        found = self._path.stat()
        file = (found.st_dev, found.st_ino)
        if self._connection is None or file != self._file:
            self._drop()
            self._connection = self._opened()
            self._file = file
        self._look_at_s = now_s + _LOOK_AT_FILE_S
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        mode = "mode=ro" if self._settings.read_only else "mode=rw"
        options = f"?{mode}&immutable=1" if self._settings.immutable else f"?{mode}"
        connection = sqlite3.connect(
            self._path.as_uri() + options,
            uri=True,
            isolation_level=None,
            timeout=min(1.0, self._settings.statement_timeout_s),
            cached_statements=256,
        )
        if self._settings.read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA synchronous = FULL")  # what was answered is there after a power cut
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.set_progress_handler(self._overdue, _STEPS_BETWEEN_LOOKS)
        return connection

    def _overdue(self) -> bool:
        job = self._job
        return job is not None and (job.dropped or time.monotonic() > job.until_s)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _translated(self, error: sqlite3.Error) -> AdapterError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary of an extended code
        if code == sqlite3.SQLITE_INTERRUPT:
            return BackendTimeout("the statement took too long and was ended", acted="no")
        if code in _BUSY:
            return BackendBusy("the database is locked by another program; try again", acted="no")
        if code in _NOT_THERE:
            self._drop()
            return BackendUnreachable("the database file cannot be used", acted=self._failed_acted)
        return MappingInvalid("the statement does not fit the database (table, column, type or right)", acted="no")
