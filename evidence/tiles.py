"""Tiles: a log's hashes in files of up to 256, and proofs made from them (C2SP tlog-tiles).

Any proof, for any leaf and any size, needs O(log n) tiles. Tiles are read through a port, so the same code serves the
database, an exported directory and a test. `TileEdge` is the writer's side: the unfinished tile of each level.

This module does no input or output and verifies nothing; whoever receives a proof does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from evidence.errors import ProofInvalid
from evidence.merkle import EMPTY_ROOT, HASH_BYTES, TILE_HEIGHT, Extension, node_hash

TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES

TileReader = Callable[[int, int, int], bytes]
"""`(level, index, width)` to at least `width` concatenated hashes of that tile; more (the full tile) is fine."""


def tile_path(level: int | str, index: int, width: int = TILE_WIDTH) -> str:
    """Name a tile as C2SP tlog-tiles does: `tile/0/x001/x234/067`, with `.p/<width>` for a partial one.

    Args:
        level: 0 to 63, or the word "entries" for an entry bundle.
        index: Position of the tile within its level.
        width: 1 to 256; 256 is a full tile.

    Raises:
        ProofInvalid: A value out of range.
    """
    if isinstance(level, int) and not 0 <= level <= 63:
        raise ProofInvalid(f"there is no tile level {level}")
    if index < 0 or not 1 <= width <= TILE_WIDTH:
        raise ProofInvalid(f"there is no tile {index} of width {width}")
    path = f"{index % 1000:03d}"
    index //= 1000
    while index:
        path = f"x{index % 1000:03d}/{path}"
        index //= 1000
    suffix = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{path}{suffix}"


def tile_width(level: int, index: int, size: int) -> int:
    """How many hashes tile `index` of `level` has in a tree of `size` leaves: 0 to 256."""
    return max(0, min(TILE_WIDTH, (size >> (TILE_HEIGHT * level)) - index * TILE_WIDTH))


def tile_shapes(size: int) -> list[tuple[int, int, int]]:
    """Count the tiles of a tree: `(level, full tiles, width of the partial one or 0)` of each level in use."""
    shapes = []
    level = 0
    while size >> (TILE_HEIGHT * level):
        hashes = size >> (TILE_HEIGHT * level)
        shapes.append((level, hashes // TILE_WIDTH, hashes % TILE_WIDTH))
        level += 1
    return shapes


def tile_root(hashes: bytes) -> bytes:
    """Root over the concatenated hashes of one complete subtree (a power of two of them, at most 256)."""
    row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        nodes = iter(row)
        row = [node_hash(left, right) for left, right in zip(nodes, nodes, strict=True)]
    return row[0]


class Subtrees:
    """Roots of complete subtrees of one log that were computed before; they stay as they are while the log grows.

    For whoever makes many proofs of one log. Bounded: when it is full, it begins anew.

    Args:
        most: Roots that are remembered, about 250 bytes each.
    """

    def __init__(self, most: int = 8_192) -> None:
        self._most = most
        self._known: dict[tuple[int, int], bytes] = {}

    def get(self, height: int, index: int) -> bytes | None:
        """The root over 2**height leaves number `index`, if it is remembered."""
        return self._known.get((height, index))

    def fill(self, height: int, index: int, hashes: bytes) -> None:
        """Remembers neighbouring roots and what stands above them.

        Args:
            height: Of each.
            index: Number of the first, even at every height that they reach.
            hashes: Concatenated.
        """
        if len(self._known) > self._most:
            self._known.clear()
        row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
        while row:
            for at, node in enumerate(row):
                self._known[height, index + at] = node
            height, index = height + 1, index >> 1
            row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]


def _subtree(reader: TileReader, height: int, index: int, size: int, known: Subtrees | None = None) -> bytes:
    """Root of the complete subtree of 2**height leaves number `index`, out of the tile that contains it."""
    if known is not None and (found := known.get(height, index)) is not None:
        return found
    level, inner = divmod(height, TILE_HEIGHT)
    first = index << inner
    tile, at = divmod(first, TILE_WIDTH)
    width = tile_width(level, tile, size)
    hashes = reader(level, tile, width)
    end = (at + (1 << inner)) * HASH_BYTES
    if len(hashes) < end:
        raise ProofInvalid(f"tile {tile} of level {level} is shorter than a tree of size {size} needs")
    if known is not None:
        known.fill(level * TILE_HEIGHT, tile * TILE_WIDTH, hashes[: width * HASH_BYTES])
    return tile_root(hashes[at * HASH_BYTES : end])


def _range_root(reader: TileReader, start: int, end: int, size: int, known: Subtrees | None = None) -> bytes:
    """MTH(D[start:end]) where `start` is a multiple of the smallest power of two that spans the range."""
    node: bytes | None = None
    # complete subtrees from the right: the smallest ones stand at the right edge
    while end > start:
        height = ((end - start) & -(end - start)).bit_length() - 1
        subtree = _subtree(reader, height, (end >> height) - 1, size, known)
        node = subtree if node is None else node_hash(subtree, node)
        end -= 1 << height
    return EMPTY_ROOT if node is None else node


def _split_point(length: int) -> int:
    """The largest power of two smaller than `length` (RFC 9162 section 2.1.1)."""
    return 1 << ((length - 1).bit_length() - 1)


def root_at(reader: TileReader, size: int) -> bytes:
    """Root of the tree of the first `size` leaves.

    Raises:
        ProofInvalid: A tile is shorter than that tree needs.
    """
    return _range_root(cache(reader), 0, size, size)


def frontier_edge(reader: TileReader, size: int) -> tuple[bytes, ...]:
    """Roots of the complete subtrees of the tree of `size` leaves, largest first (see `merkle.Frontier`)."""
    heights = [height for height in range(size.bit_length() - 1, -1, -1) if size >> height & 1]
    return tuple(_subtree(reader, height, (size >> height) - 1, size) for height in heights)


def inclusion_path(reader: TileReader, index: int, size: int, known: Subtrees | None = None) -> list[bytes]:
    """Make an inclusion proof (RFC 9162 section 2.1.3.1).

    Args:
        reader: Gives the tiles.
        index: Zero-based position of the leaf.
        size: Number of leaves of the tree to prove against.
        known: Remembered of this log, for the next proof; None remembers nothing.

    Returns:
        Sibling hashes from the leaf upwards.

    Raises:
        ProofInvalid: The index is not inside that tree, or a tile is too short.
    """
    if not 0 <= index < size:
        raise ProofInvalid(f"index {index} is not inside a tree of size {size}")
    reader = cache(reader)  # neighbouring subtrees come out of the same tile
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split_point(end - start)
        if index < middle:
            path.append(_range_root(reader, middle, end, size, known))
            end = middle
        else:
            path.append(_range_root(reader, start, middle, size, known))
            start = middle
    path.reverse()
    return path


def consistency_path(reader: TileReader, old_size: int, new_size: int) -> list[bytes]:
    """Make a consistency proof (RFC 9162 section 2.1.4.1).

    Args:
        reader: Gives the tiles of the tree of `new_size`.
        old_size: At least 1.
        new_size: At least `old_size`.

    Returns:
        The proof; empty for equal sizes.

    Raises:
        ProofInvalid: There is no such proof, or a tile is too short.
    """
    if not 0 < old_size <= new_size:
        raise ProofInvalid(f"no consistency proof exists from size {old_size} to size {new_size}")
    reader = cache(reader)
    path = []
    start, end = 0, new_size
    while old_size != end:
        middle = start + _split_point(end - start)
        if old_size <= middle:
            path.append(_range_root(reader, middle, end, new_size))
            end = middle
        else:
            path.append(_range_root(reader, start, middle, new_size))
            start = middle
    if start:
        path.append(_range_root(reader, start, end, new_size))
    path.reverse()
    return path


@dataclass(frozen=True, slots=True)
class FullTile:
    """A tile that became complete.

    Attributes:
        level: Tile level.
        index: Position within the level.
        root: Its own root, which is one hash of the level above.
        hashes: 8,192 bytes.
    """

    level: int
    index: int
    root: bytes
    hashes: bytes


@dataclass(frozen=True, slots=True)
class TileEdge:
    """The unfinished tile of each level, concatenated hashes, lowest level first. Immutable; at most 8 KB a level."""

    partial: tuple[bytes, ...] = ()

    def extend(self, leaf_hashes: list[bytes], extension: Extension) -> tuple["TileEdge", list[FullTile]]:
        """Append the leaves of a batch.

        Args:
            leaf_hashes: The same leaves that gave `extension`.
            extension: What `Frontier.extend` returned for them.

        Returns:
            The new edge and the tiles that became complete, lowest level first.
        """
        if not extension.tile_roots:
            return TileEdge((b"".join((*self.partial[:1], *leaf_hashes)), *self.partial[1:])), []
        full: list[FullTile] = []
        partial = list(self.partial)
        added = b"".join(leaf_hashes)
        level = 0
        while added:
            if level == len(partial):
                partial.append(b"")
            hashes = partial[level] + added
            roots = [(index, root) for found, index, root in extension.tile_roots if found == level]
            for at, (index, root) in enumerate(roots):
                full.append(FullTile(level, index, root, hashes[at * TILE_BYTES : (at + 1) * TILE_BYTES]))
            partial[level] = hashes[len(roots) * TILE_BYTES :]
            added = b"".join(root for _, root in roots)
            level += 1
        return TileEdge(tuple(partial)), full
