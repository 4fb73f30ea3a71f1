import asyncio

import pytest

from bus import deadlines as module
from bus.deadlines import Deadlines


class Loop:
    """Time that a test moves; runs what was due."""

    def __init__(self):
        self.now_s = 0.0
        self.later = []

    def time(self):
        return self.now_s

    def call_later(self, after_s, call, *args):
        self.later.append((self.now_s + after_s, call, args))

    def move(self, seconds):
        until_s = self.now_s + seconds
        while due := [one for one in self.later if one[0] <= until_s]:
            first = min(due, key=lambda one: one[0])
            self.later.remove(first)
            self.now_s = first[0]
            first[1](*first[2])
        self.now_s = until_s


@pytest.fixture
def loop(monkeypatch):
    made = Loop()
    monkeypatch.setattr(module.asyncio, "get_running_loop", lambda: made)
    return made


def test_a_deadline_is_kept_within_one_tick_and_never_early(loop):
    deadlines, over = Deadlines(), []
    deadlines.add(1.0, lambda: over.append(loop.now_s))
    loop.move(0.99)
    assert over == []
    loop.move(0.01 + module._TICK_S)
    assert len(over) == 1
    assert 1.0 <= over[0] <= 1.0 + module._TICK_S + 1e-9


def test_a_dropped_deadline_never_ends_anything(loop):
    deadlines, over = Deadlines(), []
    token = deadlines.add(1.0, lambda: over.append("first"))
    deadlines.add(2.0, lambda: over.append("second"))
    deadlines.drop(token)
    deadlines.drop(token)
    loop.move(5)
    assert over == ["second"]


def test_the_timer_rests_when_there_is_nothing_to_wait_for(loop):
    deadlines, over = Deadlines(), []
    deadlines.add(0.1, lambda: over.append(1))
    loop.move(1)
    assert loop.later == []
    deadlines.add(0.1, lambda: over.append(2))
    assert len(loop.later) == 1
    loop.move(1)
    assert over == [1, 2]


async def test_a_block_over_its_time_ends_with_a_timeout():
    with pytest.raises(TimeoutError):
        async with Deadlines().within(0.001):
            await asyncio.Event().wait()
    assert asyncio.current_task().cancelling() == 0


async def test_a_block_within_its_time_is_left_alone():
    deadlines = Deadlines()
    async with deadlines.within(60):
        await asyncio.sleep(0)
    with pytest.raises(KeyError):
        async with deadlines.within(60):
            raise KeyError
    assert deadlines._waiting == {}


async def test_a_cancelled_block_stays_cancelled():
    entered = asyncio.Event()

    async def work():
        async with Deadlines().within(60):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
