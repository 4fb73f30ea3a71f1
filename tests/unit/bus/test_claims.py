"""Claims on commands among the nodes of a member, over a board in memory that compares and stores as the broker does."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from bus import errors
from bus.delivery.claimrows import EARLIER, MADE, TASKS
from bus.delivery.claims import Claim, Claims, _read
from bus.delivery.leases import Leases
from bus.ports import BoardEntry
from bus.transport import subjects

MEMBER = "VN/GOV/G01"
NODES = (f"{MEMBER}/@n1", f"{MEMBER}/@n2")
DEAD_S = 10.0
X, Y = b"x" * 32, b"y" * 32


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.s = 1_000_000.0

    def now(self):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.s)

    def monotonic(self):
        return self.s

    def random(self, count):
        return bytes(id(self) >> 8 * at & 255 for at in range(count))


class Board:
    """The newest message of each subject; `lose` are answers that get lost after it was stored."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.kept: dict[str, BoardEntry] = {}
        self.number = 0
        self.down = False
        self.lose: deque[bool] = deque()

    async def put(self, subject, data, after, life_s=0):
        if self.down:
            raise errors.BrokerUnavailable
        there = self.kept.get(subject)
        if (there.number if there else 0) != after:
            return None
        self.number += 1
        self.kept[subject] = BoardEntry(subject, self.number, self.clock.s, data)
        if self.lose and self.lose.popleft():
            raise errors.Timeout("the answer is lost")
        return self.number

    async def last(self, subject):
        if self.down:
            raise errors.BrokerUnavailable
        return self.kept.get(subject)

    async def page(self, subjects_, first):
        beginning = subjects_.removesuffix("*")
        return sorted((one for one in self.kept.values() if one.subject.startswith(beginning) and one.number >= first),
                      key=lambda one: one.number)  # fmt: skip


class Node:
    """One node's claims and leases, with what its store would say."""

    def __init__(self, name: str, clock: Clock, board: Board, nodes: list[str]) -> None:
        entry = lambda node: SimpleNamespace(node=node, usable=lambda _at: True)  # noqa: E731
        view = SimpleNamespace(nodes_of=lambda _member: [entry(node) for node in nodes], size=1)
        self.tasks: list[tuple] = []
        self.made: list[tuple] = []
        self.earlier: list[tuple] = []
        self.clock, self.board, self.nodes, self.view = clock, board, nodes, view
        run = SimpleNamespace(now=clock.now, monotonic=clock.monotonic, random=lambda _count: name.encode()[-8:])
        self.leases = Leases(name, MEMBER, run, board, lambda: view, DEAD_S)
        self.claims = Claims(name, MEMBER, run, board, self.leases, self)

    async def rows(self, sql, *params):
        found = {TASKS: self.tasks, MADE: self.made, EARLIER: self.earlier}.get(sql, [])
        return found if sql != EARLIER else [one for one in found if one[1] < params[0]]

    def has(self, leaf_hash: bytes, taken_s: float) -> None:
        self.tasks.append((leaf_hash, int(taken_s) + 3_600, 7, b"sealed", int(taken_s), "waiting", "", "", 0))

    async def round(self) -> list:
        """As `bus.delivery.companions` goes round; what was lost."""
        before = self.leases.trusted
        if not (await self.leases.renew() or await self.leases.renew()) or not before:
            self.claims.doubt()
        lost = [] if self.claims.synced else await self.claims.sync()
        await self.claims.tell()
        return lost

    async def take(self, leaf_hash: bytes) -> Claim | None:
        return await self.claims.take(leaf_hash, self.claims.new(b"sealed", int(self.clock.s) + 3_600))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(clock)


@pytest.fixture
async def two(clock: Clock, board: Board) -> tuple[Node, Node]:
    nodes = list(NODES)
    found = Node(NODES[0], clock, board, nodes), Node(NODES[1], clock, board, nodes)
    for _ in range(2):
        for node in found:
            if not await node.leases.renew():
                await node.leases.renew()
            await node.claims.sync()
            await node.leases.look()
    return found


async def test_of_two_nodes_one_has_a_command(two):
    first, second = two
    assert await first.take(X) is None
    other = await second.take(X)
    assert (other.node, other.state) == (NODES[0], "open")
    assert first.claims.holds(X)
    assert not second.claims.holds(X)


async def test_a_single_node_asks_nobody(clock):
    alone = Node(NODES[0], clock, None, [NODES[0]])
    assert await alone.take(X) is None
    assert alone.claims.holds(X)
    assert alone.claims.rows(X, 5) == []
    alone.claims.require_ready(0.0)


async def test_a_claim_whose_answer_was_lost_is_still_ones_own(two, board):
    first, _ = two
    board.lose.append(True)
    with pytest.raises(errors.Timeout):
        await first.take(X)
    assert await first.take(X) is None


