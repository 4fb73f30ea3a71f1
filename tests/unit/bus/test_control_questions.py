"""Control questions with a fake transport and a real log."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec
import pytest
from bus_world import (
    G01,
    GENESIS,
    H37,
    NODE_G01,
    NODE_H37,
    NOW,
    Clock,
    Heard,
    Message,
    directory,
    node_entry,
    open_log,
    origin_of,
    signer_of,
)

from bus import errors
from bus.exchange.control import CONSISTENCY, NEWEST, Control, Question, Reply
from bus.exchange.peers import PeerHead, Peers, PeersUnwritable
from bus.exchange.verification import CheckpointMemory
from evidence import leaf, merkle, note
from evidence.checkpoint import Checkpoint
from evidence.note import VerifierKey
from evidence.signer import FileSigner
from registry.view import LogKey

encode = msgspec.msgpack.encode
OWN, PEER = origin_of(NODE_H37), origin_of(NODE_G01)
SUBJECT = "lt.k.GOV~H37~n1.GOV~G01~n1"
REPLY = "_I.GOV~G01~n1.boot.1"


def note_of(node: str, size: int, root: bytes, origin: str | None = None) -> bytes:
    origin = origin or origin_of(node)
    return note.sign(Checkpoint(origin, size, root).text(), origin, signer_of(node))


class Transport:
    """Keeps what was sent; answers what the test put in."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[tuple[str, bytes]] = []
        self.asked: list[tuple[str, Question]] = []
        self.replies: deque[object] = deque()
        self.error: Exception | None = None

    async def send(self, subject, payload):
        if self.error is not None:
            raise self.error
        self.sent.append((subject, payload))

    async def exchange(self, subject, payload, deadline_s):
        assert deadline_s > 0
        self.asked.append((subject, msgspec.msgpack.decode(payload, type=Question)))
        reply = self.replies.popleft() if self.replies else errors.Timeout()
        if isinstance(reply, Exception):
            raise reply
        return Message(reply if isinstance(reply, bytes) else encode(reply))


class World:
    def __init__(self, log, folder) -> None:
        self.log = log
        self.clock = Clock()
        self.heard = Heard()
        self.view = directory()
        self.stale: Exception | None = None
        self.memory = CheckpointMemory()
        self.path = folder / "peers.db"
        self.peers = Peers(self.path)
        self.transport = Transport()
        self.control = self.make()

    def make(self, **more) -> Control:
        return Control(
            node=NODE_H37,
            log=self.log,
            memory=self.memory,
            peers=self.peers,
            transport=self.transport,
            directory=self._view,
            clock=self.clock,
            observer=self.heard,
            **more,
        )

    def _view(self):
        if self.stale is not None:
            raise self.stale
        return self.view

    async def asked(self, question: object, subject: str = SUBJECT, reply: str = REPLY):
        """What a question is answered, or the code of its drop."""
        data = question if isinstance(question, bytes) else encode(question)
        before = len(self.transport.sent)
        await self.control.on_question(subject, reply, data)
        if len(self.transport.sent) > before:
            to, payload = self.transport.sent[-1]
            assert to == reply
            return msgspec.msgpack.decode(payload, type=Reply)
        return self.heard.drops[-1] if self.heard.drops else None

    async def grow(self, count: int = 1) -> None:
        await self.log.append([leaf.wrap(leaf.EXCHANGE, b"x%d" % at) for at in range(count)])


@pytest.fixture
async def world(tmp_path):
    async with open_log(tmp_path / "log.db", NODE_H37, Clock()) as log:
        made = World(log, tmp_path)
        yield made
        made.peers.close()


def tree(size: int):
    """Leaf hashes and root of a peer's tree."""
    hashes = [merkle.leaf_hash(bytes([at])) for at in range(size)]
    return hashes, merkle.Frontier().extend(hashes).root


def consistency(old: int, new: int) -> bytes:
    """RFC 9162 section 2.1.4.1, the plain way."""
    hashes, _ = tree(new)

    def root(part):
        return merkle.Frontier().extend(part).root

    def subproof(m, part, whole):
        n = len(part)
        if m == n:
            return [] if whole else [root(part)]
        k = 1 << (n - 1).bit_length() - 1
        if m <= k:
            return [*subproof(m, part[:k], whole), root(part[k:])]
        return [*subproof(m - k, part[k:], False), root(part[:k])]

    return b"".join(subproof(old, hashes, True))


