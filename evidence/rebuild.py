"""The leaves of a log read once from the first to the last, and what is found on the way.

Every leaf is hashed and read, the tree is built again by code that the writer does not use, recorded hashes, tiles and
signed roots are compared with it. Which checkpoints and whose word count is decided in `evidence.verify`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256

import msgspec

from evidence import checkpoint, header
from evidence.act import decode_act
from evidence.checkpoint import Checkpoint
from evidence.errors import EvidenceError, IndexUnknown, NoteInvalid
from evidence.identifiers import parse_origin
from evidence.judging import Verdicts
from evidence.leaf import ADMIN, CONTROL, EXCHANGE, KIND_NAMES, decode_control, unwrap
from evidence.log.reader import LogReader
from evidence.tile_directory import TileDirectory
from evidence.trust import Trust
from evidence.verdict import Verdict

Source = LogReader | TileDirectory

MAX_PROBLEMS = 100
_TILE = 256


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that keeps a log or record from being verified.

    Attributes:
        code: Stable word, e.g. "leaf-changed".
        message: For people.
        index: Position of the leaf concerned, if one is.
    """

    code: str
    message: str
    index: int | None = None


class BadLeaf(msgspec.Struct, frozen=True):
    """The first leaf whose bytes do not give the recorded hash; hashes as 64 hex digits."""

    index: int
    recorded_hash: str
    computed_hash: str


class GrowingTree:
    """Builds the tree leaf by leaf: a stack of complete subtrees, the larger ones below."""

    def __init__(self) -> None:
        self.size = 0
        self.stack: list[tuple[int, bytes]] = []
        self.tiles: list[list[bytes]] = [[]]

    def add(self, leaf_hash: bytes) -> int:
        """Add a leaf; returns how many levels of tiles became complete."""
        self.size += 1
        node, height, complete = leaf_hash, 0, 0
        self.tiles[0].append(leaf_hash)
        while self.stack and self.stack[-1][0] == height:
            node = sha256(b"\x01" + self.stack.pop()[1] + node).digest()
            height += 1
            if height % 8 == 0:
                complete += 1
                if len(self.tiles) == complete:
                    self.tiles.append([])
                self.tiles[complete].append(node)
        self.stack.append((height, node))
        return complete

    def root(self) -> bytes:
        """Of the leaves so far, 32 bytes."""
        if not self.stack:
            return sha256(b"").digest()
        node = self.stack[-1][1]
        for _, left in reversed(self.stack[:-1]):
            node = sha256(b"\x01" + left + node).digest()
        return node


