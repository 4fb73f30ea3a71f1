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
from evidence.checkpoint import Checkpoint
from evidence.errors import EvidenceError, IndexUnknown, NoteInvalid
from evidence.header import Header
from evidence.identifiers import parse_origin
from evidence.judging import dated_trees, verdicts_on
from evidence.leaf import EXCHANGE, unwrap
from evidence.log.reader import LogReader
from evidence.note import VerifierKey
from evidence.rebuild import BadLeaf, Problem, Rebuild, Source
from evidence.tile_directory import TileDirectory
from evidence.trust import Trust
from evidence.verdict import Dated


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
        rebuild = Rebuild(opened)
        trusted = tuple(keys)
        signed = _newest(rebuild, trusted)
        roots = _known_roots(rebuild, trusted, signed, _others(opened, known, every_checkpoint))
        if trust is not None:
            dated = _dated(rebuild, dated_trees(opened, trust, known), signed, roots)
            others = _others(opened, known, every_checkpoint)
            rebuild.end_keys(chain(_newest_note(opened), others), signed.origin, trust)
            rebuild.verdicts = verdicts_on(opened, signed.origin, trust, dated, elsewhere or {})
        rebuild.run(opened.leaves(), signed.size, roots)
        rebuild.conclude(signed)
        if isinstance(opened, LogReader):
            _check_head(rebuild, opened, signed)
    finally:
        if opened is not source and isinstance(opened, LogReader):
            opened.close()
    return Report(
        verified=not rebuild.problems,
        origin=signed.origin,
        size=signed.size,
        root=signed.root.hex(),
        records_verified=rebuild.tree.size,
        counts=dict(sorted(rebuild.counts.items())),
        problems=rebuild.problems,
        first_bad_leaf=rebuild.bad_leaf,
        seconds=clock() - started,
        verdicts=rebuild.verdicts.counts if rebuild.verdicts is not None else {},
    )


def _dated(rebuild: Rebuild, found: Sequence[Dated], signed: Checkpoint, roots: dict[int, bytes]) -> list[Dated]:
    """The dated trees that this log contains, as `roots` will be compared; another tree is a fork, not a bound."""
    kept = []
    for one in found:
        if one.size > signed.size:
            rebuild.complain("log-cut-back", f"{one.by} dated a tree of {one.size}; the log ends at {signed.size}")
        elif roots.setdefault(one.size, one.root) != one.root or (one.size == signed.size and one.root != signed.root):
            rebuild.complain("log-forked", f"{one.by} dated another tree of size {one.size}")
        else:
            kept.append(one)
    return kept


def _newest(rebuild: Rebuild, keys: Sequence[VerifierKey]) -> Checkpoint:
    """The newest checkpoint; if its signature fails, what it claims, so that the rest can still be examined."""
    try:
        newest = rebuild.source.note()
    except IndexUnknown:
        rebuild.complain("checkpoint-missing", "the log has no signed checkpoint")
        return Checkpoint("", 0, sha256(b"").digest())
    try:
        return checkpoint.verify(newest, keys)
    except NoteInvalid as error:
        rebuild.complain(error.code, f"the checkpoint does not verify: {error}")
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
    rebuild: Rebuild, keys: Sequence[VerifierKey], signed: Checkpoint, notes: Iterable[bytes]
) -> dict[int, bytes]:
    """Further roots that the log must have had, from checkpoints that verify."""
    roots: dict[int, bytes] = {}
    for data in notes:
        try:
            other = checkpoint.verify(data, keys)
        except NoteInvalid as error:
            rebuild.complain(error.code, f"a further checkpoint does not verify: {error}")
            continue
        if other.origin != signed.origin:
            rebuild.complain("checkpoint-foreign", "a further checkpoint is of another log")
        elif other.size > signed.size:
            rebuild.complain(
                "log-cut-back", f"a checkpoint of size {other.size} was signed; the log ends at {signed.size}"
            )
        elif roots.setdefault(other.size, other.root) != other.root:
            rebuild.complain("log-forked", f"two roots of size {other.size} were signed")
    return roots


def _check_head(rebuild: Rebuild, reader: LogReader, signed: Checkpoint) -> None:
    head = reader.head()
    if (head.size, head.root) != (signed.size, signed.root):
        rebuild.complain("head-changed", "the stored head is not the newest signed checkpoint")


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