def remember(world: World, size: int, root: bytes | None = None) -> bytes:
    root = tree(size)[1] if root is None else root
    made = note_of(NODE_G01, size, root)
    world.memory.remember(PEER, b"k", made[-40:], size, root, made)
    return made


# --- being asked ----------------------------------------------------------------------------------------------------


async def test_a_consistency_proof_is_given_to_a_known_node(world):
    await world.grow(5)
    old_root = (await world.log.prove(0, 6)).note
    reply = await world.asked(Question(1, CONSISTENCY, OWN, 1, 6))
    assert old_root
    first = merkle.leaf_hash(await world.log.read(0))
    merkle.verify_consistency(1, 6, first, world.log.root, reply.path)


@pytest.mark.parametrize(
    "subject",
    [
        "lt.k.GOV~H37~n1.GOV~G99~n1",
        "lt.k.GOV~H37~n1.GOV~G01~n9",
        "lt.k.GOV~H37~n1.GOV~G01",
        "lt.k.GOV~H37~n1.",
        "",
    ],
)
async def test_a_stranger_is_not_answered(world, subject):
    assert await world.asked(Question(1, NEWEST, PEER), subject) == "question-of-a-stranger"


async def test_a_node_that_is_not_active_is_a_stranger(world):
    world.view.nodes[PEER] = node_entry(NODE_G01, status="suspended")
    assert await world.asked(Question(1, NEWEST, PEER)) == "question-of-a-stranger"


@pytest.mark.parametrize(
    "reply", ["", "_I.GOV~H37~n1.a", "_I.GOV~G01~n1", "_I.GOV~G01~n1.>", "_I.GOV~G01~n1.*", "_I.GOV~G01~n1.a b"]
)
async def test_a_reply_subject_outside_the_askers_inbox_is_dropped(world, reply):
    assert await world.asked(Question(1, NEWEST, PEER), reply=reply) == "reply-subject-foreign"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        encode([1, NEWEST]),
        encode([1, NEWEST, PEER, 0, 0, 0]),
        encode(["1", NEWEST, PEER]),
        b"\x93\x01\xa1\xff\xa1x",
        Question(1, "dump", OWN),
        Question(1, CONSISTENCY, PEER, 1, 1),
        Question(1, CONSISTENCY, OWN, 0, 1),
        Question(1, CONSISTENCY, OWN, 1, 9),
        Question(1, CONSISTENCY, OWN, 2, 1),
        Question(1, CONSISTENCY, OWN, -1, 1),
    ],
)
async def test_a_malformed_question_is_dropped(world, data):
    assert await world.asked(data) == "question-malformed"


async def test_questions_are_limited(world):
    world.control = world.make(per_s=2)
    found = [await world.asked(Question(1, NEWEST, PEER)) for _ in range(3)]
    assert found == [Reply(1), Reply(1), "question-of-a-stranger"]
    world.clock.pass_time(1)
    assert await world.asked(Question(1, NEWEST, PEER)) == Reply(1)


async def test_the_newest_checkpoint_is_told_to_its_own_node_only(world):
    known = remember(world, 5)
    assert await world.asked(Question(1, NEWEST, PEER)) == Reply(1, note=known)
    assert await world.asked(Question(1, NEWEST, OWN)) == "question-of-a-stranger"
    assert await world.asked(Question(1, NEWEST, f"{GENESIS}/{NODE_G01}/9")) == "question-of-a-stranger"


async def test_a_joined_checkpoint_of_an_earlier_run_is_told_when_it_is_newer(world):
    joined = note_of(NODE_G01, 9, tree(9)[1])
    world.peers.keep(PeerHead(PEER, NODE_G01, 9, tree(9)[1], joined), 1)
    world.control = world.make()
    assert await world.asked(Question(1, NEWEST, PEER)) == Reply(1, note=joined)
    remember(world, 8)
    assert await world.asked(Question(1, NEWEST, PEER)) == Reply(1, note=joined)
    newer = remember(world, 9)
    assert await world.asked(Question(1, NEWEST, PEER)) == Reply(1, note=newer)


async def test_a_stale_directory_answers_nothing(world):
    world.stale = errors.DirectoryStale()
    assert await world.asked(Question(1, NEWEST, PEER)) == "directory-stale"


async def test_a_proof_that_the_log_cannot_give_is_not_answered(world):
    await world.log.close()
    assert await world.asked(Question(1, CONSISTENCY, OWN, 1, 1)) is None


