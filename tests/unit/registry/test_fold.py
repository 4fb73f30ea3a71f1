from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_world import (
    CLIENT,
    CONSUMER,
    CONTRACT,
    FAR,
    PROVIDER,
    RIGHT,
    SERVICE,
    START,
    SUBSYSTEM,
    World,
    b64,
    time_at,
)

from evidence.leaf import CONTROL, DIRECTORY, EXCHANGE, Boot, encode_control
from evidence.signer import FileSigner
from registry import documents as d
from registry.envelope import add_signature, genesis_of, read_envelope, sign_document
from registry.errors import EnvelopeInvalid, TooLarge
from registry.fold import Applied, Directory, Skipped
from registry.publickeys import key_id

LATER = START + timedelta(days=2)


def refused(world: World, document: d.AnyDocument, *parties: object) -> str:
    outcome = world.append(world.sign(document, *(parties or (world.provider,))))
    assert isinstance(outcome, Skipped), outcome
    assert world.directory.skipped[-1] == outcome
    return outcome.code


def test_a_directory_says_what_its_documents_say(world: World) -> None:
    directory = world.directory
    assert directory.instance == "VN-TEST"
    assert [member.id for member in directory.members()] == [PROVIDER, CONSUMER]
    service = directory.service(SERVICE)
    assert service is not None
    assert service.provider == PROVIDER
    assert service.fields == {"address", "religion"}
    assert directory.services_of(PROVIDER) == (service,)
    assert directory.services_of(CONSUMER) == ()
    [right] = directory.rights(CLIENT, SERVICE)
    assert right.author == PROVIDER
    assert directory.access(RIGHT) == right
    assert directory.access_rights() == (right,)
    [node] = directory.nodes_of(PROVIDER)
    assert directory.node_by_origin(node.origin) == node
    assert node.usable(LATER)
    assert not node.usable(START - timedelta(days=1))
    assert directory.member("VN-TEST/GOV/X") is None
    assert directory.contracts() == {service.contract_sha256}
    assert directory.key_owner(world.provider.keyid) == PROVIDER
    assert directory.key_owner("0" * 64) is None
    assert directory.skipped_count == 0


def test_the_view_names_the_settled_tree(world: World) -> None:
    world.directory.settle(9, b"\xab" * 32)
    assert world.directory.view == f"9 {'ab' * 32}"
    assert (world.directory.size, world.directory.folded_size) == (9, 9)


def test_a_leaf_out_of_turn_is_a_fault_of_the_program(world: World) -> None:
    with pytest.raises(ValueError, match="next"):
        world.directory.apply(0, b"")


def _contents(part: object) -> dict[str, object]:
    kept = {name: value for name, value in vars(part).items() if name.startswith("_") and not callable(value)}
    return {name: _contents(value) if hasattr(value, "__dict__") else value for name, value in kept.items()}


def test_a_restored_directory_equals_the_verified_one(world: World) -> None:
    world.put(world.revocation(f"node:{CONSUMER}/@n1"), world.consumer)
    copy = Directory(world.genesis)
    verified = Directory(world.genesis)
    for index, leaf in enumerate(world.leaves):
        outcome = verified.apply(index, leaf)
        assert isinstance(outcome, Applied)
        copy.restore(index, outcome.digest, outcome.author, outcome.payload)
    assert _contents(copy) == _contents(verified)
    assert copy.heads == verified.heads
    assert copy.folded_size == verified.folded_size


# Attacks ----------------------------------------------------------------------------------------------------------


def test_a_forged_service_is_skipped(world: World) -> None:
    forger = world.party(PROVIDER)
    assert refused(world, world.service(), forger) == "member-signature-missing"
    assert refused(world, world.service(), world.consumer) == "member-signature-missing"
    assert refused(world, world.service(), world.operator) == "member-signature-missing"


