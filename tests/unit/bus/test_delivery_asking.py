"""What a client system may ask of its commands: once under a key, in order, taken back, told of their end."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from datetime import timedelta

import pytest
from bus_world import CLIENT, H37, NOW, SERVICE, access_entry, call, posted
from delivery_world import LIFE_S, RETRY_S, SKEW_S, Line, running_line
from hypothesis import given
from hypothesis import strategies as st

from bus import envelope as wire
from bus import errors
from bus.delivery import forgetting
from bus.delivery.accepting import Wish
from bus.delivery.idempotency import read_key
from bus.delivery.notices import read_notice
from bus.delivery.orders import OrderBook, check_order_key, open_order_key
from bus.delivery.outbox import Outbox, OutboxLimits
from bus.delivery.statuses import Page
from bus.delivery.webhookrows import Event
from bus.delivery.webhooks import Target, secret_of, sign
from bus.front.exchanges import page_of
from evidence import header
from evidence.log.reader import LogReader
from evidence.reconcile import reconcile

SECRET = bytes(range(32))


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


async def submit(line: Line, order: str = "", key: str = "", **changes: object) -> str:
    return await line.h37.desk.accept(call(**{**posted(), **changes}), Wish("onedoor-app", order, key))


async def told(line: Line, record_id: str) -> dict:
    return line.h37.statuses.told(await line.h37.statuses.of(record_id, CLIENT))


async def cancel(line: Line, record_id: str) -> str:
    command = await line.h37.cancel_desk.cancel(await line.h37.statuses.of(record_id, CLIENT))
    return str(line.h37.statuses.told(command)["state"])


def unmatched(line: Line) -> list:
    with LogReader(line.h37.side.path) as one, LogReader(line.g01.side.path) as other:
        return reconcile([one, other]).unmatched


def type_at(line: Line, index: int) -> str:
    """Type of the record at an index of the asking node's log."""
    ((data,),) = line.h37.side.rows(f"SELECT data FROM leaf WHERE idx = {index}")
    return str(json.loads(data.partition(b"\n")[2])["type"])


def restarted(line: Line) -> None:
    """The asking node's memory is gone; its store is not."""
    side = line.h37
    outbox = Outbox(
        line.bus.clock,
        side.side.log,
        side.store,
        line.queues,
        OutboxLimits(RETRY_S, 4 * RETRY_S, 6),
        side.side.versions,
    )
    for part in (side.statuses, side.expiry, side.desk, side.replies, side.changes, side.cancel_desk):
        if hasattr(part, "_outbox"):
            part._outbox = outbox
    side.outbox = outbox


# --- the same call again ----------------------------------------------------------------------------------------------


async def test_the_same_call_under_the_same_key_is_the_same_command(line):
    first = await submit(line, key="k1")
    assert await submit(line, key="k1") == first
    await line.flow()
    assert await submit(line, key="k1") == first
    assert line.effects == [first]
    assert await submit(line, key="k2") != first
    assert line.h37.types()["command"] == 2


async def test_a_key_is_known_after_a_restart_without_having_been_asked_for(line):
    first = await submit(line, key="k1")
    line.h37.keys._remembered.clear()
    size = line.h37.side.log.size
    assert await submit(line, key="k1") == first
    assert line.h37.side.log.size == size


async def test_calls_under_way_at_the_same_time_make_one_command(line):
    found = await asyncio.gather(*(submit(line, key="k1") for _ in range(8)))
    assert len(set(found)) == 1
    assert line.h37.types() == Counter(command=1)


async def test_a_first_call_that_fails_leaves_the_key_to_the_second(line):
    line.h37.side.faults.arm("fails")
    first, second = await asyncio.gather(
        submit(line, key="k1"), submit(line, key="k1"), return_exceptions=True
    )  # fmt: skip
    assert isinstance(first, errors.LogUnwritable)
    await line.bus.settle()
    record_id = await submit(line, key="k1")
    assert isinstance(second, errors.LogUnwritable) or second == record_id
    assert line.h37.side.rows("SELECT count(*) FROM command") == [(1,)]


async def test_a_commit_that_was_done_but_reported_as_failed_is_found_by_its_key(line):
    line.h37.side.faults.arm("reported")
    with pytest.raises(errors.LogUnwritable) as caught:
        await submit(line, key="k1")
    await line.bus.settle()
    assert await submit(line, key="k1") == caught.value.record_id


