"""What a disk may hold after a power cut: a model that drops, keeps, reorders and tears what was not synced.

The model is harsher than the file systems in use: of each file, what was written since its last sync may be there or
not, write by write and sector by sector, in any combination; a new name, a removed one and a renamed one are certain only
after a sync of their folder. What was synced is there. That a disk honours a sync is assumed, as everywhere else.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

SECTOR_BYTES = 512
_HEAD = struct.Struct("<IB3xQQQI")
_MAGIC = 0x54554350


class Kind(IntEnum):
    """As in `recorder.c`."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    UNLINK = 5
    RENAME = 6
    LINK = 7


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that was done to a file; `at_ns` on the monotonic clock, `data` is the other name of a rename or link."""

    kind: Kind
    at_ns: int
    path: str
    offset: int = 0
    data: bytes = b""


def read_journal(path: Path) -> list[Operation]:
    """The operations of one process; a torn end is left out."""
    data, at, found = path.read_bytes(), 0, []
    while at + _HEAD.size <= len(data):
        magic, kind, at_ns, offset, length, path_length = _HEAD.unpack_from(data, at)
        assert magic == _MAGIC
        at += _HEAD.size
        carries = length if kind in (Kind.WRITE, Kind.RENAME, Kind.LINK) else 0
        if at + path_length + carries > len(data):
            break
        name = data[at : at + path_length].decode()
        at += path_length
        found.append(Operation(Kind(kind), at_ns, name, offset, data[at : at + carries]))
        at += carries
    return found


@dataclass
class _File:
    """One file: what is certain, and what came since."""

    synced: bytearray = field(default_factory=bytearray)
    since: list[Operation] = field(default_factory=list)

    def sync(self) -> None:
        for one in self.since:
            _apply(self.synced, one)
        self.since.clear()

    def after_cut(self, chance: random.Random, how: str) -> bytes:
        found = bytearray(self.synced)
        for one in self.since:
            if how == "all":
                _apply(found, one)
            elif how == "torn":
                for piece in _sectors(one):
                    if chance.random() < 0.5:
                        _apply(found, piece)
        return bytes(found)


class Disk:
    """A disk that heard some operations.

    Cuts: `none` of what was not synced is there, `all` of it, or `torn`: any part.
    """

    def __init__(self) -> None:
        self._certain: dict[str, _File] = {}
        self._names: dict[str, _File] = {}

    def hear(self, operation: Operation) -> None:
        """One operation more."""
        name = operation.path
        if operation.kind is Kind.CREATE:
            self._names[name] = _File()
        elif operation.kind is Kind.UNLINK:
            self._names.pop(name, None)
        elif operation.kind is Kind.RENAME:
            moved = self._names.pop(name, None)
            if moved is not None:
                self._names[operation.data.decode()] = moved
        elif operation.kind is Kind.LINK:
            if name in self._names:
                self._names[operation.data.decode()] = self._names[name]
        elif operation.kind is Kind.SYNC:
            if name in self._names:
                self._names[name].sync()
            else:
                self._sync_folder(name)
        elif name in self._names:
            self._names[name].since.append(operation)

    def _sync_folder(self, folder: str) -> None:
        for names in (self._certain, self._names):
            for name in [name for name in names if str(Path(name).parent) == folder]:
                if names is self._certain:
                    del names[name]
                else:
                    self._certain[name] = names[name]

    def after_cut(self, chance: random.Random, how: str) -> dict[str, bytes]:
        """Files by path."""
        names = self._certain
        if how == "all" or (how == "torn" and chance.random() < 0.5):
            names = self._names
        return {name: file.after_cut(chance, how) for name, file in names.items()}


def cuts(operations: Iterable[Operation], chance: random.Random, every: int) -> Iterator[tuple[int, Disk]]:
    """The disk after some of the prefixes: about one in `every`, chosen by chance; and after all."""
    disk, count, operations = Disk(), 0, list(operations)
    for count, operation in enumerate(operations, 1):
        disk.hear(operation)
        if chance.randrange(every) == 0 or count == len(operations):
            yield count, disk


def write_out(files: dict[str, bytes], under: Path, target: Path) -> None:
    """Writes the files below `under` into a new folder."""
    for name, data in files.items():
        path = target / Path(name).relative_to(under)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)


def _apply(content: bytearray, one: Operation) -> None:
    end = one.offset + len(one.data)
    if one.kind is Kind.TRUNCATE:
        if one.offset < len(content):
            del content[one.offset :]
        else:
            content.extend(bytes(one.offset - len(content)))
        return
    if len(content) < one.offset:
        content.extend(bytes(one.offset - len(content)))
    content[one.offset : end] = one.data


def _sectors(one: Operation) -> Iterator[Operation]:
    """The pieces of a write that a disk takes as a whole."""
    if one.kind is not Kind.WRITE:
        yield one
        return
    at = one.offset
    end = at + len(one.data)
    while at < end:
        until = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield Operation(Kind.WRITE, one.at_ns, one.path, at, one.data[at - one.offset : until - one.offset])
        at = until
