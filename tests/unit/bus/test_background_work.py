"""Background work goes on after a defect; what a person must look at first still ends it."""

from __future__ import annotations

import asyncio

import pytest

from bus.errors import CloneSuspected
from bus.gateway import background
from bus.gateway.background import persist


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(background, "_PAUSE_S", 0.001)


async def test_work_begins_anew_after_a_defect_and_can_be_cancelled():
    begun = []
    going_on = asyncio.Event()

    async def work():
        begun.append(1)
        if len(begun) < 3:
            raise RecursionError
        going_on.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(persist("work", work))
    async with asyncio.timeout(5):
        await going_on.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(begun) == 3


async def test_what_must_halt_the_node_passes_through():
    async def work():
        raise CloneSuspected("twice")

    async with asyncio.timeout(5):
        with pytest.raises(CloneSuspected):
            await persist("work", work)