@pytest.mark.parametrize("changes", [{"body": b'{"id":"2"}'}, {"content_type": "application/json; charset=utf-8"}])
async def test_a_key_belongs_to_one_request(line, changes):
    first = await submit(line, key="k1")
    if "body" in changes:
        for remembered in (True, False):
            if not remembered:
                line.h37.keys._remembered.clear()
            with pytest.raises(errors.IdempotencyKeyReused) as caught:
                await submit(line, key="k1", **changes)
            assert caught.value.record_id == first
    else:  # parameters of the media type are no other request
        assert await submit(line, key="k1", **changes) == first
    assert line.h37.types() == Counter(command=1)


async def test_who_lost_the_right_is_not_given_the_first_answer(line):
    await submit(line, key="k1")
    right = line.bus.directory.access.pop(SERVICE)
    with pytest.raises(errors.AccessDenied):
        await submit(line, key="k1")
    line.bus.directory.access[SERVICE] = access_entry(purposes=frozenset({"census"}))
    with pytest.raises(errors.AccessDenied):
        await submit(line, key="k1")
    line.bus.directory.access[SERVICE] = right
    await submit(line, key="k1")


@pytest.mark.parametrize(
    ("values", "key"), [([], ""), (["abc"], "abc"), (['"abc"'], "abc"), ([' "a-b" '], "a-b"), (["x" * 255], "x" * 255)]
)
def test_a_key_is_read_with_and_without_quotation_marks(values, key):
    assert read_key(values) == key


@pytest.mark.parametrize("values", [["a", "a"], [""], ['""'], ["a b"], ["é"], ["x" * 256], ["a\x7f"]])
def test_what_is_no_key_is_refused(values):
    with pytest.raises(errors.RequestMalformed):
        read_key(values)


@given(st.lists(st.text(), max_size=2))
def test_any_key_is_read_or_refused(values):
    try:
        key = read_key(values)
    except errors.RequestMalformed:
        return
    assert all("!" <= one <= "~" for one in key)


# --- order ------------------------------------------------------------------------------------------------------------


async def test_of_one_key_only_the_oldest_goes_out(line):
    first, second, third = [await submit(line, order="d1") for _ in range(3)]
    other = await submit(line, order="d2")
    assert await line.h37.outbox.send_due() == 2
    assert await line.h37.outbox.send_due() == 0
    assert (await told(line, second))["waits_for"] == first
    assert (await told(line, third))["waits_for"] == first
    assert "waits_for" not in await told(line, first)
    await line.flow()
    assert line.effects == [first, other, second, third]
    assert len(line.h37.outbox.orders) == 0
    assert await line.state(third) == "completed"


async def test_the_next_waits_for_the_result_and_not_for_the_receipt(line):
    line.bus.source.release = asyncio.Event()
    first, second = [await submit(line, order="d1") for _ in range(2)]
    await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    taking = asyncio.create_task(line.carry(subject, data))
    await line.bus.source.started.wait()
    subject, data, _ = line.queues.stored.pop()
    await line.carry(subject, data)
    assert await line.state(first) == "delivered"
    assert await line.h37.outbox.send_due() == 0
    line.bus.source.release.set()
    await taking
    await line.flow()
    assert line.effects == [first, second]


async def test_order_is_kept_over_a_restart(line):
    first, second = [await submit(line, order="d1") for _ in range(2)]
    restarted(line)
    await line.h37.outbox.load()
    assert await line.h37.outbox.send_due() == 1
    assert (await told(line, second))["waits_for"] == first
    await line.flow()
    assert line.effects == [first, second]


async def test_a_commit_in_doubt_keeps_its_place(line):
    line.h37.side.faults.arm("reported")
    with pytest.raises(errors.LogUnwritable) as caught:
        await submit(line, order="d1")
    await line.bus.settle()
    second = await submit(line, order="d1")
    await line.h37.outbox.load()
    assert await line.h37.outbox.send_due() == 1
    await line.flow()
    assert line.effects == [caught.value.record_id, second]


async def test_an_expired_head_gives_its_turn_away(line):
    line.queues.error = errors.Timeout()
    first = await submit(line, order="d1")
    line.bus.clock.pass_time(LIFE_S / 2)
    second = await submit(line, order="d1")
    await line.h37.outbox.send_due()
    line.bus.clock.pass_time(LIFE_S / 2 + SKEW_S + 2)
    assert await line.h37.expiry.sweep() == 1
    line.queues.error = None
    await line.flow()
    assert [await line.state(one) for one in (first, second)] == ["expired", "completed"]
    record = (await told(line, first))["records"]["outcome"]
    assert type_at(line, record) == "outcome"


