"""Double entry: matching the logs of several nodes against each other (protocol.md "Authorship").

A record stands in its author's log ("said") and in the log of whoever received it. One that stands on one side only is
*unmatched*, unless an outcome explains it: an outcome that replies to a request explains that request and every record
that replies to the same request. An outcome for a request of somebody else, which this log has received, explains only
itself and the receipts that its own node gave: that is what a node leaves behind that died, and whose work another node
of its member took over. There is no fair exchange, so "not received" means unacknowledged, never guilty.

Logs are matched as they are given; whether they verify is for `evidence.verify`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from evidence import checkpoint, header
from evidence.errors import EvidenceError, HeaderMalformed
from evidence.header import Header
from evidence.identifiers import parse_origin
from evidence.leaf import EXCHANGE
from evidence.merkle import leaf_hash
from evidence.rebuild import Source
from evidence.verify import is_said

_MEMBER_PARTS = 3
_LEFT_BEHIND = ("outcome", "receipt")


class Unmatched(msgspec.Struct, frozen=True):
    """A record on one side only.

    Attributes:
        leaf_hash: 64 hex digits.
        origin: The log in which it stands.
        index: Its position there.
        type: Header type.
        node: The node that speaks.
        to: The addressee.
        reason: "not-received" (its author logged it, the addressee's given logs did not), "not-said" (received, but
            missing from its author's given log), "receiver-log-not-given" or "author-log-not-given".
    """

    leaf_hash: str
    origin: str
    index: int
    type: str
    node: str
    to: str
    reason: str


class Report(msgspec.Struct, frozen=True):
    """The result of matching; JSON-able with msgspec.

    Attributes:
        logs: Origin to number of exchange records.
        matched: Records that stand on both sides.
        explained: Records on one side only that an outcome explains, the outcomes themselves included.
        unmatched: The others.
        malformed: Exchange records whose header cannot be read, as `(origin, index)`.
    """

    logs: dict[str, int]
    matched: int
    explained: int
    unmatched: list[Unmatched]
    malformed: list[tuple[str, int]]


@dataclass(slots=True)
class _Record:
    header: Header
    origin: str
    index: int
    said: bool = False
    receivers: tuple[str, ...] = ()


@dataclass(slots=True)
class _Books:
    records: dict[bytes, _Record] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)
    malformed: list[tuple[str, int]] = field(default_factory=list)

    def enter(self, source: Source) -> None:
        """Read one log."""
        origin = checkpoint.parse_note(source.note()).origin
        self.logs.setdefault(origin, 0)
        for index, _, leaf in source.leaves():
            if leaf.startswith(EXCHANGE):
                self.logs[origin] += 1
                self._enter_leaf(origin, index, leaf)

    def _enter_leaf(self, origin: str, index: int, leaf: bytes) -> None:
        key = leaf_hash(leaf)
        record = self.records.get(key)
        if record is None:
            try:
                record = _Record(header.decode(leaf[len(EXCHANGE) :]), origin, index)
            except HeaderMalformed:
                self.malformed.append((origin, index))
                return
            self.records[key] = record
        if is_said(record.header, origin) or _is_own_outcome(record.header, origin):
            record.said = True
        else:
            record.receivers += (origin,)

    def let_go(self) -> set[tuple[str, str]]:
        """Requests of others that a node had received and gave up, by leaf hash, with that node."""
        found = set()
        for record in self.records.values():
            closed = record.header.inreplyto
            if record.header.type == "outcome" and record.said and closed is not None:
                request = self.records.get(bytes.fromhex(closed))
                if request is not None and record.origin in request.receivers:
                    found.add((closed, record.header.node))
        return found

    def explained_requests(self) -> set[str]:
        """Leaf hashes of requests that an outcome of their own author's closes."""
        explained = set()
        for record in self.records.values():
            closed = record.header.inreplyto
            if record.header.type == "outcome" and record.said and closed is not None:
                request = self.records.get(bytes.fromhex(closed))
                # nobody may explain away somebody else's request
                if request is None or request.header.node == record.header.node:
                    explained.add(closed)
        return explained


def reconcile(sources: Iterable[Source]) -> Report:
    """Match the leaves of several logs.

    Args:
        sources: Opened logs, each once.

    Raises:
        SourceUnreadable: A log cannot be read.
        NoteInvalid: A log has no readable checkpoint.
    """
    books = _Books()
    for source in sources:
        books.enter(source)
    explained_requests, let_go = books.explained_requests(), books.let_go()
    nodes, members = _owners(books.logs)
    matched = explained = 0
    unmatched = []
    for key, record in books.records.items():
        if record.said and record.receivers:
            matched += 1
        elif (
            key.hex() in explained_requests
            or record.header.inreplyto in explained_requests
            or (record.said and record.header.type in _LEFT_BEHIND and _by(record.header) in let_go)
        ):
            explained += 1
        else:
            unmatched.append(_unmatched(key, record, nodes, members))
    return Report(books.logs, matched, explained, unmatched, books.malformed)


def _is_own_outcome(head: Header, origin: str) -> bool:
    """Whether it is an outcome by the log's own node: one for a received request names its asker as the source."""
    try:
        return head.type == "outcome" and head.node == str(parse_origin(origin).node)
    except EvidenceError:
        return False


def _by(head: Header) -> tuple[str | None, str]:
    return head.inreplyto, head.node


def _owners(origins: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The nodes and members whose logs are given."""
    nodes: list[str] = []
    for origin in origins:
        try:
            nodes.append(str(parse_origin(origin).node))
        except EvidenceError:
            continue
    return frozenset(nodes), frozenset(map(_member, nodes))


def _member(identifier: str) -> str:
    parts: Sequence[str] = identifier.split("/")
    return "/".join(parts[:_MEMBER_PARTS])


def _unmatched(key: bytes, record: _Record, nodes: frozenset[str], members: frozenset[str]) -> Unmatched:
    head = record.header
    if record.said:
        reason = "not-received" if _member(head.to) in members else "receiver-log-not-given"
    else:
        reason = "not-said" if head.node in nodes else "author-log-not-given"
    return Unmatched(key.hex(), record.origin, record.index, head.type, head.node, head.to, reason)
