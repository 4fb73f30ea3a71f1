"""Verdicts on the records of logs and proofs: brings together what `evidence.verdict` needs.

Which key signed, which trees others dated, what other logs prove. Whether a dated tree is the examined log's own is
checked by `evidence.verify`, which compares every one of them with the leaves.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from evidence import checkpoint, proof
from evidence.errors import EvidenceError, IndexUnknown, NoteInvalid
from evidence.header import Header
from evidence.identifiers import parse_origin
from evidence.log.reader import LogReader
from evidence.merkle import leaf_hash
from evidence.note import VerifierKey
from evidence.tile_directory import TileDirectory
from evidence.trust import Trust
from evidence.verdict import Bounds, Dated, Judge, Verdict, dated_by_trust, dated_by_witnesses

Source = LogReader | TileDirectory


class Verdicts:
    """Verdicts on the records of one log, as its leaves come by.

    Attributes:
        counts: Verdict to number of records.
    """

    def __init__(
        self,
        judge: Judge,
        bounds: Bounds,
        origin: str,
        signed_by: VerifierKey | None,
        elsewhere: Mapping[bytes, datetime],
        received_by: Callable[[int, bytes, str], VerifierKey | None],
    ) -> None:
        self.counts: dict[str, int] = {}
        self._judge = judge
        self._received_by = received_by
        self._bounds = bounds
        self._elsewhere = elsewhere
        self._signed_by = signed_by
        try:
            self._node = str(parse_origin(origin).node)
        except EvidenceError:
            self._node = ""

    def of(self, index: int, leaf: bytes, record: Header) -> Verdict | None:
        """The verdict on a record; None when nobody revoked its signer."""
        # What this log's node says itself is signed with the key of its checkpoint; what it received, with the key
        # under the sender's proof, which is looked at only where it can make a difference.
        key = self._signed_by if record.node == self._node else None
        revoked = self._judge.concerned(record.node, key)
        if revoked is not None and revoked.kind == "key" and record.node != self._node:
            key = self._received_by(index, leaf, record.node)
            revoked = self._judge.concerned(record.node, key)
        if revoked is None:
            return None
        known = [self._bounds.latest_at(index), self._elsewhere.get(leaf_hash(leaf))]
        verdict = self._judge.judge(record, revoked, min((at for at in known if at is not None), default=None))
        if verdict == "after" and key is None and revoked.kind == "key":
            verdict = "indeterminate"  # perhaps another key of the node signed it
        self.counts[verdict] = self.counts.get(verdict, 0) + 1
        return verdict


def verdicts_on(
    source: Source, origin: str, trust: Trust, dated: Sequence[Dated], elsewhere: Mapping[bytes, datetime]
) -> Verdicts | None:
    """Verdicts on a log; None when the trust file revokes nobody.

    Args:
        source: The opened log.
        origin: Its origin.
        trust: Revocations and keys.
        dated: Dated trees that are this log's own.
        elsewhere: See `upper_bounds`.
    """
    if not trust.revocations:
        return None
    signed_by = _signer_of(source, trust.keys_for(origin))
    return Verdicts(Judge(trust), Bounds(dated), origin, signed_by, elsewhere, ReceivedBy(source, trust))


class ReceivedBy:
    """Which key proved a record that a log's owner received from another node; None where no proof holds."""

    def __init__(self, source: Source, trust: Trust) -> None:
        self._source = source
        self._trust = trust
        self._keys: dict[str, list[VerifierKey]] = {}

    def __call__(self, index: int, leaf: bytes, node: str) -> VerifierKey | None:
        """The key of `node` under the stored proof of a leaf."""
        stored = self._source.received_proof(index) if isinstance(self._source, LogReader) else None
        if stored is None:
            return None
        if node not in self._keys:
            self._keys[node] = self._trust.keys_of_node(node)
        try:
            return proof.verify_signed_proof(stored, leaf, self._keys[node])[1]
        except EvidenceError:
            return None


def dated_trees(source: Source, trust: Trust, known: Sequence[bytes] = ()) -> list[Dated]:
    """Every statement about the time of a tree under this log's origin, whether or not it is this log's tree.

    Args:
        source: The opened log.
        trust: With dated trees and witnesses.
        known: Further checkpoints, perhaps cosigned.
    """
    try:
        newest = source.note()
        origin = checkpoint.parse_note(newest).origin
    except (IndexUnknown, NoteInvalid):
        return []
    keys, witnesses = trust.keys_for(origin), trust.witness_keys()
    found = dated_by_trust(trust)
    for data in (*known, newest):
        found += dated_by_witnesses(data, keys, witnesses)
    return [one for one in found if one.origin == origin]


def upper_bounds(source: Source, trust: Trust) -> dict[bytes, datetime]:
    """By when each leaf of a *verified* log existed, as far as somebody dated one of its trees.

    Returns:
        Leaf hash to instant; for the verification of another log that has the same records.
    """
    bounds = Bounds(dated_trees(source, trust))
    found = {}
    for index, _, leaf in source.leaves():
        latest_at = bounds.latest_at(index)
        if latest_at is None:
            break
        found[leaf_hash(leaf)] = latest_at
    return found


def judge_proof(record: Header | None, proof_text: str | bytes, trust: Trust) -> Verdict | None:
    """The verdict on a record whose proof was verified; None when nobody revoked who signed that proof.

    Upper bounds are cosignatures in the proof's own checkpoint, and the same tree dated in the trust file.

    Args:
        record: The record.
        proof_text: The proof, already verified.
        trust: Keys, revocations, dated trees.
    """
    if not trust.revocations or record is None:
        return None
    data = proof.parse(proof_text).note
    signed = checkpoint.parse_note(data)
    keys, judge = trust.keys_for(signed.origin), Judge(trust)
    revoked = judge.concerned(str(parse_origin(signed.origin).node), _signer_of_note(data, keys))
    if revoked is None:
        return None
    tree = (signed.origin, signed.size, signed.root)
    dated = [one for one in dated_by_trust(trust) if (one.origin, one.size, one.root) == tree]
    dated += dated_by_witnesses(data, keys, trust.witness_keys())
    return judge.judge(record, revoked, min((one.at for one in dated), default=None))


def _signer_of(source: Source, keys: Sequence[VerifierKey]) -> VerifierKey | None:
    try:
        return _signer_of_note(source.note(), keys)
    except IndexUnknown:
        return None


def _signer_of_note(data: bytes, keys: Sequence[VerifierKey]) -> VerifierKey | None:
    """Which of the keys signed a checkpoint; None if none did."""
    try:
        return checkpoint.verify_signed(data, keys)[1]
    except NoteInvalid:
        return None
