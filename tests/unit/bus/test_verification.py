"""Hand-made logs against the verifier: each check by its code, and what may be remembered."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import msgspec
import pytest
from bus_world import (
    CLIENT,
    G01,
    GENESIS,
    H37,
    NODE_G01,
    NODE_H37,
    NOW,
    SERVICE,
    directory,
    node_entry,
    origin_of,
    signer_of,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from bus.envelope import Envelope
from bus.errors import DROP_CODES, Dropped
from bus.exchange.verification import CheckpointMemory, RecordVerifier, TimeLimits, VerifiedRecord
from bus.sealing.epoch import sealdigest
from evidence import header, leaf, merkle, note
from evidence.checkpoint import Checkpoint
from evidence.header import Header, uuid7
from evidence.note import VerifierKey
from evidence.signer import FileSigner

SIGNER = signer_of(NODE_H37)
STRANGER = FileSigner(Ed25519PrivateKey.from_private_bytes(b"s" * 32))
SEAL = (b"wrapped", b"n" * 32, b"ciphertext")
QUERY = frozenset({"query"})


def made_header(**changes: object) -> Header:
    values: dict[str, object] = {
        "specversion": "1.0",
        "id": uuid7(1_790_000_000_000, b"0123456789"),
        "time": header.encode_time(NOW),
        "type": "query",
        "source": CLIENT,
        "node": NODE_H37,
        "to": SERVICE,
        "operation": "getCitizen",
        "expires": header.encode_time(NOW + timedelta(seconds=10)),
        "keyid": "aa" * 32,
        "sealdigest": sealdigest(*SEAL),
        "partdigest": "bb" * 32,
        "bodydigest": "cc" * 32,
        "dir": directory().view,
    }
    return Header(**(values | changes))


class Log:
    """A log in memory that signs what it is told to sign."""

    def __init__(self, origin: str = origin_of(NODE_H37), signer: FileSigner = SIGNER, before: int = 2) -> None:
        self.origin, self.signer = origin, signer
        self.frontier = merkle.Frontier().extend([merkle.leaf_hash(bytes([at])) for at in range(before)]).frontier

    def note(self, size: int | None = None, root: bytes | None = None, name: str | None = None) -> bytes:
        size = self.frontier.size if size is None else size
        text = Checkpoint(self.origin, size, self.frontier.root() if root is None else root).text()
        return note.sign(text, name or self.origin, self.signer)

    def envelope(self, made: Header | bytes, **changes: object) -> Envelope:
        data = made if isinstance(made, bytes) else header.encode(made)
        grown = self.frontier.extend([merkle.leaf_hash(leaf.wrap(leaf.EXCHANGE, data))])
        index, self.frontier = self.frontier.size, grown.frontier
        values = {
            "version": 1,
            "header": data,
            "index": index,
            "size": self.frontier.size,
            "path": grown.paths[0],
            "note": self.note(),
            "wrapped": SEAL[0],
            "nonce": SEAL[1],
            "ciphertext": SEAL[2],
        }
        return Envelope(**(values | changes))


class World:
    def __init__(self) -> None:
        self.alarms: list[tuple[str, str]] = []
        self.view = directory()
        self.memory = CheckpointMemory()
        self.verifier = RecordVerifier(G01, self.memory, TimeLimits(), lambda *args: self.alarms.append(args))
        self.log = Log()

    def verify(self, envelope: Envelope, *, sender: str | None = "GOV~H37", now=NOW, types=QUERY) -> VerifiedRecord:
        return self.verifier.verify(envelope, self.view, now, types, sender)

    def dropped(self, envelope: Envelope, **more: object) -> str:
        with pytest.raises(Dropped) as caught:
            self.verify(envelope, **more)
        assert caught.value.code in DROP_CODES
        return caught.value.code


@pytest.fixture
def world():
    return World()


def test_a_proven_record_is_verified(world):
    made = made_header()
    envelope = world.log.envelope(made)
    record = world.verify(envelope)
    assert record.header == made
    assert record.leaf == leaf.wrap(leaf.EXCHANGE, envelope.header)
    assert record.leaf_hash == merkle.leaf_hash(record.leaf)
    assert record.node.node == NODE_H37
    assert record.note_hash == hashlib.sha256(envelope.note).digest()
    assert world.memory.newest == {world.log.origin: (3, world.log.frontier.root(), envelope.note)}


def test_only_verification_makes_a_verified_record(world):
    record = world.verify(world.log.envelope(made_header()))
    values = msgspec.structs.astuple(record)
    with pytest.raises(TypeError):
        VerifiedRecord(*values[:-1], object())


ENDED = NOW - timedelta(days=1)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"type": "event"}, "type-unexpected"),
        ({"node": f"{H37}/@n2"}, "proof-of-another-node"),
        ({"source": f"{G01}/population"}, "source-not-of-node"),
        ({"source": "VN/GOV/H371/onedoor"}, "source-not-of-node"),
        ({"to": f"{H37}/onedoor"}, "not-addressed-to-us"),
        ({"to": "VN/GOV/G01%20/x"}, "not-addressed-to-us"),
        ({"time": header.encode_time(NOW + timedelta(seconds=61))}, "clock-ahead"),
        ({"expires": header.encode_time(NOW)}, "expired"),
        ({"expires": header.encode_time(NOW + timedelta(seconds=361))}, "expires-too-late"),
        ({"expires": None, "time": header.encode_time(NOW - timedelta(seconds=361))}, "expired"),
        ({"sealdigest": "00" * 32}, "seal-digest-mismatch"),
        ({"sealdigest": None}, "seal-digest-mismatch"),
    ],
)
def test_a_header_that_does_not_fit_is_dropped(world, changes, code):
    assert world.dropped(world.log.envelope(made_header(**changes))) == code
    assert world.memory.newest == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"time": header.encode_time(NOW + timedelta(seconds=60))},
        {"expires": header.encode_time(NOW + timedelta(seconds=360))},
        {"expires": None, "time": header.encode_time(NOW - timedelta(seconds=360))},
        {"to": G01},
    ],
)
def test_a_header_at_the_edge_of_what_is_allowed_passes(world, changes):
    assert world.verify(world.log.envelope(made_header(**changes)))


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", header.encode(made_header()) + b" "])
def test_a_header_that_is_not_exact_is_dropped(world, data):
    assert world.dropped(world.log.envelope(data)) == "header-malformed"


@pytest.mark.parametrize(
    ("note_bytes", "code"),
    [
        (b"", "instance-foreign"),
        (b"\xff\n3\n", "checkpoint-invalid"),
        (b"VN/GOV/H37/@n1\n3\n", "instance-foreign"),
        (f"{'ab' * 32}/{NODE_H37}/1\n3\n".encode(), "instance-foreign"),
        (f"{GENESIS}/{H37}/@n9/1\n3\n".encode(), "node-unknown"),
        (f"{GENESIS}/{NODE_H37}/2\n3\n".encode(), "node-unknown"),
        (f"{GENESIS}/{NODE_G01}/1\n3\n".encode(), "proof-of-another-node"),
        (f"{GENESIS}/{NODE_H37}/1\n3\n".encode(), "checkpoint-invalid"),
    ],
)
def test_a_note_that_is_not_the_nodes_is_dropped(world, note_bytes, code):
    assert world.dropped(world.log.envelope(made_header(), note=note_bytes)) == code


@pytest.mark.parametrize(
    "changes",
    [{"status": "suspended"}, {"status": "closed"}, {"valid_from_at": NOW + timedelta(days=1)}, {"until_at": ENDED}],
)
def test_a_node_that_is_not_in_use_is_dropped(world, changes):
    world.view.nodes[world.log.origin] = node_entry(NODE_H37, **changes)
    assert world.dropped(world.log.envelope(made_header())) == "node-not-in-use"


def test_the_brokers_word_for_the_sender_is_checked_first(world):
    envelope = world.log.envelope(made_header(), note=world.log.note()[:-10])
    assert world.dropped(envelope, sender="GOV~H38") == "subject-mismatch"
    assert world.dropped(envelope, sender=None) == "checkpoint-invalid"


def test_a_note_by_another_key_is_dropped(world):
    assert world.dropped(Log(signer=STRANGER).envelope(made_header())) == "checkpoint-invalid"


def test_a_note_of_another_log_under_the_nodes_own_key_is_dropped(world):
    # The log key signs for this origin only, but the name of the key line is not what counts.
    other = f"{GENESIS}/{NODE_H37}/2"
    entry = node_entry(NODE_H37, origin=other, log_key=VerifierKey(origin_of(NODE_H37), SIGNER.public_bytes))
    world.view.nodes[other] = entry
    log = Log()
    envelope = log.envelope(made_header())
    with pytest.raises(Dropped, match="checkpoint-invalid"):
        world.verifier.prove(envelope, made_header(), entry, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 1},
        {"index": 0},
        {"size": 4},
        {"size": 2, "index": 1},
        {"path": b""},
        {"path": b"p" * 32},
        {"path": b"p" * 64},
    ],
)
def test_a_proof_that_does_not_lead_to_the_root_is_dropped(world, changes):
    assert world.dropped(world.log.envelope(made_header(), **changes)) == "proof-invalid"


def test_a_record_that_was_never_logged_is_dropped(world):
    envelope = world.log.envelope(made_header())
    other = header.encode(made_header(operation="confirm"))
    assert world.dropped(msgspec.structs.replace(envelope, header=other)) == "proof-invalid"


@given(before=st.integers(1, 70), later=st.integers(0, 3))
def test_records_at_any_place_of_a_log_are_verified(before, later):
    world, log = World(), Log(before=before)
    for at in range(later + 1):
        assert world.verify(log.envelope(made_header(id=uuid7(at, b"0123456789"))))


# --- memory ---------------------------------------------------------------------------------------------------------


class CountingKey(VerifierKey):
    """Counts how often it verified."""

    def check(self, text, signature):
        self.checks.append(text)
        return super().check(text, signature)


def counted(world: World) -> list[str]:
    key = CountingKey(world.log.origin, SIGNER.public_bytes)
    object.__setattr__(key, "checks", [])
    world.view.nodes[world.log.origin] = node_entry(NODE_H37, log_key=key)
    return key.checks


def test_one_signature_check_serves_all_records_of_a_batch(world):
    checks = counted(world)
    headers = [header.encode(made_header(id=uuid7(at, b"0123456789"))) for at in range(3)]
    grown = world.log.frontier.extend([merkle.leaf_hash(leaf.wrap(leaf.EXCHANGE, data)) for data in headers])
    world.log.frontier = grown.frontier
    for at, data in enumerate(headers):
        made = Envelope(1, data, 2 + at, 5, grown.paths[at], world.log.note(), *SEAL)
        assert world.verify(made)
    assert len(checks) == 1


def test_a_failed_check_is_not_remembered(world):
    checks = counted(world)
    log = Log(signer=STRANGER)
    envelope = log.envelope(made_header())
    assert [world.dropped(envelope) for _ in range(2)] == ["checkpoint-invalid"] * 2
    assert world.memory.newest == {}
    assert world.memory._verified == {}
    assert checks == []  # the key's name says already that it is another one
    text, _, _ = envelope.note.partition(b"\n\n")
    stolen = text + b"\n\n" + world.log.note().partition(b"\n\n")[2]
    for _ in range(2):
        assert world.dropped(msgspec.structs.replace(envelope, note=stolen)) == "checkpoint-invalid"
    assert len(checks) == 2


def test_the_signature_is_part_of_what_is_remembered(world):
    envelope = world.log.envelope(made_header())
    world.verify(envelope)
    good = envelope.note
    text, _, line = good.partition(b"\n\n")
    at = len(line) - 10
    altered = text + b"\n\n" + line[:at] + (b"A" if line[at : at + 1] != b"A" else b"B") + line[at + 1 :]
    assert world.dropped(msgspec.structs.replace(envelope, note=altered)) == "checkpoint-invalid"
    assert world.verify(envelope)


def test_a_checkpoint_verified_under_a_lost_key_is_verified_anew(world):
    envelope = world.log.envelope(made_header())
    world.verify(envelope)
    world.view.nodes[world.log.origin] = node_entry(
        NODE_H37, log_key=VerifierKey(world.log.origin, STRANGER.public_bytes)
    )
    assert world.dropped(envelope) == "checkpoint-invalid"


def test_the_status_of_the_node_is_looked_at_every_time(world):
    envelope = world.log.envelope(made_header())
    world.verify(envelope)
    world.view.nodes[world.log.origin] = node_entry(NODE_H37, status="revoked")
    assert world.dropped(envelope) == "node-revoked"


def test_a_poisoned_memory_proves_nothing_by_itself(world):
    envelope = world.log.envelope(made_header())
    hashed = hashlib.sha256(envelope.note).digest()
    world.memory.remember(world.log.origin, SIGNER.public_bytes, hashed, envelope.size, b"\0" * 32, envelope.note)
    assert world.dropped(envelope) == "proof-invalid"


def test_memory_is_bounded_per_origin():
    memory = CheckpointMemory(per_origin=3)
    for size in range(1, 8):
        assert memory.remember("one", b"k", bytes([size]), size, bytes([size]), b"note")
    assert memory.remember("other", b"k", b"h", 1, b"r", b"note")
    assert memory.verified("one", b"k", bytes([4])) is None
    assert memory.verified("one", b"k", bytes([5])) == (5, bytes([5]))
    assert memory.verified("one", b"x", bytes([5])) is None
    assert len(memory._roots["one"]) == 3
    assert memory.newest["one"][0] == 7
    assert memory.remember("one", b"k", b"again", 6, bytes([6]), b"note")
    assert memory.newest["one"][0] == 7


def test_a_size_with_two_roots_is_a_fork_and_the_peer_is_quarantined(world):
    told = []
    world.memory.on_fork = lambda *args: told.append(args)
    first = world.log.envelope(made_header())
    world.verify(first)
    other = Log(before=2)
    second = other.envelope(made_header(operation="confirm"))
    assert world.dropped(second) == "peer-forked"
    assert told == [(world.log.origin, first.note, second.note)]
    assert world.memory.forked == {world.log.origin: (first.note, second.note)}
    # nothing of this log counts any more, not even what was remembered
    assert world.dropped(first) == "peer-forked"
    assert world.dropped(world.log.envelope(made_header())) == "peer-forked"
    assert not world.memory.remember(world.log.origin, b"k", b"h", 3, b"third", b"note")
    assert len(told) == 1


def test_a_fork_is_kept_even_if_nobody_listens():
    memory = CheckpointMemory()
    memory.remember("one", b"k", b"1", 5, b"a", b"first")
    assert not memory.remember("one", b"k", b"2", 5, b"b", b"second")
    assert memory.forked == {"one": (b"first", b"second")}


# --- directory views ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "alarmed"),
    [
        (f"9 {'ab' * 32}", False),
        (f"9 {'cd' * 32}", True),
        (f"8 {'cd' * 32}", False),  # not remembered
        (f"7 {'ef' * 32}", False),
        (f"7 {'cd' * 32}", True),  # behind, and another past
        (f"10 {'cd' * 32}", False),
        (None, False),
    ],
)
def test_two_histories_of_one_directory_are_an_alarm(world, told, alarmed):
    world.verify(world.log.envelope(made_header(dir=told)))
    assert world.alarms == ([("directory-two-histories", H37)] if alarmed else [])


def test_a_view_that_nobody_proved_is_no_alarm(world):
    world.dropped(world.log.envelope(made_header(dir=f"9 {'cd' * 32}"), path=b""))
    assert world.alarms == []
