from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from registry_feed import Clock, MemoryFeed, root_of, signed_checkpoint
from registry_world import CONTRACT, PROVIDER, SERVICE, START, World

from evidence.leaf import DIRECTORY, Boot, encode_control
from evidence.stamps import encode_time
from registry.errors import (
    FeedInvalid,
    FeedUnavailable,
    ForkDetected,
    RegistryError,
    RollbackDetected,
    StoreUnusable,
    WrongGenesis,
)
from registry.fold import Skipped
from registry.follower import Follower
from registry.settings import FollowerSettings

SETTINGS = FollowerSettings(max_age_s=600, backoff_min_s=1, backoff_max_s=4, max_leaves=1000, max_contract_bytes=100)


class Heard:
    def __init__(self) -> None:
        self.updates: list[tuple[int, float]] = []
        self.skips: list[Skipped] = []
        self.failures: list[str] = []

    def updated(self, size: int, seconds: float) -> None:
        self.updates.append((size, seconds))

    def skipped(self, outcome: Skipped) -> None:
        self.skips.append(outcome)

    def failed(self, error: RegistryError) -> None:
        self.failures.append(error.code)


class Setting:
    """A world, its feed, and a follower that can be restarted."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.feed, self.clock, self.heard = MemoryFeed(), Clock(), Heard()
        self.pauses: list[float] = []
        self.feed.show(world, self.clock())
        self.follower = self.open()

    def open(self, genesis: str | None = None) -> Follower:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            await asyncio.sleep(0)

        return Follower(
            self.feed, self.folder / "copy.db", genesis or self.world.genesis,
            now=self.clock, settings=SETTINGS, observer=self.heard, sleep=sleep,
        )  # fmt: skip

    def restart(self) -> Follower:
        self.follower.close()
        self.follower = self.open()
        return self.follower

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.world.put(self.world.subsystem(f"{PROVIDER}/s{len(self.world.leaves)}"), self.world.provider)
        self.clock.at = max(self.clock.advance(seconds=30), START + timedelta(minutes=self.world.minute))
        self.feed.show(self.world, self.clock())


@pytest.fixture
def setting(world: World, tmp_path: Path) -> Iterator[Setting]:
    found = Setting(world, tmp_path)
    yield found
    found.follower.close()


async def test_a_new_follower_comes_to_the_same_directory(setting: Setting) -> None:
    follower = setting.follower
    assert not follower.fresh(setting.clock())
    assert await follower.update()
    assert follower.directory.service(SERVICE) == setting.world.directory.service(SERVICE)
    assert follower.directory.view == f"9 {root_of(setting.world.leaves).hex()}"
    assert follower.as_of == setting.clock()
    assert follower.fresh(setting.clock())
    assert setting.heard.updates == [(9, 0.0)]
    assert not await follower.update()


async def test_updates_of_every_size_are_followed(setting: Setting) -> None:
    for count in (1, 53, 1, 64, 130):
        setting.grow(count)
        assert await setting.follower.update()
        assert setting.follower.directory.root == root_of(setting.world.leaves)
        assert setting.follower.directory.heads == setting.world.directory.heads
    assert setting.restart().directory.heads == setting.world.directory.heads


async def test_a_follower_starts_without_feed_or_registry(setting: Setting) -> None:
    await setting.follower.update()
    setting.feed.down = True
    follower = setting.restart()
    assert follower.directory.view == f"9 {root_of(setting.world.leaves).hex()}"
    assert follower.fresh(setting.clock())
    with pytest.raises(FeedUnavailable):
        await follower.update()
    assert follower.directory.service(SERVICE) is not None


async def test_a_frozen_directory_grows_stale(setting: Setting) -> None:
    await setting.follower.update()
    setting.clock.advance(seconds=601)
    await setting.follower.update()
    assert not setting.follower.fresh(setting.clock())
    setting.feed.show(setting.world, setting.clock())
    assert not await setting.follower.update()
    assert setting.follower.fresh(setting.clock())
    assert setting.restart().fresh(setting.clock())


async def test_an_older_note_of_the_same_tree_confirms_nothing(setting: Setting) -> None:
    old = setting.feed.checkpoint
    setting.feed.show(setting.world, setting.clock.advance(seconds=500))
    await setting.follower.update()
    setting.feed.checkpoint = old
    assert not await setting.follower.update()
    assert setting.follower.as_of == setting.clock()


async def test_a_rollback_is_refused_and_the_next_honest_checkpoint_accepted(setting: Setting) -> None:
    honest = list(setting.world.leaves)
    setting.grow(5)
    await setting.follower.update()
    setting.feed.show(setting.world, setting.clock.advance(seconds=30), honest)
    for restart in (False, True):
        follower = setting.restart() if restart else setting.follower
        setting.feed.show(setting.world, setting.clock.advance(seconds=30), honest)
        with pytest.raises(RollbackDetected):
            await follower.update()
        assert follower.directory.size == 14
        assert [alarm.kind for alarm in follower.alarms()] == ["directory-rollback"]
    setting.grow(1)
    assert await setting.follower.update()


async def test_a_fork_at_the_same_size_is_refused_for_good(setting: Setting) -> None:
    await setting.follower.update()
    leaves = [*setting.world.leaves[:-1], DIRECTORY + b"another last document"]
    setting.feed.show(setting.world, setting.clock.advance(seconds=30), leaves)
    with pytest.raises(ForkDetected, match="does not continue"):
        await setting.follower.update()
    setting.grow(3)
    follower = setting.restart()
    assert follower.forked
    with pytest.raises(ForkDetected, match="before"):
        await follower.update()
    assert follower.directory.service(SERVICE) is not None
    [alarm] = follower.alarms()
    assert alarm.ours != alarm.theirs
    assert alarm.theirs == signed_checkpoint(setting.world, leaves, setting.clock() - timedelta(seconds=30))


async def test_a_larger_tree_that_does_not_continue_ours_is_a_fork(setting: Setting) -> None:
    await setting.follower.update()
    leaves = [*setting.world.leaves[:-1], *(DIRECTORY + b"%d" % n for n in range(80))]
    setting.feed.show(setting.world, setting.clock.advance(seconds=30), leaves)
    with pytest.raises(ForkDetected):
        await setting.follower.update()
    assert setting.follower.directory.size == 9


async def test_entries_that_are_not_those_of_the_checkpoint_are_a_broken_feed(setting: Setting) -> None:
    await setting.follower.update()
    setting.grow(70)
    good = list(setting.feed.bundles[1])
    setting.feed.bundles[1][3] = DIRECTORY + b"rubbish"
    with pytest.raises(FeedInvalid, match="commits to"):
        await setting.follower.update()
    assert setting.follower.directory.size == 9
    assert setting.follower.alarms() == []
    setting.feed.bundles[1] = good
    assert await setting.follower.update()
    assert setting.restart().directory.size == 79


@pytest.mark.parametrize(
    "bundle", [[], [b"x"] * 65, [b"x" * 65_536]], ids=["empty", "too many leaves", "too large a leaf"]
)
async def test_malformed_bundles_are_refused(setting: Setting, bundle: list[bytes]) -> None:
    setting.feed.bundles[0] = bundle
    with pytest.raises(FeedInvalid):
        await setting.follower.update()


async def test_a_feed_behind_its_checkpoint_is_tried_again(setting: Setting) -> None:
    await setting.follower.update()
    before = setting.feed.bundles
    setting.grow(60)
    after, setting.feed.bundles = setting.feed.bundles, before
    with pytest.raises(FeedUnavailable, match="behind"):
        await setting.follower.update()
    setting.feed.bundles = {0: after[0]}
    with pytest.raises(FeedUnavailable, match="no such bundle"):
        await setting.follower.update()
    setting.feed.bundles = after
    assert await setting.follower.update()


async def test_a_huge_directory_is_refused(setting: Setting) -> None:
    setting.feed.checkpoint = signed_checkpoint(setting.world, [b""] * 1001, setting.clock())
    with pytest.raises(FeedInvalid, match="allowed"):
        await setting.follower.update()


async def test_checkpoints_need_both_keys_and_the_right_origin(setting: Setting) -> None:
    world, feed, at = setting.world, setting.feed, setting.clock()
    honest = feed.checkpoint
    assert honest is not None
    other = World()
    stranger = signed_checkpoint(world, world.leaves, at, origin=f"{'0' * 64}/VN-TEST/directory/1")
    world.log_signer, own = other.log_signer, world.log_signer
    forged = signed_checkpoint(world, world.leaves, at)
    world.log_signer, world.cosigner, cosigner = own, other.cosigner, world.cosigner
    miscosigned = signed_checkpoint(world, world.leaves, at)
    world.cosigner = cosigner
    without_time = b"\n".join(honest.split(b"\n")[:-2]) + b"\n"
    for bad in (b"", b"x" * 2_000_000, stranger, forged, miscosigned, without_time, honest.replace(b"\n9\n", b"\n8\n")):
        feed.checkpoint = bad
        with pytest.raises(FeedInvalid):
            await setting.follower.update()
    feed.checkpoint = honest
    assert await setting.follower.update()


async def test_a_checkpoint_from_the_future_is_refused(setting: Setting) -> None:
    setting.feed.show(setting.world, setting.clock() + timedelta(seconds=301))
    with pytest.raises(FeedInvalid, match="clocks"):
        await setting.follower.update()


async def test_another_instance_of_the_same_name_is_not_joined(setting: Setting) -> None:
    setting.follower.close()
    (setting.folder / "copy.db").unlink()
    stranger = World().populate()
    setting.follower = setting.open(stranger.genesis)
    with pytest.raises(WrongGenesis):
        await setting.follower.update()
    setting.follower.close()
    with pytest.raises(StoreUnusable, match="another instance"):
        setting.open()
    setting.follower = setting.open(stranger.genesis)


async def test_a_feed_without_an_anchor_is_not_ready(setting: Setting) -> None:
    leaf = encode_control(Boot(id="b" * 16, time="2026-01-05T08:00:00.000000Z"))
    setting.feed.show(setting.world, setting.clock(), [leaf])
    with pytest.raises(FeedUnavailable, match="no anchor"):
        await setting.follower.update()
    setting.feed.show(setting.world, setting.clock(), [DIRECTORY + b"rubbish"])
    with pytest.raises(RegistryError):
        await setting.follower.update()


async def test_a_bad_document_is_skipped_and_reported_also_after_a_restart(setting: Setting) -> None:
    world = setting.world
    world.append(world.sign(world.service(), world.consumer))
    setting.grow(2)
    await setting.follower.update()
    assert [(skip.index, skip.code) for skip in setting.heard.skips] == [(9, "member-signature-missing")]
    assert [skip.code for skip in setting.restart().directory.skipped] == ["member-signature-missing"]
    assert setting.follower.directory.size == 12


async def test_a_crash_between_leaves_and_fold_is_caught_up(setting: Setting) -> None:
    await setting.follower.update()
    setting.follower.close()
    with sqlite3.connect(setting.folder / "copy.db") as connection:
        connection.execute("DELETE FROM document WHERE idx >= 5")
        connection.execute("UPDATE meta SET value = '5' WHERE key = 'folded'")
    connection.close()
    setting.follower = setting.open()
    assert setting.follower.directory.heads == setting.world.directory.heads
    assert setting.restart().directory.heads == setting.world.directory.heads


async def test_a_damaged_copy_is_not_used(setting: Setting) -> None:
    await setting.follower.update()
    setting.follower.close()
    with sqlite3.connect(setting.folder / "copy.db") as connection:
        connection.execute("UPDATE meta SET value = x'00' WHERE key = 'tip'")
    connection.close()
    with pytest.raises(StoreUnusable, match="start anew"):
        setting.open()
    (setting.folder / "copy.db").unlink()
    setting.follower = setting.open()
    assert await setting.follower.update()


async def test_a_copy_that_cannot_be_written_keeps_the_old_directory(setting: Setting) -> None:
    await setting.follower.update()
    setting.grow(2)
    connection = setting.follower._copy._connection
    connection.execute("PRAGMA query_only=1")
    with pytest.raises(StoreUnusable):
        await setting.follower.update()
    assert setting.follower.directory.size == 9
    connection.execute("PRAGMA query_only=0")
    assert await setting.follower.update()


async def test_verdicts_that_cannot_be_kept_are_made_again(setting: Setting) -> None:
    await setting.follower.update()
    setting.grow(1)
    connection = setting.follower._copy._connection
    connection.execute("CREATE TEMP TRIGGER full BEFORE INSERT ON document BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    assert await setting.follower.update()
    assert setting.heard.failures == ["store-unusable"]
    setting.grow(1)
    assert await setting.follower.update()
    assert setting.follower.directory.size == 11
    assert setting.restart().directory.heads == setting.world.directory.heads


async def test_contracts_are_fetched_once_and_checked(setting: Setting) -> None:
    sha256 = hashlib.sha256(CONTRACT).hexdigest()
    with pytest.raises(FeedUnavailable):
        await setting.follower.contract(sha256)
    setting.feed.blobs[sha256] = b"something else"
    with pytest.raises(FeedInvalid, match="another digest"):
        await setting.follower.contract(sha256)
    setting.feed.blobs[sha256] = b"x" * 101
    with pytest.raises(FeedInvalid, match="allowed"):
        await setting.follower.contract(sha256)
    setting.feed.blobs[sha256] = CONTRACT
    assert await setting.follower.contract(sha256) == CONTRACT
    setting.feed.down = True
    assert await setting.follower.contract(sha256) == CONTRACT
    assert await setting.restart().contract(sha256) == CONTRACT


async def test_a_feed_that_never_answers_is_given_up(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(setting.feed, "latest_checkpoint", never)
    monkeypatch.setattr(setting.follower, "settings", FollowerSettings(fetch_timeout_s=0.01))
    with pytest.raises(FeedUnavailable, match=r"0\.01 s"):
        await setting.follower.update()


async def test_the_running_follower_recovers_by_itself(setting: Setting) -> None:
    changes: list[int] = []
    done = asyncio.Event()
    follower = setting.follower

    def changed() -> None:
        changes.append(follower.directory.size)
        done.set()

    end = follower.subscribe(changed)
    setting.feed.down = True
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(follower.run())
        while len(setting.pauses) < 5:
            await asyncio.sleep(0)
        setting.feed.down = False
        await done.wait()
        done.clear()
        setting.grow(1)
        setting.feed.changed.set()
        await done.wait()
        end()
        running.cancel()
    assert changes == [9, 10]
    assert setting.pauses[:5] == [1, 2, 4, 4, 4]
    assert set(setting.heard.failures) == {"feed-unavailable"}


async def test_the_running_follower_asks_anyway_when_no_change_is_announced(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setting.follower, "settings", FollowerSettings(poll_s=0.001, fetch_timeout_s=0.001))
    await setting.follower._wait_changed()


async def test_a_follower_without_an_observer_works(setting: Setting) -> None:
    setting.world.append(b"rubbish")
    setting.grow(1)
    quiet = Follower(setting.feed, setting.folder / "quiet.db", setting.world.genesis, now=setting.clock)
    assert await quiet.update()
    setting.feed.down = True
    async with asyncio.timeout(10):
        running = asyncio.create_task(quiet.run())
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
    quiet.close()


async def test_a_copy_that_cannot_be_read_is_an_error_of_this_room(setting: Setting) -> None:
    await setting.follower.update()
    setting.follower._copy._connection.execute("DROP TABLE blob")
    with pytest.raises(StoreUnusable, match="cannot be read"):
        await setting.follower.contract("0" * 64)


async def test_evidence_is_bounded(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.localcopy._ALARMS_OF_A_KIND", 2)
    setting.grow(6)
    await setting.follower.update()
    for size in (5, 6, 7, 8):
        setting.feed.show(setting.world, setting.clock(), setting.world.leaves[:size])
        with pytest.raises(RollbackDetected):
            await setting.follower.update()
    assert len(setting.follower.alarms()) == 2


async def test_a_checkpoint_of_an_impossible_shape_is_refused(setting: Setting) -> None:
    setting.feed.bundles[0] = [DIRECTORY + b"{"]
    with pytest.raises(FeedInvalid, match="cannot be read"):
        await setting.follower.update()


async def test_an_origin_that_only_looks_alike_is_refused(tmp_path: Path) -> None:
    world = World(instance="VN+T").populate()
    setting = Setting(world, tmp_path)
    alike = f"{world.genesis}/VN%2BT/directory/1"
    setting.feed.checkpoint = signed_checkpoint(world, world.leaves, setting.clock(), origin=alike)
    with pytest.raises(FeedInvalid, match="another log"):
        await setting.follower.update()
    setting.feed.show(world, setting.clock())
    assert await setting.follower.update()
    setting.follower.close()


async def test_an_update_of_more_bytes_than_allowed_is_given_up_before_its_end(setting: Setting) -> None:
    await setting.follower.update()
    setting.follower.settings = msgspec.structs.replace(SETTINGS, max_update_bytes=200_000)
    endless = [*setting.world.leaves, *[DIRECTORY + b"x" * 10_000] * 900]
    setting.feed.show(setting.world, setting.clock.advance(seconds=30), endless)
    for index in range(2, 15):
        del setting.feed.bundles[index]  # whoever asks on finds nothing: it must not come to that
    with pytest.raises(FeedInvalid, match="200000 bytes"):
        await setting.follower.update()
    assert setting.follower.directory.size == 9
    setting.grow(3)
    assert await setting.follower.update()


async def test_the_trees_that_a_directory_stood_for_are_remembered(setting: Setting) -> None:
    await setting.follower.update()
    earlier = root_of(setting.world.leaves)
    setting.grow(2)
    await setting.follower.update()
    directory = setting.follower.directory
    assert (directory.root_at(9), directory.root_at(11)) == (earlier, directory.root)
    assert directory.root_at(10) is None
    for size in range(2_000, 3_100):
        directory.settle(size, b"x" * 32)
    assert directory.root_at(9) is None
    assert directory.root_at(3_099) == b"x" * 32


# --- keys that the operator replaces ----------------------------------------------------------------------------------


class Recovery:
    """A change of the provider's keys that was announced, and confirmed at once with a date a week ahead."""

    def __init__(self, setting: Setting) -> None:
        self.setting, world = setting, setting.world
        world.minute = 100
        self.new = world.party(PROVIDER)
        keys = (self.new.pinned(),)
        world.put(world.member(world.provider, keys=keys, change="announced"), world.operator)
        self.due_at = START + timedelta(minutes=world.minute, days=7)
        ahead = encode_time(self.due_at)
        world.put(world.member(world.provider, keys=keys, change="confirmed", issued=ahead), world.operator)

    def object(self) -> None:
        world = self.setting.world
        world.put(world.revocation(f"key:{self.new.keyid}"), world.provider)

    def until_due(self) -> None:
        self.setting.clock.at = self.due_at

    async def followed(self, follower: Follower) -> frozenset[str]:
        self.setting.feed.show(self.setting.world, self.setting.clock())
        await follower.update()
        return self.pinned(follower)

    def pinned(self, follower: Follower) -> frozenset[str]:
        member = follower.directory.member(PROVIDER)
        assert member is not None
        return member.signing_keys


