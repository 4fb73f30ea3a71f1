from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from registry_world import CLIENT, CONSUMER, INSTANCE, PROVIDER, RIGHT, SERVICE, START, World, time_at

from evidence import jws
from evidence.leaf import DIRECTORY
from registry import documents as d
from registry.database import open_store, transaction
from registry.decision import authorise_coarse
from registry.envelope import protected_header
from registry.errors import DocumentMalformed, DocumentRefused, EnvelopeInvalid, StoreUnusable
from registry.fold import Applied
from registry.own import OwnStore, OwnView, compare

AT = START + timedelta(hours=1)


@pytest.fixture
def own(world: World, tmp_path: Path) -> OwnStore:
    store = OwnStore(tmp_path / "own.db", genesis=world.genesis, member=PROVIDER)
    for leaf in world.leaves[-2:]:
        store.put(leaf[len(DIRECTORY) :])
    yield store
    store.close()


def test_own_documents_agree_with_the_directory(world: World, own: OwnStore) -> None:
    assert compare(own, world.directory) == []
    view = OwnView(own, world.directory)
    assert view.rights(CLIENT, SERVICE) == world.directory.rights(CLIENT, SERVICE)
    assert view.service(SERVICE) == world.directory.service(SERVICE)
    assert authorise_coarse(view, client=CLIENT, service=SERVICE, at=AT).allowed


def test_a_strangers_right_in_the_providers_name_is_not_enforced(world: World, own: OwnStore) -> None:
    # The member's key was stolen: the directory cannot tell, the provider can.
    world.put(world.access(f"{SERVICE}#thief", client=f"{CONSUMER}/thief"), world.provider)
    world.put(world.subsystem(f"{CONSUMER}/thief"), world.consumer)
    assert authorise_coarse(world.directory, client=f"{CONSUMER}/thief", service=SERVICE, at=AT).allowed
    view = OwnView(own, world.directory)
    assert authorise_coarse(view, client=f"{CONSUMER}/thief", service=SERVICE, at=AT).code == "no-access-right"
    [alarm] = compare(own, world.directory)
    assert (alarm.code, alarm.subject) == ("stranger-in-own-name", f"{SERVICE}#thief")


def test_a_strangers_newer_version_is_an_alarm(world: World, own: OwnStore) -> None:
    world.put(world.access(fields=("*",)), world.provider)
    [alarm] = compare(own, world.directory)
    assert (alarm.code, alarm.subject) == ("stranger-in-own-name", RIGHT)
    assert OwnView(own, world.directory).rights(CLIENT, SERVICE)[0].fields == frozenset()


def test_an_own_revocation_counts_at_once_and_is_missed_when_it_is_withheld(world: World, own: OwnStore) -> None:
    node = f"{PROVIDER}/@n1"
    signed = world.sign(world.revocation(f"node:{node}"), world.provider)
    own.put(signed)
    assert OwnView(own, world.directory).is_revoked("node", node)
    assert not world.directory.is_revoked("node", node)
    assert [(a.code, a.subject) for a in compare(own, world.directory)] == [("own-document-missing", f"node:{node}")]
    world.append(signed)
    assert compare(own, world.directory) == []
    # the operator may go on with the chain, and so may the member after it
    world.put(world.revocation(f"node:{node}"), world.operator)
    assert compare(own, world.directory) == []
    own.put(world.sign(world.revocation(f"node:{node}"), world.provider))
    assert OwnView(own, world.directory).is_revoked("node", node)


def test_nobody_elses_revocation_is_kept_as_ones_own(world: World, own: OwnStore) -> None:
    with pytest.raises(DocumentRefused, match="not a service"):
        own.put(world.sign(world.revocation(f"member:{CONSUMER}"), world.provider))


def test_a_withheld_document_is_enforced_and_an_alarm(world: World, own: OwnStore) -> None:
    withdrawn = world.sign(world.access(until=time_at(20)), world.provider)
    own.put(withdrawn)
    own.put(world.sign(world.access(f"{SERVICE}#new"), world.provider))
    assert [(alarm.code, alarm.subject) for alarm in compare(own, world.directory)] == [
        ("own-document-missing", RIGHT),
        ("own-document-missing", f"{SERVICE}#new"),
    ]
    assert withdrawn in own.newest()
    view = OwnView(own, world.directory)
    rights = view.rights(CLIENT, SERVICE)
    assert len(rights) == 2
    assert view.member(PROVIDER) is world.directory.member(PROVIDER)
    assert not view.is_revoked("member", PROVIDER)


def test_groups_come_from_the_directory(world: World, own: OwnStore) -> None:
    group = d.Group(**world.common("group", "VN-TEST#all"), names={}, clients=(f"{CONSUMER}/x",))
    world.put(group, world.operator)
    own.put(world.sign(world.access(f"{SERVICE}#g", client="VN-TEST#all"), world.provider))
    assert len(OwnView(own, world.directory).rights(f"{CONSUMER}/x", SERVICE)) == 1


