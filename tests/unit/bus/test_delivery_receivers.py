"""A receiver that takes nothing costs the others nothing: receipts for it wait in few places."""

from __future__ import annotations

import asyncio

import pytest
from bus_world import G01, H37

from bus.delivery import replying
from bus.delivery.replying import Replier
from bus.transport.queues import QueueRefused

STUCK, WELL = f"{H37}/@n1", f"{H37}/@n2"


class Queues:
    """Refuses what is for one node, as the broker does when its share of the stream is full."""

    connected = True

    def __init__(self) -> None:
        self.tried = self.stored = 0
        self.full = True

    async def put(self, subject, _data, _message_id):
        self.tried += 1
        if self.full and ".n1." in subject:
            raise QueueRefused("full")
        self.stored += 1
        return True


@pytest.fixture
def queues() -> Queues:
    return Queues()


@pytest.fixture
def send(queues: Queues, monkeypatch):
    monkeypatch.setattr(replying, "_PAUSES_S", (0.01, 0.02, 0.03))
    replier = Replier(G01, None, None, queues, lambda: None)
    return lambda node: asyncio.create_task(replier._send(replier.subject(node), b"receipt", "id"))


async def test_receipts_for_a_receiver_that_takes_nothing_hold_few_places(queues, send):
    sent = [send(STUCK) for _ in range(64)]
    await asyncio.sleep(0.005)
    assert sum(not one.done() for one in sent) <= 16
    await send(WELL)
    await asyncio.wait(sent)
    tried = queues.tried
    await asyncio.wait([send(STUCK) for _ in range(64)])
    assert queues.tried == tried + 64, "once each: it took nothing a moment ago"


async def test_a_receiver_whose_stream_is_full_for_a_moment_gets_its_receipts(queues, send):
    sent = [send(STUCK) for _ in range(8)]
    await asyncio.sleep(0.005)
    queues.full = False
    await asyncio.wait(sent)
    assert queues.stored == 8


async def test_a_receiver_that_takes_again_is_waited_for_again(queues, send):
    await send(STUCK)
    queues.full = False
    await send(STUCK)
    queues.full = True
    tried = queues.tried
    await send(STUCK)
    assert queues.tried == tried + 3
