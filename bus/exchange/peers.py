"""What this node knows of the logs of others, kept over restarts: newest proven checkpoints and forks.

A small SQLite file of its own, outside the exchange log: losing it loses memory, not evidence.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from bus.errors import StoreTooNew

SCHEMA_VERSION = 1


class PeersUnwritable(OSError):
    """The file cannot be written now; nothing was changed."""


@dataclass(frozen=True, slots=True)
class PeerHead:
    """The newest checkpoint of a peer's log that is joined to all earlier ones by a consistency proof."""

    origin: str
    node: str
    size: int
    root: bytes
    note: bytes


class Peers:
    """Peer heads and forks.

    Args:
        path: of the SQLite file.

    Raises:
        StoreTooNew: written by a newer version of the program.
        PeersUnwritable: the disk does not take it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._make_tables()
        except sqlite3.OperationalError as error:
            raise PeersUnwritable(f"{path} cannot be opened now ({error})") from error
        (version,) = self._db.execute("SELECT version FROM meta").fetchone()
        if version > SCHEMA_VERSION:
            self._db.close()
            raise StoreTooNew(f"{path} was written by a newer version of lienthong; use that version")

    def _make_tables(self) -> None:
        self._db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = NORMAL;
            CREATE TABLE IF NOT EXISTS meta (version INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS head (origin TEXT PRIMARY KEY, node TEXT NOT NULL, size INTEGER NOT NULL,
                root BLOB NOT NULL, note BLOB NOT NULL, at_s INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS fork (origin TEXT PRIMARY KEY, first BLOB NOT NULL, second BLOB NOT NULL);
            INSERT INTO meta SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM meta);
            """
        )

    def heads(self) -> list[PeerHead]:
        """All heads, the most recent first."""
        rows = self._db.execute("SELECT origin, node, size, root, note FROM head ORDER BY at_s DESC")
        return [PeerHead(*row) for row in rows]

    def keep(self, head: PeerHead, at_s: int) -> None:
        """Replaces the head of an origin.

        Raises:
            PeersUnwritable: the disk does not take it.
        """
        self._write(
            "INSERT INTO head VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE SET node = excluded.node,"
            " size = excluded.size, root = excluded.root, note = excluded.note, at_s = excluded.at_s",
            (head.origin, head.node, head.size, head.root, head.note, at_s),
        )

    def forks(self) -> dict[str, tuple[bytes, bytes]]:
        """Kept evidence of forks: two signed notes per origin."""
        return {origin: (first, second) for origin, first, second in self._db.execute("SELECT * FROM fork")}

    def keep_fork(self, origin: str, first: bytes, second: bytes) -> None:
        """Keeps the evidence of a fork for ever.

        Raises:
            PeersUnwritable: the disk does not take it.
        """
        self._write("INSERT OR IGNORE INTO fork VALUES (?, ?, ?)", (origin, first, second))

    def _write(self, sql: str, row: tuple[object, ...]) -> None:
        try:
            self._db.execute(sql, row)
        except sqlite3.Error as error:
            raise PeersUnwritable(f"what is known of peers cannot be written ({error})") from error

    def close(self) -> None:
        """Closes the file."""
        self._db.close()