async def test_an_order_key_is_not_readable_on_disk_and_gone_with_the_key_of_its_day(line):
    await submit(line, order="H37.2026.000123")
    ((scope, day, data),) = line.h37.side.rows("SELECT scope, day, data FROM command_order")
    assert b"H37.2026" not in scope + data
    keys = line.h37.side.day_keys
    assert open_order_key(keys, day, data) == "H37.2026.000123"
    keys.erase_before(NOW.date() + timedelta(days=1))
    assert open_order_key(keys, day, data) == ""


async def test_more_open_keys_than_there_is_room_for_are_refused(line):
    line.h37.outbox.orders = OrderBook(1)
    await submit(line, order="d1")
    with pytest.raises(errors.OutboxFull):
        await submit(line, order="d1")


@pytest.mark.parametrize("text", ["", "a b", "x" * 129, "é", "a\n"])
def test_what_is_no_order_key_is_refused(text):
    with pytest.raises(errors.RequestMalformed):
        check_order_key(text)


@given(st.lists(st.tuples(st.sampled_from(["add", "close", "read"]), st.integers(0, 11)), max_size=60))
def test_a_book_that_is_read_at_any_time_agrees_with_its_store(steps):
    """Against a model: scope is the index modulo 3; the store is a set of open ones."""
    book, stored, ever = OrderBook(), set(), set()
    for step, idx in steps:
        if step == "add" and idx not in ever:
            stored.add(idx)
            ever.add(idx)
            book.add(idx, f"id-{idx}", bytes([idx % 3]), "C")
        elif step == "close":
            stored.discard(idx)
            book.closed(idx)
        elif step == "read":
            known = book.begin_reading()
            snapshot = sorted(stored)
            stored.discard(idx)  # closed while it is read
            book.closed(idx)
            book.take(known, [(one, f"id-{one}", bytes([one % 3]), "C") for one in snapshot])
    for idx in ever:
        older = [one for one in stored if one < idx and one % 3 == idx % 3]
        assert book.may_go(idx) == (idx not in stored or not older)
        if idx in stored and older:
            assert book.waits_for(idx) == f"id-{min(older)}"


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_what_was_never_sent_is_cancelled_at_once(line):
    record_id = await submit(line)
    assert await cancel(line, record_id) == "cancelled"
    assert line.h37.types() == Counter(command=1, outcome=1)
    await line.flow()
    assert line.effects == []
    assert (line.queues.puts, len(line.h37.outbox)) == (0, 0)
    assert unmatched(line) == []
    with pytest.raises(errors.CommandCancelled):
        await line.h37.results.give(await line.h37.statuses.of(record_id, CLIENT))
    assert await cancel(line, record_id) == "cancelled"


async def test_what_the_broker_may_have_is_cancelled_when_the_provider_says_so(line):
    record_id = await submit(line)
    line.queues.lose = True
    await line.flow()
    line.queues.lose = False
    assert await cancel(line, record_id) == "sent"
    assert (await told(line, record_id))["cancel"].keys() == {"asked"}
    assert await cancel(line, record_id) == "sent"
    assert line.h37.types() == Counter(command=2)
    await line.flow()
    assert await line.state(record_id) == "cancelled"
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()  # the command itself comes after all
    assert await line.state(record_id) == "cancelled"
    assert line.effects == []
    assert line.g01.types() == Counter(command=2, receipt=2, refusal=1)
    assert unmatched(line) == []
    assert len(line.h37.outbox) == len(line.g01.outbox) == 0


async def test_what_is_being_cancelled_is_not_taken_up_again_from_the_store(line):
    await submit(line)
    ((idx,),) = line.h37.side.rows("SELECT idx FROM outbox")
    assert line.h37.outbox.withdraw(idx)
    await line.h37.outbox.load()
    assert await line.h37.outbox.send_due() == 0
    line.h37.outbox.returned(idx)
    await line.h37.outbox.load()
    assert await line.h37.outbox.send_due() == 1


