"""Writes sample tables, to a new SQLite file or into a PostgreSQL database. Tables that are there are replaced."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Row = tuple[str | None, ...]
_VERSION = ", version integer NOT NULL DEFAULT 1"


@dataclass(frozen=True, slots=True)
class Table:
    """One table of text columns.

    Attributes:
        name: Table name; with the columns a constant of this package, never from outside.
        columns: Column names; the first of `key` is unique.
        key: The key column.
        indexed: Further columns with an index, in byte order.
        rows: What goes in, sorted by key.
        versioned: Has a column `version` too, an integer that begins with 1.
    """

    name: str
    columns: tuple[str, ...]
    key: str
    indexed: tuple[str, ...]
    rows: Sequence[Row]
    versioned: bool = False


def write_sqlite(path: Path, tables: Sequence[Table]) -> None:
    """Write a new file in one transaction; it is put in place of an old one when it is complete.

    Args:
        path: The database file.
        tables: What it shall hold.
    """
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    connection = sqlite3.connect(unfinished, isolation_level=None)
    try:
        # nothing to lose before the rename: no journal, one sync at the end by the file system
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for table in tables:
            columns = ", ".join(f"{name} TEXT" for name in table.columns) + _VERSION * table.versioned
            connection.execute(f"CREATE TABLE {table.name} ({columns}, PRIMARY KEY ({table.key})) WITHOUT ROWID")
            marks = ", ".join("?" * len(table.columns))
            connection.executemany(_insert(table, marks), table.rows)
            for name in table.indexed:
                connection.execute(f"CREATE INDEX {table.name}_{name} ON {table.name} ({name})")
        connection.execute("COMMIT")
    finally:
        connection.close()
    unfinished.rename(path)


def _insert(table: Table, marks: str) -> str:
    return f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608 - constants


async def write_postgresql(address: str, tables: Sequence[Table], password: str | None = None) -> None:
    """Write into a PostgreSQL database in one transaction.

    Args:
        address: `postgresql://…`.
        tables: What it shall hold.
        password: Of the address' user, when it needs one.
    """
    import asyncpg

    connection = await asyncpg.connect(address, password=password)
    try:
        async with connection.transaction():
            for table in tables:
                columns = ", ".join(f'{name} text COLLATE "C"' for name in table.columns) + _VERSION * table.versioned
                await connection.execute(f"DROP TABLE IF EXISTS {table.name}")
                await connection.execute(f"CREATE TABLE {table.name} ({columns})")
                await connection.copy_records_to_table(table.name, records=table.rows, columns=table.columns)
                await connection.execute(f"ALTER TABLE {table.name} ADD PRIMARY KEY ({table.key})")
                for name in table.indexed:
                    await connection.execute(f"CREATE INDEX ON {table.name} ({name})")
                await connection.execute(f"ANALYZE {table.name}")
    finally:
        await connection.close()
