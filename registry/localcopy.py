"""A local copy of the directory's log in one SQLite file, with what was verified about each leaf.

The file is trusted as far as the machine is: `documents` gives back what was verified before it was written, and is not
verified again. Who owns the file can lie to this machine, and to nobody else.

Rows of `leaf` are committed only after the checkpoint that covers them was verified; rows of `document` follow and may
be fewer after a crash. Verifies and folds nothing itself (`follower`, `authority`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from evidence.merkle import Frontier
from registry.database import open_store, transaction
from registry.errors import StoreUnusable
from registry.fold import Applied, Skipped

VERSION = 1
_ALARMS_OF_A_KIND = 100
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS leaf (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS document
       (idx INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, author TEXT NOT NULL, payload BLOB NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS skipped (idx INTEGER PRIMARY KEY, code TEXT NOT NULL, message TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS blob (sha256 TEXT PRIMARY KEY, data BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS alarm
       (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, statement BLOB NOT NULL, found_at TEXT NOT NULL,
        ours BLOB NOT NULL, theirs BLOB NOT NULL, UNIQUE (kind, statement))""",
    # when the registry was first and last seen to confirm a tree: bounds for the time of what names it
    """CREATE TABLE IF NOT EXISTS confirmed
       (size INTEGER PRIMARY KEY, first_s INTEGER NOT NULL, last_s INTEGER NOT NULL)""",
)
_STAGED = "CREATE TEMP TABLE IF NOT EXISTS staged (idx INTEGER PRIMARY KEY, bytes BLOB NOT NULL)"


class Tip(msgspec.Struct, frozen=True, kw_only=True):
    """The newest verified tree.

    Attributes:
        size: Number of leaves.
        edge: Its right edge, as in `evidence.merkle.Frontier`.
        note: The cosigned checkpoint.
        cosigned: Unix seconds of its cosignature.
    """

    size: int = 0
    edge: tuple[bytes, ...] = ()
    note: bytes = b""
    cosigned: int = 0

    @property
    def frontier(self) -> Frontier:
        """The right edge, ready to be extended."""
        return Frontier(self.size, self.edge)


class StoredDocument(msgspec.Struct, frozen=True, gc=False):
    """A document that was verified before; see `fold.Applied`."""

    index: int
    digest: str
    author: str
    payload: bytes


class Confirmed(NamedTuple):
    """A tree of the directory and when its cosignatures say that it was the newest (Unix seconds)."""

    size: int
    first_s: int
    last_s: int


class Alarm(NamedTuple):
    """Evidence against a directory: two signed notes that cannot both be honest."""

    kind: str
    found_at: str
    ours: bytes
    theirs: bytes