async def test_an_answer_that_cannot_be_sent_is_forgotten(world):
    world.transport.error = errors.BrokerUnavailable()
    assert await world.asked(Question(1, NEWEST, PEER)) is None


# --- asking for the own head ----------------------------------------------------------------------------------------


def keep_peer(world: World, at: int = 1) -> None:
    world.peers.keep(PeerHead(f"{PEER}{at}", f"{G01}/@n{at}", 1, bytes(32), b"note"), at)


async def confirm(world: World, *replies: object) -> int:
    keep_peer(world)
    world.transport.replies.extend(replies)
    _, answered = await world.control.confirm_own_head()
    return answered


async def test_a_node_without_counterparties_goes_on(world):
    assert await world.control.confirm_own_head() == (0, 0)


async def test_a_few_recent_counterparties_are_asked(world):
    for at in range(1, 8):
        keep_peer(world, at)
    world.transport.replies.extend([Reply(1), b"\xc1", errors.ProviderUnavailable(), Reply(1)])
    assert await world.control.confirm_own_head() == (5, 2)
    assert [subject.split(".")[2] for subject, _ in world.transport.asked] == [
        f"GOV~G01~n{at}" for at in range(7, 2, -1)
    ]
    assert {question for _, question in world.transport.asked} == {Question(1, NEWEST, OWN)}


async def test_a_checkpoint_that_this_log_continues_is_fine(world):
    first = world.log.note
    await world.grow(4)
    assert await confirm(world, Reply(1, note=first)) == 1
    assert await confirm(world, Reply(1, note=world.log.note)) == 1
    assert await confirm(world, Reply(1, note=note_of(NODE_H37, 0, merkle.EMPTY_ROOT))) == 1


async def test_a_checkpoint_ahead_of_this_log_is_a_clone(world):
    with pytest.raises(errors.CloneSuspected, match="size 9"):
        await confirm(world, Reply(1, note=note_of(NODE_H37, 9, b"r" * 32)))


async def test_a_checkpoint_that_this_log_does_not_continue_is_a_clone(world):
    await world.grow(3)
    with pytest.raises(errors.CloneSuspected):
        await confirm(world, Reply(1, note=note_of(NODE_H37, 2, b"r" * 32)))


@pytest.mark.parametrize(
    "told",
    [
        b"no note",
        note_of(NODE_G01, 99, b"r" * 32),
        note_of(NODE_G01, 99, b"r" * 32, origin=OWN),
        note.sign("not a checkpoint\n", OWN, signer_of(NODE_H37)),
        note.sign(Checkpoint(f"{OWN[:-1]}2", 99, b"r" * 32).text(), OWN, signer_of(NODE_H37)),
    ],
)
async def test_what_this_nodes_key_did_not_say_of_this_log_says_nothing(world, told):
    assert await confirm(world, Reply(1, note=told)) == 1


# --- joining checkpoints of peers -----------------------------------------------------------------------------------


async def test_checkpoints_are_joined_by_consistency_proofs(world):
    remember(world, 3)
    await world.control.join_all()
    assert world.transport.asked == []
    remember(world, 7)
    world.transport.replies.append(Reply(1, path=consistency(3, 7)))
    await world.control.join_all()
    assert world.transport.asked == [("lt.k.GOV~G01~n1.GOV~H37~n1", Question(1, CONSISTENCY, PEER, 3, 7))]
    assert [(head.origin, head.size) for head in world.peers.heads()] == [(PEER, 7)]
    await world.control.join_all()
    assert len(world.transport.asked) == 1


@pytest.mark.parametrize(
    "reply", [errors.Timeout(), Reply(1), Reply(1, path=b"p" * 64), Reply(1, path=b"p" * 31), b"?"]
)
async def test_a_peer_that_gives_no_proof_for_long_is_suspect(world, reply):
    remember(world, 3)
    await world.control.join_all()
    remember(world, 7)
    for _ in range(7):
        world.transport.replies.append(reply)
        await world.control.join_all()
    assert world.heard.alarms == [("peer-suspect", G01)]
    assert [head.size for head in world.peers.heads()] == [3]
    world.transport.replies.append(Reply(1, path=consistency(3, 7)))
    await world.control.join_all()
    assert [head.size for head in world.peers.heads()] == [7]