async def test_keys_that_were_confirmed_ahead_count_from_a_cosigned_time_on(setting: Setting) -> None:
    recovery = Recovery(setting)
    assert await recovery.followed(setting.follower) == {setting.world.provider.keyid}
    assert recovery.pinned(setting.restart()) == {setting.world.provider.keyid}
    setting.grow(1)  # the keys until now go on counting
    await setting.follower.update()
    assert setting.follower.directory.skipped_count == 0
    recovery.until_due()
    changes = []
    setting.follower.subscribe(lambda: changes.append(setting.clock()))
    assert await recovery.followed(setting.follower) == {recovery.new.keyid}
    assert changes == [recovery.due_at]
    setting.world.minute += 8 * 24 * 60
    renamed = setting.world.member(recovery.new, names={"en": "Renamed"})
    setting.world.put(renamed, setting.world.operator, setting.world.provider)
    setting.clock.advance(days=1)
    assert await recovery.followed(setting.follower) == {recovery.new.keyid}
    before = setting.follower.directory.member(PROVIDER)
    assert before is not None
    assert (before.names, before.keys_from_at) == ({"en": "Renamed"}, recovery.due_at)
    assert setting.restart().directory.member(PROVIDER) == before


async def test_an_objection_before_the_time_is_heard_by_who_comes_after_it(setting: Setting, tmp_path: Path) -> None:
    """Who was there, who was away meanwhile, and who comes for the first time: all keep the member's own keys."""
    recovery = Recovery(setting)
    away = Follower(setting.feed, tmp_path / "away.db", setting.world.genesis, now=setting.clock)
    await recovery.followed(setting.follower)
    await recovery.followed(away)
    recovery.object()
    await recovery.followed(setting.follower)
    recovery.until_due()
    late = Follower(setting.feed, tmp_path / "late.db", setting.world.genesis, now=setting.clock)
    try:
        for follower in (setting.follower, away, late):
            assert await recovery.followed(follower) == {setting.world.provider.keyid}
            assert follower.directory.heads == setting.world.directory.heads
        assert recovery.pinned(setting.restart()) == {setting.world.provider.keyid}
    finally:
        away.close()
        late.close()


async def test_an_objection_after_the_time_changes_nothing(setting: Setting) -> None:
    """Also not at the next start, where the leaf is known from the beginning."""
    recovery = Recovery(setting)
    recovery.until_due()
    assert await recovery.followed(setting.follower) == {recovery.new.keyid}
    recovery.object()  # dated back by a thief of the old key
    assert await recovery.followed(setting.follower) == {recovery.new.keyid}
    assert recovery.pinned(setting.restart()) == {recovery.new.keyid}


async def test_a_document_from_the_future_is_skipped_and_told(setting: Setting) -> None:
    await setting.follower.update()
    setting.world.minute += 300
    setting.world.put(setting.world.subsystem(f"{PROVIDER}/late"), setting.world.provider)
    setting.feed.show(setting.world, setting.clock.advance(seconds=30))
    await setting.follower.update()
    assert [skip.code for skip in setting.heard.skips] == ["issued-ahead"]
    size = setting.follower.directory.folded_size
    assert (setting.restart().directory.skipped_count, setting.follower.directory.folded_size) == (1, size)
