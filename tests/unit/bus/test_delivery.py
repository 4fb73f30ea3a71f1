"""Commands between two nodes: what is durable when, what is repeated, what has an effect, what is dropped."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import msgspec
import pytest
from bus_world import CLIENT, G01, H37, NOW, SERVICE, call, posted
from delivery_world import LIFE_S, LONGEST_S, RETRY_S, SKEW_S, Line, Pulled, running_line
from hypothesis import given
from hypothesis import strategies as st

from bus import envelope as wire
from bus import errors
from bus.delivery import watching
from bus.front.prefer import preferences, wait_s
from evidence import header
from evidence.log.reader import LogReader
from evidence.reconcile import reconcile

BOTH = Counter(command=1, receipt=2, result=1)


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


def unmatched(line: Line) -> list:
    with LogReader(line.h37.side.path) as one, LogReader(line.g01.side.path) as other:
        return reconcile([one, other]).unmatched


# --- accepted ---------------------------------------------------------------------------------------------------------


async def test_record_outbox_and_state_are_one_commit(line):
    size = line.h37.side.log.size
    record_id = await line.submit()
    assert line.h37.side.log.size == size + 1
    (record,) = [record for _, _, record in line.h37.side.records()]
    assert (record.type, record.source, record.to, record.id) == ("command", CLIENT, SERVICE, record_id)
    assert header.decode_time(record.expires) == NOW + timedelta(seconds=LIFE_S)
    (row,) = line.h37.side.rows("SELECT subject, until_s - since_s FROM outbox")
    assert row == ("lt.c.GOV~G01.GOV~H37", int(LIFE_S + SKEW_S) + 1)
    assert await line.state(record_id) == "accepted"
    assert line.queues.puts == 0


async def test_a_commit_that_fails_accepts_nothing(line):
    line.h37.side.faults.arm("fails")
    with pytest.raises(errors.LogUnwritable) as caught:
        await line.submit()
    assert caught.value.acted == "unknown"
    await line.bus.settle()
    assert line.h37.side.rows("SELECT count(*) FROM command") == [(0,)]
    assert line.h37.side.rows("SELECT count(*) FROM outbox") == [(0,)]


async def test_a_commit_that_was_done_but_reported_as_failed_is_found_and_sent(line):
    line.h37.side.faults.arm("reported")
    with pytest.raises(errors.LogUnwritable) as caught:
        await line.submit()
    await line.bus.settle()
    task = asyncio.create_task(line.h37.outbox.run())
    try:
        async with asyncio.timeout(5):
            while not line.queues.stored:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
    await line.flow()
    assert await line.state(caught.value.record_id) == "completed"


async def test_a_full_outbox_refuses_before_anything_is_logged(line):
    for _ in range(5):
        await line.submit()
    size = line.h37.side.log.size
    with pytest.raises(errors.OutboxShareFull):
        await line.submit()
    assert line.h37.side.log.size == size
    await line.flow()
    await line.submit()


async def test_what_is_wrong_with_the_call_is_refused_at_once(line):
    with pytest.raises(errors.RequestInvalid):
        await line.submit(body=b"{}")
    assert line.h37.types() == Counter()


# --- delivered once ---------------------------------------------------------------------------------------------------


async def test_the_whole_way_leaves_the_same_four_records_on_both_sides(line):
    record_id = await line.submit()
    assert await line.flow() == ["done"] * 4
    assert line.h37.types() == line.g01.types() == BOTH
    assert unmatched(line) == []
    assert line.effects == [record_id]
    assert await line.state(record_id) == "completed"
    answer = await line.h37.results.give(await line.h37.statuses.of(record_id, CLIENT))
    assert (answer.status, answer.body) == (200, b'{"done":true}')
    assert len(line.h37.outbox) == len(line.g01.outbox) == 0
    for side in (line.h37.side, line.g01.side):
        assert side.rows("SELECT count(*) FROM outbox") == side.rows("SELECT count(*) FROM task") == [(0,)]


async def test_duplicate_from_the_broker_is_not_success(line):
    record_id = await line.submit()
    line.queues.duplicate = True
    assert await line.h37.outbox.send_due() == 1
    assert await line.state(record_id) == "accepted"
    assert await line.h37.outbox.send_due() == 0
    line.queues.duplicate = False
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert await line.state(record_id) == "completed"


async def test_a_broker_that_forgets_what_it_stored_loses_nothing(line):
    record_id = await line.submit()
    line.queues.lose = True
    await line.flow()
    assert await line.state(record_id) == "sent"
    line.queues.lose = False
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert (await line.state(record_id), line.effects) == ("completed", [record_id])


async def test_a_broker_that_refuses_is_asked_again_soon(line):
    await line.submit()
    line.queues.error = errors.Timeout()
    assert await line.h37.outbox.send_due() == 1
    line.queues.error = None
    line.bus.clock.pass_time(1)
    assert await line.flow() == ["done"] * 4


@pytest.mark.parametrize("lost", range(4))
async def test_each_message_may_be_lost_once_and_the_effect_is_one(line, lost):
    record_id = await line.submit()
    carried = 0
    for _ in range(6):
        await line.h37.outbox.send_due()
        await line.g01.outbox.send_due()
        while line.queues.stored:
            subject, data, _ = line.queues.stored.pop(0)
            if carried != lost:
                assert await line.carry(subject, data) == "done"
            carried += 1
        line.bus.clock.pass_time(2 * RETRY_S)
    assert line.effects == [record_id]
    assert await line.state(record_id) == "completed"
    assert line.h37.types() == line.g01.types() == BOTH
    assert unmatched(line) == []
    assert len(line.h37.outbox) == len(line.g01.outbox) == 0


async def test_a_result_does_not_stand_for_a_receipt_that_was_lost(line):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    line.queues.stored.clear()
    await line.g01.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    assert await line.state(record_id) == "completed"
    assert len(line.h37.outbox) == 1
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert (len(line.h37.outbox), unmatched(line)) == (0, [])
    assert (await line.state(record_id), line.effects) == ("completed", [record_id])


async def test_every_message_carried_twice_has_one_effect_and_one_record_each(line):
    record_id = await line.submit()
    while await line.h37.outbox.send_due() + await line.g01.outbox.send_due() or line.queues.stored:
        while line.queues.stored:
            subject, data, _ = line.queues.stored.pop(0)
            assert await line.carry(subject, data) == "done"
            assert await line.carry(subject, data) == "done"
    assert line.effects == [record_id]
    assert line.h37.types() == line.g01.types() == BOTH


async def test_the_receipt_that_comes_again_is_the_first_one(line):
    await line.submit()
    await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    await line.carry(subject, data)
    first = wire.decode(line.queues.stored.pop(0)[1], 2**20).header
    line.queues.stored.clear()
    await line.carry(subject, data)
    assert wire.decode(line.queues.stored.pop(0)[1], 2**20).header == first
    assert line.g01.side.heard.drops == ["replayed"]


async def test_another_command_under_the_same_id_is_dropped_with_an_alarm(line):
    await line.submit()
    await line.h37.outbox.send_due()
    subject, first, _ = line.queues.stored.pop()
    composer = line.h37.side.composer
    head = header.decode(wire.decode(first, 2**20).header)
    real = composer._clock
    composer._clock = type("Same", (), {"random": lambda _self, count: bytes(count)})()
    drafts = []
    for body in (b'{"id":"1"}', b'{"id":"2"}'):
        key = line.bus.directory.sealing_key(G01, "command", NOW)
        made = composer.sealed(
            "command", source=CLIENT, to=SERVICE, receiver=G01, key=key, use="command", operation="confirm",
            particulars=_particulars(), body=body, now=NOW, expires_at=header.decode_time(head.expires),
        )  # fmt: skip
        (logged,) = await line.h37.side.log.append([made.leaf])
        drafts.append(wire.encode(wire.Envelope(wire.VERSION, made.header_bytes, logged.index, logged.size,
                                                logged.path, logged.note, made.wrapped, made.nonce,
                                                made.ciphertext)))  # fmt: skip
    composer._clock = real
    assert [await line.carry(subject, data) for data in drafts] == ["done", "done"]
    assert line.g01.side.heard.alarms == [("id-reused", H37)]
    assert len(line.effects) == 1


def _particulars():
    from bus.exchange.calls import request_particulars

    return request_particulars(call(**posted()))


# --- commits that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fails", "reported"])
@pytest.mark.parametrize("commit", [1, 2])
async def test_a_providers_commit_that_fails_loses_nothing_and_repeats_no_effect(line, how, commit):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    line.g01.side.faults.arm(*["ok"] * (commit - 1), how)
    fate = await line.carry(subject, data)
    assert fate == ("later" if commit == 1 else "done")
    await line.bus.settle()
    if commit == 1:
        assert await line.carry(subject, data) == "done"
    await line.g01.outbox.load()
    await line.g01.runner.load()
    await line.flow()
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert line.effects == [record_id]
    assert await line.state(record_id) == "completed"
    assert unmatched(line) == []


async def test_a_reply_that_cannot_be_logged_is_not_acknowledged(line):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    subject, receipt, _ = line.queues.stored.pop(0)
    line.h37.side.faults.arm("fails")
    assert await line.carry(subject, receipt) == "later"
    await line.bus.settle()
    assert await line.state(record_id) == "sent"
    assert await line.carry(subject, receipt) == "done"
    assert await line.state(record_id) == "delivered"


async def test_what_an_earlier_run_took_is_done_after_the_start(line):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    line.bus.source.release = asyncio.Event()
    line.finish = False
    await line.carry(*line.queues.stored.pop()[:2])
    await line.bus.source.started.wait()
    await line.g01.runner.stop(0)
    line.finish = True
    line.bus.source.release.set()
    line.bus.clock.pass_time(LIFE_S / 2)
    line.g01.restart()
    await line.g01.runner.load()
    line.g01.runner.start_due()
    await line.g01.runner.idle()
    await line.flow()
    assert line.effects == [record_id, record_id]
    assert await line.state(record_id) == "completed"


# --- refused, put back, expired ---------------------------------------------------------------------------------------


async def test_a_refusal_is_receipt_and_result_at_once(line):
    line.bus.directory.access.clear()
    record_id = await line.submit()
    assert await line.flow() == ["done"] * 3
    assert line.h37.types() == line.g01.types() == Counter(command=1, refusal=1, receipt=1)
    assert (await line.state(record_id), line.effects) == ("failed", [])
    with pytest.raises(errors.AccessDenied):
        await line.h37.results.give(await line.h37.statuses.of(record_id, CLIENT))
    assert len(line.h37.outbox) == len(line.g01.outbox) == 0


async def test_a_reason_that_passes_puts_the_message_back(line):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    rights = line.bus.answerer._examiner._rights
    line.bus.answerer._examiner._rights = _maintenance
    assert await line.carry(subject, data) == "later"
    assert line.g01.types() == Counter()
    line.bus.answerer._examiner._rights = rights
    assert await line.carry(subject, data) == "done"
    await line.flow()
    assert await line.state(record_id) == "completed"


async def test_a_service_that_is_busy_is_given_no_more_than_it_declares(line):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    line.bus.answerer._per_service.limit = 0
    assert await line.carry(subject, data) == "done"
    assert line.g01.types() == Counter(command=1, receipt=1)
    line.g01.runner.start_due()
    await line.g01.runner.idle()
    assert line.effects == []
    line.bus.answerer._per_service.limit = 1
    line.bus.clock.pass_time(1)
    assert line.g01.runner.start_due() == 1
    await line.g01.runner.idle()
    assert line.effects == [record_id]
    assert line.bus.answerer._per_service._counts == {}


def _maintenance():
    raise errors.Maintenance("until four o'clock")


async def test_a_safe_method_is_no_command_on_either_side(line, monkeypatch):
    safe = {"method": "GET", "path": "/citizens/042091004444", "content_type": "", "body": b""}
    with pytest.raises(errors.QueryRequired):
        await line.submit(**safe)
    assert line.h37.types() == Counter()
    monkeypatch.setattr("bus.delivery.accepting.require_delivery", lambda _match, _command: None)
    record_id = await line.submit(**safe)
    await line.flow()
    assert (await line.state(record_id), line.effects) == ("failed", [])
    command = await line.h37.statuses.of(record_id, CLIENT)
    assert command.code == "query-required"


async def test_a_command_without_a_receipt_expires_and_a_late_copy_is_dropped(line):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    line.bus.clock.pass_time(LIFE_S)
    assert await line.carry(subject, data) == "done"
    assert line.g01.side.heard.drops == ["expired"]
    assert await line.h37.expiry.sweep() == 0
    line.bus.clock.pass_time(SKEW_S + 2)
    assert await line.h37.expiry.sweep() == 1
    assert await line.state(record_id) == "expired"
    assert line.h37.types() == Counter(command=1, outcome=1)
    assert (len(line.h37.outbox), line.effects, unmatched(line)) == (0, [], [])


async def test_a_receipt_after_the_expiry_is_logged_and_the_state_follows_the_truth(line):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    kept, line.queues.stored[:] = line.queues.stored[:], []
    line.bus.clock.pass_time(LIFE_S + SKEW_S + 2)
    await line.h37.expiry.sweep()
    assert await line.state(record_id) == "expired"
    line.queues.stored[:] = kept
    await line.flow()
    assert await line.state(record_id) == "completed"
    assert unmatched(line) == []


async def test_a_result_that_nobody_gives_a_receipt_for_is_given_up_with_an_outcome(line):
    await line.submit()
    await line.h37.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    line.bus.clock.pass_time(LONGEST_S + 1)
    assert await line.g01.expiry.sweep() == 1
    assert line.g01.types()["outcome"] == 1
    assert len(line.g01.outbox) == 0


# --- replies of others ------------------------------------------------------------------------------------------------


async def test_a_second_result_is_dropped_with_an_alarm(line):
    record_id = await line.submit()
    await line.flow()
    (found,) = [record for _, _, record in line.g01.side.records() if record.type == "command"]
    (hashed,) = [bytes.fromhex(hashed) for _, hashed, record in line.g01.side.records() if record.type == "command"]
    replier = line.g01.commands._replier
    draft = replier.compose(found, hashed, replier.key_of(H37, NOW), "result", "failed", line.bus.clock.now())
    assert await line.carry("lt.r.GOV~H37.n1.GOV~G01", await _sent(line, draft)) == "done"
    assert line.h37.side.heard.alarms == [("second-result", G01)]
    assert line.h37.side.heard.drops == ["reply-unmatched"]
    assert await line.state(record_id) == "completed"


@pytest.mark.parametrize("changes", [{"operation": "getCitizen"}, {"to": f"{G01}/population/births"}])
async def test_a_reply_that_differs_in_one_field_belongs_to_nothing(line, changes):
    record_id = await line.submit()
    ((_, hashed, record),) = line.h37.side.records()
    replier = line.g01.commands._replier
    other = msgspec.structs.replace(record, **changes)
    for type_ in ("receipt", "result"):
        draft = replier.compose(other, bytes.fromhex(hashed), replier.key_of(H37, NOW), type_, "ok", NOW)
        assert await line.carry("lt.r.GOV~H37.n1.GOV~G01", await _sent(line, draft)) == "done"
    assert line.h37.side.heard.drops == ["reply-unmatched"] * 2
    assert await line.state(record_id) == "accepted"


async def test_a_result_that_breaks_the_contract_is_logged_and_not_delivered(line):
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    line.queues.stored.clear()
    line.bus.clock.pass_time(2 * RETRY_S)
    ((_, hashed, record),) = [one for one in line.h37.side.records() if one[2].type == "command"]
    replier = line.g01.commands._replier
    from bus.sealing.contents import Particulars

    told = Particulars(status=200, content_type="application/json")
    draft = replier.compose(
        record, bytes.fromhex(hashed), replier.key_of(H37, NOW), "result", "ok", line.bus.clock.now(), told, b"[]"
    )
    assert await line.carry("lt.r.GOV~H37.n1.GOV~G01", await _sent(line, draft)) == "done"
    command = await line.h37.statuses.of(record_id, CLIENT)
    assert (command.state, command.code) == ("failed", "answer-invalid")
    with pytest.raises(errors.AnswerInvalid):
        await line.h37.results.give(command)


@pytest.mark.parametrize("stream", ["lt.c.GOV~G01.GOV~H37", "lt.r.GOV~H37.n1.GOV~G01"])
@pytest.mark.parametrize("data", [b"", b"\x90", b"x" * 400])
async def test_poison_is_acknowledged_and_counted(line, stream, data):
    assert await line.carry(stream, data) == "done"
    heard = line.g01.side.heard if ".GOV~G01." in stream else line.h37.side.heard
    assert heard.drops == ["envelope-malformed"]


async def test_a_command_on_the_subject_of_another_member_is_dropped(line):
    await line.submit()
    await line.h37.outbox.send_due()
    _, data, _ = line.queues.stored.pop()
    message = Pulled("lt.c.GOV~G01.GOV~X99", data)
    await line.g01.commands.on_command(message)
    assert (message.fate, line.g01.side.heard.drops) == ("done", ["subject-mismatch"])


async def _sent(line: Line, draft) -> bytes:
    (logged,) = await line.g01.side.log.append([draft.leaf])
    return wire.encode(
        wire.Envelope(
            wire.VERSION, draft.header_bytes, logged.index, logged.size, logged.path, logged.note, draft.wrapped,
            draft.nonce, draft.ciphertext,
        )
    )  # fmt: skip


# --- who asks ---------------------------------------------------------------------------------------------------------


async def test_only_the_subsystem_that_sent_it_finds_a_command(line):
    record_id = await line.submit()
    with pytest.raises(errors.NotFound):
        await line.h37.statuses.of(record_id, f"{H37}/archive")
    with pytest.raises(errors.ResultPending):
        await line.h37.results.give(await line.h37.statuses.of(record_id, CLIENT))


async def test_who_waits_hears_of_the_end(line):
    record_id = await line.submit()
    command = await line.h37.statuses.of(record_id, CLIENT)
    waiting = asyncio.create_task(line.h37.statuses.wait(command, 30))
    await asyncio.sleep(0)
    await line.flow()
    async with asyncio.timeout(5):
        assert (await waiting).state == "completed"
    assert line.h37.watchers._waiting == {}
    assert line.h37.watchers._clients.total() == 0


async def test_who_would_be_one_too_many_is_answered_at_once(line, monkeypatch):
    monkeypatch.setattr(watching, "MOST", 0)
    command = await line.h37.statuses.of(await line.submit(), CLIENT)
    assert (await line.h37.statuses.wait(command, 30)).state == "accepted"


async def test_results_are_unreadable_on_disk_and_gone_after_their_time(line):
    record_id = await line.submit()
    await line.flow()
    ((data,),) = line.h37.side.rows("SELECT data FROM command_result")
    assert b"done" not in data
    line.bus.clock.pass_time(86_401)
    with pytest.raises(errors.ResultGone):
        await line.h37.results.give(await line.h37.statuses.of(record_id, CLIENT))


# --- Prefer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["respond-async"], {"respond-async": ""}),
        (["Respond-Async; x=1, wait = 10"], {"respond-async": "", "wait": "10"}),
        (['wait="5"', "wait=6"], {"wait": "5"}),
        (["", ",,;"], {}),
    ],
)
def test_preferences_are_read_as_the_rfc_writes_them(values, expected):
    assert preferences(values) == expected


@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_is_read_without_an_error(values):
    assert all(name for name in preferences(values))
    told = wait_s(values, 60)
    assert told is None or 0 <= told <= 60