async def test_a_fork_is_kept_and_alarmed_at_once(world):
    first, second = remember(world, 3), remember(world, 3, b"r" * 32)
    assert world.heard.alarms == [("peer-forked", G01)]
    assert world.peers.forks() == {PEER: (first, second)}
    await world.control.join_all()
    assert world.transport.asked == []
    again = Control(
        node=NODE_H37,
        log=world.log,
        memory=CheckpointMemory(),
        peers=world.peers,
        transport=world.transport,
        directory=directory,
        clock=world.clock,
        observer=world.heard,
    )
    assert again._memory.forked == {PEER: (first, second)}


async def test_a_fork_against_a_checkpoint_of_an_earlier_run_is_found(world):
    joined = note_of(NODE_G01, 3, b"a" * 32)
    world.peers.keep(PeerHead(PEER, NODE_G01, 3, b"a" * 32, joined), 1)
    world.control = world.make()
    newer = remember(world, 3, b"b" * 32)
    await world.control.join_all()
    assert world.memory.forked == {PEER: (joined, newer)}
    assert world.heard.alarms == [("peer-forked", G01)]


async def test_a_checkpoint_older_than_the_joined_one_is_left_alone_once_it_is_joined_too(world):
    world.peers.keep(PeerHead(PEER, NODE_G01, 5, tree(5)[1], b"note"), 1)
    world.control = world.make()
    remember(world, 3)
    world.transport.replies.append(Reply(1, path=consistency(3, 5)))
    await world.control.join_all()
    assert len(world.transport.asked) == 1
    assert world.heard.alarms == []
    assert [head.size for head in world.peers.heads()] == [5]


async def test_a_fork_that_could_not_be_kept_is_kept_later(world):
    world.peers._db.execute("PRAGMA query_only = 1")
    first, second = remember(world, 3), remember(world, 3, b"r" * 32)
    assert world.heard.alarms == [("peer-forked", G01)]
    with pytest.raises(PeersUnwritable):
        await world.control.join_all()
    world.peers._db.execute("PRAGMA query_only = 0")
    await world.control.join_all()
    assert world.peers.forks() == {PEER: (first, second)}


async def test_a_log_that_left_the_directory_is_not_joined(world):
    remember(world, 3)
    del world.view.nodes[PEER]
    await world.control.join_all()
    assert world.peers.heads() == []


async def test_a_joined_checkpoint_of_the_same_size_is_left_alone(world):
    remember(world, 3)
    await asyncio.gather(world.control.join_all(), world.control.join_all())
    await world.control.join_all()
    assert world.transport.asked == []
    assert world.heard.alarms == []
    assert H37 not in str(world.peers.heads())


async def test_a_late_checkpoint_over_another_tree_is_noticed(world):
    """A stolen log key signs a smaller tree than those that everybody has joined already."""
    remember(world, 7)
    await world.control.join_all()
    remember(world, 4)  # of the true tree: messages may overtake each other
    remember(world, 5, b"r" * 32)
    world.transport.replies += [Reply(1, path=consistency(4, 7)), Reply(1, path=consistency(5, 7))]
    await world.control.join_all()
    assert world.heard.alarms == [("peer-back-dated", G01)]
    assert world.memory.late == {PEER: {}}
    await world.control.join_all()
    assert len(world.transport.asked) == 2, "each is asked about once"


async def test_late_checkpoints_are_bounded_and_asked_about_again_without_an_answer(world):
    remember(world, 40)
    await world.control.join_all()
    for size in range(1, 30):
        remember(world, size)
    assert len(world.memory.late[PEER]) == 16
    world.transport.replies.append(errors.Timeout())
    await world.control.join_all()
    assert len(world.memory.late[PEER]) == 16


async def test_what_a_thief_signs_with_a_revoked_key_does_not_stop_the_node(world):
    """An earlier, stolen and revoked key of this log signs a larger tree, and a counterparty passes it on."""
    stolen, new = VerifierKey(OWN, signer_of(NODE_H37).public_bytes), FileSigner.generate("ed25519")
    world.log.take_signer(new)
    newer = note_of(NODE_H37, 99, b"r" * 32)

    def state(revoked: bool) -> None:
        others = (LogKey(stolen, NOW, None, revoked),)
        world.view.nodes[OWN] = node_entry(NODE_H37, log_key=VerifierKey(OWN, new.public_bytes), other_keys=others)

    state(revoked=False)
    with pytest.raises(errors.CloneSuspected):
        await world.control._check_own(newer)
    state(revoked=True)
    await world.control._check_own(newer)
    world.stale = errors.DirectoryStale()
    with pytest.raises(errors.CloneSuspected):
        await world.control._check_own(newer)
