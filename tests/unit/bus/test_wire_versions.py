"""Versions of the wire: which one is written for whom, what is kept, and what happens to what cannot be read."""

from __future__ import annotations

import contextlib
import sys
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from bus_world import (
    G01,
    H37,
    NODE_G01,
    NODE_H37,
    NOW,
    Bus,
    Clock,
    Heard,
    call,
    changed,
    directory,
    node_entry,
    origin_of,
)
from delivery_world import RETRY_S, Line, Pulled, running_line
from hypothesis import given
from hypothesis import strategies as st
from test_envelope import GOOD, envelopes

from adapters.port import AdapterAnswer
from bus import envelope as wire
from bus import errors
from bus.envelope import Codec, Wire
from bus.exchange.versions import NEWER, OLDER, UNREADABLE, Versions, common
from bus.transport import subjects

sys.path.append(str(Path(__file__).parents[2] / "integration"))

from next_wire import CODEC, NEXT, next_wire

QUERY, SECOND = "lt.q.GOV~G01.GOV~H37", f"{G01}/@n2"
LIMIT = 10_000_000


@pytest.fixture
def next_version():
    with next_wire():
        yield


@contextlib.contextmanager
def only(*versions: int):
    """A program that knows these versions, each but 1 written as the next one is, under its own number."""
    known = Wire()
    for version in versions:
        known.add(version, wire.KNOWN.codecs[1] if version == 1 else _numbered(version))
    before = dict(vars(wire.KNOWN))
    vars(wire.KNOWN).update(vars(known))
    try:
        yield
    finally:
        vars(wire.KNOWN).update(before)


def _numbered(version: int) -> Codec:
    def write(envelope: wire.Envelope) -> bytes:
        return msgspec.msgpack.encode([version, *msgspec.msgpack.decode(CODEC.encode(envelope))[1:]])

    return Codec(write, CODEC.decode)


def dropped(data: bytes, read=wire.decode) -> errors.Dropped:
    with pytest.raises(errors.Dropped) as caught:
        read(data, LIMIT)
    return caught.value


# --- which one --------------------------------------------------------------------------------------------------------

SPOKEN = st.integers(1, 6).map(lambda newest: tuple(one for one in (newest, newest - 1) if one))


@given(SPOKEN, st.sets(st.integers(1, 7), max_size=4))
def test_the_newest_version_that_everybody_reads_is_chosen_if_there_is_one(spoken, announced):
    readable = [one for one in spoken if all(one in (node, node - 1) for node in announced)]
    if announced:
        assert common(spoken, announced) == (max(readable) if readable else None)
    else:
        assert common(spoken, announced) == min(spoken)


@given(st.integers(1, 6), st.sets(st.booleans(), min_size=1))
def test_neighbours_always_have_a_version_in_common(version, ahead):
    """Whoever is at N or at N+1, program and word: in each state of an upgrade there is one."""
    for newest in (version, version + 1):
        spoken = tuple(one for one in (newest, newest - 1) if one)
        assert common(spoken, {version + step for step in ahead}) is not None


class Office:
    """The choices of H37's node in a directory that can be changed."""

    def __init__(self) -> None:
        self.view, self.clock, self.heard, self.looks = directory(), Clock(), Heard(), 0
        self.versions = Versions(NODE_H37, H37, self._look, self.clock, self.heard.alarm)
        real = self.view.nodes_of

        def nodes_of(member):
            self.looks += 1
            return real(member)

        self.view.nodes_of = nodes_of

    def _look(self):
        return self.view

    def says(self, node: str, **changes: object) -> None:
        origin = origin_of(node)
        self.view.nodes[origin] = changed(self.view.nodes.get(origin) or node_entry(node), **changes)
        self.view.size += 1

    def query(self) -> int:
        return self.versions.of(QUERY, G01)


@pytest.fixture
def office():
    return Office()


def test_a_member_gets_the_next_version_when_all_of_its_nodes_read_it(office, next_version):
    office.says(SECOND)
    assert office.query() == 1
    office.says(NODE_G01, wire=NEXT)
    assert office.query() == 1
    office.says(SECOND, wire=NEXT)
    assert office.query() == NEXT
    office.says(NODE_G01, wire=1)
    assert office.query() == 1


def test_a_program_that_does_not_know_the_next_version_writes_its_own(office):
    office.says(NODE_G01, wire=NEXT)
    assert office.query() == 1


@pytest.mark.parametrize("changes", [{"status": "revoked"}, {"status": "closed"}, {"until_at": NOW}])
def test_a_node_that_nobody_writes_to_holds_nobody_back(office, next_version, changes):
    office.says(NODE_G01, wire=NEXT)
    office.says(SECOND, **changes)
    assert office.query() == NEXT


