"""Lists of several authorities: each address gives the list of the authority that the anchor names for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from registry_world import CONSUMER, FAR, PROVIDER, START, World

from bus.exchange.standing import CertificateStanding
from bus.gateway.revocationlists import ListUnavailable, RevocationLists
from bus.metrics import GatewayMetrics
from bus.settings import RevocationSettings
from evidence.crl import authority_of
from evidence.issue import Authority, create_authority, issue_crl
from evidence.signer import FileSigner
from evidence.x509 import describe
from registry.envelope import genesis_of
from registry.fold import Directory

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
A, B, MIRROR = "http://a.example.vn/a.crl", "http://b.example.vn/b.crl", "http://mirror.example.vn/a.crl"


def authority(name: str, signer: FileSigner | None = None) -> Authority:
    signer = signer or FileSigner.generate("p256")
    return create_authority(name, signer, not_before_at=START - timedelta(days=1), not_after_at=FAR)


def key(one: Authority) -> str:
    found = authority_of(one.certificate)
    assert found is not None
    return found.signer


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


class Place:
    """A provider certified by one authority, a consumer by another; one gateway's lists."""

    def __init__(self, folder) -> None:
        self.world = World()
        self.a, self.b = self.world.authority, authority("Authority B")
        self.world.consumer = self.world.party(CONSUMER, self.b)
        self.folder, self.clock = folder, Clock()
        self.at: dict[str, bytes] = {}
        self.further: tuple[Authority, ...] = ()

    def begin(self, *addresses: str) -> RevocationLists:
        world = self.world
        pems = tuple(one.pem.decode() for one in (self.a, self.b, *self.further))
        world.anchor = world.make_anchor(certification_authorities=pems, revocation_lists=addresses)
        world.genesis = genesis_of(world.anchor)
        world.directory = Directory(world.genesis)
        world.populate()
        world.directory.settle(len(world.leaves), bytes(32))
        return self.start()

    def start(self) -> RevocationLists:
        async def fetch(address: str) -> bytes:
            if address not in self.at:
                raise ListUnavailable("HTTP 404")
            return self.at[address]

        leaves = self.world.leaves
        self.metrics, self.standing = GatewayMetrics(), CertificateStanding()
        return RevocationLists(
            self.folder / "crl", RevocationSettings(), self.standing, self.world.directory,
            lambda index: leaves[index] if index < len(leaves) else None, self.clock, self.metrics, fetch,
        )  # fmt: skip

    def serve(self, address: str, by: Authority, *serials: int, number: int = 1, days: float = 7) -> None:
        at = self.clock.at
        times = {"this_update_at": at, "next_update_at": at + timedelta(days=days)}
        self.at[address] = issue_crl(by, [(one, at) for one in serials], number=number, **times)

    def left_s(self, address: str) -> float:
        found = self.metrics.registry.get_sample_value("lienthong_revocation_list_left_seconds", {"address": address})
        assert found is not None
        return found


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


async def looked(lists: RevocationLists) -> bool:
    complete = await lists.refresh()
    lists.judge()
    return complete


async def test_another_authoritys_list_at_an_address_is_refused_and_its_own_is_missed(place):
    lists = place.begin(f"{A}#sha256:{key(place.a)}", f"{B}#sha256:{key(place.b)}")
    place.serve(A, place.a)
    place.serve(B, place.a)
    assert not await looked(lists), "from the first start on"
    assert place.standing.unknown
    assert (place.left_s(A), place.left_s(B)) == (7 * 86_400, 0)
    assert place.metrics.registry.get_sample_value("lienthong_revocation_list_failures_total", {"address": B}) == 1
    alarms = {"code": "revocation-list-stale", "member": ""}
    assert place.metrics.registry.get_sample_value("lienthong_alarms_total", alarms) == 1
    place.serve(B, place.b, describe(place.world.consumer.chain[0]).serial)
    assert await looked(lists)
    assert (place.standing.unknown, place.standing.withdrawn) == (False, {CONSUMER})


