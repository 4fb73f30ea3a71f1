"""Control questions between nodes: consistency proofs, and "what is the newest checkpoint you know of me?".

Nothing here is trusted for being said: a consistency proof is checked against signed checkpoints, a checkpoint by its
signature. Questions come on `lt.k.<node>.<asker>`; only a node that the directory knows, with a reply subject in its
own inbox, gets an answer, within a rate limit.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from bus import errors
from bus.exchange.hints import HintBucket
from bus.exchange.peers import PeerHead, Peers, PeersUnwritable
from bus.exchange.verification import CheckpointMemory
from bus.ports import Broker, Clock, ExchangeObserver, Outbound
from bus.transport import subjects
from evidence import checkpoint, merkle, note
from evidence.errors import EvidenceError
from evidence.log import ExchangeLog
from evidence.note import VerifierKey
from registry.view import DirectoryView, NodeEntry

_log = structlog.get_logger("lienthong.control")
_DEADLINE_S = 3.0
_COUNTERPARTIES = 5
_SUSPECT_ROUNDS = 5

NEWEST, CONSISTENCY = "newest", "consistency"


class Question(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`newest`: of `origin`; `consistency`: of the asked node's own log `origin`, between two sizes."""

    version: int
    kind: str
    origin: str
    old: int = 0
    new: int = 0