class LocalCopy:
    """The file. One object and one thread write it."""

    def __init__(self, path: Path, genesis: str) -> None:
        self._connection = open_store(path, kind="directory-copy", version=VERSION, genesis=genesis, schema=_SCHEMA)
        self.tip = self._read_tip()
        self.folded = self._read_folded()

    def _read_tip(self) -> Tip:
        row = self._row("SELECT value FROM meta WHERE key = 'tip'")
        try:
            return Tip() if row is None else msgspec.msgpack.decode(row[0], type=Tip)
        except msgspec.DecodeError:
            raise StoreUnusable("the local copy's newest tree cannot be read; delete the file to start anew") from None

    def _read_folded(self) -> int:
        row = self._row("SELECT value FROM meta WHERE key = 'folded'")
        return 0 if row is None else int(row[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def begin_leaves(self) -> LeafWriter:
        """Start to add verified-to-be leaves behind the tip."""
        return LeafWriter(self)

    def refresh_tip(self, tip: Tip) -> None:
        """Replace the note of the same tree by one with a later cosignature."""
        with transaction(self._connection):
            self._write_tip(tip)
        self.tip = tip

    def _write_tip(self, tip: Tip) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('tip', ?)", (msgspec.msgpack.encode(tip),))
        if tip.cosigned:
            self._connection.execute(
                "INSERT INTO confirmed VALUES (?, ?, ?) ON CONFLICT (size) DO UPDATE SET"
                " first_s = MIN(first_s, excluded.first_s), last_s = MAX(last_s, excluded.last_s)",
                (tip.size, tip.cosigned, tip.cosigned),
            )

    def confirmed(self) -> list[Confirmed]:
        """Trees of the directory with the times of their cosignatures, by size."""
        return [Confirmed._make(row) for row in self._rows("SELECT size, first_s, last_s FROM confirmed ORDER BY size")]

    def leaves(self, start: int, stop: int) -> list[bytes]:
        """The leaves of a range."""
        rows = self._rows("SELECT bytes FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx", start, stop)
        return [row[0] for row in rows]

    def documents(self) -> Iterator[StoredDocument]:
        """All documents that were applied, in log order."""
        rows = self._connection.execute("SELECT idx, digest, author, payload FROM document ORDER BY idx")
        return starmap(StoredDocument, rows)

    def skipped(self) -> list[Skipped]:
        """The newest skipped leaves, oldest first."""
        rows = self._rows("SELECT idx, code, message FROM skipped ORDER BY idx DESC LIMIT 1000")
        return [Skipped(index=index, code=code, message=message) for index, code, message in rows][::-1]

    def index_of(self, digest: str) -> int | None:
        """Where a document is, by the SHA-256 hex of its JWS."""
        row = self._row("SELECT idx FROM document WHERE digest = ?", digest)
        return None if row is None else int(row[0])

    def document(self, index: int) -> StoredDocument | None:
        """The applied document at an index."""
        row = self._row("SELECT idx, digest, author, payload FROM document WHERE idx = ?", index)
        return None if row is None else StoredDocument(*row)

    def add_outcomes(self, outcomes: Sequence[Applied | Skipped], folded: int) -> None:
        """Remember what the fold said about the leaves up to `folded`.

        Raises:
            StoreUnusable: Nothing was written.
        """
        with transaction(self._connection):
            self._connection.executemany(
                "INSERT INTO document VALUES (?, ?, ?, ?)",
                [(o.index, o.digest, o.author, o.payload) for o in outcomes if isinstance(o, Applied) and o.digest],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)",
                [(o.index, o.code, o.message) for o in outcomes if isinstance(o, Skipped)],
            )
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('folded', ?)", (str(folded),))
        self.folded = folded

    def blob(self, sha256: str) -> bytes | None:
        """A contract, if it is here."""
        row = self._row("SELECT data FROM blob WHERE sha256 = ?", sha256)
        return None if row is None else bytes(row[0])

    def add_blob(self, sha256: str, data: bytes) -> None:
        """Keep a contract whose digest was checked."""
        with transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO blob VALUES (?, ?)", (sha256, data))

    def add_alarm(self, alarm: Alarm) -> None:
        """Keep evidence: the first note of each statement, and at most a hundred of a kind."""
        statement = alarm.theirs.partition(b"\n\n")[0]
        [[known]] = self._rows("SELECT COUNT(*) FROM alarm WHERE kind = ?", alarm.kind)
        if int(known) >= _ALARMS_OF_A_KIND:
            return
        with transaction(self._connection):
            self._connection.execute(
                "INSERT OR IGNORE INTO alarm (kind, statement, found_at, ours, theirs) VALUES (?, ?, ?, ?, ?)",
                (alarm.kind, statement, *alarm[1:]),
            )

    def alarms(self) -> list[Alarm]:
        """All evidence, oldest first."""
        rows = self._rows("SELECT kind, found_at, ours, theirs FROM alarm ORDER BY id")
        return [Alarm._make(row) for row in rows]

    def _rows(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise StoreUnusable(f"the local copy cannot be read ({type(error).__name__})") from error

    def _row(self, sql: str, *params: object) -> tuple[Any, ...] | None:
        return next(iter(self._rows(sql, *params)), None)


class LeafWriter:
    """Leaves on their way into the copy: staged in a temporary table until the tree that they make is verified."""

    def __init__(self, copy: LocalCopy) -> None:
        self._copy = copy
        self._connection = copy._connection
        with transaction(self._connection):
            self._connection.execute(_STAGED)
            self._connection.execute("DELETE FROM staged")

    def add(self, first_index: int, leaves: Sequence[bytes]) -> None:
        """Stage the next leaves.

        Raises:
            StoreUnusable: They are not staged.
        """
        with transaction(self._connection):
            self._connection.executemany("INSERT INTO staged VALUES (?, ?)", enumerate(leaves, first_index))

    def discard(self) -> None:
        """Give the staged leaves up.

        Raises:
            StoreUnusable: They stay until the next writer begins.
        """
        with transaction(self._connection):
            self._connection.execute("DELETE FROM staged")

    def commit(self, tip: Tip) -> None:
        """Make the staged leaves part of the copy, with the checkpoint that covers them.

        Raises:
            StoreUnusable: Nothing was written.
        """
        with transaction(self._connection):
            self._connection.execute("INSERT INTO leaf SELECT idx, bytes FROM staged ORDER BY idx")
            self._copy._write_tip(tip)
            self._connection.execute("DELETE FROM staged")
        self._copy.tip = tip
