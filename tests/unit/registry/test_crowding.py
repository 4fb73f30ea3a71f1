"""Nobody fills the list of requests, or a name, from one place."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import crowding
from registry.crowding import MOST_PER_NAME, MOST_PER_NETWORK, Pending, to_drop
from registry.registrystore import RegistryStore
from registry.requests import MemberRequest

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
HONEST = "198.51.100.7"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(crowding, "MOST_PER_NETWORK", 40)
    made = RegistryStore(tmp_path / "registry.db", "0" * 64, max_requests=100)
    yield made
    made.close()


class Asking:
    def __init__(self, store: RegistryStore) -> None:
        self.store, self.count = store, 0

    def ask(self, member: str, network: str) -> str:
        self.count += 1
        id_ = f"{self.count:064x}"
        asked = MemberRequest(
            id=id_, member=member, names={}, keys=(id_,), received_at=START + timedelta(seconds=self.count)
        )
        self.store.add_request(asked, b"jws", network)
        return id_

    def pending(self) -> set[str]:
        return {one.id for one in self.store.requests() if one.state == "pending"}


def test_a_name_cannot_be_blocked_by_those_who_asked_first(store):
    asking = Asking(store)
    for at in range(3 * MOST_PER_NAME):
        asking.ask("VN/GOV/H37", f"203.0.113.{at % 5}")
    honest = asking.ask("VN/GOV/H37", HONEST)
    assert honest in asking.pending()
    for at in range(3 * MOST_PER_NAME):
        asking.ask("VN/GOV/H37", f"203.0.113.{at % 5}")
    assert honest in asking.pending(), "nor pushed out by those who came later"
    assert len(asking.pending()) <= MOST_PER_NAME


@pytest.mark.parametrize("network", ["2001:db8:66:{:x}::/64", "203.0.113.{}"])
def test_who_has_a_whole_range_of_networks_pushes_nobody_else_out(store, network):
    asking = Asking(store)
    honest = asking.ask("VN/GOV/H37", "2001:db8:1:1::/64"), asking.ask("VN/GOV/H37", HONEST)
    for at in range(3 * MOST_PER_NAME):
        asking.ask("VN/GOV/H37", network.format(at))
    for at in range(150):
        asking.ask(f"VN/GOV/X{at}", network.format(at))
    assert set(honest) <= asking.pending()


def test_the_list_cannot_be_filled_from_a_few_places(store):
    asking = Asking(store)
    honest = asking.ask("VN/GOV/H37", HONEST)
    for at in range(300):
        asking.ask(f"VN/GOV/X{at}", f"203.0.113.{at % 4}")
    assert len(asking.pending()) <= 100
    late = asking.ask("VN/GOV/H38", "198.51.100.8")
    assert {honest, late} <= asking.pending()


def test_a_network_has_so_many_and_its_newest_stay(store):
    asking = Asking(store)
    ids = [asking.ask(f"VN/GOV/X{at}", "203.0.113.1") for at in range(43)]
    assert asking.pending() == set(ids[3:])


def test_what_the_operator_began_to_approve_stays(store):
    asking = Asking(store)
    held = asking.ask("VN/GOV/H37", "203.0.113.1")
    store.put_certificate(held, b"certificate")
    for at in range(120):
        asking.ask(f"VN/GOV/X{at}", "203.0.113.1")
    assert held in asking.pending()


networks = st.sampled_from(["", "a", "b", "c", "d"])
some = st.builds(Pending, st.uuids().map(str), st.sampled_from(["x", "y"]), networks, st.booleans())


@given(st.lists(some, max_size=80), some, st.integers(1, 60))
def test_room_is_made_by_no_more_than_have_to_go(pending, newcomer, most):
    dropped = to_drop(pending, newcomer, most)
    held = [one for one in pending if one.held]
    if dropped is None:
        assert held
        return
    left = [one for one in pending if one.id not in dropped]
    assert [one for one in left if one.held] == held
    assert len(left) < most
    assert sum(one.member == newcomer.member for one in left) < MOST_PER_NAME
    assert all(count <= MOST_PER_NETWORK for network, count in Counter(
        one.network for one in [*left, newcomer]).items() if network == newcomer.network and network)  # fmt: skip
    if len(pending) < min(most, MOST_PER_NAME, MOST_PER_NETWORK):
        assert dropped == []
