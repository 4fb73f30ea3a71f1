"""Client systems that wait long: what they hold meanwhile, and what is left for the others."""

from __future__ import annotations

import asyncio
import tracemalloc
from types import SimpleNamespace

import aiohttp
import pytest
from bus_world import CLIENT, SERVICE

from bus.delivery import watching
from bus.delivery.watching import Watchers
from bus.front.credentials import ClientSystem, Credentials, hash_key
from bus.front.r1 import CallFront, FrontLimits
from bus.front.server import HttpServer

KEY = "onedoor.s3cret"
HEADERS = {"X-Road-Client": CLIENT, "X-LienThong-Key": KEY, "Prefer": "respond-async, wait=60"}
_MIB = 1024 * 1024


class Statuses:
    """Commands that have no end yet."""

    def __init__(self) -> None:
        self.waiting = 0
        self.ended = asyncio.Event()

    async def known(self, _record_id):
        return SimpleNamespace(state="accepted")

    async def wait(self, command, _deadline_s):
        self.waiting += 1
        await self.ended.wait()
        return command

    def told(self, command):
        return {"state": command.state}


class Desk:
    """Accepts everything and keeps nothing."""

    async def accept(self, _call, _wish):
        return "the-id"


@pytest.fixture
async def front():
    credentials = Credentials(lambda size: b"k" * size)
    credentials.replace([ClientSystem("onedoor", frozenset({CLIENT}), (hash_key(KEY, b"salt"),))])
    statuses = Statuses()
    calls = CallFront(None, credentials, FrontLimits(), lambda id_: id_, commands=Desk(), statuses=statuses)
    server = HttpServer("127.0.0.1:0", calls.handle, None, 4 * _MIB)
    await server.start()
    yield SimpleNamespace(url=server.url, statuses=statuses)
    statuses.ended.set()
    await server.stop()


async def test_a_body_is_not_held_while_its_sender_waits_for_the_end(front):
    count, size = 12, 2 * _MIB
    tracemalloc.start()
    try:
        async with aiohttp.ClientSession() as session:

            async def send() -> int:
                async with session.post(
                    f"{front.url}/r1/{SERVICE}/confirmations", data=Zeros(size), headers=HEADERS
                ) as answer:
                    return answer.status

            sent = [asyncio.create_task(send()) for _ in range(count)]
            async with asyncio.timeout(20):
                while front.statuses.waiting < count:
                    await asyncio.sleep(0.01)
            held, _ = tracemalloc.get_traced_memory()
            front.statuses.ended.set()
            assert {await one for one in sent} == {202}
    finally:
        tracemalloc.stop()
    assert held < count * size / 4


class Zeros(aiohttp.AsyncIterablePayload):
    """A body that is made while it is sent, so that it is nowhere in memory at the sender."""

    def __init__(self, size: int) -> None:
        async def parts():
            for _ in range(size // 65_536):
                yield b"\0" * 65_536

        super().__init__(parts())


def test_one_client_that_waits_very_often_leaves_room_for_the_others(monkeypatch):
    monkeypatch.setattr(watching, "MOST", 8)

    async def both() -> None:
        watchers = Watchers()
        rude = [watchers.watch(f"id-{at}", "rude") for at in range(8)]
        assert sum(one is not None for one in rude) < 8
        assert watchers.watch("mine", "polite") is not None

    asyncio.run(both())