async def test_after_a_restart_nothing_counts_as_never_sent(line):
    record_id = await submit(line)
    restarted(line)
    await line.h37.outbox.load()
    assert await cancel(line, record_id) != "cancelled"
    await line.flow()
    assert await line.state(record_id) in ("cancelled", "completed")
    assert (await line.state(record_id) == "completed") == (line.effects == [record_id])


async def test_what_the_provider_has_taken_is_not_cancelled(line):
    record_id = await submit(line)
    await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    await line.carry(subject, data)
    line.queues.stored.clear()  # the receipt and the result are lost for now
    assert await cancel(line, record_id) == "sent"
    await line.h37.outbox.send_due()
    fates = [await line.carry(*item[:2]) for item in (line.queues.stored.pop(),)]
    assert fates == ["done"]
    await line.flow()
    line.bus.clock.pass_time(4 * RETRY_S)
    await line.flow()
    assert await line.state(record_id) == "completed"
    assert (await told(line, record_id))["cancel"]["answer"] == "already-delivered"
    assert line.effects == [record_id]
    assert unmatched(line) == []
    with pytest.raises(errors.AlreadyDelivered):
        await cancel(line, record_id)


async def test_while_it_is_being_taken_the_wish_waits(line):
    record_id = await submit(line)
    await line.h37.outbox.send_due()
    taken = line.queues.stored.pop()
    await cancel(line, record_id)
    await line.h37.outbox.send_due()
    wish = line.queues.stored.pop()
    line.g01.commands._taking.add(record_id)
    assert await line.carry(*wish[:2]) == "later"
    assert line.g01.cancellations._marks == {}
    line.g01.commands._taking.discard(record_id)
    assert await line.carry(*taken[:2]) == "done"
    assert await line.carry(*wish[:2]) == "done"
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert (await line.state(record_id), line.effects) == ("completed", [record_id])


async def test_a_provider_remembers_a_cancellation_over_a_restart(line):
    record_id = await submit(line)
    await line.h37.outbox.send_due()
    held = line.queues.stored.pop()
    await cancel(line, record_id)
    await line.h37.outbox.send_due()
    await line.carry(*line.queues.stored.pop()[:2])
    line.g01.cancellations._marks.clear()
    await line.g01.cancellations.load()
    assert await line.carry(*held[:2]) == "done"
    assert line.effects == []


async def test_a_member_cannot_cancel_anothers_command(line):
    record_id = await submit(line)
    await line.h37.outbox.send_due()
    held = line.queues.stored.pop()
    (hashed,) = line.h37.side.rows("SELECT leaf_hash FROM command")[0]
    line.g01.cancellations._marks["VN/GOV/E66", hashed] = 2**40
    assert await line.carry(*held[:2]) == "done"
    assert line.effects == [record_id]


async def test_the_next_of_a_cancelled_one_goes_out(line):
    first, second, third = [await submit(line, order="d1") for _ in range(3)]
    assert await cancel(line, second) == "cancelled"
    line.queues.lose = True
    await line.flow()
    line.queues.lose = False
    await cancel(line, first)
    await line.flow()
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert [await line.state(one) for one in (first, second, third)] == ["cancelled", "cancelled", "completed"]
    assert line.effects == [third]
    assert unmatched(line) == []


@pytest.mark.parametrize("body", [b"{}", b'{"z":' + b"[" * 20_000 + b"]" * 20_000 + b"}"])
async def test_a_wish_that_cannot_be_read_is_refused_and_changes_nothing(line, monkeypatch, body):
    record_id = await submit(line)
    line.queues.lose = True
    await line.flow()
    line.queues.lose = False
    monkeypatch.setattr("bus.delivery.cancelling.msgspec.json.encode", lambda _target: body)
    await cancel(line, record_id)
    monkeypatch.undo()
    await line.flow()
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert await line.state(record_id) == "completed"
    assert (await told(line, record_id))["cancel"]["answer"] == "request-malformed"


@pytest.mark.parametrize("how", ["fails", "reported"])
async def test_a_cancellation_whose_commit_fails_is_found_out(line, how):
    record_id = await submit(line)
    line.h37.side.faults.arm(how)
    with pytest.raises(errors.LogUnwritable):
        await cancel(line, record_id)
    await line.bus.settle()
    await line.h37.outbox.load()
    await line.flow()
    expected = ("completed", [record_id]) if how == "fails" else ("cancelled", [])
    assert (await line.state(record_id), line.effects) == expected
    assert unmatched(line) == []


# --- notices ----------------------------------------------------------------------------------------------------------


