"""Message ids at a broker that knows the ids of the last minutes, also of messages that were taken, and of strangers'."""

from __future__ import annotations

import asyncio

import pytest
from delivery_world import RETRY_S, Line, Queues, running_line

from bus import errors


class RememberingQueues(Queues):
    """As a stream with a window for duplicates: a message under an id that it knows is not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()

    async def put(self, subject, payload, message_id):
        if message_id in self.ids:
            return False
        self.ids.add(message_id)
        return await super().put(subject, payload, message_id)


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


@pytest.fixture
def remembering(line: Line) -> RememberingQueues:
    """The broker of `line`, with a memory."""
    line.queues.__class__ = RememberingQueues
    line.queues.ids = set()
    return line.queues


async def test_a_repeat_is_stored_although_the_broker_still_knows_the_first_copy(line, remembering):
    record_id = await line.submit()
    remembering.lose = True
    await line.flow()
    remembering.lose = False
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert (await line.state(record_id), line.effects) == ("completed", [record_id])


async def test_an_id_that_a_stranger_used_first_costs_one_repeat(line, remembering):
    record_id = await line.submit()
    remembering.ids.add(record_id)
    await line.flow()
    assert await line.state(record_id) == "accepted"
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert (await line.state(record_id), line.effects) == ("completed", [record_id])


async def test_while_the_log_is_known_to_be_unwritable_nothing_is_accepted_and_the_client_knows(line):
    line.h37.side.faults.arm(*["fails"] * 50)
    with pytest.raises(errors.LogUnwritable):
        await line.submit()
    assert not line.h37.side.log.writable
    with pytest.raises(errors.LogUnwritable) as caught:
        await line.submit()
    assert caught.value.acted == "no"


async def test_a_record_that_arrives_between_plan_and_sending_is_not_sent_and_stops_nothing(line):
    """The receipt of an earlier copy is handled in the moment in which the repeat begins."""
    await line.submit()
    (idx,) = [one.idx for one in await line.h37.store.waiting()]
    sending = asyncio.ensure_future(line.h37.outbox.send_due())
    # the loop runs what was called soon in its order: the plan is read, the record arrives, the sending begins
    asyncio.get_running_loop().call_soon(line.h37.outbox.arrived, idx)
    assert await sending == 1
    assert line.queues.stored == []