def test_what_is_for_one_node_is_written_for_that_one(office, next_version):
    office.says(NODE_G01, wire=NEXT)
    office.says(SECOND)
    assert office.versions.of(subjects.result(NODE_G01, H37), f"{G01}/desk/notes") == NEXT
    assert office.versions.of(subjects.result(SECOND, H37), G01) == 1
    assert office.versions.peers() == {NODE_G01: NEXT, SECOND: 1}


def test_the_choice_is_looked_up_once_for_each_state_of_the_directory(office, next_version):
    for _ in range(100):
        office.query()
    assert office.looks == 1
    office.says(NODE_G01, wire=NEXT)
    assert office.query() == NEXT
    assert office.looks == 2


def test_a_statement_whose_time_begins_counts_within_a_minute(office, next_version):
    office.says(NODE_G01, wire=NEXT)
    office.says(SECOND, valid_from_at=NOW + timedelta(seconds=90))
    assert office.query() == NEXT
    office.clock.pass_time(91)
    assert office.query() == 1


@pytest.mark.parametrize(
    ("announced", "mine", "advice"),
    [
        ((4,), (1, 2), "upgrade this gateway"),
        ((1,), (3, 4), "that member has to upgrade"),
        ((2, 4), (2, 3), "brought to one version"),
    ],
)
def test_where_nothing_is_shared_the_error_says_who_has_to_upgrade(office, announced, mine, advice):
    with only(*mine):
        office.says(NODE_G01, wire=announced[0])
        for one in announced[1:]:
            office.says(SECOND, wire=one)
        with pytest.raises(errors.VersionUnshared, match=advice) as caught:
            office.query()
        assert caught.value.disposition == "retry"
        assert office.versions.peers() == {G01: None}


def test_an_answer_to_a_node_that_has_not_announced_yet_is_in_the_version_of_its_question():
    with only(2, 3):
        assert Versions.to_node(node_entry(NODE_G01, wire=1), 2) == 2
        assert Versions.to_node(node_entry(NODE_G01, wire=3), 2) == 3


# --- what is kept -----------------------------------------------------------------------------------------------------


@given(envelopes())
def test_each_version_writes_any_envelope_and_says_the_same(envelope):
    with next_wire():
        there = wire.decode(wire.encode(wire.in_version(envelope, NEXT)), LIMIT)
        assert there.version == NEXT
        assert wire.in_version(there, 1) == envelope
        assert wire.encode(wire.in_version(there, 1)) == msgspec.msgpack.encode(envelope)


@given(envelopes())
def test_what_the_next_program_keeps_this_one_reads(envelope):
    with next_wire():
        kept = wire.encode_stored(wire.in_version(envelope, NEXT))
    assert wire.decode_stored(kept, LIMIT) == envelope


def test_what_was_kept_long_ago_is_read_and_the_same_from_outside_is_not():
    kept = wire.encode_stored(GOOD)
    with only(1, 2, 3):
        assert wire.KNOWN.spoken == (3, 2)
        assert wire.decode_stored(kept, LIMIT) == GOOD
        assert dropped(kept).code == "version-unsupported"


def test_a_program_without_a_predecessor_speaks_one_version():
    with only(1):
        assert (wire.KNOWN.spoken, wire.KNOWN.stored) == ((1,), 1)


# --- what cannot be read ----------------------------------------------------------------------------------------------


def test_the_next_version_is_unsupported_and_not_malformed_whatever_its_form_is():
    drop = dropped(CODEC.encode(GOOD))
    assert (drop.code, drop.version) == ("version-unsupported", NEXT)
    assert dropped(msgspec.msgpack.encode([3])).code == "version-unsupported"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_dropped_by_the_next_program_too(data):
    with next_wire(), contextlib.suppress(errors.Dropped):
        wire.decode(b"\x9a\x02" + data, LIMIT)


def test_who_has_to_upgrade_is_named_once_a_minute_and_counted_each_time(office):
    newer, older = wire.VersionUnsupported(2), wire.VersionUnsupported(0)
    for drop in (newer, newer, older, errors.Dropped("expired")):
        office.versions.unread(drop, "GOV~G01")
    office.versions.unread(newer, "GOV~NOBODY")
    assert office.heard.alarms == [(NEWER, G01), (NEWER, G01), (OLDER, G01), (NEWER, "")]


def test_a_node_of_which_more_is_said_than_it_reads_says_so(office, next_version):
    office.says(NODE_H37, wire=NEXT)
    office.versions.look()
    assert office.heard.alarms == []
    office.says(NODE_H37, wire=NEXT + 1)
    office.versions.look()
    assert office.heard.alarms == [(UNREADABLE, H37)]
    assert office.versions.own() == NEXT + 1


# --- in an exchange ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def line(tmp_path):
    async with running_line(tmp_path) as made:
        yield made


def announced(bus: Bus, node: str, version: int, **changes: object) -> None:
    view, origin = bus.directory, origin_of(node)
    view.nodes[origin] = changed(view.nodes.get(origin) or node_entry(node), wire=version, **changes)
    view.size += 1


