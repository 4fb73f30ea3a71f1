"""Bursts go on in portions, in order, and nobody is left behind."""

import asyncio

from bus.turns import Turnstile


async def test_a_burst_goes_on_in_portions_in_the_order_of_arrival():
    turnstile, through, seen = Turnstile(3), [], []

    async def enter(at: int) -> None:
        await turnstile.enter()
        through.append(at)

    async def watch() -> None:
        while len(through) < 10:
            seen.append(len(through))
            await asyncio.sleep(0)

    await asyncio.gather(watch(), *(enter(at) for at in range(10)))
    assert through == list(range(10))
    steps = [after - before for before, after in zip(seen, [*seen[1:], 10], strict=True)]
    assert max(steps) <= 3
    assert any(steps)


async def test_one_alone_does_not_wait_for_a_turn():
    turnstile = Turnstile(2)
    for _ in range(5):
        for _ in range(2):
            entering = turnstile.enter()
            try:
                entering.send(None)
            except StopIteration:
                continue
            raise AssertionError("it waited")
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_one_that_is_cancelled_takes_nobodys_place():
    turnstile = Turnstile(1)
    tasks = [asyncio.create_task(turnstile.enter()) for _ in range(6)]
    await asyncio.sleep(0)
    for task in tasks[1:4]:
        task.cancel()
    async with asyncio.timeout(2):
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in done] == [False, True, True, True, False, False]
