"""Lists of commands, and what else is read meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from bus_world import CLIENT
from delivery_world import running_line

from bus.delivery.statuses import Page

_LONG = "(WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 2000000) SELECT max(x) FROM c) > 0"


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


async def test_a_list_that_takes_long_holds_up_no_command(line, monkeypatch):
    """A state that few of very many commands have is looked for in all of them."""
    record_id = await line.submit()
    await line.flow()
    for name in ("commands", "page"):
        if (real := getattr(line.h37.store, name, None)) is not None:
            monkeypatch.setattr(
                line.h37.store, name, lambda where, *told, real=real: real(f"{_LONG} AND {where}", *told)
            )
    listing = asyncio.create_task(line.h37.statuses.page(Page(CLIENT)))
    await asyncio.sleep(0.01)
    assert await line.h37.store.command(record_id) is not None
    assert not listing.done()
    assert [one.header.id for one in (await listing)[0]] == [record_id]