def version_of(data: bytes) -> int:
    return int(msgspec.msgpack.decode(data)[0])


async def test_a_command_and_its_replies_are_each_written_for_their_receiver(line: Line, next_version):
    announced(line.bus, NODE_G01, NEXT)
    record_id = await line.submit()
    await line.h37.outbox.send_due()
    seen = [(subject, version_of(data)) for subject, data, _ in line.queues.stored]
    assert seen == [("lt.c.GOV~G01.GOV~H37", NEXT)]
    for _ in range(8):
        await line.g01.outbox.send_due()
        for subject, data, _ in line.queues.stored:
            seen.append((subject, version_of(data)))
        stored, line.queues.stored[:] = list(line.queues.stored), []
        for subject, data, _ in stored:
            await line.carry(subject, data)
        await line.h37.outbox.send_due()
    assert dict(seen) == {
        "lt.c.GOV~G01.GOV~H37": NEXT, "lt.r.GOV~H37.n1.GOV~G01": 1, "lt.r.GOV~G01.n1.GOV~H37": NEXT,
    }  # fmt: skip
    assert await line.state(record_id) == "completed"
    assert line.effects == [record_id]


async def test_a_command_that_waits_is_written_anew_when_its_receiver_goes_back(line: Line, next_version):
    announced(line.bus, NODE_G01, NEXT)
    await line.submit()
    announced(line.bus, NODE_G01, 1)
    await line.h37.outbox.send_due()
    line.bus.clock.pass_time(2 * RETRY_S)
    announced(line.bus, NODE_G01, NEXT)
    await line.h37.outbox.send_due()
    first, again = (data for _, data, _ in line.queues.stored)
    assert (version_of(first), version_of(again)) == (1, NEXT)
    assert wire.decode(first, LIMIT).header == wire.decode(again, LIMIT).header
    assert [await line.carry("lt.c.GOV~G01.GOV~H37", data) for data in (first, again)] == ["done", "done"]
    assert len(line.effects) == 1, "the version is no part of the record"


async def test_a_task_that_the_next_program_took_is_done_by_this_one(line: Line):
    line.bus.source.answer, good = AdapterAnswer(503, (), "application/json", b"{}"), line.bus.source.answer
    with next_wire():
        announced(line.bus, NODE_G01, NEXT)
        record_id = await line.submit()
        await line.h37.outbox.send_due()
        subject, data, _ = line.queues.stored.pop()
        assert version_of(data) == NEXT
        assert await line.carry(subject, data) == "done"
        announced(line.bus, NODE_G01, 1)
    ((kept,),) = line.g01.side.rows("SELECT envelope FROM task")
    assert version_of(kept) == 1
    line.queues.stored.clear()
    line.bus.source.answer = good
    line.g01.restart()
    await line.g01.runner.load()
    line.bus.clock.pass_time(30)
    await line.flow()
    assert await line.state(record_id) == "completed"


async def test_a_command_in_a_version_that_is_not_read_goes_back_only_if_another_node_reads_it(line: Line):
    with next_wire():
        announced(line.bus, NODE_G01, NEXT)
        await line.submit()
        await line.h37.outbox.send_due()
    subject, data, _ = line.queues.stored.pop()
    assert await line.carry(subject, data) == "done", "its sender writes it anew"
    announced(line.bus, SECOND, NEXT)
    message = Pulled(subject, data)
    await line.g01.commands.on_command(message)
    assert message.fate not in ("", "done"), "the other node gets it"
    assert line.g01.side.heard.drops == ["version-unsupported"] * 2
    assert line.g01.side.heard.alarms == [(NEWER, H37)] * 2
    announced(line.bus, NODE_G01, 1)
    announced(line.bus, SECOND, 1)
    line.bus.clock.pass_time(2 * RETRY_S)
    await line.flow()
    assert len(line.effects) == 1


@pytest.mark.parametrize("subject", ["lt.c.GOV~G01.GOV~H37", "lt.r.GOV~G01.n1.GOV~H37"])
async def test_what_is_nested_without_end_is_dropped_and_does_not_come_again_and_again(line: Line, subject: str):
    assert await line.carry(subject, b"\x99\x01" + b"\x91" * 8_000) == "done"


async def test_a_command_for_whom_no_version_fits_waits_and_a_query_is_refused_unlogged(line: Line):
    announced(line.bus, NODE_G01, 4)
    size = line.h37.side.log.size
    with pytest.raises(errors.VersionUnshared):
        await line.bus.asker.ask(call())
    assert line.h37.side.log.size == size
    record_id = await line.submit()
    await line.flow()
    assert (await line.state(record_id), line.queues.puts) == ("accepted", 0)
    announced(line.bus, NODE_G01, 1)
    line.bus.clock.pass_time(10)
    await line.flow()
    assert await line.state(record_id) == "completed"
