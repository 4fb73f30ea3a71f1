"""Room that several share: one client subsystem, or one member, leaves some to the others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bus_world import CLIENT, G01, GENESIS, H37, NOW, SERVICE, access_entry, call, posted
from delivery_world import LONGEST_S, RETRY_S, Line, Station, running_line
from hypothesis import given
from hypothesis import strategies as st

from bus import errors
from bus.delivery import store
from bus.delivery.accepting import Wish
from bus.delivery.cancelled import Cancellations
from bus.delivery.cancelrows import Target
from bus.delivery.orders import OrderBook
from bus.delivery.outbox import Outbox, OutboxLimits
from bus.delivery.shares import TIMES_FREE, Shares
from evidence import leaf
from registry.view import SubsystemEntry

OTHER = f"{H37}/archive"
CONTROL = leaf.wrap(leaf.CONTROL, b'{"type":"test"}')
ALONE, ALL = 5, 6
"""What one client subsystem may hold of the six places that the outbox has here."""


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        view = made.bus.directory
        view.subsystems[OTHER] = SubsystemEntry(id=OTHER, member=H37, names={})
        view.access["other"] = access_entry(client=OTHER, subject=f"{SERVICE}#archive")
        yield made


async def fill(line: Line) -> list[str]:
    found = [await line.submit() for _ in range(ALONE)]
    with pytest.raises(errors.OutboxShareFull):
        await line.submit()
    return found


def restarted(line: Line, side: Station | None = None, replies: int = 100) -> Outbox:
    """A node's memory, the asking one's as a rule, is gone; its store is not."""
    side = side or line.h37
    limits = OutboxLimits(RETRY_S, 4 * RETRY_S, ALL, replies)
    outbox = Outbox(line.bus.clock, side.side.log, side.store, line.queues, limits, side.side.versions)
    using = (side.desk, side.replies, side.changes, side.cancel_desk, side.expiry, side.statuses)
    for part in (*using, side.commands, side.records):
        part._outbox = outbox
    side.outbox = outbox
    return outbox


async def cancel(line: Line, record_id: str) -> str:
    command = await line.h37.cancel_desk.cancel(await line.h37.statuses.of(record_id, CLIENT))
    return str(line.h37.statuses.told(command)["state"])


# --- the outbox -------------------------------------------------------------------------------------------------------


async def test_one_client_that_pours_commands_to_a_dead_provider_leaves_room_for_others(line):
    await fill(line)
    assert await line.submit(client=OTHER)
    with pytest.raises(errors.OutboxFull):
        await line.submit(client=OTHER)


async def test_a_member_that_takes_no_replies_uses_up_no_room_of_the_providers_own_clients(line):
    """Each command without a right is refused, and each refusal waits for a receipt: whoever is a member could do it."""
    line.bus.directory.access.clear()
    for _ in range(3 * ALL):
        await line.submit()
        await line.h37.outbox.send_due()
        subject, data, _ = line.queues.stored.pop()
        await line.carry(subject, data)
        line.h37.outbox._shares = Shares(ALL)  # a hostile gateway counts nothing
    assert len(line.g01.outbox) == 3 * ALL
    line.g01.outbox.require_room(f"{G01}/desk")


async def test_from_a_member_that_takes_no_replies_no_more_commands_are_taken_until_it_does(line):
    line.bus.directory.access.clear()
    provider = restarted(line, line.g01, replies=3)
    fates = []
    for _ in range(5):
        await line.submit()
        await line.h37.outbox.send_due()
        subject, data, _ = line.queues.stored.pop()
        fates.append(await line.carry(subject, data))
    assert fates == ["done"] * 3 + ["later"] * 2
    assert not provider.owes_much("GOV~G05")
    size = line.g01.side.log.size
    assert await line.carry(subject, data) == "later"
    assert line.g01.side.log.size == size
    provider = restarted(line, line.g01, replies=3)
    await provider.load()
    assert provider.owes_much("GOV~H37"), "also after a restart"
    line.queues.stored.clear()
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    line.bus.clock.pass_time(4 * RETRY_S)
    await line.flow()
    assert not provider.owes_much("GOV~H37")
    assert (len(provider), len(line.h37.outbox)) == (0, 0), "what was put back came, too"


async def test_whose_share_is_full_hears_whose_and_what_to_do(line):
    await fill(line)
    with pytest.raises(errors.OutboxShareFull) as caught:
        await line.submit()
    error = caught.value
    assert (error.code, error.status, error.acted) == ("outbox-share-full", 429, "no")
    assert error.disposition == "retry"
    assert error.retry_after_s
    assert CLIENT in error.detail
    assert "arrived or are cancelled" in error.detail


async def test_shares_are_the_same_after_a_restart(line):
    await fill(line)
    outbox = restarted(line)
    await outbox.load()
    with pytest.raises(errors.OutboxShareFull):
        await line.submit()
    assert await line.submit(client=OTHER)


async def test_shares_are_counted_by_an_index(line):
    """At the start a full outbox is read once, and no table is searched row by row for each of its records."""
    plan = " / ".join(row[-1] for row in line.h37.side.rows(f"EXPLAIN QUERY PLAN {store._WAITING}"))
    assert "SEARCH command USING INTEGER PRIMARY KEY" in plan, plan
    assert "TEMP B-TREE" not in plan, plan


async def test_what_arrived_or_was_cancelled_or_expired_gives_its_room_back(line):
    commands = await fill(line)
    assert await cancel(line, commands[0]) == "cancelled"
    await line.submit()
    with pytest.raises(errors.OutboxShareFull):
        await line.submit()
    await line.flow()
    await fill(line)
    line.bus.clock.pass_time(10 * 86_400)
    while await line.h37.expiry.sweep():
        pass
    assert len(line.h37.outbox) == 0
    await fill(line)


async def test_a_wish_to_cancel_takes_no_room_of_others(line):
    """Or a client could hold twice what it may: each of its commands, and the wish to cancel it."""
    commands = await fill(line)
    await line.h37.outbox.send_due()
    for one in commands:
        assert await cancel(line, one) == "sent"
    assert len(line.h37.outbox) == 2 * ALONE
    assert await line.submit(client=OTHER)
    outbox = restarted(line)
    await outbox.load()
    assert len(outbox) == 2 * ALONE + 1
    with pytest.raises(errors.OutboxFull):
        await line.submit(client=OTHER)


async def test_one_clients_open_order_keys_leave_room_for_others(line):
    line.h37.outbox.orders = OrderBook(4)

    async def ordered(client: str) -> str:
        return await line.h37.desk.accept(call(**posted(client=client)), Wish("app", "d1", ""))

    for _ in range(3):
        await ordered(CLIENT)
    with pytest.raises(errors.OutboxShareFull):
        await ordered(CLIENT)
    assert await ordered(OTHER)
    with pytest.raises(errors.OutboxFull):
        await ordered(OTHER)


async def test_a_repeat_under_its_key_needs_no_room(line):
    """Its sender does not know whether the first call was accepted: a refusal would say that it was not."""

    async def keyed(key: str) -> str:
        return await line.h37.desk.accept(call(**posted()), Wish("app", "", key))

    first = await keyed("k1")
    for _ in range(ALONE - 1):
        await line.submit()
    line.h37.keys._remembered.clear()  # as after a restart
    assert await keyed("k1") == first
    with pytest.raises(errors.OutboxShareFull):
        await keyed("k2")


# --- cancellations that are held --------------------------------------------------------------------------------------

LOUD, QUIET = "VN/GOV/E66", "VN/GOV/F77"


def cancellations(line: Line, believed=None) -> Cancellations:
    """Of the answering node, with room for eight."""
    return Cancellations(GENESIS, G01, None, {}, line.g01.store, LONGEST_S, 8, believed)


def wish_of(member: str, number: int) -> tuple[SimpleNamespace, Target]:
    return SimpleNamespace(node=SimpleNamespace(member=member)), Target(command=f"{number:064x}", id="x")


async def hold_all(held: Cancellations, line: Line, member: str, now_s: int = 0) -> int:
    """As many as it may; how many."""
    for number in range(100):
        try:
            rows = await held.hold(*wish_of(member, number), now_s)
        except errors.OutboxFull:
            return number
        await line.g01.side.log.append([CONTROL], rows)
    raise AssertionError("no bound")


async def test_one_members_cancellations_leave_room_for_others(line):
    held = cancellations(line)
    assert await hold_all(held, line, LOUD) == 6
    assert await hold_all(held, line, QUIET) == 2
    assert await hold_all(held, line, LOUD) == 0
    assert errors.OutboxFull.disposition == "retry", "a wish that has no room is put back, not refused"


async def test_shares_of_cancellations_are_the_same_after_a_restart(line):
    await hold_all(cancellations(line), line, LOUD)
    held = cancellations(line)
    await held.load()
    assert await hold_all(held, line, LOUD) == 0
    assert await hold_all(held, line, QUIET) == 2


async def test_what_is_released_or_held_twice_counts_once(line):
    held = cancellations(line)
    for _ in range(20):
        await held.hold(*wish_of(LOUD, 1), 0)
    assert await hold_all(held, line, LOUD) == 6
    held.release(*wish_of(LOUD, 1))
    held.release(*wish_of(LOUD, 1))
    await held.hold(*wish_of(LOUD, 50), 0)


async def test_cancellations_past_their_time_give_their_room_back(line):
    held, later_s = cancellations(line), int(LONGEST_S) + 3_601
    await hold_all(held, line, LOUD)
    assert await hold_all(held, line, LOUD, later_s) == 6


async def test_a_clock_that_is_ahead_forgets_no_cancellation(line):
    """The cancelled command may still come, when the clock is set right."""
    for believed in (NOW, None):
        held = cancellations(line, lambda believed=believed: believed)
        now_s = int(NOW.timestamp())
        await held.hold(*wish_of(LOUD, 99), now_s)
        await held.hold(*wish_of(LOUD, 98), now_s + 366 * 86_400)
        assert held.holds(SimpleNamespace(node=SimpleNamespace(member=LOUD), leaf_hash=bytes.fromhex(f"{99:064x}")))


# --- the rule ---------------------------------------------------------------------------------------------------------


def pour(shares: Shares, holder: str) -> int:
    """As much as the holder may have."""
    while not shares.full and not shares.exhausted(holder):
        shares.add(holder)
    return shares.held(holder)


def test_who_is_alone_gets_most_of_the_room_and_the_next_ones_still_find_some():
    shares = Shares(100_000)
    assert [pour(shares, name) for name in "abcd"] == [75_000, 18_750, 4_688, 1_172]
    assert not shares.exhausted("e")


def test_who_holds_little_comes_in_beside_any_number_of_greedy_ones():
    shares = Shares(100_000)
    for number in range(8):
        pour(shares, f"greedy-{number}")
    assert pour(shares, "modest") >= 1


@given(st.integers(1, 40), st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=200))
def test_what_is_counted_is_what_is_held(most, steps):
    shares, model = Shares(most), dict.fromkeys("abc", 0)
    for take, holder in steps:
        if take and not shares.full and not shares.exhausted(holder):
            assert model[holder] < TIMES_FREE * (most - sum(model.values()))
            shares.add(holder)
            model[holder] += 1
        elif not take and model[holder]:
            shares.remove(holder)
            model[holder] -= 1
    assert {name: shares.held(name) for name in "abc"} == model
    assert sum(model.values()) <= most
    assert shares.full == (sum(model.values()) >= most)
