"""A receiver that takes nothing, or takes more slowly than it sends: it costs the others nothing, and no receipts."""

from __future__ import annotations

import asyncio
import time

import pytest
from bus_world import G01, H37
from delivery_world import Line, Pulled, running_line

from bus.delivery import owing
from bus.delivery.owing import Owed
from bus.delivery.replying import Replier
from bus.transport import subjects
from bus.transport.queues import QueueRefused

STUCK, WELL = f"{H37}/@n1", f"{H37}/@n2"


class Queues:
    """Refuses what is for one node, as the broker does when its share of the stream is full."""

    connected = True

    def __init__(self) -> None:
        self.tried = 0
        self.stored: list[str] = []
        self.full = True

    async def put(self, subject, _data, message_id):
        self.tried += 1
        if self.full and ".n1" in subject:
            raise QueueRefused("full")
        self.stored.append(message_id)
        return True


@pytest.fixture
def queues(monkeypatch) -> Queues:
    monkeypatch.setattr(owing, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(owing, "_LONGEST_WAIT_S", 0.01)
    return Queues()


@pytest.fixture
async def owed(queues: Queues):
    made = Owed(queues, time.monotonic)
    yield made
    await made.close()


@pytest.fixture
def send(queues: Queues, owed: Owed):
    replier = Replier(G01, None, None, queues, lambda: None, owed)

    async def one(node: str, receipt_id: str = "id", message_id: str = "") -> None:
        await asyncio.wait_for(
            replier._send(replier.subject(node), receipt_id, b"receipt", message_id or receipt_id), 0.5
        )

    return one


async def until(there) -> None:
    async with asyncio.timeout(5):
        while not there():
            await asyncio.sleep(0.001)


async def test_nobody_waits_for_a_receiver_that_takes_nothing(queues, owed, send):
    for number in range(64):
        await send(STUCK, f"r{number}")
    assert queues.tried < 10, "the first one shows it; a few try again now and then"
    await send(WELL, "well")
    assert queues.stored == ["well"]
    assert len(owed) == 64


async def test_what_stood_in_line_goes_out_in_order_once_it_is_taken(queues, owed, send):
    for number in range(130):
        await send(STUCK, f"r{number}")
    await send(STUCK, "r7", "r7/again")
    queues.full = False
    await until(lambda: not len(owed))
    assert queues.stored == [f"r{number}" for number in range(130)], "each once: the one that is owed already serves"
    await until(lambda: not owed.is_owed(subjects.result(STUCK, G01)))
    await send(STUCK, "next")
    assert queues.stored[-1] == "next"


async def test_a_defect_in_sending_leaves_no_line_that_nobody_works_off(queues, owed, send, monkeypatch):
    await send(STUCK, "lost")

    async def broken(*_args):
        raise ValueError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(queues, "put", broken)
        await until(lambda: not owed.is_owed(subjects.result(STUCK, G01)))
    queues.full = False
    await send(STUCK, "next")
    assert (queues.stored, owed._bytes) == (["next"], 0)


async def test_lines_are_bounded(queues, owed, send, monkeypatch):
    monkeypatch.setattr(owing, "_MOST", 5)
    for number in range(9):
        await send(STUCK, f"r{number}")
    assert len(owed) == 5
    monkeypatch.setattr(owing, "_MOST", 1_000)
    monkeypatch.setattr(owing, "_MOST_BYTES", 7 * len(b"receipt"))
    for number in range(9):
        await send(STUCK, f"s{number}")
    assert len(owed) == 7


async def test_receivers_that_take_nothing_leave_room_to_one_more(queues, owed, send, monkeypatch):
    monkeypatch.setattr(owing, "_MOST_BYTES", 100 * len(b"receipt"))
    for node in range(6):
        for number in range(200):
            await send(f"{H37}/@n1{node}", f"r{node}.{number}")
    for number in range(10):
        await send(STUCK, f"r{number}")
    held = {subject: len(line.waiting) for subject, line in owed._lines.items()}
    assert held.pop(subjects.result(STUCK, G01)) == 10
    assert max(held.values()) - min(held.values()) <= 1
    assert owed._bytes == 100 * len(b"receipt")
    queues.full = False
    await until(lambda: not len(owed))
    assert owed._bytes == 0


async def test_for_a_receiver_that_never_takes_anything_receipts_are_not_kept_for_ever(queues, owed, send, monkeypatch):
    monkeypatch.setattr(owing, "_GIVEN_UP_S", 0.03)
    queues.connected = False
    await send(STUCK, "r1")
    tried = queues.tried
    await asyncio.sleep(0.05)
    assert owed.is_owed(subjects.result(STUCK, G01)), "without a broker nobody is to blame"
    assert queues.tried == tried
    queues.connected = True
    await until(lambda: not owed.is_owed(subjects.result(STUCK, G01)))
    assert owed._bytes == 0
    queues.full = False
    await send(STUCK, "r2")
    assert queues.stored == ["r2"]


async def test_a_member_is_behind_while_it_takes_and_not_when_it_takes_nothing(queues, owed, send, monkeypatch):
    monkeypatch.setattr(owing, "_BEHIND", 3)
    for number in range(3):
        assert not owed.is_behind("GOV~H37")
        await send(STUCK, f"r{number}")
    assert owed.is_behind("GOV~H37")
    assert not owed.is_behind("GOV~G05")
    monkeypatch.setattr(owing, "_STUCK_S", 0.0)
    assert not owed.is_behind("GOV~H37"), "its commands are done: it may be away for long"


async def test_commands_of_a_member_that_is_behind_come_later_and_are_not_logged(tmp_path, monkeypatch):
    async with running_line(tmp_path) as line:
        await _put_back(line, monkeypatch)


async def _put_back(line: Line, monkeypatch) -> None:
    await line.submit()
    await line.h37.outbox.send_due()
    message = Pulled(*line.queues.stored.pop()[:2])
    size = line.g01.side.log.size
    monkeypatch.setattr(Owed, "is_behind", lambda _self, member: member == "GOV~H37")
    await line.g01.commands.on_command(message)
    assert (message.fate, line.g01.side.log.size) == ("later", size)
    monkeypatch.undo()
    again = Pulled(message.subject, message.data)
    await line.g01.commands.on_command(again)
    assert again.fate == "done"
