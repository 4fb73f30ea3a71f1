"""The tables of a log database, and how an older database is brought up to date.

| table | holds |
|---|---|
| `meta` | `schema_version`, `origin`, `verifier_key` |
| `head` | one row: size, root and right edge of the newest committed tree |
| `leaf` | every leaf with its RFC 9162 hash |
| `tile` | full tiles of 256 hashes, each with its own root |
| `note` | the signed checkpoint of every commit |

Callers keep tables of their own in the same file; they create them with `CREATE TABLE IF NOT EXISTS`.
"""

import sqlite3
from collections.abc import Sequence

from evidence.errors import LogMismatch, SchemaNewer
from evidence.merkle import EMPTY_ROOT

_VERSION_1 = (
    """
    CREATE TABLE head (
        id INTEGER PRIMARY KEY CHECK (id = 1), size INTEGER NOT NULL, root BLOB NOT NULL, edge BLOB NOT NULL
    ) STRICT
    """,
    "CREATE TABLE leaf (idx INTEGER PRIMARY KEY, hash BLOB NOT NULL, data BLOB NOT NULL) STRICT",
    # the root stands before the hashes: reading it does not touch the overflow pages of the 8 KB blob
    """
    CREATE TABLE tile (
        level INTEGER NOT NULL, idx INTEGER NOT NULL, root BLOB NOT NULL, hashes BLOB NOT NULL, PRIMARY KEY (level, idx)
    ) STRICT
    """,
    "CREATE TABLE note (size INTEGER PRIMARY KEY, note BLOB NOT NULL) STRICT",
    f"INSERT INTO head (id, size, root, edge) VALUES (1, 0, x'{EMPTY_ROOT.hex()}', x'')",  # noqa: S608  a constant
)

MIGRATIONS: tuple[Sequence[str], ...] = (_VERSION_1,)
"""Entry *n* brings a database from version *n* to *n* + 1; an empty file has version 0."""


def read_version(connection: sqlite3.Connection) -> int:
    """Schema version of a database; 0 if it has no `meta` table."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'").fetchone()
    if found is None:
        return 0
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    return 0 if row is None else int(row[0])


def check_version(found: int, supported: int = len(MIGRATIONS)) -> None:
    """Refuse a database of the future.

    Raises:
        SchemaNewer: This program is older than the database; use a newer program, do not go back.
    """
    if found > supported:
        raise SchemaNewer(
            f"the log database has schema version {found}, this program knows up to {supported}: use a newer program",
            found=found,
            supported=supported,
        )


def initialise(
    connection: sqlite3.Connection,
    *,
    origin: str,
    verifier_key: str,
    earlier_keys: Sequence[str] = (),
    migrations: Sequence[Sequence[str]] = MIGRATIONS,
) -> None:
    """Create or migrate the tables, inside a transaction that the caller holds.

    Args:
        connection: In a write transaction.
        origin: Origin of the log; stored at creation, compared afterwards.
        verifier_key: Verifier key of the log; likewise, unless the stored one is among `earlier_keys`.
        earlier_keys: Keys that signed this log before; the stored one gives way to `verifier_key`.
        migrations: See `MIGRATIONS`.

    Raises:
        SchemaNewer: See `check_version`.
        LogMismatch: The file belongs to another origin or key.
    """
    version = read_version(connection)
    check_version(version, len(migrations))
    connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
    for statements in migrations[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(
        "INSERT INTO meta VALUES ('schema_version', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (str(len(migrations)),),
    )
    for key, value in (("origin", origin), ("verifier_key", verifier_key)):
        connection.execute("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING", (key, value))
        stored = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0]
        if stored != value and key == "verifier_key" and stored in earlier_keys:
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
        elif stored != value:
            raise LogMismatch(
                f"this log database belongs to another {key.replace('_', ' ')} than configured: "
                "check the path, or declare a new incarnation with its own file"
            )