class Provider:
    """Takes a command by hand, so that its notices and its result can be bent."""

    def __init__(self, line: Line, data: bytes) -> None:
        self.line = line
        self.head = header.decode(wire.decode(data, 2**20).header)
        from evidence import leaf
        from evidence.merkle import leaf_hash

        self.hash = leaf_hash(leaf.wrap(leaf.EXCHANGE, wire.decode(data, 2**20).header))

    async def reply(self, type_: str, class_: str, body: bytes = b"", carry: bool = True) -> bytes:
        side = self.line.g01.side
        replier = self.line.g01.commands._replier
        key = replier.key_of(H37, self.line.bus.clock.now())
        draft = replier.compose(self.head, self.hash, key, type_, class_, self.line.bus.clock.now(), None, body)
        (logged,) = await side.log.append([draft.leaf])
        data = wire.encode(
            wire.Envelope(
                wire.VERSION, draft.header_bytes, logged.index, logged.size, logged.path, logged.note, draft.wrapped,
                draft.nonce, draft.ciphertext,
            )
        )  # fmt: skip
        if carry:
            assert await self.carry(data) == "done"
        return data

    async def carry(self, data: bytes) -> str:
        return await self.line.carry("lt.r.GOV~H37.n1.GOV~G01", data)

    async def notice(self, state: str, carry: bool = True, **more: object) -> bytes:
        body = json.dumps({"state": state, **more}).encode()
        return await self.reply("receipt", "ok" if state == "processing" else "failed", body, carry)


@pytest.fixture
async def taken(line):
    """A command that the provider has given its receipt for."""
    record_id = await submit(line, order="d1")
    await line.h37.outbox.send_due()
    provider = Provider(line, line.queues.stored.pop()[1])
    await provider.reply("receipt", "ok")
    return record_id, provider


async def test_notices_set_the_state_and_are_told(line, taken):
    record_id, provider = taken
    soon = header.encode_time(NOW + timedelta(minutes=1))
    await provider.notice("processing", code="backend-timeout", detail="it took too long", attempts=2, next=soon)
    seen = await told(line, record_id)
    assert seen["state"] == "processing"
    assert seen["notice"] == {
        "code": "backend-timeout", "detail": "it took too long", "attempts": 2, "next": soon
    }  # fmt: skip
    assert "code" not in seen
    await provider.notice("dead", code="backend-failed", attempts=9)
    seen = await told(line, record_id)
    assert (seen["state"], seen["code"], seen["notice"]["attempts"]) == ("dead", "backend-failed", 9)
    assert seen["records"].keys() == {"command", "receipt", "processing", "dead"}
    assert seen["times"].keys() == {"accepted", "sent", "delivered", "processing", "dead"}
    for name in ("processing", "dead"):
        assert type_at(line, seen["records"][name]) == "receipt"
    await provider.notice("processing", attempts=10)  # somebody has redriven it
    seen = await told(line, record_id)
    assert (seen["state"], seen.get("code")) == ("processing", None)
    await provider.reply("result", "ok", b'{"done":true}')
    assert await line.state(record_id) in ("completed", "failed")


async def test_each_notice_gets_a_receipt_and_its_repeat_the_same_one(line, taken):
    record_id, provider = taken
    data = await provider.notice("processing", attempts=1)
    first = wire.decode(line.queues.stored.pop()[1], 2**20).header
    assert await provider.carry(data) == "done"
    assert wire.decode(line.queues.stored.pop()[1], 2**20).header == first
    assert line.h37.types()["receipt"] == 3
    assert await line.state(record_id) == "processing"


async def test_an_older_notice_that_comes_late_changes_nothing_but_is_receipted(line, taken):
    record_id, provider = taken
    line.h37.webhooks.replace({"onedoor-app": Target("https://desk.example/hook", SECRET)})
    late = await provider.notice("dead", code="backend-failed", carry=False)
    await provider.notice("processing")
    line.queues.stored.clear()
    assert await provider.carry(late) == "done"
    assert await line.state(record_id) == "processing"
    assert len(line.queues.stored) == 1
    assert len(line.h37.webhooks) == 0


async def test_a_notice_after_the_result_changes_nothing_but_is_receipted(line, taken):
    record_id, provider = taken
    late = await provider.notice("dead", carry=False)
    await provider.reply("result", "failed", b"{}")
    line.queues.stored.clear()
    assert await provider.carry(late) == "done"
    assert await line.state(record_id) == "failed"
    assert len(line.queues.stored) == 1