async def test_a_list_that_was_held_back_behind_anothers_is_missed_once_it_is_too_old(place):
    lists = place.begin(f"{A}#sha256:{key(place.a)}", f"{B}#sha256:{key(place.b)}")
    place.serve(A, place.a, days=30)
    place.serve(B, place.b, days=2)
    assert await looked(lists)
    place.clock.at += timedelta(days=3)
    place.serve(B, place.a, number=2)
    assert not await looked(lists)
    assert place.standing.unknown
    again = place.start()
    await again.recall()
    assert place.standing.unknown, "also after a restart"


async def test_of_several_mirrors_one_is_enough(place):
    own = key(place.a)
    lists = place.begin(f"{A}#sha256:{own}", f"{MIRROR}#sha256:{own}", f"{B}#sha256:{key(place.b)}")
    place.serve(MIRROR, place.a, describe(place.world.provider.chain[0]).serial)
    place.serve(B, place.b)
    assert not await looked(lists), "the other mirror is asked again soon"
    assert (place.standing.unknown, place.standing.withdrawn) == (False, {PROVIDER})
    assert place.left_s(A) == 7 * 86_400


async def test_a_renewed_certificate_of_the_same_key_changes_nothing(place):
    renewed = authority("Test CA", place.a.signer)
    lists = place.begin(f"{A}#sha256:{key(place.a)}", f"{B}#sha256:{key(place.b)}")
    place.serve(A, renewed)
    place.serve(B, place.b)
    assert await looked(lists)
    assert place.standing.unknown is False


async def test_an_authority_with_a_new_key_needs_both_named_while_it_changes(place):
    changed = authority("Test CA")
    place.further = (changed,)
    place.serve(A, place.a)
    place.serve(B, place.b)
    both = (f"{A}#sha256:{key(place.a)}", f"{A}#sha256:{key(changed)}", f"{B}#sha256:{key(place.b)}")
    lists = place.begin(*both)
    assert await looked(lists)
    assert place.standing.unknown is False, "the new key may be named before it signs"
    place.serve(A, changed, describe(place.world.provider.chain[0]).serial)
    assert await looked(lists)
    place.clock.at += timedelta(days=6)
    place.serve(A, changed, describe(place.world.provider.chain[0]).serial, number=2)
    place.serve(B, place.b, number=2)
    assert await looked(lists)
    place.clock.at += timedelta(days=2)
    lists.judge()
    assert (place.standing.unknown, place.standing.withdrawn) == (False, {PROVIDER})


async def test_a_new_key_that_nobody_named_is_refused_and_the_old_list_counts_to_its_end(place):
    changed = authority("Test CA")
    place.further = (changed,)
    lists = place.begin(f"{A}#sha256:{key(place.a)}", f"{B}#sha256:{key(place.b)}")
    place.serve(A, place.a)
    place.serve(B, place.b, days=30)
    assert await looked(lists)
    place.serve(A, changed, number=2)
    assert not await looked(lists)
    assert place.standing.unknown is False
    place.clock.at += timedelta(days=8)
    lists.judge()
    assert place.standing.unknown


async def test_an_authority_behind_no_member_is_not_missed(place):
    stranger = authority("Authority C")
    place.further = (stranger,)
    place.serve(A, place.a)
    place.serve(B, place.b)
    unused = f"http://c.example.vn/c.crl#sha256:{key(stranger)}"
    unknown = f"http://d.example.vn/d.crl#sha256:{'0' * 64}"
    lists = place.begin(f"{A}#sha256:{key(place.a)}", f"{B}#sha256:{key(place.b)}", unused, unknown)
    assert not await looked(lists)
    assert place.standing.unknown is False
    assert place.left_s("http://c.example.vn/c.crl") == 0, "shown, and nothing more"


async def test_lists_that_were_kept_before_the_anchor_named_authorities_are_taken_up(place):
    lists = place.begin(A, B)
    place.serve(A, place.a)
    place.serve(B, place.b)
    assert await looked(lists)
    place.serve(B, place.a)
    assert await looked(lists), "nobody said whose list it is: as it was"
    named = (f"{A}#sha256:{key(place.a)}", f"{B}#sha256:{key(place.b)}")
    before = place.world.directory.anchor
    place.world.directory.anchor = msgspec.structs.replace(before, revocation_lists=named)
    again = place.start()
    await again.recall()
    assert place.standing.unknown is False
    assert all(set(found) == {key(one)} for found, one in zip(again._lists.values(), (place.a, place.b), strict=True))
