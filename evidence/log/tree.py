"""Growing the tree of a log by one batch: pure, on a scratch copy (commit steps 1 and 2).

Nothing here is stored or shown to anyone; the writer replaces its tree by the new one only after the commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evidence import note
from evidence.checkpoint import Checkpoint, key_name
from evidence.merkle import EMPTY_ROOT, Frontier, leaf_hash
from evidence.signer import Signer
from evidence.tiles import FullTile, TileEdge


@dataclass(frozen=True, slots=True)
class Head:
    """The newest committed tree, as it is stored.

    Attributes:
        size: Number of leaves.
        root: 32 bytes.
        edge: Roots of the complete subtrees, largest first, concatenated.
    """

    size: int
    root: bytes
    edge: bytes


@dataclass(frozen=True, slots=True)
class Tree:
    """The writer's view of the newest committed tree; enough to append.

    Attributes:
        frontier: Right edge.
        root: Its root.
        tiles: The unfinished tile of each level.
    """

    frontier: Frontier = Frontier()  # noqa: RUF009  immutable
    root: bytes = EMPTY_ROOT
    tiles: TileEdge = TileEdge()  # noqa: RUF009  immutable

    def head(self) -> Head:
        """As it is stored."""
        return Head(self.frontier.size, self.root, b"".join(self.frontier.edge))


@dataclass(frozen=True, slots=True)
class Released:
    """The newest checkpoint that left this process, or was found on opening."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: bytes = b""


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything that one commit writes for the log itself.

    Attributes:
        old: Head before.
        tree: Tree afterwards.
        leaves: The leaves, in order.
        hashes: Their hashes.
        paths: Their inclusion paths in the new tree, concatenated hashes.
        tiles: Tiles that became complete.
        note: The signed checkpoint.
    """

    old: Head
    tree: Tree
    leaves: Sequence[bytes]
    hashes: list[bytes]
    paths: list[bytes]
    tiles: list[FullTile]
    note: bytes


def grow(tree: Tree, leaves: Sequence[bytes], origin: str, signer: Signer) -> Batch:
    """Compute and sign the tree that `leaves` make out of `tree`.

    Args:
        tree: Committed.
        leaves: At least one.
        origin: Origin of the log.
        signer: The log's Ed25519 key.
    """
    hashes = list(map(leaf_hash, leaves))
    extension = tree.frontier.extend(hashes)
    edge, full = tree.tiles.extend(hashes, extension)
    text = Checkpoint(origin, extension.frontier.size, extension.root).text()
    signed = note.sign(text, key_name(origin), signer)
    grown = Tree(extension.frontier, extension.root, edge)
    return Batch(tree.head(), grown, leaves, hashes, extension.paths, full, signed)
