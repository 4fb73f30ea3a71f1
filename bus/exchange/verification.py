"""Verification of a received record: whose is it, is it for us, is it proven?

The only place that can make a `VerifiedRecord`. Everything that fails here is dropped and counted: no record, no signed
answer, no disk write for strangers. Order (architecture.md, provider side 1-3): shape, node and key in the directory,
membership, time, digest of the seal (cheap), and only then signature and inclusion proof.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

import msgspec

from bus.envelope import Envelope
from bus.errors import Dropped
from bus.exchange.standing import CertificateStanding
from bus.sealing.epoch import sealdigest
from bus.transport import subjects
from evidence import checkpoint, header, leaf, merkle, note
from evidence.errors import EvidenceError
from evidence.header import Header
from registry.view import DirectoryView, NodeEntry

_MAKER = object()
_LATE_PER_ORIGIN = 16


class VerifiedRecord(msgspec.Struct, frozen=True, gc=False):
    """A header that its node provably logged. Only `RecordVerifier.verify` makes one.

    Attributes:
        header: decoded header.
        leaf: the leaf as it stands in the sender's log, and will stand in ours.
        leaf_hash: 32 bytes.
        node: the sending node's directory entry.
        envelope: proof and sealed part.
        note_hash: SHA-256 of the checkpoint note.
        expires_at: from the header, None in answers.
    """

    header: Header
    leaf: bytes
    leaf_hash: bytes
    node: NodeEntry
    envelope: Envelope
    note_hash: bytes
    expires_at: datetime | None
    maker: object

    def __post_init__(self) -> None:
        if self.maker is not _MAKER:
            raise TypeError("a VerifiedRecord comes from verification only")


class CheckpointMemory:
    """Verified checkpoints, so that one public-key operation serves a batch.

    Keyed by (origin, key, hash of the whole note: text *and* signatures); positive results only; bounded per origin.
    Per origin it also remembers which root was seen at which size: a size with two roots is a fork.

    Args:
        per_origin: remembered checkpoints of one origin.

    Attributes:
        newest: per origin size, root and note of the largest verified checkpoint.
        forked: per origin the two notes that contradict each other.
        joined: per origin the size up to which all checkpoints were joined by consistency proofs.
        late: per origin roots, by size, of checkpoints that came after larger ones were joined: a stolen key could have
            signed another tree, so `control` has them joined, too. Bounded.
        on_fork: told of each new fork at once: origin and both notes.
    """

    def __init__(self, per_origin: int = 128) -> None:
        self._per_origin = per_origin
        self._verified: dict[str, OrderedDict[tuple[bytes, bytes], tuple[int, bytes]]] = {}
        self._roots: dict[str, OrderedDict[int, tuple[bytes, bytes]]] = {}
        self.newest: dict[str, tuple[int, bytes, bytes]] = {}
        self.forked: dict[str, tuple[bytes, bytes]] = {}
        self.joined: dict[str, int] = {}
        self.late: dict[str, dict[int, bytes]] = {}
        self.on_fork: Callable[[str, bytes, bytes], None] = _no_fork_listener

    def verified(self, origin: str, key: bytes, note_hash: bytes) -> tuple[int, bytes] | None:
        """Size and root of a checkpoint verified before, None if it was not."""
        of_origin = self._verified.get(origin)
        return None if of_origin is None else of_origin.get((key, note_hash))

    def remember(self, origin: str, key: bytes, note_hash: bytes, size: int, root: bytes, note_bytes: bytes) -> bool:
        """Keeps a verified checkpoint; False when it contradicts another one of the same size (a fork)."""
        roots = self._roots.setdefault(origin, OrderedDict())
        known = roots.get(size)
        if known is not None and known[0] != root:
            if origin not in self.forked:
                self.forked[origin] = (known[1], note_bytes)
                self.on_fork(origin, known[1], note_bytes)
            return False
        if known is None and size < self.joined.get(origin, 0):
            late = self.late.setdefault(origin, {})
            if len(late) < _LATE_PER_ORIGIN:
                late[size] = root
        roots[size] = (root, note_bytes)
        of_origin = self._verified.setdefault(origin, OrderedDict())
        of_origin[(key, note_hash)] = (size, root)
        if len(of_origin) > self._per_origin:
            of_origin.popitem(last=False)
        if len(roots) > self._per_origin:
            roots.popitem(last=False)
        self._renew(origin, size, root, note_bytes)
        return True

    def recall(self, note_bytes: bytes) -> None:
        """Takes up a checkpoint that an earlier run verified and kept, so that it can be told to its owner."""
        found = checkpoint.parse_note(note_bytes)
        self._renew(found.origin, found.size, found.root, note_bytes)

    def _renew(self, origin: str, size: int, root: bytes, note_bytes: bytes) -> None:
        newest = self.newest.get(origin)
        if newest is None or size > newest[0]:
            self.newest[origin] = (size, root, note_bytes)


def _no_fork_listener(_origin: str, _first: bytes, _second: bytes) -> None:
    return


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How far clocks may differ and how long a query may live."""

    skew: timedelta = timedelta(seconds=60)
    longest_life: timedelta = timedelta(seconds=300)


