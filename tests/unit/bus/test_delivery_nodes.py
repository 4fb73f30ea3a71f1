"""What was taken by one of several nodes has its end, whichever node dies at whichever moment."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from nodes_world import DEAD_S, Provider, running_provider
from test_tasks import write_act

from adapters.port import AdapterAnswer
from bus.delivery.attempts import RetryRules
from bus.delivery.tasks import Wanted
from evidence.log.reader import LogReader
from evidence.reconcile import reconcile

AWAY = AdapterAnswer(503, (), "application/json", b"{}")
GOOD = AdapterAnswer(200, (), "application/json", b'{"done":true}')


@pytest.fixture
async def provider(tmp_path):
    async with running_provider(tmp_path) as made:
        yield made


async def test_a_dead_nodes_work_is_done_by_the_other(provider: Provider):
    first, second = provider.nodes
    provider.line.bus.source.answer = AWAY
    record_id = await provider.take(first)
    provider.line.bus.source.answer = GOOD
    await provider.rounds(second, seconds=DEAD_S + 3)
    await second.work()
    await provider.flow()
    assert await provider.line.state(record_id) == "completed"
    assert provider.line.effects == [record_id] * 2


async def test_the_receipts_of_both_nodes_stand_in_both_books_each_once(provider: Provider):
    first, second = provider.nodes
    queues, source = provider.line.queues, provider.line.bus.source
    source.answer = AWAY
    await provider.take(first)
    receipts = list(queues.stored)
    await provider.flow()  # that of the first one has come
    await provider.rounds(second, seconds=DEAD_S + 3)
    receipts += queues.stored
    source.answer = GOOD
    await second.work()
    await provider.flow()
    asker = provider.line.h37.side
    records = asker.rows("SELECT count(*) FROM leaf")
    for subject, data, _ in receipts * 2:  # and both again
        await provider.line.carry(subject, data)
    assert asker.rows("SELECT count(*) FROM leaf") == records
    await first.restart()
    await provider.rounds(first, second, seconds=3)  # it lets go what it had
    await provider.flow()
    sides = (asker, first.side, second.side)
    with ExitStack() as stack:
        assert reconcile([stack.enter_context(LogReader(side.path)) for side in sides]).unmatched == []


async def test_work_that_comes_back_to_the_node_that_had_it_first_is_done(provider: Provider):
    first, second = provider.nodes
    source = provider.line.bus.source
    source.answer = AWAY
    record_id = await provider.take(first)
    await provider.rounds(second, seconds=DEAD_S + 3)  # the first one is dead: the second takes its work over
    assert len(await second.station.tasks.find(Wanted())) == 1
    await first.restart()
    await provider.rounds(first, second, seconds=3)
    assert await first.station.tasks.find(Wanted()) == []
    await provider.rounds(first, seconds=DEAD_S + 3)  # now the second one is dead
    source.answer = GOOD
    for _ in range(4):
        await provider.rounds(first, seconds=5)
        await first.work()
    await provider.flow()
    assert await provider.line.state(record_id) == "completed"


@pytest.mark.parametrize("dies", [False, True])
async def test_a_take_over_whose_commit_fails_is_taken_up_again(provider: Provider, dies):
    first, second = provider.nodes
    source = provider.line.bus.source
    source.answer = AWAY
    record_id = await provider.take(first)
    await provider.flow()
    assert await provider.line.state(record_id) == "processing"
    await provider.rounds(second, seconds=DEAD_S - 1)
    second.side.faults.arm("fails")
    with pytest.raises(Exception, match=r"log|commit"):
        await provider.rounds(second, seconds=3)
    await second.side.log.until_writable()
    if dies:
        await second.restart()
    source.answer = GOOD
    for _ in range(6):
        await provider.rounds(second, seconds=5)
        await second.work()
    await provider.flow()
    assert await provider.line.state(record_id) == "completed"


async def test_what_is_tried_for_longer_than_its_life_outlives_a_restart_of_its_node(provider: Provider):
    first, second = provider.nodes
    source = provider.line.bus.source
    source.answer = AWAY
    record_id = await provider.take(first)
    await provider.flow()
    provider.line.bus.clock.pass_time(3 * 3_600)  # its life and an hour are over, and its attempts are not
    await provider.rounds(first, second, seconds=2)
    await provider.line.submit()
    await provider.flow()  # what is past its time goes with any commit
    await first.restart()
    await provider.rounds(first, second, seconds=2)
    source.answer = GOOD
    await first.work()
    await provider.flow()
    assert await provider.line.state(record_id) == "completed"


@pytest.mark.parametrize("dead", [False, True])
async def test_what_a_node_has_again_is_told_to_its_sender_and_ended_by_its_operator(provider: Provider, dead):
    first, second = provider.nodes
    provider.line.bus.source.answer = AWAY
    record_id = await provider.take(first)
    await provider.rounds(second, seconds=DEAD_S + 3)
    if dead:
        second.station.rules = RetryRules(most=1)
        provider.line.bus.clock.pass_time(1)
        await second.work()
        await second.round()
    await first.restart()
    await provider.rounds(first, second, seconds=3)
    await provider.rounds(first, seconds=DEAD_S + 3)
    ((task, _),) = await first.station.tasks.find(Wanted())
    assert task.state == ("dead" if dead else "waiting")
    await provider.flow()
    assert await provider.line.state(record_id) == ("dead" if dead else "processing")
    provider.line.bus.source.answer = GOOD
    ((_, fate),) = await first.station.letters.do("redrive", Wanted(ids=(record_id,)), "mended", write_act, dry=False)
    assert fate == ("redriven" if dead else "due-now")
    await first.work()
    await provider.flow()
    assert await provider.line.state(record_id) == "completed"
    assert first.side.rows("SELECT * FROM let_go") == []


async def test_what_is_taken_over_after_its_life_outlives_a_restart_too(provider: Provider):
    first, second = provider.nodes
    provider.line.bus.source.answer = AWAY
    record_id = await provider.take(first)
    await provider.flow()
    provider.line.bus.clock.pass_time(3 * 3_600)
    await provider.rounds(second, seconds=DEAD_S + 3)
    assert len(await second.station.tasks.find(Wanted())) == 1
    await second.restart()
    await provider.rounds(second, seconds=2)
    provider.line.bus.source.answer = GOOD
    await second.work()
    await provider.flow()
    assert await provider.line.state(record_id) == "completed"


async def test_what_a_dead_node_said_before_does_not_follow_what_the_other_says_now(provider: Provider):
    first, second = provider.nodes
    queues, source = provider.line.queues, provider.line.bus.source
    source.answer = AWAY
    record_id = await provider.take(first)
    queues.stored.clear()
    queues.connected = False  # what the first one has to say stays in its outbox
    await provider.rounds(second, seconds=DEAD_S + 3)
    second.station.rules = RetryRules(most=1)
    provider.line.bus.clock.pass_time(2)
    await second.work()
    queues.connected = True
    while await second.station.outbox.send_due():
        for subject, data, _ in [queues.stored.pop() for _ in tuple(queues.stored)]:
            await provider.line.carry(subject, data) if "GOV~H37" in subject.split(".")[2] else None
    assert await provider.line.state(record_id) == "dead"
    await first.restart()
    await provider.rounds(first, second, seconds=1)
    await provider.flow()
    assert await provider.line.state(record_id) == "dead"
    assert len(first.station.outbox) == 0