async def test_a_notice_that_overtakes_the_receipt_does_not_stand_for_it(line):
    record_id = await submit(line)
    await line.h37.outbox.send_due()
    provider = Provider(line, line.queues.stored.pop()[1])
    receipt = await provider.reply("receipt", "ok", carry=False)
    await provider.notice("processing")
    assert (await line.state(record_id), len(line.h37.outbox)) == ("processing", 1)
    with pytest.raises(errors.AlreadyDelivered):
        await cancel(line, record_id)
    assert await provider.carry(receipt) == "done"
    assert (await line.state(record_id), len(line.h37.outbox)) == ("processing", 0)
    assert (await told(line, record_id))["records"]["receipt"] is not None


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"state":"completed"}', b"\xff", b'{"state":"dead","attempts":"x"}'])
async def test_a_notice_that_cannot_be_read_is_receipted_and_changes_nothing(line, taken, body):
    record_id, provider = taken
    line.queues.stored.clear()
    await provider.reply("receipt", "failed", body)
    assert await line.state(record_id) == "delivered"
    assert len(line.queues.stored) == 1


async def test_a_dead_head_holds_its_key_and_a_result_frees_it(line, taken):
    record_id, provider = taken
    second = await submit(line, order="d1")
    await provider.notice("dead", code="backend-failed")
    assert await line.h37.outbox.send_due() == 0
    assert (await told(line, second))["waits_for"] == record_id
    restarted(line)
    await line.h37.outbox.load()
    assert await line.h37.outbox.send_due() == 0
    await provider.reply("result", "failed", b"{}")
    assert await line.h37.outbox.send_due() == 1


@given(st.binary() | st.dictionaries(st.text(), st.integers() | st.text()).map(lambda one: json.dumps(one).encode()))
def test_any_contents_are_a_notice_or_none(body):
    read_notice(body)


def test_what_is_shown_of_a_notice_is_bounded():
    body = json.dumps({"state": "dead", "code": "NOT A CODE", "detail": "x\x00" * 900, "attempts": -1, "next": "soon"})
    notice = read_notice(body.encode())
    assert (notice.code, len(notice.detail), notice.attempts, notice.next) == ("", 500, 0, "")


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_own_commands_are_listed_newest_first_page_by_page(line):
    made = [await submit(line) for _ in range(4)]
    line.bus.clock.pass_time(10)
    made.append(await submit(line))
    statuses = line.h37.statuses
    first, below = await statuses.page(Page(CLIENT, limit=3))
    rest, end = await statuses.page(Page(CLIENT, limit=3, below=below))
    assert [one.header.id for one in first + rest] == made[::-1]
    assert end is None
    assert [one.header.id for one in (await statuses.page(Page(CLIENT, since=NOW + timedelta(seconds=5))))[0]] == made[
        4:
    ]
    assert await statuses.page(Page(f"{H37}/archive")) == ([], None)
    await cancel(line, made[1])
    assert [one.header.id for one in (await statuses.page(Page(CLIENT, state="cancelled")))[0]] == [made[1]]
    assert len((await statuses.page(Page(CLIENT, state="accepted")))[0]) == 4
    await line.flow()
    assert len((await statuses.page(Page(CLIENT, state="completed")))[0]) == 4


@pytest.mark.parametrize(
    "query",
    ["state=gone", "limit=0", "limit=201", "limit=x", "since=yesterday", "since=2026-11-23T05:29:00", "cursor=-1",
     "other=1", "state=dead&state=dead", "since=" + "9" * 400, "since=0001-01-01T00:00:00%2B23:59",
     "since=9999-12-31T23:59:00-23:59"],
)  # fmt: skip
def test_a_list_is_asked_for_in_words_that_there_are(query):
    with pytest.raises(errors.RequestMalformed):
        page_of(CLIENT, query)


@given(st.text(max_size=60))
def test_any_query_of_a_list_is_read_or_refused(query):
    try:
        page = page_of(CLIENT, query)
    except errors.RequestMalformed:
        return
    assert 1 <= page.limit <= 200


# --- webhooks ---------------------------------------------------------------------------------------------------------


async def tell(line: Line) -> None:
    tasks = line.h37.webhooks.begin_due()
    if tasks:
        await asyncio.wait(tasks)