def test_only_the_next_own_document_is_kept(world: World, own: OwnStore) -> None:
    own.put(world.leaves[-1][len(DIRECTORY) :])  # the same again
    gap = world.access(seq=2, prev="0" * 64)
    with pytest.raises(DocumentRefused, match="is next"):
        own.put(world.sign(gap, world.provider))
    fork = world.access(prev="0" * 64)
    with pytest.raises(DocumentRefused, match="is next"):
        own.put(world.sign(fork, world.provider))
    for document in (world.subsystem(f"{PROVIDER}/x"), world.access("VN-TEST/GOV/H37/onedoor/s#a")):
        with pytest.raises(DocumentRefused, match="not a service or access right"):
            own.put(world.sign(document, world.provider))
    with pytest.raises(EnvelopeInvalid):
        own.put(b"{}")
    header = protected_header("access", world.provider.chain, world.genesis)
    empty = jws.sign_flattened(b"{}", header, world.provider.signer)
    with pytest.raises(DocumentMalformed):
        own.put(empty)


def test_what_would_not_be_kept_is_known_before_it_is_published(world: World, own: OwnStore) -> None:
    elsewhere = world.access(seq=2, prev="0" * 64)
    with pytest.raises(DocumentRefused, match="another home"):
        own.check(world.sign(elsewhere, world.provider))
    with pytest.raises(DocumentRefused, match="not a service or access right"):
        own.check(world.sign(world.subsystem(f"{PROVIDER}/x"), world.provider))
    before = own.newest()
    own.check(world.sign(world.access(f"{SERVICE}#later"), world.provider))
    assert own.newest() == before


def test_the_store_survives_a_restart(world: World, own: OwnStore, tmp_path: Path) -> None:
    own.close()
    again = OwnStore(tmp_path / "own.db", genesis=world.genesis, member=PROVIDER)
    assert again.state.heads == own.state.heads
    assert OwnView(again, world.directory).rights(CLIENT, SERVICE)
    again.close()


def test_a_store_of_another_instance_kind_or_future_is_refused(world: World, own: OwnStore, tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    own.close()
    with pytest.raises(StoreUnusable, match="another instance"):
        OwnStore(path, genesis="0" * 64, member=PROVIDER)
    with pytest.raises(StoreUnusable, match="is not a"):
        open_store(path, kind="something", version=1, genesis=world.genesis, schema=())
    with pytest.raises(StoreUnusable, match="newer program"):
        open_store(path, kind="own-documents", version=0, genesis=world.genesis, schema=())
    with pytest.raises(StoreUnusable):
        open_store(tmp_path / "no" / "such", kind="x", version=0, genesis="", schema=())
    (tmp_path / "junk.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreUnusable):
        open_store(tmp_path / "junk.db", kind="x", version=0, genesis="", schema=())


def test_a_failed_commit_writes_nothing(tmp_path: Path) -> None:
    schema = (
        "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
        "CREATE TABLE child (id INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)",
    )
    connection = open_store(tmp_path / "t.db", kind="t", version=1, genesis="", schema=schema)
    connection.execute("PRAGMA foreign_keys=1")
    with pytest.raises(StoreUnusable), transaction(connection):
        connection.execute("INSERT INTO child VALUES (1)")
    assert not connection.in_transaction
    assert connection.execute("SELECT COUNT(*) FROM child").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("how", ["revoked", "suspended"])
def test_a_group_of_a_member_that_is_shown_out_gives_no_rights(tmp_path: Path, how: str) -> None:
    world = World().populate()
    owner = world.party(f"{INSTANCE}/GOV/X9")
    world.put(world.member(owner), world.operator)
    group = f"{owner.id}#friends"
    world.put(d.Group(**world.common("group", group), names={}, clients=(CLIENT,)), owner)
    right = world.sign(world.access(f"{SERVICE}#friends", client=group), world.provider)
    assert isinstance(world.append(right), Applied)
    store = OwnStore(tmp_path / "own.db", genesis=world.genesis, member=PROVIDER)
    try:
        store.put(right)
        views = (world.directory, OwnView(store, world.directory))
        assert all(f"{SERVICE}#friends" in {r.subject for r in view.rights(CLIENT, SERVICE)} for view in views)
        if how == "revoked":
            world.put(world.revocation(f"member:{owner.id}"), world.operator)
        else:
            world.put(world.member(owner, status="suspended"), world.operator)
        assert not any(f"{SERVICE}#friends" in {r.subject for r in view.rights(CLIENT, SERVICE)} for view in views)
    finally:
        store.close()


def test_a_store_notices_what_another_process_writes(world: World, own: OwnStore, tmp_path: Path) -> None:
    other = OwnStore(tmp_path / "own.db", genesis=world.genesis, member=PROVIDER)
    assert not other.changed()
    jws = world.sign(world.access(f"{SERVICE}#other"), world.provider)
    own.intend(jws)
    assert other.changed()
    again = OwnStore(tmp_path / "own.db", genesis=world.genesis, member=PROVIDER)
    own.put(jws)  # in the same moment: the file's time may be the same
    assert again.changed()
    other.close()
    again.close()
