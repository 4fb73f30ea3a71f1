"""What a log looks like after (re)opening: read, recomputed, and compared with what was promised.

The right edge is recomputed from the stored leaves and tile roots and must give the stored head; the head must be
signed; and it must continue what this process has already released. Everything older is `evidence.verify`'s work.
"""

from collections.abc import Iterable, Sequence

from evidence import checkpoint, merkle
from evidence.errors import LogCorrupt, LogForked, NoteInvalid, ProofInvalid
from evidence.log.store import Store
from evidence.log.tree import Released, Tree
from evidence.merkle import HASH_BYTES, Frontier
from evidence.note import VerifierKey
from evidence.tiles import TILE_WIDTH, TileEdge, frontier_edge, root_at, tile_shapes


def load_tree(store: Store) -> Tree:
    """Read the head and recompute the right edge beneath it.

    Raises:
        LogCorrupt: Leaves, tiles and head do not fit together; nothing may be appended.
    """
    head = store.head()
    tiles = TileEdge(tuple(_partial_tiles(store, head.size)))
    edge = frontier_edge(lambda level, _index, _width: tiles.partial[level], head.size)
    frontier = Frontier(head.size, edge)
    tree = Tree(frontier, frontier.root(), tiles)
    if tree.head() != head:
        raise LogCorrupt(f"the stored leaves do not give the stored root of size {head.size}: do not use this file")
    return tree


def _partial_tiles(store: Store, size: int) -> Iterable[bytes]:
    for level, full, width in tile_shapes(size):
        start = full * TILE_WIDTH
        if level:
            hashes = store.tile_roots(level - 1, start)
        else:
            rows = store.tail(start)
            hashes = [merkle.leaf_hash(data) for _, _, data in rows]
            if [(index, stored) for index, stored, _ in rows] != list(enumerate(hashes, start)):
                raise LogCorrupt(f"a stored leaf from index {start} on is missing or changed: do not use this file")
        if len(hashes) != width:
            raise LogCorrupt(
                f"{len(hashes)} hashes found where the tree of size {size} has {width}: do not use this file"
            )
        yield b"".join(hashes)


def check_note(store: Store, tree: Tree, keys: Sequence[VerifierKey]) -> Released:
    """Require that the newest checkpoint is stored and signed by a key of this log.

    Raises:
        LogCorrupt: It is missing, or says something else than the stored tree.
    """
    size = tree.frontier.size
    if not size:
        return Released()
    note = store.note(size)
    try:
        found = checkpoint.verify(note or b"", keys)
    except NoteInvalid as error:
        raise LogCorrupt(f"the stored checkpoint of size {size} does not verify: do not use this file") from error
    if (found.size, found.root) != (size, tree.root):
        raise LogCorrupt(f"the stored checkpoint of size {size} is for another tree: do not use this file")
    return Released(size, tree.root, note or b"")


def check_continues(store: Store, tree: Tree, released: Released) -> None:
    """Require that the stored tree contains everything that this process has released.

    Raises:
        LogForked: It does not: an older or another copy of the file took its place.
    """
    if not released.size:
        return
    forked = LogForked(
        f"the stored log of size {tree.frontier.size} does not continue the released size {released.size}: "
        "stop this node and declare a new incarnation"
    )
    if tree.frontier.size < released.size:
        raise forked

    def read(level: int, index: int, width: int) -> bytes:
        full = store.tile(level, index)
        if full is not None:
            return full
        return tree.tiles.partial[level][: width * HASH_BYTES]

    try:
        root = root_at(read, released.size)
    except (ProofInvalid, IndexError):
        raise forked from None
    if root != released.root:
        raise forked