@pytest.fixture
def hooked(line):
    line.h37.webhooks.replace({"onedoor-app": Target("https://desk.example/hook", SECRET)})
    return line


async def test_the_end_of_a_command_is_told_once_and_signed(hooked):
    record_id = await submit(hooked)
    await hooked.flow()
    await tell(hooked)
    ((url, headers, body),) = hooked.h37.poster.got
    assert url == "https://desk.example/hook"
    told_ = json.loads(body)
    assert told_["type"] == "command.completed"
    assert {told_[name] for name in ("id", "state", "service", "operation")} == {
        record_id,
        "completed",
        SERVICE,
        "confirm",
    }
    assert b"done" not in body
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    await tell(hooked)
    assert len(hooked.h37.poster.got) == 1
    assert hooked.h37.hooks.outcomes == ["told"]


async def test_its_row_is_in_the_commit_that_closes_the_command(hooked):
    await submit(hooked)
    await hooked.flow()
    ((idx, state),) = hooked.h37.side.rows("SELECT idx, state FROM webhook")
    ((closing,),) = hooked.h37.side.rows("SELECT closing_idx FROM command")
    assert (idx, state) == (closing, "completed")
    await tell(hooked)
    await submit(hooked)
    await hooked.flow()
    assert len(hooked.h37.side.rows("SELECT idx FROM webhook")) == 1


async def test_an_event_that_was_not_told_is_told_after_a_restart_under_the_same_name(hooked):
    await submit(hooked)
    await hooked.flow()
    hooked.h37.poster.status = ConnectionError()
    await tell(hooked)
    hooks = hooked.h37.webhooks
    hooks._queue.clear()
    hooked.h37.poster.status = 200
    await hooks.load()
    await tell(hooked)
    first, second = hooked.h37.poster.got
    assert first[1]["webhook-id"] == second[1]["webhook-id"]
    await hooks.load()  # its row is still there, and it is not told again
    await tell(hooked)
    assert len(hooked.h37.poster.got) == 2


@pytest.mark.parametrize("status", [500, 302, 404, ConnectionError()])
async def test_what_is_not_taken_is_told_again_later_and_for_a_day(hooked, status):
    await submit(hooked)
    await hooked.flow()
    hooked.h37.poster.status = status
    await tell(hooked)
    await tell(hooked)
    assert len(hooked.h37.poster.got) == 1
    hooked.bus.clock.pass_time(10)
    await tell(hooked)
    assert len(hooked.h37.poster.got) == 2
    hooked.bus.clock.pass_time(86_400)
    await tell(hooked)
    assert len(hooked.h37.webhooks) == 0
    assert hooked.h37.hooks.outcomes == ["failed", "failed", "given-up"]


async def test_a_receiver_that_is_gone_is_not_asked_again(hooked):
    await submit(hooked)
    await hooked.flow()
    hooked.h37.poster.status = 410
    await tell(hooked)
    assert len(hooked.h37.webhooks) == 0
    assert hooked.h37.hooks.outcomes == ["gone"]


async def test_a_stuck_receiver_does_not_hold_up_another(hooked):
    hooked.h37.webhooks.replace({name: Target(f"https://{name}/", SECRET) for name in ("stuck", "well")})
    for name in ("stuck", "stuck", "stuck", "well"):
        await hooked.h37.desk.accept(call(**posted()), Wish(name))
    await hooked.flow()
    tasks = hooked.h37.webhooks.begin_due()
    assert len(tasks) == 2
    await asyncio.wait(tasks)
    assert {url for url, _, _ in hooked.h37.poster.got} == {"https://stuck/", "https://well/"}


async def test_a_receiver_that_is_away_holds_few_events_in_memory_and_gets_all_when_it_is_back(hooked):
    hooks = hooked.h37.webhooks
    hooks._queue.most_each = 3
    for _ in range(8):
        await submit(hooked)
        await hooked.flow()
    hooked.h37.poster.status = ConnectionError()
    await tell(hooked)
    assert len(hooks) == 3
    hooked.h37.poster.status = 200
    hooked.h37.poster.got.clear()
    for _ in range(30):
        hooked.bus.clock.pass_time(10)
        await tell(hooked)
        if hooks._queue.hungry():
            await hooks.load()
    seen = [headers["webhook-id"] for _, headers, _ in hooked.h37.poster.got]
    assert (len(seen), len(set(seen)), len(hooks)) == (8, 8, 0)
    await submit(hooked)
    await hooked.flow()
    assert len(hooked.h37.side.rows("SELECT idx FROM webhook")) == 1


