"""What is said of a command in a signed record, or shown to its sender, is true."""

from __future__ import annotations

import pytest
from delivery_world import LIFE_S, SKEW_S, Line, running_line
from test_delivery_asking import restarted, submit


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