def test_a_changed_payload_is_skipped(world: World) -> None:
    jws = world.sign(world.service(title="Citizens A"), world.provider)
    other = world.sign(world.service(title="Citizens B", issued=time_at(world.minute)), world.provider)
    mixed = other.replace(other.split(b'"signature":"')[1], jws.split(b'"signature":"')[1])
    outcome = world.append(mixed)
    assert isinstance(outcome, Skipped)
    assert outcome.code == "signature-invalid"


def test_a_chain_from_a_strange_authority_is_skipped(world: World) -> None:
    stranger = World()
    forger = world.party(PROVIDER, stranger.authority)
    assert refused(world, world.subsystem(f"{PROVIDER}/a"), forger) == "certificate-invalid"


def test_an_expired_certificate_counts_for_documents_issued_before(world: World) -> None:
    late = world.subsystem(f"{PROVIDER}/late", issued="2037-01-01T00:00:00.000000Z")
    assert FAR.year == 2036
    assert refused(world, late, world.provider) == "certificate-invalid"


def test_a_certificate_counts_from_its_own_second_on(world: World) -> None:
    early = world.subsystem(f"{PROVIDER}/early", issued="2026-01-04T07:59:59.000000Z")
    assert refused(world, early, world.provider) == "certificate-invalid"


def test_a_replayed_document_is_skipped(world: World) -> None:
    old = world.leaves[-1][len(DIRECTORY) :]
    world.put(world.access(until=time_at(1)), world.provider)
    for _ in range(2):
        outcome = world.append(old)
        assert isinstance(outcome, Skipped)
        assert outcome.code == "sequence-replayed"
    [right] = world.directory.rights(CLIENT, SERVICE)
    assert right.until_at is not None


def test_chains_have_no_gaps_forks_or_steps_back_in_time(world: World) -> None:
    first = world.digests["access", RIGHT][0]
    assert refused(world, world.access(seq=2)) == "sequence-gap"
    assert refused(world, world.access(prev="0" * 64)) == "predecessor-mismatch"
    assert refused(world, world.access(issued=time_at(0))) == "issued-before-predecessor"
    world.put(world.access(), world.provider)
    assert refused(world, world.access(prev=first)) == "predecessor-mismatch"
    assert refused(world, world.access(f"{SERVICE}#new", seq=1, prev=first)) == "sequence-gap"


def test_nothing_signed_for_a_twin_instance_counts() -> None:
    ours = World().populate()
    twin = World()
    # The same operator, members, keys, name and certification authority: only the anchor differs.
    for name in ("authority", "operator", "provider", "consumer"):
        setattr(twin, name, getattr(ours, name))
    twin.anchor = twin.make_anchor()
    twin.genesis = genesis_of(twin.anchor)
    twin.directory = Directory(twin.genesis)
    twin.populate()
    assert twin.genesis != ours.genesis
    for leaf in twin.leaves:
        outcome = ours.append(leaf[len(DIRECTORY) :])
        assert isinstance(outcome, Skipped)
        assert outcome.code == "wrong-genesis"


def test_another_anchor_does_not_begin_this_directory() -> None:
    world, other = World(), World()
    directory = Directory(world.genesis)
    outcome = directory.apply(0, DIRECTORY + other.sign(other.anchor, other.operator, genesis=None))
    assert isinstance(outcome, Skipped)
    assert outcome.code == "wrong-genesis"
    outcome = directory.apply(1, DIRECTORY + world.sign(world.member(world.provider), world.operator))
    assert isinstance(outcome, Skipped)
    jws = sign_document(world.make_anchor(threshold=1), world.operator.signer, world.operator.chain, None)
    unsigned_type = jws.replace(b"x", b"x")
    assert isinstance(directory.apply(2, DIRECTORY + unsigned_type), Applied)


def test_a_first_document_that_is_no_anchor_is_skipped() -> None:
    world = World()
    member = world.member(world.provider)
    from evidence import jws
    from registry.envelope import protected_header

    forged = jws.sign_flattened(
        d.encode(member), protected_header("member", world.operator.chain, None), world.operator.signer
    )
    outcome = world.directory.apply(0, DIRECTORY + forged)
    assert isinstance(outcome, Skipped)
    assert outcome.code == "no-anchor"


