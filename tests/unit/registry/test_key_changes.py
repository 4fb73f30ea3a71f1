"""Keys that follow one another in the directory: of a log, and of a member that lost all of its own."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import msgspec
import pytest
from registry_world import START, Party, World, b64, time_at

from evidence.signer import FileSigner
from registry import datedtrees
from registry import documents as d
from registry.envelope import Envelope, read_envelope
from registry.errors import DocumentMalformed
from registry.fold import REVOCATION_PREFIX, Applied, Directory, Skipped
from registry.publickeys import key_id

WEEK_MINUTES = 7 * 24 * 60.0


@pytest.fixture
def world() -> World:
    return World().populate()


def skipped(world: World, document: d.AnyDocument, *parties: Party) -> str:
    outcome = world.append(world.sign(document, *parties))
    assert isinstance(outcome, Skipped), outcome
    return outcome.code


# --- log keys -------------------------------------------------------------------------------------------------------


def node_id(world: World) -> str:
    return f"{world.provider.id}/@n1"


def origin(world: World) -> str:
    return f"{world.genesis}/{node_id(world)}/1"


def present(world: World) -> str:
    entry = world.directory.node(node_id(world))
    assert entry is not None
    return b64(entry.log_key.public)


def restated(world: World, log: d.NodeLog) -> d.Node:
    return world.node(node_id(world), log=log)


def window(key: str, from_minutes: float, until_minutes: float | None = None) -> d.LogKeyWindow:
    until = None if until_minutes is None else time_at(until_minutes)
    return d.LogKeyWindow(key=key, from_=time_at(from_minutes), until=until)


def test_a_next_key_counts_from_its_time_on_and_the_old_one_until_its_end(world: World) -> None:
    old, new = present(world), b64(FileSigner.generate("ed25519").public_bytes)
    world.put(restated(world, d.NodeLog(key=old, origin=origin(world), others=(window(new, 60),))), world.provider)
    entry = world.directory.node(node_id(world))
    assert entry is not None
    assert [b64(key.public) for key in entry.keys_at(START + timedelta(minutes=59))] == [old]
    assert [b64(key.public) for key in entry.keys_at(START + timedelta(minutes=60))] == [old, new]
    changed = d.NodeLog(key=new, origin=origin(world), key_from=time_at(60), others=(window(old, 0, 120),))
    world.put(restated(world, changed), world.provider)
    entry = world.directory.node(node_id(world))
    assert entry is not None
    assert [b64(key.public) for key in entry.keys_at(START + timedelta(minutes=119))] == [new, old]
    assert [b64(key.public) for key in entry.keys_at(START + timedelta(minutes=120))] == [new]
    assert {b64(key.public) for key in entry.all_keys()} == {old, new}
    assert (
        skipped(world, restated(world, d.NodeLog(key=new, origin=origin(world))), world.provider) == "log-key-dropped"
    )


def test_a_revoked_earlier_key_of_a_log_is_not_accepted_and_the_node_goes_on(world: World) -> None:
    old, new = present(world), FileSigner.generate("ed25519")
    log = d.NodeLog(key=b64(new.public_bytes), origin=origin(world), others=(window(old, 0),))
    world.put(restated(world, log), world.provider)
    before = world.directory.node(node_id(world))
    assert before is not None
    revoked = key_id(before.other_keys[0].key.public)
    world.put(world.revocation(f"key:{revoked}"), world.provider)
    entry = world.directory.node(node_id(world))
    assert entry is not None
    assert (entry.status, len(entry.keys_at(START + timedelta(days=1)))) == ("active", 1)
    world.put(world.revocation(f"key:{key_id(new.public_bytes)}"), world.provider)
    entry = world.directory.node(node_id(world))
    assert entry is not None
    assert entry.status == "revoked"
    third = d.NodeLog(
        key=b64(FileSigner.generate("ed25519").public_bytes),
        origin=origin(world),
        others=(window(old, 0), window(b64(new.public_bytes), 0)),
    )
    world.put(restated(world, third), world.provider)
    entry = world.directory.node(node_id(world))
    assert entry is not None
    assert (entry.status, len(entry.keys_at(START + timedelta(days=1)))) == ("active", 1)


def test_a_next_log_key_that_is_known_for_another_use_is_refused(world: World) -> None:
    entry = world.directory.node(node_id(world))
    other = world.directory.node(f"{world.consumer.id}/@n1")
    assert entry is not None
    assert other is not None
    for taken in (entry.broker_key, other.log_key.public, other.broker_key):
        log = d.NodeLog(key=present(world), origin=origin(world), others=(window(b64(taken), 60),))
        assert skipped(world, restated(world, log), world.provider) == "key-reused"


def test_a_key_is_named_once_in_a_statement(world: World) -> None:
    with pytest.raises(DocumentMalformed):
        d.encode(
            restated(world, d.NodeLog(key=present(world), origin=origin(world), others=(window(present(world), 1),)))
        )


def test_trees_that_statements_name_are_kept_with_their_place(world: World) -> None:
    for size in (7, 9):
        head = d.LogHead(size=size, root=f"{size:02d}" * 32)
        world.put(restated(world, d.NodeLog(key=present(world), origin=origin(world), head=head)), world.provider)
    trees = world.directory.dated_trees(origin(world))
    assert [(tree.size, tree.at) for tree in trees] == [(7, len(world.leaves) - 2), (9, len(world.leaves) - 1)]


def test_trees_that_are_named_every_day_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datedtrees, "MOST_DATED", 8)
    for size in range(1, 31):
        head = d.LogHead(size=size, root=f"{size:02d}" * 32)
        world.put(restated(world, d.NodeLog(key=present(world), origin=origin(world), head=head)), world.provider)
    sizes = [tree.size for tree in world.directory.dated_trees(origin(world))]
    assert len(sizes) <= 8
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 30)
    assert max(after - before for before, after in itertools.pairwise(sizes)) <= 8, "what is left is spread over time"


def test_a_flood_of_trees_displaces_none_of_earlier_days(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a member, or who has its key, could take away what proves the time of its old records."""
    monkeypatch.setattr(datedtrees, "MOST_DATED", 16)

    def pin(size: int, minutes: float) -> None:
        world.minute += minutes
        head = d.LogHead(size=size, root=f"{size:064x}")
        world.put(restated(world, d.NodeLog(key=present(world), origin=origin(world), head=head)), world.provider)

    days = range(1, 11)
    for size in days:
        pin(size, 24 * 60)
    for size in range(100, 160):
        pin(size, 0.01)
    sizes = [tree.size for tree in world.directory.dated_trees(origin(world))]
    assert len(sizes) <= 16
    assert sizes == sorted(sizes)
    assert set(days) <= set(sizes)
    assert sizes[-1] == 159


