"""Commands that were taken: tried again, told, buried, brought back, ended; and the plan that works them off."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tracemalloc
from collections import Counter

import msgspec
import pytest
from bus_world import NOW, PLAIN_SERVICE
from delivery_world import SLOW_S, Line, running_line
from hypothesis import given
from hypothesis import strategies as st

from adapters.errors import (
    BackendAnswerInvalid,
    BackendBusy,
    BackendRefused,
    BackendTimeout,
    BackendUnreachable,
    BreakerOpen,
    OperationNotMapped,
    RequestUnusable,
)
from adapters.port import AdapterAnswer
from bus import errors
from bus.delivery.attempts import AttemptBook, Made, RetryRules
from bus.delivery.schedule import Schedule
from bus.delivery.tasks import Wanted
from evidence.act import Act, encode_act
from evidence.stamps import encode_time, uuid7

GOOD = AdapterAnswer(200, (), "application/json", b'{"done":true}')


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


def answer(status: int, *headers: tuple[str, str]) -> AdapterAnswer:
    return AdapterAnswer(status, headers, "application/json", b"{}")


async def taken(line: Line) -> str:
    """A command that has its receipt and had its first attempt."""
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    assert await line.carry(*line.queues.stored.pop()[:2]) == "done"
    return record_id


async def task(line: Line):
    ((found, _),) = await line.g01.tasks.find(Wanted())
    return found


def replies(line: Line) -> list[tuple[str, str]]:
    return [(one.type, one.class_) for _, _, one in line.g01.side.records() if one.inreplyto]


def write_act(record_id: str) -> bytes:
    return encode_act(
        Act(
            id=uuid7(0, bytes(10)), time=encode_time(NOW), node="VN/GOV/G01/@n1", act="commands.redrive",
            outcome="allowed", key="ops", roles=("XROAD_SYSTEM_ADMINISTRATOR",), target=record_id, reason="mended",
        )
    )  # fmt: skip


# --- which answers are tried again --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (answer(429), "backend-status-429"),
        (answer(502), "backend-status-502"),
        (answer(503), "backend-status-503"),
        (answer(504), "backend-status-504"),
        (BackendUnreachable("x", acted="no"), "backend-unavailable"),
        (BackendUnreachable("x"), "backend-failed"),
        (BackendTimeout("x"), "backend-timeout"),
        (BackendBusy("x", acted="no"), "backend-unavailable"),
        (BreakerOpen("x", retry_after_s=1), "backend-unavailable"),
    ],
)
async def test_what_may_pass_is_tried_again_with_the_same_id(line, trouble, code):
    source = line.bus.source
    if isinstance(trouble, Exception):
        source.error = trouble
    else:
        source.answer = trouble
    record_id = await taken(line)
    found = await task(line)
    assert (found.state, found.code, found.attempts, found.told) == ("waiting", code, 1, "processing")
    assert replies(line) == [("receipt", "ok"), ("receipt", "ok")]
    assert line.g01.told.retries == [code]
    source.error, source.answer = None, GOOD
    assert await line.work() == 0, "not before its time"
    line.bus.clock.pass_time(11)
    assert await line.work() == 1
    assert line.effects == [record_id, record_id]
    await line.flow()
    assert await line.state(record_id) == "completed"
    assert line.g01.side.rows("SELECT count(*) FROM task") == [(0,)]
    assert await line.g01.book.load() == {}


@pytest.mark.parametrize("trouble", [answer(500), answer(404), BackendAnswerInvalid("x"), RequestUnusable("body", "x")])
async def test_every_other_answer_is_the_result(line, trouble):
    if isinstance(trouble, Exception):
        line.bus.source.error = trouble
    else:
        line.bus.source.answer = trouble
    record_id = await taken(line)
    await line.flow()
    assert await line.state(record_id) in ("completed", "failed")
    assert (len(line.effects), line.g01.told.retries, line.g01.told.dead) == (1, [], [])


@pytest.mark.parametrize("trouble", [BackendRefused("x"), OperationNotMapped("x"), RuntimeError("a crash")])
async def test_what_fails_for_good_on_our_own_side_is_a_dead_letter(line, trouble):
    line.bus.source.error = trouble
    record_id = await taken(line)
    found = await task(line)
    assert (found.state, found.told) == ("dead", "dead")
    assert replies(line) == [("receipt", "ok"), ("receipt", "failed")]
    line.bus.clock.pass_time(3_000)
    assert await line.work() == 0
    assert line.effects == [record_id]


async def test_a_back_end_that_says_how_long_to_wait_is_left_alone_for_so_long(line):
    line.bus.source.answer = answer(503, ("Retry-After", "60"))
    await taken(line)
    line.bus.clock.pass_time(59)
    assert await line.work() == 0
    line.bus.clock.pass_time(2)
    assert await line.work() == 1


async def test_the_sender_hears_once_that_it_takes_longer(line):
    line.bus.source.answer = answer(503)
    await taken(line)
    for _ in range(3):
        line.bus.clock.pass_time(90)
        assert await line.work() == 1
    assert replies(line) == [("receipt", "ok"), ("receipt", "ok")]
    assert (await line.g01.book.get((await task(line)).idx)).attempts == 4


async def test_a_slow_back_end_is_told_while_it_works(line):
    line.finish = False
    line.bus.source.release = asyncio.Event()
    record_id = await taken(line)
    async with asyncio.timeout(5):
        while (await task(line)).told != "processing":
            await asyncio.sleep(SLOW_S / 5)
    line.finish = True
    line.bus.source.release.set()
    await line.g01.runner.idle()
    await line.flow()
    assert replies(line)[:3] == [("receipt", "ok"), ("receipt", "ok"), ("result", "ok")]
    assert await line.state(record_id) == "completed"


async def test_a_quick_command_keeps_its_four_records(line):
    await taken(line)
    await line.flow()
    assert line.g01.types() == Counter(command=1, receipt=2, result=1)


# --- the end of attempts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rules", "made"), [({"most": 3}, 3), ({"age_s": 200.0}, 3)])
async def test_after_the_last_attempt_it_is_a_dead_letter_and_its_sender_is_told(line, rules, made):
    line.g01.rules = RetryRules(**{"first_s": 80.0, "longest_s": 80.0, "age_s": 9e9, "most": 99} | rules)
    line.bus.source.answer = answer(503)
    await taken(line)
    for _ in range(6):
        line.bus.clock.pass_time(81)
        await line.work()
    found = await task(line)
    assert (found.state, found.attempts, found.code, len(line.effects)) == ("dead", made, "backend-status-503", made)
    assert line.g01.told.dead == ["backend-status-503"]
    assert replies(line)[-1] == ("receipt", "failed")


async def test_a_dead_letter_stays_dead_over_a_restart_and_over_a_repeat(line):
    line.bus.source.error = BackendRefused("x")
    await line.submit()
    await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    await line.carry(subject, data)
    line.g01.restart()
    await line.g01.runner.load()
    await line.carry(subject, data)
    line.bus.clock.pass_time(3_000)
    assert await line.work() == 0
    assert len(line.effects) == 1


async def test_a_time_that_a_wrong_clock_has_left_is_no_later_than_the_longest_wait(line):
    line.bus.source.answer = answer(503)
    await taken(line)
    found, in_a_year_s = await task(line), line.bus.clock.now().timestamp() + 31_536_000
    line.g01.book.put(found.idx, Made(1, in_a_year_s, "backend-status-503"))
    line.g01.restart()
    await line.g01.runner.load()
    made = len(line.effects)
    line.bus.clock.pass_time(81)
    await line.work()
    assert len(line.effects) == made + 1


async def test_a_sender_that_left_the_directory_makes_a_dead_letter_with_an_alarm(line):
    line.bus.source.answer = answer(503)
    await taken(line)
    line.bus.directory.nodes.clear()
    line.bus.clock.pass_time(90)
    await line.work()
    assert (await task(line)).code == "command-stranded"
    assert ("command-stranded", "") in line.g01.side.heard.alarms


async def test_a_right_that_was_withdrawn_ends_what_is_tried_again(line):
    line.bus.source.answer = answer(503)
    record_id = await taken(line)
    line.bus.directory.access.clear()
    line.bus.clock.pass_time(90)
    await line.work()
    await line.flow()
    assert (await line.state(record_id), len(line.effects)) == ("failed", 1)


async def test_a_command_that_cannot_be_examined_does_not_come_back_for_ever(line, monkeypatch):
    line.bus.source.answer = answer(503)
    await taken(line)

    async def crash(*_args, **_named):
        raise RuntimeError("poison")

    monkeypatch.setattr(line.g01.doer._examiner, "examine", crash)
    line.bus.clock.pass_time(90)
    await line.work()
    assert (await task(line)).state == "dead"


async def test_further_attempts_take_nothing_from_the_quota(line):
    examined = []
    real = line.g01.doer._examiner.examine

    async def examine(record, now, *, counted=True):
        examined.append(counted)
        return await real(record, now, counted=counted)

    line.g01.doer._examiner.examine = examine
    line.bus.source.answer = answer(503)
    await taken(line)
    line.bus.clock.pass_time(90)
    await line.work()
    del line.g01.doer._examiner.examine
    assert examined == [True, False]


# --- commits that fail ------------------------------------------------------------------------------------------------


async def test_a_notice_that_cannot_be_logged_changes_nothing_and_the_next_attempt_says_it(line):
    line.bus.source.answer = answer(503)
    line.finish = False
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    line.g01.side.faults.arm("ok", "fails")
    await line.carry(*line.queues.stored.pop()[:2])
    await line.g01.runner.idle()
    await line.bus.settle()
    assert (await task(line)).told == ""
    line.bus.clock.pass_time(90)
    await line.work()
    assert (await task(line)).told == "processing"
    assert line.effects == [record_id] * 2


async def test_nothing_is_tried_while_the_log_cannot_be_written(line):
    line.bus.source.answer = answer(503)
    await taken(line)
    line.bus.clock.pass_time(90)
    writable = type(line.g01.side.log).writable
    type(line.g01.side.log).writable = property(lambda _self: False)
    try:
        assert line.g01.runner.start_due() == 0
    finally:
        type(line.g01.side.log).writable = writable
    assert await line.work() == 1


# --- operators --------------------------------------------------------------------------------------------------------


async def dead(line: Line) -> tuple[str, int]:
    line.bus.source.error = BackendRefused("x")
    record_id = await taken(line)
    line.bus.source.error = None
    return record_id, (await task(line)).idx


async def test_what_is_re_driven_is_done_with_the_same_id_and_the_act_is_in_the_same_commit(line):
    record_id, _ = await dead(line)
    size = line.g01.side.log.size
    ((_, fate),) = await line.g01.letters.do("redrive", Wanted(ids=(record_id,)), "mended", write_act, dry=False)
    assert (fate, line.g01.side.log.size) == ("redriven", size + 2)
    assert (await task(line)).state == "waiting"
    await line.work()
    await line.flow()
    assert (await line.state(record_id), line.effects) == ("completed", [record_id] * 2)


@pytest.mark.parametrize("act", ["redrive", "discard"])
async def test_an_act_that_cannot_be_recorded_is_not_done(line, act):
    record_id, _ = await dead(line)
    line.g01.side.faults.arm("fails")
    with pytest.raises(errors.LogUnwritable):
        await line.g01.letters.do(act, Wanted(ids=(record_id,)), "mended", write_act, dry=False)
    await line.bus.settle()
    assert (await task(line)).state == "dead"
    assert await line.work() == 0


async def test_an_act_on_many_that_breaks_off_says_to_which_it_was_done(line):
    line.bus.source.error = BackendRefused("x")
    ids = [await taken(line) for _ in range(3)]
    written = []

    def write(id_: str) -> bytes:
        written.append(id_)
        if len(written) == 2:
            line.g01.side.faults.arm("fails")
        return write_act(id_)

    done = await line.g01.letters.do("redrive", Wanted(ids=tuple(ids)), "mended", write, dry=False)
    assert [(letter.task.id, fate) for letter, fate in done] == list(
        zip(ids, ["redriven", "not-now", "not-now"], strict=True)
    )
    assert written == ids[:2]


async def test_a_dry_run_does_nothing(line):
    record_id, _ = await dead(line)
    size = line.g01.side.log.size
    for act in ("redrive", "discard"):
        ((_, fate),) = await line.g01.letters.do(act, Wanted(ids=(record_id,)), "mended", write_act, dry=True)
        assert fate == f"would-{act}"
    assert (line.g01.side.log.size, (await task(line)).state) == (size, "dead")


async def test_what_is_discarded_has_the_reason_as_its_result_and_is_never_tried_again(line):
    line.bus.source.answer = answer(503)
    record_id = await taken(line)
    ((_, fate),) = await line.g01.letters.do("discard", Wanted(ids=(record_id,)), "done by hand", write_act, dry=False)
    assert fate == "discarded"
    line.bus.clock.pass_time(90)
    assert await line.work() == 0
    await line.flow()
    command = await line.h37.store.command(record_id)
    assert (command.state, command.code) == ("failed", "command-discarded")
    with pytest.raises(errors.CommandDiscarded, match="done by hand"):
        await line.h37.results.give(command)


async def test_what_is_being_done_is_left_alone(line):
    line.finish = False
    line.bus.source.release = asyncio.Event()
    record_id = await taken(line)
    await line.bus.source.started.wait()
    for act in ("redrive", "discard"):
        ((_, fate),) = await line.g01.letters.do(act, Wanted(ids=(record_id,)), "now", write_act, dry=False)
        assert fate == "busy"
    line.bus.source.release.set()
    await line.g01.runner.idle()
    assert line.effects == [record_id]


# --- the plan -----------------------------------------------------------------------------------------------------------


async def test_more_than_may_be_taken_stays_with_the_broker(line):
    line.g01.restart(most=1)
    line.bus.source.answer = answer(503)
    await taken(line)
    await line.submit()
    await line.h37.outbox.send_due()
    assert await line.carry(*line.queues.stored.pop()[:2]) == "later"
    assert line.g01.types()["command"] == 1


async def test_no_more_of_one_service_is_under_way_than_allowed(line):
    line.g01.restart(at_once=2)
    line.finish = False
    line.bus.source.release = asyncio.Event()
    ids = [await taken(line) for _ in range(3)]
    await line.bus.source.started.wait()
    line.g01.runner.start_due()
    await asyncio.sleep(0)
    assert line.effects == ids[:2]
    line.bus.source.release.set()
    await line.g01.runner.idle()
    assert await line.work() == 1
    assert line.effects == ids


def test_a_service_that_is_full_holds_up_no_other():
    plan = Schedule()
    for idx in range(3):
        plan.put(idx, "slow", 0.0)
    plan.put(9, "quick", 0.0)
    assert plan.take(1.0, lambda service: service != "slow") == [(9, "quick")]
    assert plan.next_s(lambda service: service != "slow") is None
    assert plan.next_s(lambda _service: True) == 0.0


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["put", "remove"]), st.floats(0, 100)), max_size=60))
def test_the_plan_gives_each_task_once_at_its_newest_time(steps):
    plan, expected = Schedule(), {}
    for idx, what, due_s in steps:
        if what == "put":
            plan.put(idx, f"s{idx % 3}", due_s)
            expected[idx] = due_s
        else:
            plan.remove(idx)
            expected.pop(idx, None)
    assert len(plan) == len(expected)
    taken_now = []
    while got := plan.take(50.0, lambda _service: True):
        taken_now += [idx for idx, _ in got]
    assert sorted(taken_now) == sorted(idx for idx, due_s in expected.items() if due_s <= 50)
    left = [due_s for due_s in expected.values() if due_s > 50]
    assert plan.next_s(lambda _service: True) == (min(left) if left else None)


def test_a_hundred_thousand_waiting_tasks_cost_little_memory():
    tracemalloc.start()
    plan = Schedule()
    for idx in range(100_000):
        plan.put(idx, f"service-{idx % 7}", idx / 3)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 40_000_000, size


# --- waits --------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.integers(0, 255), st.floats(0, 1e9))
def test_a_wait_is_never_longer_than_the_longest_nor_shorter_than_half(made, random, asked_s):
    rules = RetryRules(first_s=5.0, longest_s=900.0)
    wait_s = rules.wait_s(made, random, asked_s)
    due_s = min(5.0 * 2 ** (min(made, 31) - 1), 900.0)
    assert due_s / 2 <= wait_s <= 900.0


async def test_the_book_survives_a_restart_and_is_not_needed(tmp_path):
    book = AttemptBook(tmp_path / "attempts.db")
    book.put(7, Made(3, 99.5, "backend-timeout", "slow"))
    book.put(8, Made(1, 5.0, "x", ""))
    book.forget([8])
    book.close()
    book = AttemptBook(tmp_path / "attempts.db")
    assert await book.load() == {7: 99.5}
    assert await book.get(7) == Made(3, 99.5, "backend-timeout", "slow")
    assert await book.get(8) == Made()
    book.close()
    (tmp_path / "attempts.db").write_bytes(b"no database at all, " * 100)
    book = AttemptBook(tmp_path / "attempts.db")
    assert await book.load() == {}
    book.put(7, Made(1, 1.0, "", ""))
    assert await book.load() == {7: 1.0}
    assert (tmp_path / "attempts.damaged").exists()
    book.close()


async def test_a_book_of_a_newer_version_stops_the_start(tmp_path):
    with sqlite3.connect(tmp_path / "attempts.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    book = AttemptBook(tmp_path / "attempts.db")
    with pytest.raises(errors.StoreTooNew):
        await book.load()
    book.close()


def test_a_notice_holds_nothing_of_the_contents():
    from bus.delivery.taskrecords import Notice

    told = json.loads(msgspec.json.encode(Notice("dead", "backend-timeout", "too slow", 3)))
    assert told == {"state": "dead", "code": "backend-timeout", "detail": "too slow", "attempts": 3}


async def test_a_service_whose_back_end_is_away_leaves_room_for_the_commands_of_others(line):
    line.bus.source.answer = answer(503)
    line.g01.restart(most=4)
    for _ in range(2):
        await taken(line)
    await line.submit()
    await line.h37.outbox.send_due()
    assert await line.carry(*line.queues.stored.pop()[:2]) == "later", "half of the places are its own"
    line.bus.source.answer = GOOD
    other = await line.submit(service=PLAIN_SERVICE)
    await line.h37.outbox.send_due()
    commands = [item for item in line.queues.stored if item[0].startswith("lt.c.")]
    assert await line.carry(*commands[-1][:2]) == "done"
    await line.g01.runner.idle()
    assert line.effects[-1] == other