def test_a_document_under_another_type_is_skipped(world: World) -> None:
    from evidence import jws
    from registry.envelope import protected_header

    header = protected_header("access", world.provider.chain, world.genesis)
    forged = jws.sign_flattened(d.encode(world.subsystem(f"{PROVIDER}/a")), header, world.provider.signer)
    outcome = world.append(forged)
    assert isinstance(outcome, Skipped)
    assert outcome.code == "type-mismatch"


def test_a_key_has_one_use(world: World) -> None:
    [node] = world.directory.nodes_of(CONSUMER)
    log, broker = node.log_key.public, node.broker_key
    id_ = f"{PROVIDER}/@n2"
    origin = f"{world.genesis}/{id_}/1"
    assert refused(world, world.node(id_, broker_key=b64(log))) == "key-reused"
    assert refused(world, world.node(id_, log=d.NodeLog(key=b64(broker), origin=origin))) == "key-reused"
    assert refused(world, world.node(id_, log=d.NodeLog(key=b64(log), origin=origin))) == "key-reused"
    fresh = FileSigner.generate("ed25519")
    assert refused(world, world.node(id_, log=fresh, broker_key=b64(fresh.public_bytes))) == "key-reused"
    assert refused(world, world.node(id_, broker_key=b64(world.log_signer.public_bytes))) == "key-reused"
    assert refused(world, world.node(id_, broker_key=b64(world.cosigner.public_bytes))) == "key-reused"
    assert refused(world, world.sealing(f"{PROVIDER}/@n1", log)) == "key-reused"
    member = world.member(world.consumer, keys=(world.consumer.pinned(), world.provider.pinned()))
    assert refused(world, member, world.operator, world.consumer) == "key-reused"
    member = world.member(world.consumer, keys=(world.consumer.pinned("recovery"),))
    assert refused(world, member, world.operator, world.consumer) == "key-reused"
    member = world.member(world.consumer, keys=(world.consumer.pinned(), world.consumer.pinned()))
    assert refused(world, member, world.operator, world.consumer) == "key-reused"
    member = world.member(world.consumer, keys=(world.operator.pinned(),))
    assert refused(world, member, world.operator, world.consumer) == "key-reused"
    point = world.provider.signer.private_key.public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert refused(world, world.sealing(f"{PROVIDER}/@n1", raw, kem="P-256")) == "key-reused"


def test_the_classical_half_of_a_hybrid_key_is_a_key(world: World) -> None:
    half = b"\x05" * 32
    world.put(world.sealing(PROVIDER, half), world.provider)
    hybrid = world.sealing(PROVIDER, b"\x06" * 1184 + half, kem="MLKEM768-X25519")
    world.put(hybrid, world.provider)  # the same owner may seal to its own key twice
    other = world.sealing(CONSUMER, b"\x07" * 1184 + half, kem="MLKEM768-X25519")
    assert refused(world, other, world.consumer) == "key-reused"


@pytest.mark.parametrize("leaf", [b"", b"nothing", EXCHANGE + b"{}", DIRECTORY, DIRECTORY + b"{}", b"\xff" * 70_000])
def test_a_leaf_that_is_no_document_is_skipped(world: World, leaf: bytes) -> None:
    outcome = world.directory.apply(world.directory.folded_size, leaf)
    assert isinstance(outcome, Skipped)
    assert world.directory.skipped_count == 1


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_no_leaf_ever_raises(data: bytes) -> None:
    directory = Directory("0" * 64)
    assert isinstance(directory.apply(0, DIRECTORY + data), Skipped)
    assert isinstance(directory.apply(1, b"x" + data), Skipped)


SHARED = World().populate()
GOOD = SHARED.sign(SHARED.service(), SHARED.provider)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_mutated_document_is_applied(data: st.DataObject) -> None:
    mutated = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    outcome = SHARED.directory.check(DIRECTORY + bytes(mutated))
    assert isinstance(outcome, Skipped) or bytes(mutated) == GOOD


