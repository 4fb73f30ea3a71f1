"""Storage of a log: the port, and SQLite behind it.

The steps of a commit are separate methods, so that a test can make each of them fail, or kill the process at it. All of
them run on one connection. The event-loop thread calls everything up to `write_caller_rows` (memory only); `commit`,
`checkpoint` and `recover` touch the disk and run in the writer thread. The two never overlap: their owner sees to that.

Trusted? No: whoever owns the file can change or delete it. They cannot make released proofs fail, and changes show in
`evidence.verify`.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from evidence.durable import sync_folder
from evidence.errors import LogUnwritable, RowRefused
from evidence.log import schema as tables
from evidence.log.tree import Head
from evidence.tiles import FullTile

BUSY_TIMEOUT_MS = 5_000
CACHE_KIB = 8_192
WAL_LIMIT_BYTES = 64 << 20


class Store(Protocol):
    """What the log needs of its storage. Failures surface as `sqlite3.Error`, `OSError` or `EvidenceError`."""

    def open(self) -> None:
        """Connect for writing."""
        ...

    def recover(self) -> None:
        """Rewrite and sync everything that may have survived in caches only."""
        ...

    def initialise(
        self, origin: str, verifier_key: str, schema: Sequence[str], earlier_keys: Sequence[str] = ()
    ) -> None:
        """Create or migrate the tables, then run the caller's statements."""
        ...

    def head(self) -> Head:
        """The newest committed tree."""
        ...

    def tail(self, start: int) -> list[tuple[int, bytes, bytes]]:
        """Rows `(index, hash, leaf)` from index `start` on."""
        ...

    def tile_roots(self, level: int, start: int) -> list[bytes]:
        """Roots of the full tiles of a level, from tile `start` on, without gaps."""
        ...

    def tile(self, level: int, index: int) -> bytes | None:
        """The hashes of a full tile."""
        ...

    def note(self, size: int) -> bytes | None:
        """The signed checkpoint of that size."""
        ...

    def begin(self) -> None:
        """Begin a write transaction."""
        ...

    def guard_head(self, old: Head, new: Head) -> None:
        """Move the head, if it still is `old`."""
        ...

    def write_leaves(self, first: int, hashes: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        """Insert leaves from index `first` on."""
        ...

    def write_tiles(self, tiles: Sequence[FullTile]) -> None:
        """Insert tiles that became complete."""
        ...

    def write_note(self, size: int, note: bytes) -> None:
        """Insert the signed checkpoint."""
        ...

    def write_caller_rows(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement of callers for each row; `RowRefused` if a row or the statement is at fault itself."""
        ...

    def commit(self) -> None:
        """Make the transaction durable."""
        ...

    def rollback(self) -> None:
        """Undo the transaction."""
        ...

    def checkpoint(self) -> int:
        """Move what is possible from the write-ahead log into the database; pages that had to stay."""
        ...

    def close(self) -> None:
        """Disconnect; an open transaction is lost."""
        ...


class SqliteStore:
    """A log in one SQLite file: write-ahead log, `synchronous=FULL`, one writing connection.

    The write-ahead log is checkpointed by this connection only and never by SQLite on its own. PASSIVE checkpoints do
    not wait for readers and readers never wait for them.
    """

    __slots__ = ("_connection", "_path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._connection: sqlite3.Connection | None = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise LogUnwritable("the log database is not open")
        return self._connection

    def open(self) -> None:
        """See `Store.open`."""
        existed = self._path.exists()
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640))
        connection = sqlite3.connect(
            self._path,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        try:
            if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
                raise LogUnwritable("the log needs a file system on which SQLite can use a write-ahead log")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            connection.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
            connection.execute("PRAGMA temp_store=MEMORY")
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        if not existed:
            sync_folder(self._path.parent)

    def recover(self) -> None:
        """See `Store.recover`.

        After a failed fsync the kernel may have dropped the dirty mark of pages that never reached the disk. Copying
        the write-ahead log into the database and syncing that makes them dirty, and durable, again.
        """
        busy, pages, moved = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy or pages != moved:
            raise LogUnwritable("a reader keeps the log from being checkpointed: end long-running readers")

    def initialise(
        self, origin: str, verifier_key: str, schema: Sequence[str], earlier_keys: Sequence[str] = ()
    ) -> None:
        """See `Store.initialise`."""
        db = self._db
        tables.check_version(tables.read_version(db))
        db.execute("BEGIN IMMEDIATE")
        try:
            tables.initialise(db, origin=origin, verifier_key=verifier_key, earlier_keys=earlier_keys)
            for statement in schema:
                db.execute(statement)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def head(self) -> Head:
        """See `Store.head`."""
        return Head(*self._db.execute("SELECT size, root, edge FROM head WHERE id = 1").fetchone())

    def tail(self, start: int) -> list[tuple[int, bytes, bytes]]:
        """See `Store.tail`."""
        return self._db.execute("SELECT idx, hash, data FROM leaf WHERE idx >= ? ORDER BY idx", (start,)).fetchall()

    def tile_roots(self, level: int, start: int) -> list[bytes]:
        """See `Store.tile_roots`."""
        rows = self._db.execute(
            "SELECT idx, root FROM tile WHERE level = ? AND idx >= ? ORDER BY idx", (level, start)
        ).fetchall()
        return [root for at, (index, root) in enumerate(rows) if index == start + at]

    def tile(self, level: int, index: int) -> bytes | None:
        """See `Store.tile`."""
        row = self._db.execute("SELECT hashes FROM tile WHERE level = ? AND idx = ?", (level, index)).fetchone()
        return None if row is None else row[0]

    def note(self, size: int) -> bytes | None:
        """See `Store.note`."""
        row = self._db.execute("SELECT note FROM note WHERE size = ?", (size,)).fetchone()
        return None if row is None else row[0]

    def begin(self) -> None:
        """See `Store.begin`."""
        self._db.execute("BEGIN IMMEDIATE")

    def guard_head(self, old: Head, new: Head) -> None:
        """See `Store.guard_head`.

        Raises:
            LogUnwritable: The stored head is not the expected one; the log must be reopened and examined.
        """
        moved = self._db.execute(
            "UPDATE head SET size = ?, root = ?, edge = ? WHERE id = 1 AND size = ? AND root = ?",
            (new.size, new.root, new.edge, old.size, old.root),
        )
        if moved.rowcount != 1:
            raise LogUnwritable("the stored head of the log is not the expected one: it is reopened and examined")

    def write_leaves(self, first: int, hashes: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        """See `Store.write_leaves`."""
        indexes = range(first, first + len(leaves))
        self._db.executemany(
            "INSERT INTO leaf (idx, hash, data) VALUES (?, ?, ?)", zip(indexes, hashes, leaves, strict=True)
        )

    def write_tiles(self, tiles: Sequence[FullTile]) -> None:
        """See `Store.write_tiles`."""
        self._db.executemany(
            "INSERT INTO tile (level, idx, root, hashes) VALUES (?, ?, ?, ?)",
            [(tile.level, tile.index, tile.root, tile.hashes) for tile in tiles],
        )

    def write_note(self, size: int, note: bytes) -> None:
        """See `Store.write_note`."""
        self._db.execute("INSERT INTO note (size, note) VALUES (?, ?)", (size, note))

    def write_caller_rows(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """See `Store.write_caller_rows`.

        Raises:
            RowRefused: A constraint, a wrong statement or a wrong parameter; nothing else is at fault.
        """
        with _refused_rows():
            self._db.executemany(sql, rows)

    def commit(self) -> None:
        """See `Store.commit`."""
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """See `Store.rollback`."""
        self._db.execute("ROLLBACK")

    def checkpoint(self) -> int:
        """See `Store.checkpoint`."""
        _, pages, moved = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return int(pages - moved)

    def close(self) -> None:
        """See `Store.close`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # the file is reopened and examined next, or the process ends: there is nothing to learn from a failure here
            with contextlib.suppress(sqlite3.Error):
                connection.close()


@contextlib.contextmanager
def _refused_rows() -> Iterator[None]:
    """Tells a row that is at fault from a store that is."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError) as error:
        raise RowRefused("a row beside the log was refused by a constraint or as malformed") from error
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:
            raise RowRefused("a statement beside the log is not valid for this database") from error
        raise
