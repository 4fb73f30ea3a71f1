"""Merkle tree hashing and proofs (RFC 9162 section 2.1), and the right edge from which a log grows.

Verification takes no shortcuts and no defaults: an index at or past the size, a proof of another length and a tree of
size zero are refused. `Frontier` keeps O(log n) hashes and yields inclusion paths of appended leaves level by level,
the upper part shared, so a batch costs about two hashes per leaf.

This module stores nothing; `evidence.tiles` makes proofs for older leaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from evidence.errors import ProofInvalid

HASH_BYTES = 32
TILE_HEIGHT = 8
"""A tile spans eight levels: 256 hashes (C2SP tlog-tiles)."""

EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Hash a leaf: SHA-256(0x00 ‖ data) (RFC 9162 section 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash an inner node: SHA-256(0x01 ‖ left ‖ right) (RFC 9162 section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def split_path(path: Sequence[bytes] | bytes) -> Sequence[bytes]:
    """Bring a path into the form of a sequence of 32-byte hashes.

    Args:
        path: Either such a sequence or all hashes concatenated.

    Raises:
        ProofInvalid: A hash is not 32 bytes long.
    """
    if isinstance(path, bytes | bytearray | memoryview):
        raw = bytes(path)
        if len(raw) % HASH_BYTES:
            raise ProofInvalid(f"a path of {len(raw)} bytes does not consist of 32-byte hashes")
        return [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]
    for entry in path:
        if len(entry) != HASH_BYTES:
            raise ProofInvalid(f"a path contains a hash of {len(entry)} bytes instead of 32")
    return path


def inclusion_root(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes] | bytes) -> bytes:
    """Compute the root that an inclusion path leads to (RFC 9162 section 2.1.3.2).

    Args:
        leaf_hash: 32 bytes.
        index: Zero-based position of the leaf.
        size: Number of leaves of the tree.
        path: Sibling hashes from the leaf upwards.

    Returns:
        The 32-byte root; the caller compares it with one that it trusts.

    Raises:
        ProofInvalid: The index is not inside the tree, or the path has not exactly the length it must have.
    """
    if not 0 <= index < size:
        raise ProofInvalid(f"index {index} is not inside a tree of size {size}")
    if len(leaf_hash) != HASH_BYTES:
        raise ProofInvalid(f"a leaf hash has {len(leaf_hash)} bytes instead of 32")
    hashes = split_path(path)
    # Below the level at which the leaf's path meets the right edge every node has a sibling; above it only those do
    # that are right children.
    meeting = (index ^ (size - 1)).bit_length()
    if len(hashes) != meeting + (index >> meeting).bit_count():
        raise ProofInvalid(f"a path of {len(hashes)} hashes does not fit index {index} in a tree of size {size}")
    node = leaf_hash
    for sibling in hashes[:meeting]:
        node = sha256(b"\x01" + sibling + node if index & 1 else b"\x01" + node + sibling).digest()
        index >>= 1
    for sibling in hashes[meeting:]:
        node = sha256(b"\x01" + sibling + node).digest()
    return node


def verify_inclusion(leaf_hash: bytes, index: int, size: int, path: Sequence[bytes] | bytes, root: bytes) -> None:
    """Verify that a leaf is in a tree (RFC 9162 section 2.1.3.2).

    Args:
        leaf_hash: 32 bytes.
        index: Zero-based position of the leaf.
        size: Number of leaves of the tree.
        path: Sibling hashes from the leaf upwards.
        root: Trusted 32-byte root of the tree of that size.

    Raises:
        ProofInvalid: It is not proven; the record must be treated as unsigned.
    """
    if not compare_digest(inclusion_root(leaf_hash, index, size, path), root):
        raise ProofInvalid(f"the path of index {index} does not lead to the root of size {size}")


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes] | bytes
) -> None:
    """Verify that the newer tree continues the older one (RFC 9162 section 2.1.4.2).

    A proof from size zero says nothing and is always refused, also to size zero.

    Args:
        old_size: Leaves of the older tree, at least 1.
        new_size: Leaves of the newer tree.
        old_root: Root of the older tree.
        new_root: Root of the newer tree.
        path: The consistency proof; empty if and only if the sizes are equal.

    Raises:
        ProofInvalid: Not proven; at equal sizes with different roots this is a fork.
    """
    if not 0 < old_size <= new_size:
        raise ProofInvalid(f"no consistency proof exists from size {old_size} to size {new_size}")
    hashes = split_path(path)
    if old_size == new_size:
        if hashes or not compare_digest(old_root, new_root):
            raise ProofInvalid(f"two roots or a superfluous proof for the same size {old_size}")
        return
    if len(old_root) != HASH_BYTES:
        raise ProofInvalid(f"a root has {len(old_root)} bytes instead of 32")
    # The proof starts at the largest complete subtree that ends where the old tree ends.
    complete = (old_size & -old_size).bit_length() - 1
    index = (old_size - 1) >> complete
    meeting = (index ^ ((new_size - 1) >> complete)).bit_length()
    expected = meeting + (index >> meeting).bit_count() + (index != 0)
    if len(hashes) != expected:
        raise ProofInvalid(f"a proof of {len(hashes)} hashes does not fit the sizes {old_size} and {new_size}")
    if index:
        older = newer = hashes[0]
        hashes = hashes[1:]
    else:
        older = newer = old_root  # the old tree is that subtree: the proof leaves it out
    for sibling in hashes[:meeting]:
        if index & 1:
            older = node_hash(sibling, older)
            newer = node_hash(sibling, newer)
        else:
            newer = node_hash(newer, sibling)
        index >>= 1
    for sibling in hashes[meeting:]:
        older = node_hash(sibling, older)
        newer = node_hash(sibling, newer)
    if not compare_digest(older, old_root) or not compare_digest(newer, new_root):
        raise ProofInvalid(f"the tree of size {new_size} does not continue the tree of size {old_size}")


@dataclass(frozen=True, slots=True)
class Extension:
    """What appending a batch to a `Frontier` gives.

    Attributes:
        frontier: The right edge afterwards.
        root: Root of the new tree.
        paths: For each new leaf its inclusion path in the new tree: 32-byte hashes concatenated, from the leaf upwards.
        tile_roots: Roots of the tiles that became complete, as `(tile level, tile index, root)`, lowest level first.
    """

    frontier: "Frontier"
    root: bytes
    paths: list[bytes]
    tile_roots: list[tuple[int, int, bytes]]


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: enough to append and to know the root. Immutable.

    Attributes:
        size: Number of leaves.
        edge: Roots of the complete subtrees that make up the tree, largest (leftmost) first: one for each bit set in
            `size`.
    """

    size: int = 0
    edge: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.edge) != self.size.bit_count():
            raise ProofInvalid(f"{len(self.edge)} hashes are not the right edge of a tree of size {self.size}")

    def root(self) -> bytes:
        """Root of the tree (RFC 9162 section 2.1.1); `EMPTY_ROOT` for no leaves."""
        if not self.edge:
            return EMPTY_ROOT
        node = self.edge[-1]
        for left in self.edge[-2::-1]:
            node = node_hash(left, node)
        return node

    def extend(self, leaf_hashes: Sequence[bytes]) -> Extension:
        """Append leaves, on a copy.

        Level by level: the nodes of a level that changed, with the complete node to their left when it is needed as a
        sibling, then their parents. The last node of a level may stand for an incomplete subtree; without a sibling it
        rises as it is, which is RFC 9162's tree.

        Args:
            leaf_hashes: At least one 32-byte leaf hash.

        Raises:
            ProofInvalid: No leaves.
        """
        if not leaf_hashes:
            raise ProofInvalid("there is nothing to append")
        size = self.size + len(leaf_hashes)
        levels = self._levels(leaf_hashes, size)
        edge = tuple(
            levels[level][((size >> (level + 1)) - (self.size >> (level + 1))) << 1]
            for level in range(size.bit_length() - 1, -1, -1)
            if size >> level & 1
        )
        return Extension(Frontier(size, edge), levels[-1][0], self._paths(levels), self._tile_roots(levels, size))

    def _levels(self, leaf_hashes: Sequence[bytes], size: int) -> list[list[bytes]]:
        """Compute the changed nodes of every level.

        Row `level` begins at node `(self.size >> level + 1) << 1`, always a left child, and ends at the right edge.
        """
        old = self.size
        complete = reversed(self.edge)
        row = list(leaf_hashes)
        levels = []
        for level in range((size - 1).bit_length()):
            if old >> level & 1:
                row = [next(complete), *row]
            levels.append(row)
            if len(row) == 2:  # most levels of a small batch
                row = [sha256(b"\x01" + row[0] + row[1]).digest()]
            elif len(row) > 2:
                nodes = iter(row)
                parents = [sha256(b"\x01" + left + right).digest() for left, right in zip(nodes, nodes, strict=False)]
                row = [*parents, row[-1]] if len(row) & 1 else parents
        levels.append(row)
        return levels

    def _paths(self, levels: list[list[bytes]]) -> list[bytes]:
        """Walk down from the root; a node's path is its sibling followed by its parent's path."""
        old = self.size
        paths = [b""]
        for level in range(len(levels) - 2, -1, -1):
            row = levels[level]
            # the row above may begin with an old node that is only a sibling
            if old >> (level + 1) & 1:
                del paths[0]
            if len(row) == 2:
                paths = [row[1] + paths[0], row[0] + paths[0]]
            elif len(row) > 2:
                nodes, parents = iter(row), iter(paths)
                paths = []
                for left, right in zip(nodes, nodes, strict=False):
                    parent = next(parents)
                    paths += (right + parent, left + parent)
                paths += parents  # the last node of an odd row has no sibling
        return paths[1:] if old & 1 else paths

    def _tile_roots(self, levels: list[list[bytes]], size: int) -> list[tuple[int, int, bytes]]:
        roots: list[tuple[int, int, bytes]] = []
        height = TILE_HEIGHT
        while size >> height > self.size >> height:
            first = (self.size >> (height + 1)) << 1
            roots.extend(
                (height // TILE_HEIGHT - 1, index, levels[height][index - first])
                for index in range(self.size >> height, size >> height)
            )
            height += TILE_HEIGHT
        return roots