def test_control_leaves_say_nothing(world: World) -> None:
    leaf = encode_control(Boot(id="a" * 16, time=time_at(0)))
    assert leaf.startswith(CONTROL)
    outcome = world.directory.apply(world.directory.folded_size, leaf)
    assert outcome == Applied(index=len(world.leaves))


def test_a_document_that_does_not_fit_a_leaf_is_not_signed(world: World) -> None:
    with pytest.raises(TooLarge):
        world.sign(world.service(title="x" * 512, fields=tuple("f" * 120 + str(i) for i in range(256)),
                                 operations=tuple(d.Operation(id=f"{'o' * 100}{i}", method="GET", path="/" + "p" * 100)
                                                  for i in range(200))), world.provider)  # fmt: skip


def test_envelopes_have_exactly_their_headers(world: World) -> None:
    from evidence import jws

    document = world.subsystem(f"{PROVIDER}/a")
    x5c = [b64(world.provider.chain[0])]
    base = {"typ": "lienthong-subsystem+json", "genesis": world.genesis, "x5c": x5c}
    for header in (
        {**base, "kid": "x"},
        {**base, "typ": "application/json"},
        {**base, "typ": 7},
        {**base, "x5c": []},
        {**base, "x5c": "x"},
        {**base, "x5c": ["!"]},
        {**base, "x5c": [7]},
        {**base, "x5c": ["AB=="]},
        {key: value for key, value in base.items() if key != "genesis"},
    ):
        forged = jws.sign_flattened(d.encode(document), header, world.provider.signer)
        with pytest.raises(EnvelopeInvalid):
            read_envelope(forged, genesis=world.genesis)
    signed = world.sign(document, world.provider)
    two = jws.add_signature(signed, {**base, "typ": "lienthong-node+json"}, world.consumer.signer)
    with pytest.raises(EnvelopeInvalid, match="different types"):
        read_envelope(two, genesis=world.genesis)
    with pytest.raises(EnvelopeInvalid):
        add_signature(b"{}", world.provider.signer, world.provider.chain)
    with pytest.raises(EnvelopeInvalid):
        sign_document(document, world.provider.signer, world.provider.chain, None)
    with pytest.raises(EnvelopeInvalid):
        read_envelope(b"x" * 66_000, genesis=world.genesis)


def test_an_anchor_with_unreadable_authorities_begins_nothing() -> None:
    world = World()
    world.anchor = world.make_anchor(certification_authorities=("x" * 64,))
    world.directory = Directory(genesis_of(world.anchor))
    outcome = world.append(world.sign(world.anchor, world.operator, genesis=None))
    assert isinstance(outcome, Skipped)
    assert outcome.code == "certificate-invalid"


# Subjects and references ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject",
    ["VN-TEST/GOV", "VN-TEST/GOV/H 37", "VN-TEST/GOV/G%30X", "OTHER/GOV/G9", "VN-TEST/GOV/Đ", "VN-TEST:GOV:G9"],
)
def test_members_have_creatable_identifiers_in_one_spelling(world: World, subject: str) -> None:
    document = d.Member(
        **world.common("member", subject), status="active", names={}, keys=(world.party("VN-TEST/GOV/G9").pinned(),)
    )
    assert refused(world, document, world.operator) == "subject-invalid"


