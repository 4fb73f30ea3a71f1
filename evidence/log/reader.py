"""A read-only view of a log database: proofs, exports, audits.

Works while the writer runs and without it. No read holds a transaction longer than one query, so a slow auditor never
keeps the writer from moving its write-ahead log along. Results are what is *stored*; nothing here is verified.
"""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from evidence.errors import IndexUnknown, ProofInvalid, SourceUnreadable
from evidence.log import schema
from evidence.log.tree import Head
from evidence.merkle import HASH_BYTES
from evidence.proof import Proof
from evidence.tiles import TILE_BYTES, TILE_WIDTH, Subtrees, consistency_path, inclusion_path

CHUNK = TILE_WIDTH


class Logged(msgspec.Struct, frozen=True, gc=False):
    """A record with its proof.

    Attributes:
        index: Position of the leaf.
        size: Size of the tree that `path` and `note` are for.
        leaf_hash: 32 bytes.
        path: Inclusion path, concatenated 32-byte hashes from the leaf upwards.
        note: Signed checkpoint of that size.
    """

    index: int
    size: int
    leaf_hash: bytes
    path: bytes
    note: bytes


class LogReader:
    """Opens a log database for reading only.

    Args:
        path: The database file.
        immutable: The file is on a read-only medium, or a copy that nobody changes; no locks, no write-ahead log.

    Raises:
        SourceUnreadable: Missing, not a log database, or not to be opened.
        SchemaNewer: Written by a newer program.
    """

    __slots__ = ("_connection", "_subtrees")

    def __init__(self, path: str | os.PathLike[str], *, immutable: bool = False) -> None:
        self._subtrees = Subtrees()
        path = Path(path)
        if not path.is_file():
            raise SourceUnreadable(f"there is no log database at {path}")
        uri = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if immutable else ''}"
        try:
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA query_only=1")
            version = schema.read_version(self._connection)
        except (sqlite3.Error, ValueError) as error:
            raise SourceUnreadable(
                f"the log database {path} cannot be read ({error}); on a read-only medium open it as immutable"
            ) from None
        schema.check_version(version)
        if not version:
            raise SourceUnreadable(f"{path} is a database, but not of a log")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _rows(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, params).fetchall()
        except sqlite3.Error as error:
            raise SourceUnreadable(f"the log database cannot be read: {error}") from None

    def _meta(self, key: str) -> str:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        if not rows:
            raise SourceUnreadable(f"the log database does not say its {key}")
        return str(rows[0][0])

    @property
    def origin(self) -> str:
        """Origin of the log, as the file says."""
        return self._meta("origin")

    @property
    def verifier_key(self) -> str:
        """Verifier key of the log, as the file says; never a reason to trust it."""
        return self._meta("verifier_key")

    def head(self) -> Head:
        """The newest committed tree."""
        rows = self._rows("SELECT size, root, edge FROM head WHERE id = 1")
        if not rows:
            raise SourceUnreadable("the log database has no head")
        return Head(*rows[0])

    def note(self, size: int | None = None) -> bytes:
        """The signed checkpoint of a size, by default the newest.

        Raises:
            IndexUnknown: No checkpoint of that size was ever signed.
        """
        if size is None:
            rows = self._rows("SELECT note FROM note ORDER BY size DESC LIMIT 1")
        else:
            rows = self._rows("SELECT note FROM note WHERE size = ?", size)
        if not rows:
            raise IndexUnknown("this log has no checkpoint of that size")
        return bytes(rows[0][0])

    def notes(self, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """All signed checkpoints from size `start` on, as `(size, note)`."""
        while rows := self._rows("SELECT size, note FROM note WHERE size >= ? ORDER BY size LIMIT ?", start, CHUNK):
            yield from rows
            start = rows[-1][0] + 1

    def leaf(self, index: int) -> bytes:
        """One leaf.

        Raises:
            IndexUnknown: There is none at that index.
        """
        rows = self._rows("SELECT data FROM leaf WHERE idx = ?", index)
        if not rows:
            raise IndexUnknown(f"this log has no leaf {index}")
        return bytes(rows[0][0])

    def leaves(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes, bytes]]:
        """Leaves in order, as `(index, stored hash, leaf)`; gaps are not reported."""
        stop = self.head().size if stop is None else stop
        while start < stop:
            end = min(start + CHUNK, stop)
            yield from self._rows(
                "SELECT idx, hash, data FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx", start, end
            )
            start = end

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Hashes of a tile; a `TileReader`.

        Raises:
            IndexUnknown: Neither the tile nor what it would consist of is stored.
        """
        rows = self._rows("SELECT hashes FROM tile WHERE level = ? AND idx = ?", level, index)
        if rows:
            return bytes(rows[0][0])
        start = index * TILE_WIDTH
        if level:
            rows = self._rows(
                "SELECT root FROM tile WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx",
                *(level - 1, start, start + width),
            )
        else:
            rows = self._rows("SELECT hash FROM leaf WHERE idx >= ? AND idx < ? ORDER BY idx", start, start + width)
        hashes = b"".join(row[0] for row in rows)
        if len(hashes) < width * HASH_BYTES:
            raise IndexUnknown(f"tile {index} of level {level} is not stored completely")
        return hashes

    def stored_tile(self, level: int, index: int, _width: int) -> bytes:
        """The hashes of a full tile, as they stand in the tile table.

        Raises:
            IndexUnknown: It is not stored or not full.
        """
        rows = self._rows("SELECT hashes FROM tile WHERE level = ? AND idx = ?", level, index)
        if not rows or len(rows[0][0]) != TILE_BYTES:
            raise IndexUnknown(f"tile {index} of level {level} is not stored")
        return bytes(rows[0][0])

    def stored_root(self, level: int, index: int) -> bytes:
        """The root that stands beside a full tile; empty if there is none."""
        rows = self._rows("SELECT root FROM tile WHERE level = ? AND idx = ?", level, index)
        return bytes(rows[0][0]) if rows else b""

    def prove(self, index: int, size: int | None = None) -> Logged:
        """Prove that a leaf is in the tree of a size, by default the newest.

        Args:
            index: Position of the leaf.
            size: One for which a checkpoint was signed.

        Raises:
            IndexUnknown: No such leaf in that tree, or no checkpoint of that size.
        """
        if size is None:
            size = self.head().size
        if not 0 <= index < size:
            raise IndexUnknown(f"there is no leaf {index} in a tree of size {size}")
        note = self.note(size)
        rows = self._rows("SELECT hash FROM leaf WHERE idx = ?", index)
        try:
            path = b"".join(inclusion_path(self.tile, index, size, self._subtrees))
        except ProofInvalid as error:
            raise IndexUnknown(f"the tree of size {size} is not stored completely: {error}") from None
        if not rows:
            raise IndexUnknown(f"this log has no leaf {index}")
        return Logged(index, size, bytes(rows[0][0]), path, note)

    def received_proof(self, index: int) -> Proof | None:
        """The sender's proof of a leaf that was received, where the log's owner keeps such proofs in the same file.

        The tables are the owner's (`peer_proof`, `peer_note`); None where there are none, or none for this leaf.
        """
        if not self._rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'peer_proof'"):
            return None
        rows = self._rows(
            "SELECT leaf_index, path, note FROM peer_proof JOIN peer_note ON peer_note.hash = peer_proof.note_hash"
            " WHERE peer_proof.idx = ?",
            index,
        )
        if not rows or [type(value) for value in rows[0]] != [int, bytes, bytes]:
            return None
        return Proof(*rows[0])

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Prove that the tree of size `new` continues the one of size `old`.

        Raises:
            IndexUnknown: `new` is larger than the log.
            ProofInvalid: There is no such proof (`old` is 0 or larger than `new`).
        """
        if new > self.head().size:
            raise IndexUnknown(f"the log is smaller than {new}")
        return consistency_path(self.tile, old, new)
