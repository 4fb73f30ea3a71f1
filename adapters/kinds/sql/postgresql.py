"""PostgreSQL behind the kind `sql`, through asyncpg.

Sessions are read-only by default and have a statement timeout on the server, so that nothing runs on when this side is
gone. The password is read from its file for every new connection: a changed one is picked up without a restart.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import asyncpg

from adapters.errors import (
    Acted,
    AdapterError,
    BackendBusy,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    MappingInvalid,
    SourceNotOpen,
)
from adapters.kinds.settings import read_secret
from adapters.kinds.sql.database import MAX_STEP_ROWS, Fetched, Made, Steps
from adapters.kinds.sql.settings import SqlSettings
from adapters.kinds.sql.text import Statement

_IDLE_S = 300.0
_REFUSED = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientPrivilegeError,
)
_BUSY = (asyncpg.TooManyConnectionsError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_NOT_THERE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InvalidCatalogNameError,
    OSError,
)


class PostgresqlDatabase:
    """See `adapters.kinds.sql.database.Database`."""

    def __init__(self, address: str, settings: SqlSettings) -> None:
        self._address = address
        self._settings = settings
        self._pool: asyncpg.Pool | None = None
        self._pending = 0
        self._failed_acted: Acted = "no" if settings.read_only else "unknown"

    async def open(self) -> None:
        """Make the pool; it connects when it is first used.

        Raises:
            SettingsInvalid: The password file cannot be used, or the address cannot be read.
        """
        if self._pool is not None:
            return
        settings = self._settings
        if settings.password_file:
            read_secret(settings.password_file, "password_file")
        self._pool = await asyncpg.create_pool(
            self._address,
            min_size=0,
            max_size=settings.connections,
            max_inactive_connection_lifetime=_IDLE_S,
            timeout=settings.connect_timeout_s,
            password=self._password if settings.password_file else None,
            reset=_keep,
            server_settings={
                "application_name": "lienthong",
                "default_transaction_read_only": "on" if settings.read_only else "off",
                "statement_timeout": str(max(1, round(settings.statement_timeout_s * 1000))),
                "idle_in_transaction_session_timeout": "10000",
            },
        )

    async def close(self) -> None:
        """Close the pool; what does not end by itself is cut off."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), self._settings.statement_timeout_s + 1)
            except TimeoutError:
                pool.terminate()

    async def fetch(self, statement: Statement, values: Sequence[object], limit: int, deadline_s: float) -> Fetched:
        """Run a statement on a connection of the pool.

        Raises:
            AdapterError: See `adapters.kinds.sql.database.Database.fetch`.
        """
        if self._pending >= self._settings.connections + self._settings.waiting:
            raise BackendBusy("too many calls wait for this database; not asked, try again later", acted="no")
        allowed_s = min(deadline_s, self._settings.statement_timeout_s)
        self._pending += 1
        try:
            async with asyncio.timeout(allowed_s), self._acquired() as connection:
                rows = await self._rows(connection, statement.text, values, limit)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise self._translated(error) from None  # its text may hold values
        finally:
            self._pending -= 1
        return Fetched(tuple(rows[0].keys()) if rows else (), rows)

    async def transact(self, steps: Steps[Made], deadline_s: float) -> Made:
        """Run a transaction on a connection of the pool.

        Raises:
            AdapterError: See `adapters.kinds.sql.database.Database.transact`.
        """
        if self._pending >= self._settings.connections + self._settings.waiting:
            raise BackendBusy("too many calls wait for this database; not asked, try again later", acted="no")
        allowed_s = min(deadline_s, self._settings.statement_timeout_s)
        self._pending += 1
        attempt = _Attempt()
        try:
            async with asyncio.timeout(allowed_s), self._acquired() as connection:
                return await _transacted(connection, steps, attempt)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise self._translated(error, "unknown" if attempt.committing else "no") from None
        finally:
            steps.close()
            self._pending -= 1

    async def describe(self, statement: Statement) -> tuple[str, ...]:
        """Columns of a statement, from preparing it.

        Raises:
            AdapterError: See `adapters.kinds.sql.database.Database.fetch`.
        """
        limit_s = self._settings.connect_timeout_s + self._settings.statement_timeout_s
        try:
            async with asyncio.timeout(limit_s), self._acquired() as connection:
                prepared = await connection.prepare(statement.text)
                return tuple(attribute.name for attribute in prepared.get_attributes())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise self._translated(error) from None

    async def _rows(
        self, connection: asyncpg.Connection, text: str, values: Sequence[object], limit: int
    ) -> list[asyncpg.Record]:
        if limit <= 1:
            rows: list[asyncpg.Record] = await connection.fetch(text, *values)
            return rows
        # a cursor, so that a statement without LIMIT cannot fill the memory
        async with connection.transaction(readonly=self._settings.read_only):
            cursor = await connection.cursor(text, *values)
            found: list[asyncpg.Record] = await cursor.fetch(limit + 1)
            return found

    def _acquired(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A connection for a while. asyncpg bounds giving it back by the same time as getting it."""
        if self._pool is None:
            raise SourceNotOpen("this source is not open", acted="no")
        acquiring: AbstractAsyncContextManager[asyncpg.Connection] = self._pool.acquire(
            timeout=self._settings.connect_timeout_s
        )
        return acquiring

    def _password(self) -> str:
        return read_secret(self._settings.password_file, "password_file")

    def _translated(self, error: Exception, acted: Acted | None = None) -> AdapterError:
        """By kind of error only: PostgreSQL's own messages may repeat values."""
        acted = acted or self._failed_acted
        if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
            return BackendTimeout("the database did not answer in time", acted=acted)
        if isinstance(error, _BUSY):
            return BackendBusy("the database has no room for this call now; try again", acted="no")
        if isinstance(error, _REFUSED):
            return BackendRefused("the database refuses this gateway's user or its rights", acted="no")
        if isinstance(error, _NOT_THERE):
            return BackendUnreachable("no connection to the database, or it broke", acted=acted)
        if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, asyncpg.DataError | ValueError):
            return BackendUnreachable("the connection to the database cannot be used", acted=acted)
        name = type(error).__name__
        return MappingInvalid(f"the statement does not fit the database ({name})", acted="no")


async def _keep(_connection: asyncpg.Connection) -> None:
    """Nothing to reset: statements are constant and change no session state. Saves a round trip a call."""


class _Attempt:
    """How far a transaction came."""

    __slots__ = ("committing",)

    def __init__(self) -> None:
        self.committing = False


async def _transacted(connection: asyncpg.Connection, steps: Steps[Made], attempt: _Attempt) -> Made:
    transaction = connection.transaction()
    try:
        await transaction.start()
        step = next(steps)
        while True:
            rows = await connection.fetch(step.statement.text, *step.values)
            step = steps.send(Fetched(tuple(rows[0].keys()) if rows else (), rows[:MAX_STEP_ROWS]))
    except StopIteration as ended:
        made: Made = ended.value
    except BaseException:
        connection.terminate()  # nothing half done goes back into the pool; the server rolls back
        raise
    try:
        attempt.committing = True
        await transaction.commit()
    except BaseException:
        connection.terminate()
        raise
    return made