def test_subjects_that_are_not_what_they_should_be_are_refused(world: World) -> None:
    provider = world.provider
    assert refused(world, world.subsystem(f"{PROVIDER}/@n9")) == "subject-invalid"
    assert refused(world, world.subsystem(f"{PROVIDER}/a b")) == "subject-invalid"
    assert refused(world, world.service(f"{SUBSYSTEM}/listMethods")) == "subject-invalid"
    assert refused(world, world.service(f"{SUBSYSTEM}/%61")) == "subject-invalid"
    assert refused(world, world.access(f"{SERVICE}#a/b")) == "subject-invalid"
    assert refused(world, world.access(f"{SERVICE}#x", service=f"{SUBSYSTEM}/other")) == "subject-invalid"
    assert refused(world, world.access(f"{SERVICE}#x", client="OTHER/GOV/G1/s")) == "subject-invalid"
    assert refused(world, world.node(f"{PROVIDER}/n1")) == "subject-invalid"
    assert refused(world, world.sealing(f"{PROVIDER}/x", b"\x01" * 32)) == "subject-invalid"
    for target in ("service:x", "key:xyz", f"key:{'G' * 64}", "member:x", "nothing"):
        assert refused(world, world.revocation(target), world.operator) == "subject-invalid"
    group = {"names": {}, "clients": (CLIENT,)}
    assert refused(world, d.Group(**world.common("group", f"{PROVIDER}"), **group)) == "subject-invalid"
    group["clients"] = (f"{PROVIDER}#nested",)
    assert refused(world, d.Group(**world.common("group", f"{PROVIDER}#g"), **group), provider) == "subject-invalid"
    group["clients"] = ("x",)
    assert refused(world, d.Group(**world.common("group", f"{PROVIDER}#g"), **group), provider) == "subject-invalid"
    anchor = world.make_anchor(**{**world.common("anchor", "VN-TEST"), "subject": "VN-TEST-2", "seq": 0, "prev": None})
    from evidence import jws
    from registry.envelope import protected_header

    header = protected_header("anchor", world.operator.chain, world.genesis)
    outcome = world.append(jws.sign_flattened(d.encode(anchor), header, world.operator.signer))
    assert isinstance(outcome, Skipped)
    assert outcome.code == "subject-invalid"


def test_references_must_exist(world: World) -> None:
    assert refused(world, world.service(f"{PROVIDER}/nothing/citizens")) == "subsystem-unknown"
    assert refused(world, world.access(f"{SUBSYSTEM}/nothing#a")) == "service-unknown"
    assert refused(world, world.sealing(f"{PROVIDER}/@n7", b"\x01" * 32)) == "node-unknown"


def test_the_directory_keys_stay_for_the_life_of_a_log(world: World) -> None:
    keys = d.DirectoryKeys(
        log_key=b64(FileSigner.generate("ed25519").public_bytes), cosigner_key=b64(world.cosigner.public_bytes)
    )
    anchor = world.make_anchor(**world.common("anchor", "VN-TEST"), directory=keys)
    assert refused(world, anchor, world.operator) == "directory-key-changed"


def test_a_new_anchor_replaces_the_authorities(world: World) -> None:
    from evidence.issue import create_authority

    authority = create_authority("New", FileSigner.generate("p256"), not_before_at=START, not_after_at=FAR)
    pems = (world.authority.pem.decode(), authority.pem.decode())
    world.put(world.make_anchor(**world.common("anchor", "VN-TEST"), certification_authorities=pems), world.operator)
    assert world.directory.anchor_indices == [0, 9]
    newcomer = world.party("VN-TEST/GOV/N1", authority)
    world.put(world.member(newcomer), world.operator)
    world.put(world.subsystem("VN-TEST/GOV/N1/s"), newcomer)


# Aliases ----------------------------------------------------------------------------------------------------------


def test_an_alias_leads_to_its_member(world: World) -> None:
    assert world.directory.resolve_alias(SERVICE) == SERVICE
    world.put(world.member(world.provider, aliases=("000.00.00.G01",)), world.operator)
    old = "VN-TEST/GOV/000.00.00.G01"
    assert world.directory.resolve_alias(f"{old}/population/citizens") == SERVICE
    assert world.directory.resolve_alias(old) == PROVIDER
    assert world.directory.resolve_alias(CLIENT) == CLIENT
    world.put(world.member(world.provider), world.operator)
    assert world.directory.resolve_alias(old) == old


