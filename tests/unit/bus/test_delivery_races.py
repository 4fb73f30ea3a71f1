"""Two things that happen to one command at the same moment: what its sender, its queue and its log are told agrees."""

from __future__ import annotations

import asyncio
import json

import pytest
from delivery_world import LIFE_S, SKEW_S, Line, running_line
from test_delivery_asking import SECRET, Provider, cancel, submit, tell

from adapters.errors import BackendTimeout
from bus import errors
from bus.delivery.webhooks import Target


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


async def test_a_receipt_that_comes_while_its_command_expires_keeps_its_turn_and_is_told_to_nobody(line: Line):
    line.h37.webhooks.replace({"onedoor-app": Target("https://desk.example/hook", SECRET)})
    first = await submit(line, order="d1")
    await line.h37.outbox.send_due()
    provider = Provider(line, line.queues.stored.pop()[1])
    receipt = await provider.reply("receipt", "ok", carry=False)
    line.bus.clock.pass_time(LIFE_S / 2)
    second = await submit(line, order="d1")
    line.bus.clock.pass_time(LIFE_S / 2 + SKEW_S + 2)
    real = line.h37.store.command

    async def meanwhile(record_id: str):
        found = await real(record_id)
        if record_id == first:
            line.h37.store.command = real
            assert await provider.carry(receipt) == "done"
        return found

    line.h37.store.command = meanwhile
    line.queues.connected = False  # nothing goes out in the middle
    await line.h37.expiry.sweep()
    assert await line.state(first) == "delivered"
    ((idx,),) = line.h37.side.rows(f"SELECT idx FROM command WHERE id = '{second}'")
    assert not line.h37.outbox.orders.may_go(idx)
    await tell(line)
    assert [json.loads(body)["id"] for _, _, body in line.h37.poster.got if json.loads(body)["id"] == first] == []


async def test_a_command_that_is_cancelled_while_it_expires_has_one_end(line: Line):
    line.h37.webhooks.replace({"onedoor-app": Target("https://desk.example/hook", SECRET)})
    record_id = await submit(line)
    line.bus.clock.pass_time(LIFE_S + SKEW_S + 2)
    real = line.h37.store.command

    async def meanwhile(asked: str):
        found = await real(asked)
        line.h37.store.command = real
        assert await cancel(line, record_id) == "cancelled"
        return found

    line.h37.store.command = meanwhile
    await line.h37.expiry.sweep()
    for _ in range(3):
        await tell(line)
    assert await line.state(record_id) == "cancelled"
    assert [json.loads(body)["state"] for _, _, body in line.h37.poster.got] == ["cancelled"]


async def test_a_right_that_ends_between_attempts_does_not_unmake_what_an_attempt_may_have_done(line: Line):
    line.bus.source.error = BackendTimeout("x")
    record_id = await submit(line)
    await line.flow()
    line.bus.directory.access.clear()
    line.bus.clock.pass_time(90)
    await line.work()
    await line.flow()
    assert await line.state(record_id) == "failed"
    with pytest.raises(errors.AccessDenied) as caught:
        await line.h37.results.give(await line.h37.store.command(record_id))
    assert caught.value.acted == "unknown"


async def test_a_key_of_a_forgotten_command_is_free(line: Line):
    old = await submit(line, key="k1")
    await line.flow()
    line.bus.clock.pass_time(31 * 86_400)
    assert await line.h37.forgetting.look(line.bus.clock.now()) == 1
    await submit(line)
    new = await submit(line, key="k1")
    assert new != old
    assert await line.h37.store.command(new) is not None
    assert await submit(line, key="k1") == new


async def test_a_forgotten_commands_key_may_be_of_another_request_and_is_still_made_once(line: Line):
    await submit(line, key="k1")
    await line.flow()
    line.bus.clock.pass_time(31 * 86_400)
    await line.h37.forgetting.look(line.bus.clock.now())
    await submit(line)
    made = await asyncio.gather(*(submit(line, key="k1", body=b'{"id":"2"}') for _ in range(5)))
    assert len(set(made)) == 1
