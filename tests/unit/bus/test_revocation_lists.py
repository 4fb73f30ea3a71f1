"""The refresher of revocation lists, with a real directory and a source that the test controls."""

from __future__ import annotations

import base64
import threading
from datetime import UTC, datetime, timedelta

import pytest
from registry_world import PROVIDER, World

from bus.exchange.standing import CertificateStanding
from bus.gateway import revocationlists
from bus.gateway.revocationlists import ListUnavailable, RevocationLists, fetch_list
from bus.metrics import GatewayMetrics
from bus.settings import RevocationSettings
from evidence.crl import read_list
from evidence.issue import issue_crl
from evidence.x509 import describe
from registry import documents

ADDRESS = "http://crl.example.vn/list.crl"
NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class Place:
    """One gateway's lists."""

    def __init__(self, folder, **settings: object) -> None:
        self.world = World()
        self.world.anchor = self.world.make_anchor(revocation_lists=(ADDRESS,))
        from registry.envelope import genesis_of
        from registry.fold import Directory

        self.world.genesis = genesis_of(self.world.anchor)
        self.world.directory = Directory(self.world.genesis)
        self.world.populate()
        self.world.directory.settle(len(self.world.leaves), bytes(32))
        self.clock, self.metrics, self.standing = Clock(), GatewayMetrics(), CertificateStanding()
        self.data: bytes | Exception = self.issue()
        self.folder, self.settings = folder, RevocationSettings(**settings)
        self.lists = self.make()

    def make(self) -> RevocationLists:
        async def fetch(address: str) -> bytes:
            assert address == ADDRESS
            if isinstance(self.data, Exception):
                raise self.data
            return self.data

        leaves = self.world.leaves
        return RevocationLists(
            self.folder / "crl", self.settings, self.standing, self.world.directory,
            lambda index: leaves[index] if index < len(leaves) else None, self.clock, self.metrics, fetch,
        )  # fmt: skip

    def issue(self, *serials: int, number: int = 1, days: float = 7, at: datetime = NOW) -> bytes:
        revoked = [(serial, at) for serial in serials]
        return issue_crl(
            self.world.authority, revoked, number=number, this_update_at=at, next_update_at=at + timedelta(days=days)
        )

    def serial(self) -> int:
        return describe(self.world.provider.chain[0]).serial

    def failures(self) -> float:
        return (
            self.metrics.registry.get_sample_value("lienthong_revocation_list_failures_total", {"address": ADDRESS})
            or 0.0
        )


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


async def test_a_listed_member_is_withdrawn_and_stays_so_without_the_source(place):
    place.lists.judge()
    assert place.standing.unknown, "named, but not here yet"
    assert await place.lists.refresh()
    place.lists.judge()
    assert (place.standing.unknown, place.standing.withdrawn) == (False, frozenset())
    place.data = place.issue(place.serial(), number=2)
    assert await place.lists.refresh()
    place.lists.judge()
    assert place.standing.withdrawn == {PROVIDER}
    place.standing.withdrawn, place.data = frozenset(), ListUnavailable("down")
    again = place.make()
    await again.recall()
    assert place.standing.withdrawn == {PROVIDER}, "kept over restarts, verified again"
    assert not await again.refresh()
    assert place.failures() == 1


async def test_an_older_or_forged_list_changes_nothing(place):
    place.data = place.issue(place.serial(), number=2)
    await place.lists.refresh()
    older = place.issue(number=1)
    stranger = World()
    forged = issue_crl(stranger.authority, [], number=9, this_update_at=NOW, next_update_at=NOW + timedelta(days=1))
    for data in (older, forged, b"rubbish"):
        place.data = data
        await place.lists.refresh()
        place.lists.judge()
        assert place.standing.withdrawn == {PROVIDER}
    assert place.failures() == 2


@pytest.mark.parametrize(("how", "unknown"), [("refuse", True), ("warn", False)])
async def test_the_setting_decides_once_a_list_is_too_old(tmp_path, how, unknown):
    place = Place(tmp_path, when_unreachable=how, max_age_s=3600.0)
    await place.lists.refresh()
    place.lists.judge()
    left = place.metrics.registry.get_sample_value
    assert left("lienthong_revocation_list_left_seconds", {"address": ADDRESS}) == 3600
    place.clock.at = NOW + timedelta(seconds=3600)
    place.lists.judge()
    place.lists.judge()
    assert place.standing.unknown is unknown
    assert left("lienthong_alarms_total", {"code": "revocation-list-stale", "member": ""}) == 1
    place.data = place.issue(number=2, at=place.clock.at)
    await place.lists.refresh()
    place.lists.judge()
    assert place.standing.unknown is False


async def test_a_new_certificate_behind_the_statement_brings_the_member_back(place):
    from evidence.identifiers import MemberId
    from evidence.issue import issue_member

    place.data = place.issue(place.serial())
    await place.lists.refresh()
    place.lists.judge()
    assert place.standing.withdrawn == {PROVIDER}
    world, provider = place.world, place.world.provider
    provider.chain = [
        issue_member(
            world.authority, MemberId.parse(PROVIDER), provider.signer.private_key.public_key(),
            not_before_at=NOW - timedelta(days=400), not_after_at=NOW + timedelta(days=400),
        )
    ]  # fmt: skip
    entry = world.directory.node(f"{PROVIDER}/@n1")
    assert entry is not None
    key = base64.b64encode(entry.log_key.public).decode()
    world.put(world.node(f"{PROVIDER}/@n1", log=documents.NodeLog(key=key, origin=entry.origin)), provider)
    world.directory.settle(len(world.leaves), bytes(32))
    place.lists.judge()
    assert place.standing.withdrawn == frozenset()