def test_an_alias_names_one_member(world: World) -> None:
    world.put(world.member(world.provider, aliases=("G99",)), world.operator)
    for alias in ("H37", "G01", "G99"):
        assert refused(world, world.member(world.consumer, aliases=(alias,)), world.operator) == "alias-taken"
    newcomer = world.party("VN-TEST/GOV/G99")
    assert refused(world, world.member(newcomer), world.operator) == "alias-taken"
    assert refused(world, world.member(world.consumer, aliases=("a b",)), world.operator) == "alias-invalid"


# Nodes ------------------------------------------------------------------------------------------------------------


def test_a_new_incarnation_closes_the_old_log(world: World) -> None:
    id_ = f"{PROVIDER}/@n1"
    before = world.directory.node(id_)
    assert before is not None
    log = FileSigner.generate("ed25519")

    def node(incarnation: int, closes: d.ClosedLog | None, key: bytes = log.public_bytes) -> d.Node:
        origin = f"{world.genesis}/{id_}/{incarnation}"
        return world.node(id_, log=d.NodeLog(key=b64(key), origin=origin, closes=closes))

    closes = d.ClosedLog(origin=before.origin, size=70, root="ab" * 32)
    wrong = d.ClosedLog(origin=f"{world.genesis}/{id_}/7", size=70, root="ab" * 32)
    assert refused(world, node(2, None)) == "incarnation-invalid"
    assert refused(world, node(2, wrong)) == "incarnation-invalid"
    assert refused(world, node(2, closes, before.log_key.public)) == "key-reused"
    assert refused(world, node(1, None)) == "log-key-dropped"
    world.put(node(2, closes), world.provider)
    after = world.directory.node(id_)
    assert after is not None
    assert after.incarnation == 2
    closed = world.directory.node_by_origin(before.origin)
    assert closed is not None
    assert (closed.status, closed.closed_size, closed.closed_root) == ("closed", 70, b"\xab" * 32)
    assert not closed.usable(LATER)
    assert refused(world, node(1, closes, before.log_key.public)) == "incarnation-invalid"
    world.put(node(2, closes), world.provider)  # a renewed statement of the same log
    assert world.directory.nodes_of(PROVIDER) == (world.directory.node(id_),)


def test_origins_belong_to_their_node(world: World) -> None:
    id_ = f"{PROVIDER}/@n5"
    key = b64(FileSigner.generate("ed25519").public_bytes)
    for origin in ("x", f"{'0' * 64}/{id_}/1", f"{world.genesis}/{PROVIDER}/@n6/1"):
        assert refused(world, world.node(id_, log=d.NodeLog(key=key, origin=origin))) == "origin-invalid"
    closes = d.ClosedLog(origin=f"{world.genesis}/{id_}/1", size=1, root="00" * 32)
    log = d.NodeLog(key=key, origin=f"{world.genesis}/{id_}/2", closes=closes)
    assert refused(world, world.node(id_, log=log)) == "incarnation-invalid"


def test_a_node_speaks_only_while_its_member_is_active(world: World) -> None:
    world.put(world.member(world.provider, status="suspended"), world.operator)
    [node] = world.directory.nodes_of(PROVIDER)
    assert node.status == "suspended"
    origin = world.directory.node_by_origin(node.origin)
    assert origin is not None
    assert not origin.usable(LATER)
    world.put(world.member(world.provider), world.operator)
    assert world.directory.nodes_of(PROVIDER)[0].status == "active"


@pytest.mark.parametrize("target", ["node", "log", "broker", "member"])
def test_a_revoked_node_stays_silent(world: World, target: str) -> None:
    [node] = world.directory.nodes_of(PROVIDER)
    subject = {
        "node": f"node:{node.node}",
        "log": f"key:{key_id(node.log_key.public)}",
        "broker": f"key:{key_id(node.broker_key)}",
        "member": f"member:{PROVIDER}",
    }[target]
    world.put(world.revocation(subject, since=time_at(3)), world.provider)
    assert world.directory.nodes_of(PROVIDER)[0].status == "revoked"
    assert world.directory.nodes_of(CONSUMER)[0].status == "active"
    kind, _, id_ = subject.partition(":")
    world.put(world.revocation(subject, since=time_at(9)), world.provider)
    revocation = world.directory.revocation(kind, id_)
    assert revocation is not None
    assert revocation.since_at == START + timedelta(minutes=3), "a later document never moves it later"