class RecordVerifier:
    """Verifies envelopes against a directory view.

    Args:
        member: own member; records for others are dropped.
        memory: of verified checkpoints.
        limits: of time.
        alarm: told of a code and a member, for people to look at.
        standing: what revocation lists say of members now.
    """

    def __init__(
        self,
        member: str,
        memory: CheckpointMemory,
        limits: TimeLimits,
        alarm: Callable[[str, str], None],
        standing: CertificateStanding | None = None,
    ) -> None:
        self._member = member
        self._standing = standing or CertificateStanding()
        self.memory = memory
        self.limits = limits
        self._alarm = alarm

    def verify(
        self, envelope: Envelope, view: DirectoryView, now: datetime, types: frozenset[str], sender: str | None = None
    ) -> VerifiedRecord:
        """Steps 1 to 3 of the receiving side.

        Args:
            envelope: as received, of the right shape.
            view: the directory.
            now: aware UTC.
            types: header types that are expected here.
            sender: token of the sending member as the broker vouches for it in the subject; None for answers. It is
                compared before any public-key work, so that nobody spends our time in another's name.

        Raises:
            Dropped: with the code of the first check that failed.
        """
        decoded = _header(envelope)
        if decoded.type not in types:
            raise Dropped("type-unexpected")
        node = self._node(envelope, decoded, view, now)
        if sender is not None and sender != subjects.member_token(node.member):
            raise Dropped("subject-mismatch")
        self._address(decoded)
        self._time(decoded, now)
        if sealdigest(envelope.wrapped, envelope.nonce, envelope.ciphertext) != decoded.sealdigest:
            raise Dropped("seal-digest-mismatch")
        verified = self.prove(envelope, decoded, node, now)
        if decoded.dir != view.view:
            self._compare_views(decoded.dir or "", view, node.member)
        return verified

    def _compare_views(self, theirs: str, view: DirectoryView, member: str) -> None:
        """Gossip: a directory of one size with two roots has shown two members two histories."""
        size, _, root = theirs.partition(" ")
        ours = view.root_at(int(size)) if size.isdecimal() else None
        if ours is not None and ours.hex() != root:
            self._alarm("directory-two-histories", member)

    def prove(self, envelope: Envelope, decoded: Header, node: NodeEntry, now: datetime) -> VerifiedRecord:
        """Checkpoint signature (remembered) and inclusion proof.

        Raises:
            Dropped: `checkpoint-invalid`, `proof-invalid`, `peer-forked`.
        """
        wrapped = leaf.wrap(leaf.EXCHANGE, envelope.header)
        leaf_hash = merkle.leaf_hash(wrapped)
        note_hash = hashlib.sha256(envelope.note).digest()
        size, root = self.checkpoint(envelope.note, note_hash, node, now)
        if size != envelope.size:
            raise Dropped("proof-invalid")
        try:
            if merkle.inclusion_root(leaf_hash, envelope.index, size, envelope.path) != root:
                raise Dropped("proof-invalid")
        except EvidenceError as error:
            raise Dropped("proof-invalid") from error
        # `decode` has seen to the form of the times
        expires_at = None if decoded.expires is None else datetime.fromisoformat(decoded.expires)
        return VerifiedRecord(decoded, wrapped, leaf_hash, node, envelope, note_hash, expires_at, _MAKER)

    def checkpoint(self, note_bytes: bytes, note_hash: bytes, node: NodeEntry, now: datetime) -> tuple[int, bytes]:
        """Size and root of a node's checkpoint, verified now or remembered, under a key of the log that is in use now.

        Raises:
            Dropped: `checkpoint-invalid` or `peer-forked`.
        """
        memory = self.memory
        if node.origin in memory.forked:
            raise Dropped("peer-forked")
        keys = (node.log_key,) if not node.other_keys else node.keys_at(now)
        for key in keys:
            known = memory.verified(node.origin, key.public, note_hash)
            if known is not None:
                return known
        try:
            signed = note.verify(note_bytes, keys)
            parsed = checkpoint.parse_note(note_bytes)
        except EvidenceError as error:
            raise Dropped("checkpoint-invalid") from error
        if parsed.origin != node.origin:
            raise Dropped("checkpoint-invalid")
        by = keys[0] if len(keys) == 1 else next(key for key in keys if key.id == signed.signatures[0].key_id)
        if not memory.remember(node.origin, by.public, note_hash, parsed.size, parsed.root, note_bytes):
            raise Dropped("peer-forked")
        return parsed.size, parsed.root

    def _node(self, envelope: Envelope, decoded: Header, view: DirectoryView, now: datetime) -> NodeEntry:
        line_end = envelope.note.find(b"\n")
        try:
            origin = envelope.note[:line_end].decode()
        except UnicodeDecodeError as error:
            raise Dropped("checkpoint-invalid") from error
        node = view.node_by_origin(origin)
        if node is None:
            raise Dropped("instance-foreign" if not origin.startswith(view.genesis) else "node-unknown")
        if node.node != decoded.node:
            raise Dropped("proof-of-another-node")
        if not node.usable(now):
            raise Dropped("node-revoked" if node.status == "revoked" else "node-not-in-use")
        refusal = self._standing.refusal(node.member)
        if refusal:
            raise Dropped(refusal)
        if _member_of(decoded.source) != node.member:
            raise Dropped("source-not-of-node")
        return node

    def _address(self, decoded: Header) -> None:
        if _member_of(decoded.to) != self._member:
            raise Dropped("not-addressed-to-us")

    def _time(self, decoded: Header, now: datetime) -> None:
        claimed_at = datetime.fromisoformat(decoded.time)
        if claimed_at > now + self.limits.skew:
            raise Dropped("clock-ahead")
        if decoded.expires is None:
            if claimed_at < now - self.limits.longest_life - self.limits.skew:
                raise Dropped("expired")
            return
        expires_at = datetime.fromisoformat(decoded.expires)
        if expires_at <= now:
            raise Dropped("expired")
        if expires_at > now + self.limits.longest_life + self.limits.skew:
            raise Dropped("expires-too-late")


def _header(envelope: Envelope) -> Header:
    try:
        return header.decode(envelope.header)
    except EvidenceError as error:
        raise Dropped("header-malformed") from error


@lru_cache(maxsize=8192)
def _member_of(identifier: str) -> str:
    """`VN/GOV/H37` of `VN/GOV/H37/onedoor`; the first three parts, as they stand."""
    parts = identifier.split("/", 3)
    return "/".join(parts[:3])
