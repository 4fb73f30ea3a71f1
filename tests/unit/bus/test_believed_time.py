"""A wrong clock gives nothing up and forgets nothing; time goes on without confirmations."""

from __future__ import annotations

from datetime import timedelta

import pytest
from bus_world import NOW, Clock
from delivery_world import RETRY_S, running_line

from adapters.port import AdapterAnswer
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