class Rebuild:
    """One pass over a log's leaves: hashes, tree, tiles, signed roots, what the records say of their time.

    Args:
        source: The log.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.verdicts: Verdicts | None = None
        self.node = ""
        self.newest_said = ""
        self.ends: dict[int, str] = {}  # size of a checkpoint: last instant of the key that signed it
        self.tree = GrowingTree()
        self.counts: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.bad_leaf: BadLeaf | None = None
        self.differing_tiles: list[tuple[int, int]] = []

    def complain(self, code: str, message: str, index: int | None = None) -> None:
        """Note a problem; the first hundred are kept."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(code, message, index))

    def run(self, leaves: Iterator[tuple[int, bytes | None, bytes]], size: int, roots: dict[int, bytes]) -> None:
        """Read up to `size` leaves; compare with `roots` at the sizes given there."""
        add, check = self.tree.add, self._check_tiles
        for expected, (index, recorded, leaf) in zip(range(size), leaves, strict=False):
            if index != expected:
                break
            computed = sha256(b"\x00" + leaf).digest()
            if recorded is not None and recorded != computed:
                self._found_bad(index, recorded, computed)
            self._count(index, leaf)
            complete = add(computed)
            if complete:
                check(complete)
            if index + 1 in roots and self.tree.root() != roots[index + 1]:
                self.complain("root-differs", f"the leaves do not give the signed root of size {index + 1}", None)
            if index + 1 in self.ends and self.newest_said > self.ends[index + 1]:
                self.complain(
                    "key-out-of-time",
                    f"the checkpoint of size {index + 1} is signed by a key that was not the log's any more: "
                    f"a record in it claims {self.newest_said}, the key ended at {self.ends[index + 1]}",
                )
        if self.tree.size < size:
            self.complain(
                "leaf-missing", f"the log says {size} leaves; leaf {self.tree.size} is missing", self.tree.size
            )
        else:
            self._check_partial_tiles()

    def _count(self, index: int, leaf: bytes) -> None:
        """Read a leaf and count its type."""
        try:
            kind, data = unwrap(leaf)
            name: str = KIND_NAMES[kind]
            if kind == EXCHANGE:
                decoded = header.decode(data)
                name = decoded.type
                if decoded.node == self.node and decoded.time > self.newest_said:
                    self.newest_said = decoded.time
                if self.verdicts is not None:
                    self._complain_of_verdict(index, self.verdicts.of(index, leaf, decoded))
            elif kind == CONTROL:
                decode_control(data)
            elif kind == ADMIN:
                decode_act(data)
        except EvidenceError as error:
            name = "malformed"
            self.complain(error.code, f"leaf {index}: {error}", index)
        self.counts[name] = self.counts.get(name, 0) + 1

    def end_keys(self, notes: Iterable[bytes], origin: str, trust: Trust) -> None:
        """Note when the keys of these checkpoints ended; what does not verify is complained of elsewhere."""
        known, keys = trust.origins.get(origin), trust.keys_for(origin)
        if known is None or all(one.until is None for one in known.all_keys()):
            return
        self.node = str(parse_origin(origin).node)
        for data in notes:
            try:
                signed, key = checkpoint.verify_signed(data, keys)
            except NoteInvalid:
                continue
            until = known.until_of(key)
            if until is not None:
                self.ends[signed.size] = min(until, self.ends.get(signed.size, until))

    def _complain_of_verdict(self, index: int, verdict: Verdict | None) -> None:
        """Only *before* passes."""
        if verdict == "after":
            self.complain("signed-after-revocation", f"leaf {index}: trust in its signer was already withdrawn", index)
        elif verdict == "indeterminate":
            self.complain(
                "time-indeterminate",
                f"leaf {index}: nobody else dated it before trust in its signer was withdrawn",
                index,
            )

    def _found_bad(self, index: int, recorded: bytes, computed: bytes) -> None:
        if self.bad_leaf is None:
            self.bad_leaf = BadLeaf(index, recorded.hex(), computed.hex())

    def _check_tiles(self, complete: int) -> None:
        """Compare the tiles that just became complete with the recorded ones."""
        for level in range(complete):
            tile, self.tree.tiles[level] = self.tree.tiles[level], []
            index = (self.tree.size >> 8 * (level + 1)) - 1
            self._compare(level, index, tile)
            root = self.tree.tiles[level + 1][-1]
            if isinstance(self.source, LogReader) and self.source.stored_root(level, index) != root:
                self.differing_tiles.append((level, index))

    def _check_partial_tiles(self) -> None:
        if isinstance(self.source, TileDirectory):
            for level, tile in enumerate(self.tree.tiles):
                if tile:
                    self._compare(level, self.tree.size >> 8 * (level + 1), tile)

    def _compare(self, level: int, index: int, tile: list[bytes]) -> None:
        computed = b"".join(tile)
        try:
            recorded = self.source.stored_tile(level, index, len(tile))
        except IndexUnknown:
            self.complain("tile-missing", f"tile {index} of level {level} is missing or of the wrong size")
            return
        if recorded != computed:
            self.differing_tiles.append((level, index))
            if level == 0:
                at = next(at for at in range(len(tile)) if recorded[32 * at : 32 * at + 32] != tile[at])
                self._found_bad(index * _TILE + at, recorded[32 * at : 32 * at + 32], tile[at])

    def conclude(self, signed: Checkpoint) -> None:
        """Judge what differs: if the leaves give the signed root, then the records beside them were changed."""
        if self.tree.size != signed.size:
            return
        if self.tree.root() == signed.root:
            for level, index in dict.fromkeys(self.differing_tiles):
                self.complain("tile-changed", f"tile {index} of level {level} does not belong to the signed tree")
            if self.bad_leaf is not None and not self.differing_tiles:
                self.complain("hash-changed", f"the hash recorded for leaf {self.bad_leaf.index} was changed")
            self.bad_leaf = None
            return
        if self.bad_leaf is not None:
            self.complain("leaf-changed", f"leaf {self.bad_leaf.index} was changed", self.bad_leaf.index)
        self.complain("root-differs", f"the leaves do not give the signed root of size {signed.size}")
