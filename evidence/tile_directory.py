"""An exported log: a directory in the layout of C2SP tlog-tiles.

Reads what is there, in any order, within fixed sizes; verifies nothing.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from evidence import checkpoint
from evidence.errors import IndexUnknown, NoteInvalid, SourceUnreadable
from evidence.leaf import MAX_LEAF_BYTES
from evidence.merkle import HASH_BYTES
from evidence.note import MAX_NOTE_BYTES
from evidence.tiles import TILE_BYTES, TILE_WIDTH, tile_path, tile_shapes

CHECKPOINT_FILE = "checkpoint"
_MAX_BUNDLE_BYTES = TILE_WIDTH * (MAX_LEAF_BYTES + 2)


class TileDirectory:
    """A directory with `checkpoint`, `tile/<level>/…` and `tile/entries/…`.

    Raises:
        SourceUnreadable: There is no checkpoint file.
    """

    __slots__ = ("_note", "_root")

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root)
        self._note = self._read(CHECKPOINT_FILE, MAX_NOTE_BYTES)

    def _read(self, name: str, limit: int) -> bytes:
        try:
            with (self._root / name).open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise SourceUnreadable(f"{self._root / name} cannot be read ({error.strerror})") from None
        if len(data) > limit:
            raise SourceUnreadable(f"{self._root / name} is larger than such a file can be")
        return data

    def note(self) -> bytes:
        """The signed checkpoint."""
        return self._note

    def size(self) -> int:
        """Leaves, as the unverified checkpoint says; 0 if it says nothing readable."""
        try:
            return checkpoint.parse_note(self._note).size
        except NoteInvalid:
            return 0

    def stored_tile(self, level: int, index: int, width: int) -> bytes:
        """The file of a tile, or of the full tile that has replaced a partial one.

        Raises:
            IndexUnknown: There is no such file, or it has not the size it must have.
        """
        for candidate in dict.fromkeys((width, TILE_WIDTH)):
            try:
                data = self._read(tile_path(level, index, candidate), TILE_BYTES)
            except SourceUnreadable:
                continue
            if len(data) == candidate * HASH_BYTES:
                return data[: width * HASH_BYTES]
        raise IndexUnknown(f"tile {tile_path(level, index, width)} is missing or of the wrong size")

    def leaves(self) -> Iterator[tuple[int, bytes | None, bytes]]:
        """Leaves in order, as `(index, None, leaf)`; ends early where a bundle is missing or broken."""
        shapes = tile_shapes(self.size())
        if not shapes:
            return
        _, full, width = shapes[0]
        widths = [TILE_WIDTH] * full + ([width] if width else [])
        for number, expected in enumerate(widths):
            leaves = self._bundle(number, expected)
            for at, leaf in enumerate(leaves):
                yield number * TILE_WIDTH + at, None, leaf
            if len(leaves) != expected:
                return

    def _bundle(self, number: int, width: int) -> list[bytes]:
        for candidate in dict.fromkeys((width, TILE_WIDTH)):
            try:
                data = self._read(tile_path("entries", number, candidate), _MAX_BUNDLE_BYTES)
            except SourceUnreadable:
                continue
            return split_bundle(data)[:width]
        return []


def split_bundle(data: bytes) -> list[bytes]:
    """Split an entry bundle: each entry has a 16-bit big-endian length before it. Stops at a broken entry."""
    leaves = []
    at = 0
    while at + 2 <= len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2])
        if end > len(data):
            break
        leaves.append(data[at + 2 : end])
        at = end
    return leaves


def join_bundle(leaves: list[bytes]) -> bytes:
    """Make an entry bundle of at most 256 leaves."""
    return b"".join(len(leaf).to_bytes(2) + leaf for leaf in leaves)