async def test_very_many_events_that_wait_cost_no_time_at_each_wake(line):
    hooks = line.h37.webhooks
    hooks._queue.most_each = 50_000
    for idx in range(50_000):
        hooks._queue.put(Event(idx, idx, "away", "completed", "", 0), 1e9)
    looked: list[str] = []
    assert hooks._queue.take(0.0, lambda system: bool(looked.append(system)) or True) is None
    assert len(looked) <= 1


async def test_who_has_no_webhook_costs_no_row(line):
    await submit(line)
    await line.flow()
    assert line.h37.side.rows("SELECT count(*) FROM webhook") == [(0,)]


async def test_expired_cancelled_and_dead_are_told(hooked):
    dead = await submit(hooked)
    await hooked.h37.outbox.send_due()
    provider = Provider(hooked, hooked.queues.stored.pop()[1])
    await provider.notice("dead", code="backend-failed")
    cancelled = await submit(hooked)
    await cancel(hooked, cancelled)
    expired = await submit(hooked)
    hooked.bus.clock.pass_time(LIFE_S + SKEW_S + 2)
    await hooked.h37.expiry.sweep()
    await tell(hooked)
    await tell(hooked)
    await tell(hooked)
    seen = {(one["id"], one["state"], one.get("code")) for one in (json.loads(got[2]) for got in hooked.h37.poster.got)}
    assert seen == {(dead, "dead", "backend-failed"), (cancelled, "cancelled", None), (expired, "expired", None)}


def test_a_signature_is_that_of_the_published_example():
    """Example of the Standard Webhooks libraries: secret, id, time and payload with their known signature."""
    secret = secret_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    payload = b'{"test": 2432232314}'
    made = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, payload)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"])
def test_what_is_no_secret_is_refused(text):
    with pytest.raises(ValueError):
        secret_of(text)


# --- forgetting -------------------------------------------------------------------------------------------------------


async def test_commands_closed_long_ago_are_forgotten_with_their_keys(line):
    old = await submit(line, order="d1", key="k1")
    await line.flow()
    waiting = await submit(line, order="d2", key="k2")
    line.bus.clock.pass_time(31 * 86_400)
    assert await line.h37.forgetting.look(line.bus.clock.now()) == 1
    new = await submit(line)
    assert await line.h37.store.command(old) is None
    assert await line.h37.store.command(waiting) is not None
    assert await line.h37.store.command(new) is not None
    for table in ("command_order", "command_key"):
        assert line.h37.side.rows(f"SELECT count(*) FROM {table}") == [(1,)]


async def test_commands_that_wait_are_counted_by_service(line):
    assert line.h37.outbox.by_service() == []
    for _ in range(2):
        await submit(line)
        line.bus.clock.pass_time(5)
    ((service, kind, count, oldest_s),) = line.h37.outbox.by_service()
    assert (service, kind, count) == (SERVICE, "command", 2)
    assert line.bus.clock.now().timestamp() - oldest_s == 10
    outbox = Outbox(
        line.bus.clock, line.h37.side.log, line.h37.store, line.queues, OutboxLimits(RETRY_S, 4 * RETRY_S, 5),
        line.h37.side.versions,
    )  # fmt: skip
    await outbox.load()
    assert [(one.member, one.records) for one in outbox.by_service()] == [("unread", 2)]
    await outbox.send_due()
    assert [(one.member, one.records) for one in outbox.by_service()] == [(SERVICE, 2)]
    await line.flow()
    assert line.h37.outbox.by_service() == line.g01.outbox.by_service() == []


async def test_more_than_a_batch_of_old_commands_is_looked_for_again_at_once(line, monkeypatch):
    monkeypatch.setattr(forgetting, "_BATCH", 2)
    for _ in range(3):
        await submit(line)
        await line.flow()
    line.bus.clock.pass_time(31 * 86_400)
    assert await line.h37.forgetting.look(line.bus.clock.now()) == 2
    assert not line.h37.forgetting.behind, "they have yet to go"
    await submit(line)
    assert line.h37.forgetting.behind
    assert await line.h37.forgetting.look(line.bus.clock.now()) == 1
    await submit(line)
    assert not line.h37.forgetting.behind
    assert line.h37.side.rows("SELECT count(*) FROM command") == [(2,)]