# --- the threshold way ----------------------------------------------------------------------------------------------


def change(world: World, new: Party, how: str, minutes: float | None = None) -> d.Member:
    if minutes is not None:
        world.minute = minutes - 1
    return world.member(world.provider, keys=(new.pinned(),), change=how)


def announced(world: World) -> Party:
    new = world.party(world.provider.id)
    world.put(change(world, new, "announced"), world.operator)
    return new


def test_lost_keys_are_replaced_after_the_public_delay(world: World) -> None:
    new = announced(world)
    start = world.minute
    subject = f"{world.provider.id}/a"
    assert skipped(world, world.subsystem(subject), new) == "member-signature-missing"
    world.put(world.subsystem(subject), world.provider)  # until then nothing has changed
    early = change(world, new, "confirmed", start + WEEK_MINUTES - 1)
    assert skipped(world, early, world.operator) == "recovery-not-due"
    world.directory.reach(START + timedelta(minutes=start + WEEK_MINUTES))
    world.put(change(world, new, "confirmed", start + WEEK_MINUTES), world.operator)
    world.put(world.subsystem(f"{world.provider.id}/b"), new)
    assert skipped(world, world.subsystem(f"{world.provider.id}/c"), world.provider) == "member-signature-missing"


def test_the_member_objects_by_revoking_the_announced_key(world: World) -> None:
    new = announced(world)
    world.put(world.revocation(f"key:{new.keyid}"), world.provider)
    assert world.directory.announced(world.provider.id) is None
    late = change(world, new, "confirmed", WEEK_MINUTES + 60)
    assert skipped(world, late, world.operator) == "recovery-not-announced"


def test_a_stranger_cannot_object(world: World) -> None:
    new = announced(world)
    assert skipped(world, world.revocation(f"key:{new.keyid}"), world.consumer) == "operator-signature-missing"
    assert world.directory.announced(world.provider.id) is not None


def test_what_is_confirmed_is_what_was_announced(world: World) -> None:
    announced(world)
    other = world.party(world.provider.id)
    assert (
        skipped(world, change(world, other, "confirmed", WEEK_MINUTES + 60), world.operator) == "recovery-not-announced"
    )


def test_nobody_confirms_what_nobody_announced(world: World) -> None:
    new = world.party(world.provider.id)
    assert skipped(world, change(world, new, "confirmed"), world.operator) == "recovery-not-announced"
    assert skipped(world, change(world, world.provider, "confirmed"), world.operator) == "recovery-not-announced"
    assert skipped(world, change(world, world.provider, "announced"), world.operator) == "announcement-empty"


def test_an_announcement_is_not_dated_back_behind_what_the_directory_says(world: World) -> None:
    world.minute = 600
    world.put(world.subsystem(f"{world.provider.id}/late"), world.provider)
    new = world.party(world.provider.id)
    assert skipped(world, change(world, new, "announced", 100), world.operator) == "announcement-back-dated"


