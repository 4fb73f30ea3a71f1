"""A wrong clock gives nothing up and forgets nothing; time goes on without confirmations."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from bus_world import NOW, Clock, call, posted
from delivery_world import RETRY_S, Line, running_line

from adapters.port import AdapterAnswer
from bus.delivery.accepting import Wish
from bus.delivery.webhooks import Target
from bus.gateway.believedtime import BelievedTime


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


def confirmed(clock: Clock, *, behind_s: float = 1.0):
    as_of = clock.now() - timedelta(seconds=behind_s)
    return BelievedTime(clock, lambda: as_of)


def test_time_goes_on_while_no_confirmation_comes():
    clock = Clock()
    believed = confirmed(clock)
    assert believed() == NOW - timedelta(seconds=1)
    clock.pass_time(3_600)
    assert believed() == NOW + timedelta(seconds=3_599)


def test_a_clock_that_is_set_does_not_set_it():
    clock = Clock()
    believed = confirmed(clock)
    believed()
    clock.at += timedelta(days=400)
    clock.seconds += 5
    assert believed() == NOW + timedelta(seconds=4)
    clock.at = NOW - timedelta(days=2)
    assert believed() == NOW - timedelta(days=2)


def test_it_never_falls_behind_what_it_was_with_a_new_confirmation():
    clock, heard = Clock(), [NOW]
    believed = BelievedTime(clock, lambda: heard[-1])
    believed()
    clock.pass_time(100)
    heard.append(NOW + timedelta(seconds=60))
    assert believed() == NOW + timedelta(seconds=100)
    heard.append(NOW + timedelta(days=9))
    assert believed() == NOW + timedelta(seconds=100), "never later than the own clock"


def test_without_a_confirmation_there_is_no_time():
    assert BelievedTime(Clock(), lambda: None)() is None


async def test_a_clock_that_is_wrong_for_a_moment_has_no_command_done_twice(line):
    line.g01.store._believed = confirmed(line.bus.clock)
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    copy = line.queues.stored.pop()[:2]
    await line.carry(*copy)
    line.bus.clock.at += timedelta(days=2)
    (rows,) = [line.g01.store.forget_rows(int(line.bus.clock.now().timestamp()))]
    await line.g01.side.log.append([line.g01.side.composer.outcome(*await _any(line))], rows)
    line.bus.clock.at -= timedelta(days=2)
    await line.carry(*copy)
    assert line.effects == [record_id]


async def _any(line):
    (_, hashed, record), *_ = line.g01.side.records()
    return record, hashed, "unknown", line.bus.clock.now()


async def test_a_clock_that_is_wrong_for_a_moment_gives_nothing_up(line):
    line.h37.expiry._believed, line.g01.expiry._believed = confirmed(line.bus.clock), confirmed(line.bus.clock)
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    line.queues.stored.clear()
    line.bus.clock.at += timedelta(days=30)
    assert (await line.h37.expiry.sweep(), await line.g01.expiry.sweep()) == (0, 0)
    line.bus.clock.at -= timedelta(days=30)
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert await line.state(record_id) == "completed"


async def test_a_clock_that_is_wrong_for_a_moment_makes_no_dead_letter(line):
    line.g01.doer._believed = confirmed(line.bus.clock)
    line.bus.source.answer = AdapterAnswer(503, (), "application/json", b"{}")
    record_id = await line.submit()
    await line.flow()
    line.bus.clock.at += timedelta(days=30)
    line.bus.clock.seconds += 20
    await line.work()
    line.bus.clock.at -= timedelta(days=30)
    assert line.g01.side.rows("SELECT state FROM task") == [("waiting",)]
    line.bus.source.answer = AdapterAnswer(200, (), "application/json", b"{}")
    line.bus.clock.pass_time(90)
    await line.flow()
    assert await line.state(record_id) == "completed"


# --- webhooks ---------------------------------------------------------------------------------------------------------

DAY_S = 86_400.0


@pytest.fixture
async def hooked(line):
    """The end of a command cannot be told: the receiver is away."""
    hooks = line.h37.webhooks
    hooks.replace({"desk": Target("https://desk.example/hook", bytes(32))})
    hooks._believed = confirmed(line.bus.clock)
    hooks._believed()
    line.h37.poster.status = ConnectionError()
    return line


async def close_one(line: Line) -> None:
    await line.h37.desk.accept(call(**posted()), Wish("desk"))
    await line.flow()


async def outcome(line: Line) -> str:
    """What the attempts that are due end in."""
    if tasks := line.h37.webhooks.begin_due():
        await asyncio.wait(tasks)
    return line.h37.hooks.outcomes[-1]


async def restart(line: Line) -> None:
    line.h37.webhooks._queue.clear()
    await line.h37.webhooks.load()


@pytest.mark.parametrize("anew", [False, True])
async def test_a_clock_that_is_wrong_for_a_moment_gives_no_webhook_up(hooked, anew):
    await close_one(hooked)
    if anew:
        await restart(hooked)
    hooked.bus.clock.at += timedelta(days=30)
    assert await outcome(hooked) == "failed"
    hooked.bus.clock.at -= timedelta(days=30)
    hooked.bus.clock.pass_time(DAY_S / 2)
    assert await outcome(hooked) == "failed"
    hooked.h37.poster.status = 200
    hooked.bus.clock.pass_time(DAY_S / 3)
    assert await outcome(hooked) == "told"


@pytest.mark.parametrize("anew", [False, True])
async def test_a_clock_that_is_set_back_prolongs_no_webhook(hooked, anew):
    await close_one(hooked)
    hooked.bus.clock.at -= timedelta(days=30)
    if anew:
        await restart(hooked)
    assert await outcome(hooked) == "failed"
    hooked.bus.clock.pass_time(DAY_S + 1)
    assert await outcome(hooked) == "given-up"


async def test_a_webhook_of_an_hour_when_the_clock_was_ahead_has_its_day_and_no_more(hooked):
    hooked.bus.clock.at += timedelta(seconds=1_800)
    await close_one(hooked)
    hooked.bus.clock.at -= timedelta(seconds=1_800)
    await restart(hooked)
    assert await outcome(hooked) == "failed"
    hooked.bus.clock.pass_time(DAY_S + 1)
    assert await outcome(hooked) == "given-up"


async def test_the_time_before_a_restart_counts(hooked):
    await close_one(hooked)
    hooked.bus.clock.pass_time(DAY_S / 2)
    assert await outcome(hooked) == "failed"
    await restart(hooked)
    assert await outcome(hooked) == "failed"
    hooked.bus.clock.pass_time(DAY_S / 2 + 2)
    assert await outcome(hooked) == "given-up"


async def test_a_node_that_knows_no_time_tries_a_webhook_for_a_day_of_its_own(hooked):
    hooked.h37.webhooks._believed = lambda: None
    await close_one(hooked)
    hooked.bus.clock.pass_time(2 * DAY_S)
    await restart(hooked)
    assert await outcome(hooked) == "failed"
    hooked.bus.clock.pass_time(DAY_S + 1)
    assert await outcome(hooked) == "given-up"
