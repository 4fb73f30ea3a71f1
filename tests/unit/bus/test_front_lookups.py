"""How much one client system may ask about its commands: on the real front, with statuses that a test can hold up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest
from bus_world import CLIENT

from bus import errors
from bus.front.credentials import ClientSystem, Credentials, hash_key
from bus.front.exchanges import ExchangeFront
from bus.front.lookuplimits import LISTS, LookupLimits, LookupRules
from bus.front.server import HttpServer

KEYS = {name: f"{name}.s3cret" for name in ("rude", "polite")}
ONE = "/exchanges/019ab3c4-6c1d-7b4e-9d3a-2f1c0b9e8d7c"


class Statuses:
    """Commands that have no end yet, and lists that take long."""

    def __init__(self) -> None:
        self.asked = self.waiting = 0
        self.ended = asyncio.Event()

    async def of(self, _record_id, _client):
        self.asked += 1
        return SimpleNamespace(state="sent")

    async def wait(self, command, _deadline_s):
        self.waiting += 1
        await self.ended.wait()
        return command

    async def page(self, _page):
        self.waiting += 1
        await self.ended.wait()
        return [], None

    def told(self, command):
        return {"state": command.state}

    async def result(self, _command):
        raise errors.ResultPending("not yet")


class Desk:
    async def cancel(self, command):
        return command


@pytest.fixture
async def world():
    credentials = Credentials(lambda size: b"k" * size)
    credentials.replace(
        [ClientSystem(name, frozenset({CLIENT}), (hash_key(key, b"salt"),)) for name, key in KEYS.items()]
    )
    made = SimpleNamespace(statuses=Statuses(), rules=LookupRules(5.0, 2), now_s=1000.0)
    made.refused = []
    limits = LookupLimits(lambda: made.rules, lambda: made.now_s, made.refused.append)
    front = ExchangeFront(made.statuses, credentials, Desk(), None, limits)
    server = HttpServer("127.0.0.1:0", front.handle, None, 4096)
    await server.start()
    async with aiohttp.ClientSession(server.url) as made.session:
        yield made
        made.statuses.ended.set()
    await server.stop()


async def ask(world, who="rude", target=ONE, method="GET", **headers):
    named = {"X-Road-Client": CLIENT, "X-LienThong-Key": KEYS[who], **headers}
    async with world.session.request(method, target, headers=named) as answer:
        return answer.status, answer.headers.get("Retry-After"), await answer.json(content_type=None)


async def waiting(world, number):
    async with asyncio.timeout(5):
        while world.statuses.waiting < number:
            await asyncio.sleep(0.005)


async def test_who_asks_in_a_loop_is_held_up_and_nobody_else_is(world):
    told = [(await ask(world))[0] for _ in range(20)]
    assert (told.count(200), told.count(429)) == (5, 15)
    assert world.statuses.asked == 5, "the store is asked although the limit is reached"
    status, retry_after, problem = await ask(world)
    assert (status, retry_after, problem["code"]) == (429, "1", "lookup-limit-reached")
    assert "Prefer: wait=30" in problem["detail"]
    assert world.refused == ["lookup-limit-reached"] * 16, "the operator sees it"
    assert (await ask(world, "polite"))[0] == 200
    world.now_s += 1.0
    assert (await ask(world))[0] == 200


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", ONE), ("HEAD", ONE), ("DELETE", ONE), ("GET", f"{ONE}/result"), ("GET", "/exchanges?limit=1")],
)
async def test_every_kind_of_look_up_counts(world, method, target):
    world.statuses.ended.set()
    named = {"X-Road-Client": CLIENT, "X-LienThong-Key": KEYS["rude"]}
    told = []
    for _ in range(8):
        async with world.session.request(method, target, headers=named) as answer:
            told.append(answer.status)
    assert told.count(429) == 3


async def test_more_long_polls_than_may_wait_are_refused_and_given_back(world):
    world.rules = LookupRules(100.0, 2)
    polls = [asyncio.create_task(ask(world, Prefer="wait=30")) for _ in range(2)]
    await waiting(world, 2)
    assert (await ask(world, Prefer="wait=30"))[2]["code"] == "lookup-limit-reached"
    assert (await ask(world))[0] == 200, "a look-up that does not wait takes no place"
    assert (await ask(world, Prefer="wait=0"))[0] == 200
    other = asyncio.create_task(ask(world, "polite", Prefer="wait=30"))
    await waiting(world, 3)
    world.statuses.ended.set()
    assert [status for status, _, _ in await asyncio.gather(*polls, other)] == [200, 200, 200]
    assert (await ask(world, Prefer="wait=30"))[0] == 200


async def test_a_long_poll_that_breaks_off_gives_its_place_back(world):
    world.rules = LookupRules(100.0, 1)
    poll = asyncio.create_task(ask(world, Prefer="wait=30"))
    await waiting(world, 1)
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)
    world.statuses.ended.set()
    async with asyncio.timeout(5):
        while (await ask(world, Prefer="wait=30"))[0] != 200:
            world.now_s += 1.0
            await asyncio.sleep(0.005)


async def test_lists_at_once_are_bounded(world):
    world.rules = LookupRules(100.0, 2)
    lists = [asyncio.create_task(ask(world, target="/exchanges")) for _ in range(LISTS)]
    await waiting(world, LISTS)
    assert (await ask(world, target="/exchanges"))[2]["code"] == "lookup-limit-reached"
    other = asyncio.create_task(ask(world, "polite", target="/exchanges"))
    await waiting(world, LISTS + 1)
    world.statuses.ended.set()
    assert {status for status, _, _ in await asyncio.gather(*lists, other)} == {200}


async def test_other_limits_count_from_the_next_look_up_on(world):
    for _ in range(5):
        await ask(world)
    assert (await ask(world))[0] == 429
    world.rules = LookupRules(50.0, 2)
    assert (await ask(world))[0] == 200
