"""Both sides of a query back to back: what is logged, what is delivered, what is refused."""

import pytest
from bus_world import (
    ANSWER_PAIR,
    CITIZEN,
    CITIZEN_CUT,
    CLIENT,
    G01,
    H37,
    NODE_H37,
    PLAIN_SERVICE,
    SERVICE,
    access_entry,
    posted,
    running_bus,
)


@pytest.fixture
async def bus(tmp_path):
    async with running_bus(tmp_path) as made:
        yield made


async def test_an_answer_is_proven_cut_and_logged_on_both_sides(bus):
    answer = await bus.ask()
    assert (answer.status, answer.body) == (200, CITIZEN_CUT)