class Reply(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`note` of a `newest`, or empty; `path` of a `consistency`: 32-byte hashes concatenated, or empty."""

    version: int
    note: bytes = b""
    path: bytes = b""


class Transport(Broker, Outbound, Protocol):
    """Both directions."""


_encode = msgspec.msgpack.Encoder().encode
_question = msgspec.msgpack.Decoder(Question).decode
_reply = msgspec.msgpack.Decoder(Reply).decode


class Control:
    """Answers and asks control questions of one node."""

    def __init__(
        self,
        *,
        node: str,
        log: ExchangeLog,
        memory: CheckpointMemory,
        peers: Peers,
        transport: Transport,
        directory: Callable[[], DirectoryView],
        clock: Clock,
        observer: ExchangeObserver,
        per_s: float = 50.0,
    ) -> None:
        self._node = node
        self._log = log
        self._memory = memory
        self._peers = peers
        self._transport = transport
        self._directory = directory
        self._clock = clock
        self._observer = observer
        self._bucket = HintBucket(per_s, clock.monotonic)
        self._joined = {head.origin: head for head in peers.heads()}
        self._unanswered: dict[str, int] = {}
        memory.joined.update({origin: head.size for origin, head in self._joined.items()})
        memory.forked.update(peers.forks())
        memory.on_fork = self._keep_fork

    async def on_question(self, subject: str, reply: str, data: bytes) -> None:
        """Answers one question, or drops it."""
        try:
            view = self._directory()
            asker = self._asker(view, subject, reply)
            try:
                question = _question(data)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise errors.Dropped("question-malformed") from error
            answer = await self._answer(question, view, asker)
        except errors.Dropped as drop:
            self._observer.dropped(drop.code)
            return
        except errors.DirectoryStale as stale:
            self._observer.dropped(stale.code)
            return
        except EvidenceError as error:
            _log.info("control.unanswered", code=error.code)
            return
        try:
            await self._transport.send(reply, _encode(answer))
        except errors.BrokerUnavailable:
            _log.debug("control.unsent")

    def _asker(self, view: DirectoryView, subject: str, reply: str) -> str:
        asker = subjects.node_of_token(subject.rpartition(".")[2], view.instance)
        known = asker is not None and any(
            entry.node == asker and entry.status == "active" for entry in view.nodes_of(asker.rpartition("/")[0])
        )
        if asker is None or not known:
            raise errors.Dropped("question-of-a-stranger")
        if not reply.startswith(subjects.inbox(asker)) or any(character in reply for character in " *>"):
            raise errors.Dropped("reply-subject-foreign")
        if not self._bucket.take():
            raise errors.Dropped("question-of-a-stranger")
        return asker

    async def _answer(self, question: Question, view: DirectoryView, asker: str) -> Reply:
        if question.kind == NEWEST:
            entry = view.node_by_origin(question.origin)
            if entry is None or entry.node != asker:
                raise errors.Dropped("question-of-a-stranger")
            newest = self._memory.newest.get(question.origin)
            joined = self._joined.get(question.origin)
            if newest is not None and (joined is None or newest[0] >= joined.size):
                return Reply(1, note=newest[2])
            return Reply(1, note=joined.note if joined is not None else b"")
        if question.kind == CONSISTENCY and question.origin == self._log.origin:
            if not 0 < question.old <= question.new <= self._log.size:
                raise errors.Dropped("question-malformed")
            return Reply(1, path=b"".join(await self._log.consistency(question.old, question.new)))
        raise errors.Dropped("question-malformed")

    async def _ask(self, node: str, question: Question) -> Reply | None:
        subject = subjects.control(node, self._node)
        try:
            message = await self._transport.exchange(subject, _encode(question), _DEADLINE_S)
            return _reply(message.data)
        except (errors.BusError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    async def confirm_own_head(self) -> tuple[int, int]:
        """Asks recent counterparties for the newest checkpoint they know of this log; how many were asked and answered.

        Raises:
            CloneSuspected: one of them knows a checkpoint that is ahead of this log or not in it.
        """
        nodes = list(dict.fromkeys(head.node for head in self._peers.heads()))[:_COUNTERPARTIES]
        question = Question(1, NEWEST, self._log.origin)
        replies = await asyncio.gather(*(self._ask(node, question) for node in nodes))
        for reply in replies:
            if reply is not None and reply.note:
                await self._check_own(reply.note)
        return len(nodes), sum(reply is not None for reply in replies)

    async def _check_own(self, note_bytes: bytes) -> None:
        try:
            note.verify(note_bytes, self._own_keys())
            seen = checkpoint.parse_note(note_bytes)
        except EvidenceError:
            return  # not signed by this node's key: says nothing about its log
        if seen.origin != self._log.origin:
            return
        if seen.size > self._log.size or not await self._holds(seen):
            raise errors.CloneSuspected(
                f"a counterparty holds a checkpoint of {self._node} at size {seen.size}, this log has {self._log.size}:"
                " an old backup was restored or the node was cloned; stop the other copy, or declare a new incarnation"
                " with `lienthong node restore`"
            )

    def _own_keys(self) -> tuple[VerifierKey, ...]:
        """Keys of this log without revoked ones: what a thief signs must not keep this node from starting."""
        try:
            entry = self._directory().node_by_origin(self._log.origin)
        except errors.DirectoryStale:
            return self._log.verifier_keys
        revoked = () if entry is None else tuple(one.key.public for one in entry.other_keys if one.revoked)
        return tuple(key for key in self._log.verifier_keys if key.public not in revoked)

    async def _holds(self, seen: checkpoint.Checkpoint) -> bool:
        """Whether this log continues the tree of a checkpoint."""
        size, root = self._log.size, self._log.root
        if not seen.size:
            return True
        try:
            path = await self._log.consistency(seen.size, size)
            merkle.verify_consistency(seen.size, size, seen.root, root, path)
        except EvidenceError:
            return False
        return True

    async def join_all(self) -> None:
        """Joins the newest checkpoint of each peer to the last joined one by a consistency proof, or finds a fork."""
        view = self._directory()
        for origin, (first, second) in self._memory.forked.items():
            self._peers.keep_fork(origin, first, second)  # when it was found the disk may have been full
        for origin, (size, root, note_bytes) in list(self._memory.newest.items()):
            entry = view.node_by_origin(origin)
            if entry is None or origin in self._memory.forked:
                continue
            head = PeerHead(origin, entry.node, size, root, note_bytes)
            joined = self._joined.get(origin)
            if joined is None or joined.size < size:
                await self._join(entry, joined, head)
            elif joined.size == size and joined.root != root:
                self._memory.forked[origin] = (joined.note, note_bytes)
                self._keep_fork(origin, joined.note, note_bytes)
        await self._join_late(view)

    async def _join_late(self, view: DirectoryView) -> None:
        """Checkpoints that came late belong to the same tree as those after them, or somebody dates back."""
        for origin, late in list(self._memory.late.items()):
            entry, joined = view.node_by_origin(origin), self._joined.get(origin)
            if entry is None or joined is None:
                continue
            for size, root in list(late.items()):
                reply = await self._ask(entry.node, Question(1, CONSISTENCY, origin, size, joined.size))
                if reply is None or not reply.path:
                    break  # asked again in the next round
                del late[size]
                path = [reply.path[at : at + 32] for at in range(0, len(reply.path), 32)]
                try:
                    merkle.verify_consistency(size, joined.size, root, joined.root, path)
                except EvidenceError:
                    self._observer.alarm("peer-back-dated", entry.member)
                    _log.error("peer.back-dated", node=entry.node, size=size, joined=joined.size)

    async def _join(self, entry: NodeEntry, joined: PeerHead | None, head: PeerHead) -> None:
        if joined is not None:
            reply = await self._ask(entry.node, Question(1, CONSISTENCY, head.origin, joined.size, head.size))
            if reply is None or (not reply.path and joined.size != head.size):
                self._count_unanswered(entry)
                return
            path = [reply.path[at : at + 32] for at in range(0, len(reply.path), 32)]
            try:
                merkle.verify_consistency(joined.size, head.size, joined.root, head.root, path)
            except EvidenceError:
                # A wrong proof alone proves nothing against the log: two signed checkpoints that cannot be joined do.
                self._count_unanswered(entry)
                return
        self._unanswered.pop(head.origin, None)
        self._memory.joined[head.origin] = head.size
        self._peers.keep(head, int(self._clock.now().timestamp()))
        self._joined[head.origin] = head

    def _count_unanswered(self, entry: NodeEntry) -> None:
        rounds = self._unanswered[entry.origin] = self._unanswered.get(entry.origin, 0) + 1
        if rounds == _SUSPECT_ROUNDS:
            self._observer.alarm("peer-suspect", entry.member)
            _log.warning("peer.suspect", node=entry.node)

    def _keep_fork(self, origin: str, first: bytes, second: bytes) -> None:
        """The peer is quarantined from now on, also after restarts; the two notes are the evidence."""
        try:
            self._peers.keep_fork(origin, first, second)
        except PeersUnwritable as error:
            _log.error("peer.fork-unkept", origin=origin, detail=str(error))
        self._observer.alarm("peer-forked", "/".join(origin.split("/")[1:4]))
        digests = [hashlib.sha256(item).hexdigest()[:16] for item in (first, second)]
        _log.error("peer.forked", origin=origin, notes=digests)