# Sealing keys -----------------------------------------------------------------------------------------------------


def test_the_newest_valid_sealing_key_is_used(world: World) -> None:
    owner = f"{PROVIDER}/@n1"
    old, new, future = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
    world.put(world.sealing(owner, old), world.provider)
    world.put(world.sealing(owner, new, valid_from=time_at(60), until=time_at(120)), world.provider)
    world.put(world.sealing(owner, future, valid_from=time_at(600), use=("query",)), world.provider)

    def at(minutes: float, use: str = "query") -> bytes | None:
        entry = world.directory.sealing_key(owner, use, START + timedelta(minutes=minutes))
        return None if entry is None else entry.public

    assert [at(-1), at(1), at(60), at(120), at(600)] == [None, old, new, old, future]
    assert at(600, "command") == old
    assert at(1, "answer") is None
    assert world.directory.sealing_key(CONSUMER, "query", LATER) is None
    entry = world.directory.sealing_key_by_id(key_id(new))
    assert entry is not None
    assert entry.owner == owner
    world.put(world.sealing(owner, new, valid_from=time_at(60), until=time_at(61)), world.provider)
    assert at(100) == old
    assert refused(world, world.sealing(owner, new, use=("answer",))) == "key-reused"


@pytest.mark.parametrize("target", ["key", "node", "member"])
def test_nothing_is_sealed_to_a_revoked_key(world: World, target: str) -> None:
    owner, public = f"{PROVIDER}/@n1", b"\x01" * 32
    world.put(world.sealing(owner, public), world.provider)
    world.put(world.sealing(CONSUMER, b"\x02" * 32), world.consumer)
    subject = {"key": key_id(public), "node": owner, "member": PROVIDER}[target]
    world.put(world.revocation(f"{target}:{subject}"), world.operator)
    assert world.directory.sealing_key(owner, "query", LATER) is None
    assert world.directory.sealing_key(CONSUMER, "query", LATER) is not None
    if target != "member":
        world.put(world.sealing(owner, public), world.provider)
        assert world.directory.sealing_key(owner, "query", LATER) is None


# Rights and groups ------------------------------------------------------------------------------------------------


def test_rights_come_from_subsystem_member_and_group(world: World) -> None:
    world.put(world.access(f"{SERVICE}#member", client=CONSUMER), world.provider)
    world.put(world.access(f"{SERVICE}#group", client="VN-TEST#all"), world.provider)
    subjects = [right.subject for right in world.directory.rights(CLIENT, SERVICE)]
    assert subjects == [RIGHT, f"{SERVICE}#member"]

    def group(*clients: str) -> d.Group:
        return d.Group(**world.common("group", "VN-TEST#all"), names={"en": "All"}, clients=clients)

    world.put(group(CLIENT, CONSUMER), world.operator)
    assert [right.subject for right in world.directory.rights(CLIENT, SERVICE)][2:] == [f"{SERVICE}#group"]
    world.put(group(PROVIDER), world.operator)
    assert len(world.directory.rights(CLIENT, SERVICE)) == 2
    assert len(world.directory.rights(SUBSYSTEM, SERVICE)) == 1


def test_a_right_can_move_to_another_client(world: World) -> None:
    world.put(world.access(client=SUBSYSTEM), world.provider)
    assert world.directory.rights(CLIENT, SERVICE) == ()
    assert len(world.directory.rights(SUBSYSTEM, SERVICE)) == 1


def test_a_right_without_a_start_begins_when_it_was_issued(world: World) -> None:
    world.put(world.access(valid_from=time_at(100)), world.provider)
    [right] = world.directory.rights(CLIENT, SERVICE)
    assert right.valid_from_at == START + timedelta(minutes=100)
    assert CONTRACT