async def test_what_is_done_is_nobodys_any_more(two):
    first, second = two
    await first.take(X)
    first.claims.done(X)
    await first.claims.tell()
    assert (await second.take(X)).state == "done"


async def test_a_cancelled_command_is_taken_by_nobody_and_a_taken_one_is_not_cancelled(two, clock):
    first, second = two
    assert await first.claims.cancel(X, int(clock.s) + 60) is None
    assert (await second.take(X)).state == "cancelled"
    assert await second.claims.cancel(X, int(clock.s) + 60) is None
    await second.take(Y)
    assert (await first.claims.cancel(Y, int(clock.s) + 60)).node == NODES[1]


async def test_a_node_that_was_silent_trusts_in_nothing_until_it_has_claimed_anew(two, clock):
    first, _ = two
    await first.take(X)
    first.has(X, clock.s)
    clock.s += 0.81 * DEAD_S
    with pytest.raises(errors.ClaimUncertain):
        first.claims.holds(X)
    assert await first.round() == []
    assert first.claims.holds(X)


async def test_a_dead_nodes_claim_is_taken_over_once_and_lost_to_it(two, clock):
    first, second = two
    await first.take(X)
    first.has(X, clock.s)
    for _ in range(12):
        clock.s += 1.0
        await second.round()
    assert await second.leases.look() == [NODES[0]]
    ((leaf_hash, claim, entry),), _ = await second.claims.of_nodes([NODES[0]], 1)
    assert second.leases.is_old(entry.at_s)
    assert await second.claims.inherit(leaf_hash, claim, entry.number)
    assert not await second.claims.inherit(leaf_hash, claim, entry.number)
    assert [lost.leaf_hash for lost in await first.round()] == [X]
    assert not first.claims.holds(X)
    assert second.claims.holds(X)


async def test_a_node_that_is_back_before_the_take_over_keeps_its_claim(two, clock):
    first, second = two
    await first.take(X)
    first.has(X, clock.s)
    for _ in range(12):
        clock.s += 1.0
        await second.round()
    dead = await second.leases.look()
    assert await first.round() == []
    ((leaf_hash, claim, entry),), _ = await second.claims.of_nodes(dead, 1)
    assert not second.leases.is_old(entry.at_s), "a young claim is a sign of life"
    ((_, number),) = [(one.subject, one.number) for one in await first.board.page(subjects.claims(MEMBER), 1)]
    assert not await second.claims.inherit(leaf_hash, claim, number - 1)


async def test_after_an_outage_of_the_broker_everybody_is_given_time(two, clock, board):
    first, second = two
    board.down = True
    clock.s += 5 * DEAD_S
    board.down = False
    await second.round()
    assert await second.leases.look() == []
    clock.s += 1.0
    await first.round()
    for _ in range(9):
        clock.s += 1.0
        await second.round()
    assert await second.leases.look() == []


async def test_a_broker_that_lost_its_store_is_told_again_and_old_commands_wait_for_all_nodes(two, clock, board):
    first, second = two
    await first.take(X)
    first.has(X, clock.s)
    first.earlier.append((Y, int(clock.s) + 60))
    sent_s = clock.s
    board.kept.clear()
    clock.s += 1.0
    assert not await second.leases.renew()
    assert await second.leases.renew()
    await second.claims.sync()
    await second.leases.look()
    with pytest.raises(errors.ClaimUncertain):
        second.claims.require_ready(sent_s)
    second.claims.require_ready(clock.s + 3_600)
    assert not await first.leases.renew()
    assert await first.leases.renew()
    assert await first.claims.sync() == []
    assert first.claims.holds(X)
    await second.leases.look()
    second.claims.require_ready(sent_s)
    assert (await second.take(X)).node == NODES[0]
    assert (await second.take(Y)).state == "done"


async def test_a_member_that_gets_a_second_node_claims_what_its_first_one_took_alone(clock, board):
    nodes = [NODES[0]]
    first = Node(NODES[0], clock, board, nodes)
    first.claims.alone()
    first.has(X, clock.s)
    first.earlier.append((Y, int(clock.s) + 60))
    nodes.append(NODES[1])
    first.view.size = 2
    second = Node(NODES[1], clock, board, nodes)
    await second.round()
    await second.leases.look()
    with pytest.raises(errors.ClaimUncertain):
        second.claims.require_ready(clock.s)
    await first.round()
    await second.leases.look()
    second.claims.require_ready(clock.s)
    assert (await second.take(X)).node == NODES[0]
    assert (await second.take(Y)).state == "done"
    assert first.claims.holds(X)


@pytest.mark.parametrize("data", [b"", b"\x81\xa2zz" + b"\x91" * 8_000, b"\x81\xa4node\xa1\xff"])
def test_what_is_no_claim_is_none_whatever_it_is(data: bytes) -> None:
    assert _read(BoardEntry("lt.w.GOV~G01.c.00", 1, 0.0, data)) is None