def test_a_later_change_by_the_member_itself_ends_the_announcement(world: World) -> None:
    announced(world)
    own = world.party(world.provider.id)
    world.put(world.member(world.provider, keys=(own.pinned(),)), world.operator, world.provider)
    assert world.directory.announced(world.provider.id) is None


def confirmed_ahead(world: World) -> tuple[Party, datetime]:
    """A dishonest operator announces and confirms in one afternoon, the second dated a week ahead."""
    now = world.minute
    new = announced(world)
    world.put(change(world, new, "confirmed", world.minute + WEEK_MINUTES), world.operator)
    world.minute = now + 5
    due = world.directory.announced(world.provider.id)
    assert due is not None
    return new, due.due_at


def test_a_confirmation_that_is_dated_ahead_waits_for_a_verified_time(world: World) -> None:
    new, due_at = confirmed_ahead(world)
    world.directory.reach(due_at - timedelta(seconds=1))
    assert skipped(world, world.subsystem(f"{world.provider.id}/a"), new) == "member-signature-missing"
    world.put(world.subsystem(f"{world.provider.id}/b"), world.provider)
    assert world.directory.reach(due_at)
    world.minute += WEEK_MINUTES
    world.put(world.subsystem(f"{world.provider.id}/c"), new)
    assert skipped(world, world.subsystem(f"{world.provider.id}/d"), world.provider) == "member-signature-missing"


def test_a_confirmation_waits_where_no_time_was_verified(world: World) -> None:
    new, _ = confirmed_ahead(world)
    assert skipped(world, world.subsystem(f"{world.provider.id}/a"), new) == "member-signature-missing"


def test_an_objection_counts_while_a_confirmation_waits(world: World) -> None:
    new, due_at = confirmed_ahead(world)
    world.put(world.revocation(f"key:{new.keyid}"), world.provider)
    assert not world.directory.reach(due_at + timedelta(days=1))
    world.put(world.subsystem(f"{world.provider.id}/b"), world.provider)


@pytest.mark.parametrize("signers", [1, 2])
def test_a_reader_that_comes_late_finds_the_objection_without_reading_everything(
    world: World, monkeypatch: pytest.MonkeyPatch, signers: int
) -> None:
    new, due_at = confirmed_ahead(world)
    for count in range(40):
        world.put(world.subsystem(f"{world.provider.id}/s{count}"), world.provider)
    world.put(world.revocation(f"key:{new.keyid}"), *[world.provider, world.operator][:signers])
    late = Directory(world.genesis, ahead=lambda index: world.leaves[index:])
    late.reach(due_at + timedelta(days=1))
    read: list[bytes] = []

    def counting(data: bytes, *, genesis: str | None) -> Envelope:
        read.append(data)
        return read_envelope(data, genesis=genesis)

    monkeypatch.setattr("registry.fold.read_envelope", counting)
    for index, leaf in enumerate(world.leaves):
        late.apply(index, leaf)
    member = late.member(world.provider.id)
    assert member is not None
    assert new.keyid not in member.signing_keys, "the objection was in time"
    assert len(read) <= len(world.leaves) + 5, "each document once, and what may be an objection"
    kinds = [leaf.startswith(REVOCATION_PREFIX) for leaf in world.leaves]
    assert kinds == [False] * (len(kinds) - 1) + [True]


def test_an_alias_that_was_taken_while_a_confirmation_waited_stays_where_it_is(world: World) -> None:
    new = announced(world)
    ahead = world.minute + WEEK_MINUTES
    waiting = msgspec.structs.replace(change(world, new, "confirmed", ahead), aliases=("G99",))
    world.put(waiting, world.operator)
    world.put(world.member(world.consumer, aliases=("G99",)), world.operator)
    assert world.directory.reach(START + timedelta(minutes=ahead))
    assert world.directory.resolve_alias(f"{world.instance}/GOV/G99") == world.consumer.id
    world.put(world.member(world.consumer), world.operator)


def test_what_is_dated_ahead_of_the_verified_time_is_skipped(world: World) -> None:
    world.directory.reach(START + timedelta(minutes=world.minute))
    world.minute += 50
    world.put(world.subsystem(f"{world.provider.id}/soon"), world.provider)
    world.minute += 30
    assert skipped(world, world.subsystem(f"{world.provider.id}/late"), world.provider) == "issued-ahead"


def test_an_anchor_does_not_shorten_the_delay(world: World) -> None:
    def anchor(**changes: object) -> d.Anchor:
        return world.make_anchor(seq=len(world.digests["anchor", world.instance]), issued=time_at(1000),
                                 prev=world.digests["anchor", world.instance][-1], **changes)  # fmt: skip

    assert skipped(world, anchor(recovery_delay_s=60), world.operator) == "recovery-delay-shortened"
    outcome = world.append(world.sign(anchor(recovery_delay_s=800_000), world.operator))
    assert isinstance(outcome, Applied)
    assert skipped(world, anchor(), world.operator) == "recovery-delay-shortened"