async def test_members_are_looked_at_again_only_when_a_list_or_the_directory_changed(place, monkeypatch):
    looked = []
    monkeypatch.setattr(revocationlists, "_withdrawn", lambda backing, lists: bool(looked.append(backing.at)))
    place.lists.judge()
    assert len(looked) == 2, "two members have a node"
    await place.lists.refresh()
    for _ in range(3):
        place.clock.at += timedelta(seconds=1)
        place.lists.judge()
    assert len(looked) == 4, "once for the new list; a second that passes changes the age and nothing else"
    world = place.world
    world.put(world.node(f"{PROVIDER}/@n2"), world.provider)
    world.directory.settle(len(world.leaves), bytes(32))
    place.lists.judge()
    assert len(looked) == 6


async def test_a_mirror_that_never_answered_stops_nothing(place, monkeypatch):
    await place.lists.refresh()
    mirrored = (ADDRESS, "http://mirror.example.vn/list.crl")
    monkeypatch.setattr(RevocationLists, "addresses", property(lambda _: mirrored))
    place.lists.judge()
    assert place.standing.unknown is False, "the authority's list is here, from the other address"


def trusted_stranger(place, monkeypatch) -> World:
    """An authority that the anchor trusts, too, of the same name; no member has a certificate of its."""
    stranger = World()
    own = RevocationLists._authorities
    certificate = stranger.authority.certificate
    monkeypatch.setattr(RevocationLists, "_authorities", lambda self: [*own(self), certificate])
    return stranger


async def test_a_list_of_another_authority_at_the_same_address_displaces_none(place, monkeypatch):
    place.data = place.issue(place.serial(), number=2)
    await place.lists.refresh()
    stranger = trusted_stranger(place, monkeypatch)
    times = {"this_update_at": NOW, "next_update_at": NOW + timedelta(days=1)}
    place.data = issue_crl(stranger.authority, [], number=9, **times)
    assert await place.lists.refresh()
    place.lists.judge()
    assert place.standing.withdrawn == {PROVIDER}
    place.standing.withdrawn = frozenset()
    await place.make().recall()
    assert place.standing.withdrawn == {PROVIDER}, "both are kept over restarts"
    assert len(revocationlists.kept_lists(place.folder / "crl", ADDRESS)) == 2


async def test_lists_of_one_address_are_bounded(place, monkeypatch):
    monkeypatch.setattr(revocationlists, "_MOST_PER_ADDRESS", 1)
    await place.lists.refresh()
    stranger = trusted_stranger(place, monkeypatch)
    later = NOW + timedelta(minutes=1)
    place.data = issue_crl(
        stranger.authority, [], number=9, this_update_at=later, next_update_at=NOW + timedelta(days=1)
    )
    await place.lists.refresh()
    assert len(place.lists._lists[ADDRESS]) == 1


async def test_a_list_that_was_kept_by_an_earlier_version_is_taken_up(place):
    await place.lists.refresh()
    (kept,) = revocationlists.kept_lists(place.folder / "crl", ADDRESS)
    kept.rename(kept.with_name(kept.name.partition("-")[0] + ".crl"))
    again = place.make()
    await again.recall()
    assert place.standing.unknown is False


async def test_chains_of_statements_that_are_no_longer_the_newest_are_forgotten(place):
    world = place.world
    place.lists.judge()
    for _ in range(3):
        entry = world.directory.node(f"{PROVIDER}/@n1")
        assert entry is not None
        log = documents.NodeLog(key=base64.b64encode(entry.log_key.public).decode(), origin=entry.origin)
        world.put(world.node(f"{PROVIDER}/@n1", log=log), world.provider)
        world.directory.settle(len(world.leaves), bytes(32))
        place.lists.judge()
    assert len(place.lists._certificates._read) == 2, "one for each node that there is"


async def test_lists_are_read_in_a_thread(place, monkeypatch):
    await place.lists.refresh()
    threads = []

    def reading(*args):
        threads.append(threading.current_thread())
        return read_list(*args)

    monkeypatch.setattr(revocationlists, "read_list", reading)
    place.data = place.issue(number=2)
    await place.lists.refresh()
    await place.make().recall()
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_an_anchor_without_addresses_leaves_everything_as_it_is(tmp_path):
    place = Place(tmp_path)
    place.world = World().populate()
    lists = place.make()
    assert await lists.refresh()
    lists.judge()
    assert (place.standing.unknown, place.standing.withdrawn) == (False, frozenset())


async def test_only_addresses_of_http_are_fetched():
    with pytest.raises(ListUnavailable):
        await fetch_list("file:///etc/passwd")
    with pytest.raises(ListUnavailable):
        await fetch_list("http://127.0.0.1:1/list.crl")
