import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.errors import Dropped, TooManyInFlight
from bus.exchange.limits import InFlight
from bus.exchange.replay import SeenIds


def uuid(name: str) -> str:
    return f"01a2078c-4349-7740-a3ea-{name.encode().hex():0>12}"


def code(call) -> str:
    try:
        call()
    except Dropped as drop:
        return drop.code
    return ""


def test_an_id_is_taken_once():
    seen = SeenIds()
    seen.reserve(uuid("a"), "S", 100, 0)
    assert code(lambda: seen.reserve(uuid("a"), "S", 100, 0)) == "replayed"
    assert code(lambda: seen.reserve(uuid("a"), "T", 100, 0)) == "replayed"
    assert code(lambda: seen.reserve(uuid("b"), "S", 100, 0)) == ""


def test_ids_of_an_earlier_run_count():
    seen = SeenIds()
    seen.load([(uuid("a"), 100)])
    assert code(lambda: seen.reserve(uuid("a"), "S", 100, 0)) == "replayed"
    assert seen.sweep(110)
    assert code(lambda: seen.reserve(uuid("a"), "S", 200, 110)) == ""


def test_an_expired_id_is_forgotten_with_its_ten_seconds():
    seen = SeenIds()
    seen.reserve(uuid("a"), "S", 100, 0)
    assert seen.sweep(100)
    assert code(lambda: seen.reserve(uuid("a"), "S", 100, 100)) == "replayed"
    assert not seen.sweep(101)
    assert seen.sweep(110)
    assert code(lambda: seen.reserve(uuid("a"), "S", 200, 110)) == ""


def test_one_sender_cannot_take_the_place_of_all():
    seen = SeenIds(limit=10, per_sender=3)
    for at in range(3):
        seen.reserve(uuid(f"a{at}"), "S", 100, 0)
    assert code(lambda: seen.reserve(uuid("a3"), "S", 100, 0)) == "seen-ids-full"
    assert code(lambda: seen.reserve(uuid("b0"), "T", 100, 0)) == ""


def test_all_senders_together_have_a_bound_that_time_frees():
    seen = SeenIds(limit=2, per_sender=10)
    seen.reserve(uuid("a"), "S", 5, 0)
    seen.reserve(uuid("b"), "T", 50, 0)
    assert code(lambda: seen.reserve(uuid("c"), "U", 60, 4)) == "seen-ids-full"
    assert code(lambda: seen.reserve(uuid("c"), "U", 60, 14)) == ""
    assert code(lambda: seen.reserve(uuid("d"), "V", 60, 14)) == "seen-ids-full"


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 40)), max_size=60))
def test_an_id_is_never_taken_twice_while_it_lives(steps):
    seen, lives, now_s = SeenIds(), {}, 0
    for record_id, wait_s in steps:
        now_s += wait_s
        seen.sweep(now_s)
        taken = (
            code(lambda record_id=record_id, now_s=now_s: seen.reserve(uuid(record_id), "S", now_s + 30, now_s)) == ""
        )
        if taken:
            assert lives.get(record_id, -1) < now_s
            lives[record_id] = now_s + 30
        else:
            assert lives[record_id] + 20 >= now_s


def test_calls_under_way_are_counted_per_key():
    flight = InFlight("client", 2)
    flight.enter("a")
    flight.enter("a")
    flight.enter("b")
    with pytest.raises(TooManyInFlight, match="2 calls of this client"):
        flight.enter("a")
    flight.leave("a")
    flight.enter("a")
    with pytest.raises(TooManyInFlight, match="1 calls"):
        flight.enter("b", 1)


def test_nothing_is_left_when_all_have_left():
    flight = InFlight("service", 2)
    flight.enter("a", 1)
    flight.leave("a")
    assert flight._counts == {}
