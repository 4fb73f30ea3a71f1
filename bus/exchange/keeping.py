"""What is written beside the log in the same commit: particulars, proofs of peers, seen ids.

Particulars are encrypted under a key of the day that lies in another place (one file a day, mode 0600): erasing a day
is deleting its key. The log's evidence stays.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bus.errors import ContentsErased, LogUnwritable
from bus.exchange.verification import VerifiedRecord
from bus.sealing.contents import Particulars, decode_particulars

SCHEMA_VERSION = 1
TABLES = (
    "CREATE TABLE IF NOT EXISTS exchange_schema (version INTEGER NOT NULL)",
    "INSERT INTO exchange_schema SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM exchange_schema)",
    "CREATE TABLE IF NOT EXISTS particulars (idx INTEGER PRIMARY KEY, day TEXT NOT NULL, data BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS peer_note (hash BLOB PRIMARY KEY, note BLOB NOT NULL) WITHOUT ROWID",
    (
        "CREATE TABLE IF NOT EXISTS peer_proof (idx INTEGER PRIMARY KEY, leaf_index INTEGER NOT NULL,"
        " size INTEGER NOT NULL, path BLOB NOT NULL, note_hash BLOB NOT NULL)"
    ),
    "CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, until_s INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS open_request (idx INTEGER PRIMARY KEY)",
)

_PARTICULARS = "INSERT INTO particulars (idx, day, data) VALUES (?, ?, ?)"
_PEER_NOTE = "INSERT OR IGNORE INTO peer_note (hash, note) VALUES (?, ?)"
_PEER_PROOF = "INSERT INTO peer_proof (idx, leaf_index, size, path, note_hash) VALUES (?, ?, ?, ?, ?)"
_SEEN = "INSERT INTO seen (id, until_s) VALUES (?, ?)"
_FORGET = "DELETE FROM seen WHERE until_s < ?"
_NONCE_BYTES = 12

_OPEN = "INSERT INTO open_request (idx) VALUES (?)"
_CLOSE = "DELETE FROM open_request WHERE idx = ?"

Row = tuple[int | None, str, tuple[object, ...]]


class DayKeys:
    """Keys of days, each in a file of its own below `folder`; missing ones are made.

    Args:
        folder: mode 0700.
        random: source of key bytes.
    """

    def __init__(self, folder: Path, random: Callable[[int], bytes]) -> None:
        self._folder = folder
        self._random = random
        self._loaded: dict[str, AESGCM] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def cipher(self, day: str) -> AESGCM:
        """Cipher of a day, `YYYY-MM-DD`.

        Raises:
            LogUnwritable: the day's key cannot be read, or is not there and cannot be written.
        """
        found = self._loaded.get(day)
        if found is None:
            try:
                found = self._loaded[day] = AESGCM(self._load(day))
            except (OSError, ValueError) as error:
                raise LogUnwritable(
                    "the key of the day cannot be read or written, so nothing can be kept beside the log"
                ) from error
            while len(self._loaded) > 3:
                self._loaded.pop(next(iter(self._loaded)))
        return found

    def kept(self, day: str) -> AESGCM:
        """Cipher of a day whose key is still there, to open what was kept.

        Raises:
            ContentsErased: the day's key was erased, or it cannot be read.
        """
        found = self._loaded.get(day)
        if found is not None:
            return found
        try:
            return AESGCM((self._folder / f"{day}.key").read_bytes())
        except (OSError, ValueError) as error:
            raise ContentsErased(f"the contents of {day} cannot be opened: their key was erased") from error

    def _load(self, day: str) -> bytes:
        path = self._folder / f"{day}.key"
        if path.exists():
            return path.read_bytes()
        secret = self._random(32)
        self._write(path, secret)
        return secret

    def _write(self, path: Path, secret: bytes) -> None:
        """Whole or not at all: a power cut or a full disk must not leave half a key for the rest of the day."""
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        parent = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def erase_before(self, oldest: date) -> list[str]:
        """Deletes the keys of all days before `oldest`: their particulars are gone. Returns the days."""
        gone = sorted(path.stem for path in self._folder.glob("*.key") if path.stem < oldest.isoformat())
        for day in gone:
            (self._folder / f"{day}.key").unlink()
            self._loaded.pop(day, None)
        return gone


class Keeper:
    """Makes the rows that are written in the same commit as a record."""

    def __init__(self, keys: DayKeys, random: Callable[[int], bytes]) -> None:
        self._keys = keys
        self._random = random
        self._notes: dict[bytes, None] = {}

    def particulars(self, position: int, kept: tuple[bytes, bytes], now: datetime) -> Row:
        """Row with salts and particulars of the leaf at `position` of the append."""
        day = now.date().isoformat()
        nonce = self._random(_NONCE_BYTES)
        sealed = self._keys.cipher(day).encrypt(nonce, kept[0] + kept[1], day.encode())
        return position, _PARTICULARS, (day, nonce + sealed)

    def proof(self, position: int, record: VerifiedRecord) -> list[Row]:
        """Rows with the sender's proof of a received leaf; a note that was written lately is not written again."""
        envelope = record.envelope
        rows: list[Row] = []
        if record.note_hash not in self._notes:
            self._notes[record.note_hash] = None
            if len(self._notes) > 512:
                self._notes.pop(next(iter(self._notes)))
            rows.append((None, _PEER_NOTE, (record.note_hash, envelope.note)))
        rows.append((position, _PEER_PROOF, (envelope.index, envelope.size, envelope.path, record.note_hash)))
        return rows

    def forget_notes(self) -> None:
        """After a failed commit: what was thought written may not be."""
        self._notes.clear()

    @staticmethod
    def seen(record_id: str, until_s: int) -> Row:
        """Row that consumes the id of a query until it expires."""
        return None, _SEEN, (record_id, until_s)

    @staticmethod
    def opened(position: int) -> Row:
        """Row that marks a request as without a closing record."""
        return position, _OPEN, ()

    @staticmethod
    def closed(index: int) -> Row:
        """Row that goes with the closing record of the request at log index `index`."""
        return None, _CLOSE, (index,)

    @staticmethod
    def forget_seen(before_s: int) -> Row:
        """Row that removes expired ids."""
        return None, _FORGET, (before_s,)


def open_particulars(keys: DayKeys, day: str, data: bytes) -> tuple[bytes, Particulars]:
    """Salts (64 bytes) and particulars of a kept row.

    Raises:
        ContentsErased: the day's key was erased.
        cryptography.exceptions.InvalidTag: altered, or of another day.
    """
    plain = keys.kept(day).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], day.encode())
    return plain[:64], decode_particulars(plain[64:])


def note_hash(note_bytes: bytes) -> bytes:
    """Key of a peer's note in the store."""
    return hashlib.sha256(note_bytes).digest()
