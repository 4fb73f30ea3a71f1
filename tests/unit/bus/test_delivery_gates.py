"""A receiver whose stream takes nothing holds up what is for it, and nothing else."""

from __future__ import annotations

import asyncio

import pytest
from delivery_world import running_line
from hypothesis import given
from hypothesis import strategies as st

from bus.delivery.due import DueTimes
from bus.delivery.gates import _FEW, _LONGEST_WAIT_S, Gates
from bus.transport.queues import QueueRefused


def everybody(_idx: int) -> bool:
    return True


def test_the_first_refusal_shuts_the_gate_and_a_few_of_the_oldest_try_again() -> None:
    gates = Gates(everybody)
    assert not gates.wait("a", 1)
    for idx in (9, 3, 7, 1, 5, 8):
        gates.refused("a", idx, 10.0)
    assert gates.wait("a", 2)
    assert not gates.wait("b", 4)
    assert gates.release(10.0) == []
    assert gates.release(10.1) == [1, 2, 3, 5]


def test_waits_grow_while_nothing_is_taken_and_the_line_moves_once_something_is() -> None:
    gates, now_s, waits = Gates(everybody), 0.0, []
    for idx in range(500):
        gates.refused("a", idx, now_s)
    for _ in range(8):
        before_s, now_s = now_s, gates.next_s() or 0.0
        waits.append(now_s - before_s)
        for idx in gates.release(now_s):
            gates.refused("a", idx, now_s)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(2.0)
    gates.taken("a")
    now_s = gates.next_s() or 0.0
    assert gates.release(now_s) == list(range(64))
    assert (gates.next_s() or 0.0) - now_s == pytest.approx(0.05)


def test_a_quarter_of_a_turn_is_for_repeats_and_all_of_it_when_nothing_else_waits() -> None:
    gates = Gates(everybody)
    for idx in range(8):
        gates.refused("a", idx, 0.0, again=idx < 4)
    assert gates.release(1.0) == [4, 5, 6, 0]
    gates.taken("a")
    assert gates.release(10.0) == [7, 1, 2, 3]


@pytest.mark.parametrize("again", [False, True])
def test_those_who_expired_in_a_long_outage_take_no_turns_of_those_who_still_wait(again: bool) -> None:
    outage = 20_000
    gates, now_s, first = Gates(lambda idx: idx >= outage), 0.0, []
    for idx in range(outage + 1):
        gates.refused("a", idx, now_s, again=again)
    while not first:
        now_s = max(now_s, gates.next_s() or 0.0)
        first = gates.release(now_s)
    assert first == [outage]
    assert now_s < outage / _FEW * _LONGEST_WAIT_S / 1_000


def test_of_very_many_shut_gates_a_bounded_number_tries_at_once_and_each_in_turn() -> None:
    gates, now_s, tried = Gates(everybody), 0.0, set[int]()
    for idx in range(1_000):
        gates.refused(f"s{idx}", idx, now_s)
    for _ in range(1_000 // 10):
        now_s += 0.06
        turn = gates.release(now_s, 10)
        assert len(turn) == 10
        tried.update(turn)
        for idx in turn:
            gates.refused(f"s{idx}", idx, now_s)
    assert len(tried) > 500, "who just tried stands behind those who did not"


def test_what_is_sent_and_cancelled_in_a_loop_makes_no_line_longer_and_longer() -> None:
    gates = Gates(lambda _idx: False)
    gates.refused("a", 0, 0.0)
    for idx in range(1, 10_000):
        assert gates.wait("a", idx)
    assert len(gates._shut["a"].line) < 2_000


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 1_000)), unique=True))
def test_whoever_stands_in_line_gets_a_turn_and_only_one(found: list[tuple[str, int]]) -> None:
    gates, now_s, released = Gates(everybody), 0.0, []
    for subject, idx in found:
        gates.refused(subject, idx, now_s)
    while (next_s := gates.next_s()) is not None:
        now_s = max(now_s, next_s)
        turn = gates.release(now_s)
        released += turn
        gates.taken("a")
    assert sorted(released) == sorted(idx for _, idx in found)
    assert len(gates) == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.one_of(st.none(), st.integers(0, 100)))))
def test_whatever_is_planned_anew_or_given_up_each_record_is_due_once_at_its_newest_time(steps) -> None:
    planned: dict[int, float] = {}
    due = DueTimes(planned.get)
    due._clear_at = 8
    for idx, at_s in steps:
        planned.pop(idx, None)
        if at_s is not None:
            planned[idx] = float(at_s)
            due.put(idx, float(at_s))
    taken = {}
    for now_s in range(101):
        assert due.next_s() >= now_s - 1
        while (idx := due.take(float(now_s))) is not None:
            taken[idx] = float(now_s)
            del planned[idx]
    assert not planned
    assert taken == {idx: at_s for idx, at_s in dict(steps).items() if at_s is not None}


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


async def test_a_refused_receiver_costs_few_attempts_and_gets_its_records_when_it_takes_them_again(line):
    ids = [await line.submit() for _ in range(5)]
    line.queues.error = QueueRefused("full")
    for _ in range(50):
        await line.h37.outbox.send_due()
        line.bus.clock.pass_time(0.2)
    assert line.queues.puts < 60, "ten seconds of refusals"
    line.queues.error = None
    for _ in range(3):
        line.bus.clock.pass_time(2.0)
        await line.flow()
        await asyncio.sleep(0)
    assert [await line.state(one) for one in ids] == ["completed"] * 5


async def test_cancelled_commands_do_not_hold_up_those_behind_them(line, monkeypatch):
    monkeypatch.setattr("bus.delivery.gates._FIRST_WAIT_S", 100.0)
    line.queues.error = QueueRefused("full")
    await line.submit()
    await line.h37.outbox.send_due()
    for _ in range(12):
        gone = await line.h37.store.command(await line.submit())
        await line.h37.outbox.send_due()
        assert (await line.h37.cancel_desk.cancel(gone)).state == "cancelled", "it stood in line and was never sent"
    kept = await line.submit()
    await line.h37.outbox.send_due()
    line.queues.error = None
    line.bus.clock.pass_time(101.0)
    await line.flow()
    assert await line.state(kept) == "completed", "the first turn of four is for the two that are left"


async def test_receivers_that_take_nothing_leave_places_to_the_others_however_many_they_are(line):
    outbox, trying, ends = line.h37.outbox, [], asyncio.Event()

    async def send(idx, *, released=False):
        trying.append((idx, released))
        await ends.wait()

    outbox._send = send
    for idx in range(1, 400):
        outbox.put(idx, 0)
        outbox._entries[idx].subject = f"lt.c.GOV~X{idx}.GOV~H37"
        outbox._gates.refused(outbox._entries[idx].subject, idx, line.bus.clock.monotonic())
    outbox.put(1_000, 0)
    line.bus.clock.pass_time(60.0)
    for _ in range(3):
        outbox._begin_due()
        await asyncio.sleep(0)
    assert (1_000, False) in trying
    assert len(trying) <= 2 * 64
    ends.set()
    await asyncio.gather(*outbox._sending)
    await asyncio.sleep(0)
    assert outbox._retrying == 0


async def test_submitting_and_cancelling_while_there_is_no_broker_fills_no_memory(line):
    line.queues.connected = False
    outbox = line.h37.outbox
    for idx in range(1, 10_000):
        outbox.put(idx, 0)
        outbox._begin_due()
        assert outbox.withdraw(idx)
        outbox.arrived(idx)
    assert len(outbox._due) < 2_000
