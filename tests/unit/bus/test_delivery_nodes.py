"""What was taken by one of several nodes has its end, whichever node dies at whichever moment."""

from __future__ import annotations

import pytest
from nodes_world import DEAD_S, Provider, running_provider

from adapters.port import AdapterAnswer

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
