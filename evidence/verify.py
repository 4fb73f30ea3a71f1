"""Offline verification: of a whole log, from a database or from exported tiles, and of single records.

A log is verified from its leaves: every one is hashed again, the tree is built again by code that the writer does not
use, and its root must be the one that the log's key has signed. Recorded hashes and tiles are compared on the way, so
that a changed byte can be pinned to a leaf.

A log that was cut back to an earlier, properly signed state verifies; only a checkpoint that someone else remembers
shows that. Such checkpoints can be given along as `known`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from itertools import chain
from pathlib import Path
from time import perf_counter

import msgspec

from evidence import checkpoint, header, proof
from evidence.act import decode_act
from evidence.checkpoint import Checkpoint
from evidence.errors import EvidenceError, IndexUnknown, NoteInvalid
from evidence.header import Header
from evidence.identifiers import parse_origin
from evidence.judging import Verdicts, dated_trees, verdicts_on
from evidence.leaf import ADMIN, CONTROL, EXCHANGE, KIND_NAMES, decode_control, unwrap
from evidence.log.reader import LogReader
from evidence.note import VerifierKey
from evidence.tile_directory import TileDirectory
from evidence.trust import Trust
from evidence.verdict import Dated, Verdict

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


class Report(msgspec.Struct, frozen=True):
    """The result of verifying a log; JSON-able with msgspec.

    Attributes:
        verified: True only if there is no problem at all.
        origin: Origin in the checkpoint, verified if `verified`.
        size: Leaves according to the checkpoint.
        root: Root according to the checkpoint, 64 hex digits.
        records_verified: Leaves that were hashed and read.
        counts: Header type, or "control", "directory", "admin", to number of leaves.
        problems: At most 100.
        first_bad_leaf: See `BadLeaf`.
        seconds: How long it took.
        verdicts: How many records of revoked signers were made *before*, *indeterminate* or *after* the revocation;
            empty when the trust file revokes nobody who signed here.
    """

    verified: bool
    origin: str
    size: int
    root: str
    records_verified: int
    counts: dict[str, int]
    problems: list[Problem]
    first_bad_leaf: BadLeaf | None
    seconds: float
    verdicts: dict[str, int] = {}


class RecordReport(msgspec.Struct, frozen=True):
    """The result of verifying one record with its proof.

    Attributes:
        origin: The log that has committed to the record.
        index: Position in it.
        size: Size of the proven tree.
        leaf_hash: 64 hex digits.
        said: Whether it is that log's own node that speaks; otherwise the log's owner merely received the record.
        header: The record; None for other kinds of leaf.
        signed_by: The key (verifier key text) that signed the checkpoint.
    """

    origin: str
    index: int
    size: int
    leaf_hash: str
    said: bool
    header: Header | None
    signed_by: str = ""


def open_source(path: str | os.PathLike[str], *, immutable: bool = False) -> Source:
    """Open a directory of tiles or a database file.

    Raises:
        SourceUnreadable: Neither.
        SchemaNewer: A database of a newer program.
    """
    if Path(path).is_dir():
        return TileDirectory(path)
    return LogReader(path, immutable=immutable)


class _Rebuild:
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
        if not self.stack:
            return sha256(b"").digest()
        node = self.stack[-1][1]
        for _, left in reversed(self.stack[:-1]):
            node = sha256(b"\x01" + left + node).digest()
        return node


class _Verification:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.verdicts: Verdicts | None = None
        self.node = ""
        self.newest_said = ""
        self.ends: dict[int, str] = {}  # size of a checkpoint: last instant of the key that signed it
        self.rebuild = _Rebuild()
        self.counts: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.bad_leaf: BadLeaf | None = None
        self.differing_tiles: list[tuple[int, int]] = []

    def complain(self, code: str, message: str, index: int | None = None) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(code, message, index))

    def run(self, leaves: Iterator[tuple[int, bytes | None, bytes]], size: int, roots: dict[int, bytes]) -> None:
        """Read up to `size` leaves; compare with `roots` at the sizes given there."""
        add, check = self.rebuild.add, self.check_tiles
        for expected, (index, recorded, leaf) in zip(range(size), leaves, strict=False):
            if index != expected:
                break
            computed = sha256(b"\x00" + leaf).digest()
            if recorded is not None and recorded != computed:
                self.found_bad(index, recorded, computed)
            self.count(index, leaf)
            complete = add(computed)
            if complete:
                check(complete)
            if index + 1 in roots and self.rebuild.root() != roots[index + 1]:
                self.complain("root-differs", f"the leaves do not give the signed root of size {index + 1}", None)
            if index + 1 in self.ends and self.newest_said > self.ends[index + 1]:
                self.complain(
                    "key-out-of-time",
                    f"the checkpoint of size {index + 1} is signed by a key that was not the log's any more: "
                    f"a record in it claims {self.newest_said}, the key ended at {self.ends[index + 1]}",
                )
        if self.rebuild.size < size:
            self.complain(
                "leaf-missing", f"the log says {size} leaves; leaf {self.rebuild.size} is missing", self.rebuild.size
            )
        else:
            self.check_partial_tiles()

    def count(self, index: int, leaf: bytes) -> None:
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
                    self.complain_of_verdict(index, self.verdicts.of(index, leaf, decoded))
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

    def complain_of_verdict(self, index: int, verdict: Verdict | None) -> None:
        """Only *before* passes."""
        if verdict == "after":
            self.complain("signed-after-revocation", f"leaf {index}: trust in its signer was already withdrawn", index)
        elif verdict == "indeterminate":
            self.complain(
                "time-indeterminate",
                f"leaf {index}: nobody else dated it before trust in its signer was withdrawn",
                index,
            )

    def found_bad(self, index: int, recorded: bytes, computed: bytes) -> None:
        if self.bad_leaf is None:
            self.bad_leaf = BadLeaf(index, recorded.hex(), computed.hex())

    def check_tiles(self, complete: int) -> None:
        """Compare the tiles that just became complete with the recorded ones."""
        for level in range(complete):
            tile, self.rebuild.tiles[level] = self.rebuild.tiles[level], []
            index = (self.rebuild.size >> 8 * (level + 1)) - 1
            self.compare(level, index, tile)
            root = self.rebuild.tiles[level + 1][-1]
            if isinstance(self.source, LogReader) and self.source.stored_root(level, index) != root:
                self.differing_tiles.append((level, index))

    def check_partial_tiles(self) -> None:
        if isinstance(self.source, TileDirectory):
            for level, tile in enumerate(self.rebuild.tiles):
                if tile:
                    self.compare(level, self.rebuild.size >> 8 * (level + 1), tile)

    def compare(self, level: int, index: int, tile: list[bytes]) -> None:
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
                self.found_bad(index * _TILE + at, recorded[32 * at : 32 * at + 32], tile[at])

    def conclude(self, signed: Checkpoint) -> None:
        """Judge what differs: if the leaves give the signed root, then the records beside them were changed."""
        if self.rebuild.size != signed.size:
            return
        if self.rebuild.root() == signed.root:
            for level, index in dict.fromkeys(self.differing_tiles):
                self.complain("tile-changed", f"tile {index} of level {level} does not belong to the signed tree")
            if self.bad_leaf is not None and not self.differing_tiles:
                self.complain("hash-changed", f"the hash recorded for leaf {self.bad_leaf.index} was changed")
            self.bad_leaf = None
            return
        if self.bad_leaf is not None:
            self.complain("leaf-changed", f"leaf {self.bad_leaf.index} was changed", self.bad_leaf.index)
        self.complain("root-differs", f"the leaves do not give the signed root of size {signed.size}")


def verify_log(
    source: str | os.PathLike[str] | Source,
    keys: Iterable[VerifierKey],
    *,
    known: Sequence[bytes] = (),
    every_checkpoint: bool = False,
    clock: Callable[[], float] = perf_counter,
    trust: Trust | None = None,
    elsewhere: Mapping[bytes, datetime] | None = None,
) -> Report:
    """Verify a whole log.

    Args:
        source: Database file, directory of tiles, or one of the two opened.
        keys: Trusted keys; that of the log must be among them.
        known: Checkpoints of this log that others hold; the log must contain each of those trees.
        every_checkpoint: Verify every checkpoint stored in the database too (about 0.1 ms each).
        clock: Seconds, for the report.
        trust: Whose revocations and dated trees count; without it no record is judged.
        elsewhere: Leaf hash to an instant by which another, verified log had it; see `judging.upper_bounds`.

    Returns:
        The findings; never an exception for a bad log.

    Raises:
        SourceUnreadable: The source cannot be read at all.
        SchemaNewer: A database of a newer program.
    """
    started = clock()
    opened = source if isinstance(source, LogReader | TileDirectory) else open_source(source)
    try:
        verification = _Verification(opened)
        trusted = tuple(keys)
        signed = _newest(verification, trusted)
        roots = _known_roots(verification, trusted, signed, _others(opened, known, every_checkpoint))
        if trust is not None:
            dated = _dated(verification, dated_trees(opened, trust, known), signed, roots)
            others = _others(opened, known, every_checkpoint)
            verification.end_keys(chain(_newest_note(opened), others), signed.origin, trust)
            verification.verdicts = verdicts_on(opened, signed.origin, trust, dated, elsewhere or {})
        verification.run(opened.leaves(), signed.size, roots)
        verification.conclude(signed)
        if isinstance(opened, LogReader):
            _check_head(verification, opened, signed)
    finally:
        if opened is not source and isinstance(opened, LogReader):
            opened.close()
    return Report(
        verified=not verification.problems,
        origin=signed.origin,
        size=signed.size,
        root=signed.root.hex(),
        records_verified=verification.rebuild.size,
        counts=dict(sorted(verification.counts.items())),
        problems=verification.problems,
        first_bad_leaf=verification.bad_leaf,
        seconds=clock() - started,
        verdicts=verification.verdicts.counts if verification.verdicts is not None else {},
    )


def _dated(
    verification: _Verification, found: Sequence[Dated], signed: Checkpoint, roots: dict[int, bytes]
) -> list[Dated]:
    """The dated trees that this log contains, as `roots` will be compared; another tree is a fork, not a bound."""
    kept = []
    for one in found:
        if one.size > signed.size:
            verification.complain("log-cut-back", f"{one.by} dated a tree of {one.size}; the log ends at {signed.size}")
        elif roots.setdefault(one.size, one.root) != one.root or (one.size == signed.size and one.root != signed.root):
            verification.complain("log-forked", f"{one.by} dated another tree of size {one.size}")
        else:
            kept.append(one)
    return kept


def _newest(verification: _Verification, keys: Sequence[VerifierKey]) -> Checkpoint:
    """The newest checkpoint; if its signature fails, what it claims, so that the rest can still be examined."""
    try:
        newest = verification.source.note()
    except IndexUnknown:
        verification.complain("checkpoint-missing", "the log has no signed checkpoint")
        return Checkpoint("", 0, sha256(b"").digest())
    try:
        return checkpoint.verify(newest, keys)
    except NoteInvalid as error:
        verification.complain(error.code, f"the checkpoint does not verify: {error}")
    try:
        return checkpoint.parse_note(newest)
    except NoteInvalid:
        return Checkpoint("", 0, sha256(b"").digest())


def _newest_note(source: Source) -> Iterator[bytes]:
    with suppress(IndexUnknown):
        yield source.note()


def _others(source: Source, known: Sequence[bytes], every: bool) -> Iterator[bytes]:
    yield from known
    if every and isinstance(source, LogReader):
        for _, stored in source.notes():
            yield stored


def _known_roots(
    verification: _Verification, keys: Sequence[VerifierKey], signed: Checkpoint, notes: Iterable[bytes]
) -> dict[int, bytes]:
    """Further roots that the log must have had, from checkpoints that verify."""
    roots: dict[int, bytes] = {}
    for data in notes:
        try:
            other = checkpoint.verify(data, keys)
        except NoteInvalid as error:
            verification.complain(error.code, f"a further checkpoint does not verify: {error}")
            continue
        if other.origin != signed.origin:
            verification.complain("checkpoint-foreign", "a further checkpoint is of another log")
        elif other.size > signed.size:
            verification.complain(
                "log-cut-back", f"a checkpoint of size {other.size} was signed; the log ends at {signed.size}"
            )
        elif roots.setdefault(other.size, other.root) != other.root:
            verification.complain("log-forked", f"two roots of size {other.size} were signed")
    return roots


def _check_head(verification: _Verification, reader: LogReader, signed: Checkpoint) -> None:
    head = reader.head()
    if (head.size, head.root) != (signed.size, signed.root):
        verification.complain("head-changed", "the stored head is not the newest signed checkpoint")


def verify_record(leaf: bytes, proof_text: str | bytes, keys: Iterable[VerifierKey]) -> RecordReport:
    """Verify one record with its proof, offline.

    Args:
        leaf: The whole leaf, with its prefix.
        proof_text: Text form, as `proof.Proof.format` gives.
        keys: Trusted keys.

    Returns:
        What is proven. Only `said` makes it the word of the record's author.

    Raises:
        ProofInvalid: The proof does not hold.
        NoteInvalid: The checkpoint in it does not hold.
        LeafMalformed: The leaf is of no known kind.
        HeaderMalformed: It is an exchange record whose header is malformed.
    """
    parsed = proof.parse(proof_text)
    signed, key = proof.verify_signed_proof(parsed, leaf, keys)
    kind, data = unwrap(leaf)
    record = header.decode(data) if kind == EXCHANGE else None
    said = record is None or is_said(record, signed.origin)
    digest = sha256(b"\x00" + leaf).hexdigest()
    return RecordReport(signed.origin, parsed.index, signed.size, digest, said, record, str(key))


def is_said(record: Header, origin: str) -> bool:
    """Whether a record in the log `origin` is that log's own word (protocol.md "Authorship").

    The node in the header must be the log's node, and the speaking subsystem must belong to the node's member.
    """
    try:
        node = parse_origin(origin).node
    except EvidenceError:
        return False
    return record.node == str(node) and record.source.startswith(f"{node.member}/")
