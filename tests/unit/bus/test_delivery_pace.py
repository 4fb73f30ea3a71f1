"""Acceptance before delivery: in a burst, and not in a flood."""

from __future__ import annotations

import contextlib

import pytest

from bus.delivery.pace import BURST_S, CROWD, Pace
from tests.unit.bus.bus_world import Clock

MOST = 64
STEP_S = 0.05


def crowd(pace: Pace) -> contextlib.ExitStack:
    """As many commands as make a crowd are being accepted, until it is closed."""
    accepting = contextlib.ExitStack()
    for _ in range(CROWD):
        accepting.enter_context(pace)
    return accepting


def flood(pace: Pace, clock: Clock, seconds: float) -> None:
    """Crowds that follow each other closely, as commits end them."""
    for _ in range(round(seconds / STEP_S)):
        crowd(pace).close()
        clock.pass_time(STEP_S)


def test_few_commands_hold_nothing_back():
    pace = Pace(Clock())
    with contextlib.ExitStack() as accepting:
        for _ in range(CROWD - 1):
            accepting.enter_context(pace)
        assert (pace.at_once(MOST), pace.pause_s()) == (MOST, 0.0)


def test_in_a_burst_one_record_goes_out_at_a_time_with_pauses_between():
    clock = Clock()
    pace = Pace(clock)
    with crowd(pace):
        assert pace.at_once(MOST) == 1
        assert not pace.pause_s(), "the first one"
        pace.sent()
        left_s = pace.pause_s()
        assert 0 < left_s < 0.1
        clock.pass_time(left_s + 0.001)
        assert not pace.pause_s(), "delivery never stops"


def test_a_moment_between_two_commits_is_not_the_end_of_a_burst():
    clock = Clock()
    pace = Pace(clock)
    flood(pace, clock, 3 * STEP_S)
    assert pace.at_once(MOST) == 1
    clock.pass_time(1.0)
    assert pace.at_once(MOST) == MOST


def test_a_flood_that_lasts_gets_no_precedence_until_it_paused_as_long():
    clock = Clock()
    pace = Pace(clock)
    flood(pace, clock, BURST_S / 2)
    assert pace.at_once(MOST) == 1
    flood(pace, clock, BURST_S)
    pace.sent()
    assert (pace.at_once(MOST), pace.pause_s()) == (MOST, 0.0)
    clock.pass_time(BURST_S / 4)
    flood(pace, clock, BURST_S / 8)
    assert pace.at_once(MOST) == 1, "a quarter was regained"
    flood(pace, clock, BURST_S / 4)
    assert pace.at_once(MOST) == MOST
    clock.pass_time(2 * BURST_S)
    flood(pace, clock, BURST_S - 1.0)
    assert pace.at_once(MOST) == 1, "all of it was regained"


@pytest.mark.parametrize("apart_s", [0.09, 0.1001, 0.11, 0.15, 0.19])
def test_crowds_just_so_far_apart_that_each_seems_a_new_burst_do_not_hold_delivery_back_for_ever(apart_s):
    clock = Clock()
    pace, looks, stepped_back = Pace(clock), 0, 0
    for _ in range(round(30 * BURST_S / apart_s)):
        crowd(pace).close()
        for _ in range(20):
            looks += 1
            stepped_back += pace.at_once(MOST) == 1
            clock.pass_time(apart_s / 20)
    assert stepped_back < 0.6 * looks, "as long without a crowd gives the same again"
