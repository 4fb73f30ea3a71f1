"""When was it? A record against the revocation of who signed it (protocol.md "Exchange log", "When was it?").

Only bounds that the signer could not set himself count. *Lower* bound: the directory view that the header names did not
exist earlier; a thief can name an old view, so a low bound is worth nothing to him. *Upper* bound: somebody else dated
a tree that contains the record: a witness's timestamped cosignature, or the directory, whose documents name trees and
whose own checkpoints are cosigned with the time. The header's `time` is a claim and is never looked at.

| what is known | verdict |
|---|---|
| the upper bound is earlier than `since` | *before*: the record stands |
| the lower bound is `since` or later | *after*: it was signed when the key was not to be trusted any more |
| anything else | *indeterminate*, which is not a pass |

Pure. Whether a dated tree is the examined log's own is for the caller: a bound for another tree proves nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

import msgspec

from evidence import checkpoint, note
from evidence.errors import NoteInvalid
from evidence.header import Header
from evidence.note import COSIGNATURE, VerifierKey
from evidence.stamps import decode_time
from evidence.trust import RevocationTrust, Trust

Verdict = Literal["before", "indeterminate", "after"]


class Dated(msgspec.Struct, frozen=True):
    """Somebody's statement that a tree existed at an instant.

    Attributes:
        origin: The log.
        size: Leaves of the tree.
        root: 32 bytes.
        at: The instant; the tree is not younger.
        by: Who says so.
    """

    origin: str
    size: int
    root: bytes
    at: datetime
    by: str


def judge(since_at: datetime, earliest_at: datetime | None, latest_at: datetime | None) -> Verdict:
    """The verdict on a record.

    Args:
        since_at: From when on the signer is not to be trusted.
        earliest_at: The record cannot be older; None is unknown.
        latest_at: The record cannot be younger; None is unknown.
    """
    if latest_at is not None and latest_at < since_at:
        return "before"
    if earliest_at is not None and earliest_at >= since_at:
        return "after"
    return "indeterminate"


def dated_by_trust(trust: Trust) -> list[Dated]:
    """The dated trees in a trust file: what the directory says."""
    return [
        Dated(tree.origin, tree.size, bytes.fromhex(tree.root), decode_time(tree.at), tree.by) for tree in trust.dated
    ]


def dated_by_witnesses(data: bytes, log_keys: Sequence[VerifierKey], witnesses: Sequence[VerifierKey]) -> list[Dated]:
    """What a checkpoint with timestamped cosignatures (C2SP tlog-cosignature) says about the time.

    Args:
        data: A signed note.
        log_keys: Keys of its log.
        witnesses: Trusted keys of type `COSIGNATURE`.

    Returns:
        One statement for each witness that signed; none if the note does not verify.
    """
    trusted = {(key.name, key.id) for key in witnesses if key.type == COSIGNATURE}
    keys = (*log_keys, *witnesses)
    try:
        verified = note.verify(data, keys)
        found = checkpoint.verified_checkpoint(verified, keys)
    except NoteInvalid:
        return []
    return [
        Dated(found.origin, found.size, found.root, _instant(note.cosigned_at(line)), line.name)
        for line in verified.signatures
        if (line.name, line.key_id) in trusted
    ]


def _instant(unix_s: int) -> datetime:
    # A cosignature has whole seconds: the tree existed at the end of that second.
    try:
        return datetime.fromtimestamp(unix_s, UTC) + timedelta(seconds=1)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)


class Bounds:
    """Upper bounds of one log: the earliest instant by which a leaf was surely there."""

    def __init__(self, dated: Iterable[Dated]) -> None:
        self._sizes: list[int] = []
        self._earliest: list[datetime] = []
        rows: list[tuple[int, datetime]] = []
        for one in dated:
            insort(rows, (one.size, one.at))
        earliest: datetime | None = None
        for size, at in reversed(rows):
            earliest = at if earliest is None else min(earliest, at)
            self._sizes.insert(0, size)
            self._earliest.insert(0, earliest)

    def latest_at(self, index: int) -> datetime | None:
        """By when the leaf at `index` existed; None when nobody says."""
        at = bisect_left(self._sizes, index + 1)
        return self._earliest[at] if at < len(self._sizes) else None


class Judge:
    """Judges records against the revocations of a trust file.

    Args:
        trust: Revocations, keys of logs, directory views with their times.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._revocations = {(one.kind, one.id): one for one in trust.revocations}
        self._views = sorted((view.size, decode_time(view.until)) for view in trust.views)
        self._latest: list[datetime] = []
        for _, until in self._views:
            self._latest.append(max(until, self._latest[-1]) if self._latest else until)
        self._sizes = [size for size, _ in self._views]
        self._of_node: dict[str, RevocationTrust | None] = {}

    def concerned(self, node: str, key: VerifierKey | None = None) -> RevocationTrust | None:
        """The earliest revocation that concerns what a node signed; None when nobody withdrew trust.

        Args:
            node: `INSTANCE/CLASS/MEMBER/@NODE`.
            key: The log key that signed, where it is known; otherwise every key that the node's logs ever had counts.
        """
        if key is None:
            if node not in self._of_node:
                self._of_node[node] = self._find(node, self._trust.keys_of_node(node))
            return self._of_node[node]
        return self._find(node, [key])

    def _find(self, node: str, keys: Iterable[VerifierKey]) -> RevocationTrust | None:
        targets = [("node", node), ("member", node.rpartition("/")[0])]
        targets += [("key", key_digest(key)) for key in keys]
        found = [self._revocations[target] for target in targets if target in self._revocations]
        return min(found, key=lambda one: one.since, default=None)

    def judge(self, record: Header, revoked: RevocationTrust, latest_at: datetime | None) -> Verdict:
        """The verdict on one record of a node that `concerned` found.

        Args:
            record: Its header.
            revoked: The revocation.
            latest_at: Upper bound, if there is one.
        """
        since_at = decode_time(revoked.since)
        size = _view_size(record)
        if revoked.index is not None and size > revoked.index:
            # Whoever named this view had the revocation before him.
            return "after" if judge(since_at, None, latest_at) != "before" else "before"
        return judge(since_at, self._earliest_at(size), latest_at)

    def _earliest_at(self, view_size: int) -> datetime | None:
        """A view of that size is not older than the last confirmation of a smaller one."""
        at = bisect_left(self._sizes, view_size)
        return self._latest[at - 1] if at else None


def _view_size(record: Header) -> int:
    size = (record.dir or "").partition(" ")[0]
    return int(size) if size.isdecimal() and len(size) < 20 else 0


def key_digest(key: VerifierKey) -> str:
    """The directory's id of a log key: SHA-256 of its 32 bytes, 64 hex digits."""
    return sha256(key.public).hexdigest()
