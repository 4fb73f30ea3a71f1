"""Opening a SQLite file of this room: schema version, instance, durability.

One writer per file (protocol.md "Stores"; the system's SQLite may be old). Holds no schema: each store brings its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from registry.errors import StoreUnusable, StoreUnwritable

_PASSING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""Primary result codes of what space or a working disk heals; codes of SQLite, <https://www.sqlite.org/rescode.html>."""
_META = "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


def open_store(path: Path, *, kind: str, version: int, genesis: str, schema: tuple[str, ...]) -> sqlite3.Connection:
    """Open or create a store.

    Args:
        path: The file; its directory exists. `:memory:` works too.
        kind: What the file is, e.g. `directory-copy`; a file of another kind is refused.
        version: Newest schema version that this program writes.
        genesis: The instance; a file of another one is refused.
        schema: `CREATE TABLE IF NOT EXISTS …` statements.

    Raises:
        StoreUnwritable: The disk is full or fails: later, it may be opened.
        StoreUnusable: Another kind, instance or newer version, or not a usable database.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    except sqlite3.Error as error:
        raise _refusal(error)(f"{path} cannot be opened ({error.__class__.__name__})") from None
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_META)
        _check_meta(connection, path, {"kind": kind, "version": str(version), "genesis": genesis})
        for statement in schema:
            connection.execute(statement)
    except sqlite3.Error as error:
        connection.close()
        raise _refusal(error)(f"{path} cannot be used as {kind} ({error.__class__.__name__})") from None
    except StoreUnusable:
        connection.close()
        raise
    return connection


def _refusal(error: sqlite3.Error) -> type[StoreUnusable]:
    return StoreUnwritable if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING else StoreUnusable


def _check_meta(connection: sqlite3.Connection, path: Path, expected: Mapping[str, str]) -> None:
    found = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('kind', 'version', 'genesis')"))
    if not found:
        connection.executemany("INSERT INTO meta VALUES (?, ?)", expected.items())
        return
    if found.get("kind") != expected["kind"]:
        raise StoreUnusable(f"{path} is not a {expected['kind']}")
    if found.get("genesis") != expected["genesis"]:
        raise StoreUnusable(f"{path} belongs to another instance")
    if int(found["version"]) > int(expected["version"]):
        raise StoreUnusable(f"{path} was written by a newer program (schema {found['version']}): update this one")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; without any await inside.

    Raises:
        StoreUnusable: SQLite failed; nothing was written.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise StoreUnusable(f"the store could not be written ({error.__class__.__name__})") from error
