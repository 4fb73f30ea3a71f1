"""What is said of a command in a signed record, or shown to its sender, is true."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import pytest
from bus_world import H37
from delivery_world import LIFE_S, LONGEST_S, SKEW_S, Line, running_line
from test_delivery_asking import cancel, restarted, submit

from bus.delivery.cancelrows import Target
from bus.errors import ServiceUnknown


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


def outcomes(line: Line) -> list[str]:
    return [one.class_ for _, _, one in line.h37.side.records() if one.type == "outcome"]


async def test_what_an_earlier_process_may_have_sent_is_not_said_to_be_undelivered(line: Line):
    await submit(line)
    line.queues.lose = True
    await line.h37.outbox.send_due()
    restarted(line)
    await line.h37.outbox.load()
    line.bus.clock.pass_time(LIFE_S + SKEW_S + 2)
    await line.h37.expiry.sweep()
    assert outcomes(line) == ["timedout"]


async def test_what_the_broker_says_to_have_already_is_not_said_to_be_undelivered(line: Line):
    await submit(line)
    line.queues.duplicate = True
    await line.h37.outbox.send_due()
    line.bus.clock.pass_time(LIFE_S + SKEW_S + 2)
    await line.h37.expiry.sweep()
    assert outcomes(line) == ["timedout"]


async def test_what_was_never_tried_is_said_to_be_undelivered(line: Line):
    line.queues.connected = False
    await submit(line)
    await line.h37.outbox.send_due()
    line.bus.clock.pass_time(LIFE_S + SKEW_S + 2)
    await line.h37.expiry.sweep()
    assert outcomes(line) == ["undelivered"]


async def test_a_wish_that_names_another_id_is_not_granted_while_its_command_is_taken(line: Line, monkeypatch):
    """Or the provider would have signed that it refuses what it does."""
    record_id = await submit(line)
    await line.h37.outbox.send_due()
    taken = line.queues.stored.pop()
    other = f"{record_id[:-4]}beef"
    monkeypatch.setattr("bus.delivery.cancelling.Target", lambda command, **_: Target(command, other))
    await cancel(line, record_id)
    await line.h37.outbox.send_due()
    wish = line.queues.stored.pop()
    begun, go = asyncio.Event(), asyncio.Event()
    real = line.g01.commands._examine

    async def slowly(record):
        begun.set()
        await go.wait()
        return await real(record)

    line.g01.commands._examine = slowly
    taking = asyncio.create_task(line.carry(*taken[:2]))
    await begun.wait()
    assert await line.carry(*wish[:2]) == "later"
    go.set()
    assert await taking == "done"
    assert line.effects == [record_id]


async def test_a_cancellation_outlives_every_command_whatever_the_wish_says_of_its_own_life(line: Line):
    now_s = int(line.bus.clock.now().timestamp())
    record_id = await submit(line)
    await line.h37.outbox.send_due()
    wish = SimpleNamespace(
        node=SimpleNamespace(member=H37), expires_at=line.bus.clock.now() + timedelta(seconds=1), leaf_hash=b""
    )
    await line.g01.cancellations.hold(wish, Target("ab" * 32, record_id), now_s)
    assert min(line.g01.cancellations._marks.values()) >= now_s + LONGEST_S


async def test_a_result_whose_service_is_gone_meanwhile_is_not_said_to_be_of_nothing_done(line: Line):
    record_id = await submit(line)
    await line.h37.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    await line.g01.outbox.send_due()
    line.bus.directory.services.clear()
    await line.flow()
    command = await line.h37.store.command(record_id)
    assert (command.state, command.code, line.effects) == ("failed", "service-unknown", [record_id])
    with pytest.raises(ServiceUnknown) as caught:
        await line.h37.results.give(command)
    assert caught.value.acted == "unknown"
