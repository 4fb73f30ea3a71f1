from hypothesis import given
from hypothesis import strategies as st

from adapters.kinds.http.breaker import Breaker, BreakerRules, State

RULES = BreakerRules(failures=3, window=5, pause_s=2.0, longest_pause_s=8.0, probes=1)


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(3):
        ticket = breaker.enter(now_s)
        assert ticket is not None
        breaker.leave(ticket, now_s, good=False)
    assert breaker.state is State.OPEN
    return breaker


def test_a_closed_breaker_lets_calls_pass_and_opens_at_the_limit() -> None:
    breaker = Breaker(RULES)
    for _ in range(2):
        ticket = breaker.enter(0)
        assert ticket is not None
        breaker.leave(ticket, 0, good=False)
    assert breaker.state is State.CLOSED
    opened()


def test_old_failures_fall_out_of_the_window() -> None:
    breaker = Breaker(RULES)
    for good in (False, False, True, True, True, True, False):
        ticket = breaker.enter(0)
        assert ticket is not None
        breaker.leave(ticket, 0, good=good)
    assert breaker.state is State.CLOSED


def test_an_open_breaker_refuses_until_the_pause_is_over() -> None:
    breaker = opened(10.0)
    assert breaker.enter(11.9) is None
    assert breaker.retry_after_s(11.0) == 1.0
    assert breaker.enter(12.0) is not None
    assert breaker.state is State.HALF_OPEN


def test_only_as_many_probes_as_allowed_pass_at_once() -> None:
    breaker = opened()
    assert breaker.enter(3) is not None
    assert breaker.enter(3) is None


def test_a_good_probe_closes_it_and_a_bad_one_opens_it_for_twice_as_long() -> None:
    breaker = opened()
    ticket = breaker.enter(2)
    assert ticket is not None
    breaker.leave(ticket, 2, good=False)
    assert breaker.retry_after_s(2) == 4.0
    ticket = breaker.enter(6)
    assert ticket is not None
    breaker.leave(ticket, 6, good=True)
    assert breaker.state is State.CLOSED


def test_the_pause_does_not_grow_past_its_bound() -> None:
    breaker, now_s = opened(), 0.0
    for _ in range(6):
        now_s += breaker.retry_after_s(now_s)
        ticket = breaker.enter(now_s)
        assert ticket is not None
        breaker.leave(ticket, now_s, good=False)
    assert breaker.retry_after_s(now_s) == 8.0


def test_a_probe_whose_caller_went_away_makes_room_for_another() -> None:
    breaker = opened()
    ticket = breaker.enter(2)
    assert ticket is not None
    breaker.leave(ticket, 2, good=None)
    assert breaker.state is State.HALF_OPEN
    assert breaker.enter(2) is not None


def test_a_late_result_from_before_the_opening_does_not_count_as_a_probe() -> None:
    breaker = Breaker(RULES)
    late = breaker.enter(0)
    assert late is not None
    for _ in range(3):
        ticket = breaker.enter(0)
        assert ticket is not None
        breaker.leave(ticket, 0, good=False)
    assert breaker.enter(2) is not None
    breaker.leave(late, 2, good=True)
    assert breaker.state is State.HALF_OPEN


@given(st.lists(st.tuples(st.sampled_from(["enter", "good", "bad", "gone"]), st.floats(0, 3)), max_size=200))
def test_whatever_happens_it_can_recover(steps: list[tuple[str, float]]) -> None:
    breaker, now_s, tickets = Breaker(RULES), 0.0, []
    for what, passed_s in steps:
        now_s += passed_s
        if what == "enter":
            ticket = breaker.enter(now_s)
            tickets += [] if ticket is None else [ticket]
        elif tickets:
            breaker.leave(tickets.pop(0), now_s, good={"good": True, "bad": False, "gone": None}[what])
    for ticket in tickets:
        breaker.leave(ticket, now_s, good=None)
    now_s += 100
    ticket = breaker.enter(now_s)
    assert ticket is not None
    breaker.leave(ticket, now_s, good=True)
    assert breaker.state is State.CLOSED
