"""Who guesses keys is locked out, and nobody else; keys are several per name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import errors
from bus.front import keyring as module
from bus.front.clientlimits import ClientLimits
from bus.front.credentials import ClientSystem
from bus.front.guessing import FREE_TRIES, LONGEST_S, TURN_S, Guessing, prefix_of
from bus.front.keyring import KeyRing, hash_key

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Time:
    def __init__(self):
        self.s = 1000.0

    def __call__(self):
        return self.s


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def ring(time, monkeypatch):
    """Two names; the slow check is a comparison, and counted."""
    made = KeyRing(lambda size: b"k" * size, time)
    made.checked = []

    def check(key, key_hash):
        made.checked.append(key)
        return key == key_hash

    monkeypatch.setattr(module, "check_key", check)
    made.replace({"app": ("app.one", "app.two"), "tax": ("tax.one",)})
    return made


async def guess(ring, key, source=HERE):
    with pytest.raises(errors.BusError) as refused:
        await ring.name_of(key, source)
    return refused.value


async def test_each_of_several_keys_is_good(ring):
    assert {await ring.name_of(key, HERE) for key in ("app.one", "app.two")} == {"app"}
    ring.replace({"app": ("app.two",)})
    assert (await guess(ring, "app.one")).code == "credentials-invalid"
    assert await ring.name_of("app.two", HERE) == "app"
    assert ring.checked.count("app.two") == 2  # remembered, not checked again: once as the second of two, once alone


async def test_a_name_is_locked_after_five_wrong_keys_for_ever_longer(ring, time):
    for _ in range(FREE_TRIES):
        assert (await guess(ring, "app.x")).code == "credentials-invalid"
    waits = []
    for _ in range(12):
        locked = await guess(ring, "app.x")  # known to be wrong: it takes nobody's turn
        assert locked.code == "guessing-locked"
        waits.append(locked.retry_after_s)
        time.s += locked.retry_after_s
        assert (await guess(ring, "app.x")).code == "credentials-invalid"
    assert waits[:4] == [2, 3, 5, 9]
    assert waits == sorted(waits)
    assert waits[-1] <= LONGEST_S + 1


async def test_nobody_else_is_locked_out(ring):
    assert await ring.name_of("app.two", HERE) == "app"
    for _ in range(9):
        await guess(ring, "app.x")
        await guess(ring, "nobody.x")
    assert (await guess(ring, "app.x")).code == "guessing-locked"
    assert await ring.name_of("app.two", HERE) == "app"  # its key is known
    assert await ring.name_of("tax.one", HERE) == "tax"  # another name, the same address
    assert await ring.name_of("app.one", THERE) == "app"  # the same name, another address


async def test_a_locked_name_costs_no_slow_check(ring):
    for _ in range(FREE_TRIES):
        await guess(ring, "app.x")
    before = len(ring.checked)
    for _ in range(50):
        await guess(ring, "app.x")
    assert len(ring.checked) == before


async def test_the_genuine_system_gets_in_within_seconds_while_its_address_is_locked(ring, time):
    for at in range(12):  # by now the pair is locked for minutes
        await guess(ring, f"app.x{at}")
        time.s += (await guess(ring, f"app.x{at}")).retry_after_s if at >= FREE_TRIES - 1 else 0.0
    await guess(ring, "app.last")
    locked = await guess(ring, "app.one")
    assert locked.code == "guessing-locked"
    assert locked.retry_after_s <= TURN_S + 1
    for _ in range(100):  # an outdated key that is sent again and again takes no turn
        time.s += TURN_S / 50
        assert (await guess(ring, "app.last")).code == "guessing-locked"
    assert await ring.name_of("app.one", HERE) == "app"


async def test_a_guesser_has_one_check_in_five_seconds_while_he_is_locked_out(ring, time):
    for at in range(14):
        await guess(ring, f"app.{at}")
        time.s += (await guess(ring, f"app.{at}")).retry_after_s if at >= FREE_TRIES - 1 else 0.0
    await guess(ring, "app.last")
    before = len(ring.checked)
    for at in range(2000):
        time.s += 0.05
        await guess(ring, f"app.try{at}")
    assert len(ring.checked) - before <= 2 * 100 / TURN_S  # two hashes for each key: the name has two
    assert len(ring._wrong) <= 4096


async def test_names_that_nobody_has_get_no_turn(ring, time):
    for at in range(FREE_TRIES + 8):
        await guess(ring, f"nobody{at}.x")
        time.s += 0.0 if at < FREE_TRIES else 200.0
    await guess(ring, "nobody.last")
    time.s += TURN_S
    assert (await guess(ring, "other.x")).code == "guessing-locked"


async def test_a_key_that_was_wrong_by_the_old_settings_may_be_right_by_new_ones(ring, time):
    for _ in range(FREE_TRIES):
        await guess(ring, "app.three")
    ring.replace({"app": ("app.three",)})
    time.s += TURN_S
    assert await ring.name_of("app.three", HERE) == "app"


async def test_a_good_key_ends_the_count_and_time_forgets_it(ring, time):
    for _ in range(FREE_TRIES - 1):
        await guess(ring, "app.x")
    await ring.name_of("app.one", HERE)
    for _ in range(FREE_TRIES - 1):
        assert (await guess(ring, "app.x")).code == "credentials-invalid"
    time.s += 1000
    for _ in range(FREE_TRIES - 1):
        assert (await guess(ring, "app.x")).code == "credentials-invalid"


@given(st.lists(st.tuples(st.ip_addresses().map(str), st.sampled_from(["", "app", "tax"])), max_size=60))
def test_memory_is_bounded_and_names_are_only_those_that_there_are(failures):
    guessing = Guessing(kept=7)
    for at, (source, name) in enumerate(failures):
        guessing.failed(source, name, float(at))
    assert len(guessing) <= 7


def test_a_guesser_cannot_change_his_address_within_his_network():
    assert prefix_of("2001:db8::1") == prefix_of("2001:db8::ffff:2") != prefix_of("2001:db8:0:1::1")
    assert prefix_of("::ffff:192.0.2.1") == prefix_of(HERE) != prefix_of(THERE)
    assert prefix_of("fe80::1%eth0") == prefix_of("fe80::2%eth1")
    assert prefix_of("") == ""


def test_a_hash_is_of_the_key_that_it_was_made_of():
    assert module.check_key("app.x", hash_key("app.x", b"salt"))
    assert not module.check_key("app.y", hash_key("app.x", b"salt"))


def test_limits_of_a_client_system_are_its_own(time):
    limits = ClientLimits(time)
    slow = ClientSystem("slow", frozenset(), per_second=2.0)
    single = ClientSystem("single", frozenset(), max_in_flight=1)
    for system in (slow, slow, single):
        limits.enter(system)
    for system in (slow, single):
        with pytest.raises(errors.ClientLimitReached):
            limits.enter(system)
    limits.leave(single)
    limits.enter(single)
    time.s += 1
    limits.enter(slow)
