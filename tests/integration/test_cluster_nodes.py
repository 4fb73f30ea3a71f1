"""Two nodes of one provider on a broker of three servers: who does a command is agreed upon in replicated streams.

What the nodes agree on (claims, signs of life) lives in the streams whose leader is killed, and whose copy a server loses,
while commands under order keys flow. Counted at the back end and in the logs, not by the gateways' own figures.
"""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from cluster_world import NUMBERS, ClusterWorld
from commanding import SERVICE, effects, fate, rows, settled
from fault_evidence import check_evidence
from fault_world import pair
from world import wait_until

CONSUMER, FIRST, SECOND = "H37", "G01", "G01-n2"
NODES = (CONSUMER, FIRST, SECOND)
KEYS, PAUSE_S = 8, 0.03
"""Order keys, and the pause between two commands: this is about what breaks, not about load."""
QUICKLY = (200, [("Content-Type", "application/json")], b'{"ok":true}')


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterWorld]:
    with ClusterWorld(tmp_path_factory.mktemp("cluster-nodes")) as made:
        pair(made, CONSUMER, FIRST, join_every_s=0.5, clock_skew_s=1.0)
        made.add_node(FIRST, "n2")
        for code in NODES:
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0, node_dead_s=2.0, attempt_s=0.5)
        made.start_gateways(*NODES)
        made.until_ok(made.clients["H37/app"], SERVICE)
        for number in NUMBERS:
            wait_until(lambda number=number: made.caught_up(FIRST, number), f"the copy of server {number}", 30)
        yield made


class OrderedCommands:
    """Submits commands under order keys from a thread, each key counted up, until the block ends."""

    def __init__(self, world: ClusterWorld) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit, daemon=True)
        self.sent: dict[str, tuple[int, int]] = {}
        self.refused: Counter[int] = Counter()

    def _submit(self) -> None:
        client, at = self._world.clients["H37/app"], 0
        while not self._stop.is_set():
            key, place = at % KEYS, at // KEYS
            answer = self._world.call(
                client, SERVICE, "/notes", method="POST", body=b'{"text":"a step"}',
                headers={"Prefer": "respond-async", "X-LienThong-Order-Key": f"dossier-{key}"},
            )  # fmt: skip
            if answer.status == 202:
                self.sent[str(answer.json()["id"])] = (key, place)
                at += 1
                self._stop.wait(PAUSE_S)
            else:
                self.refused[answer.status] += 1

    def __enter__(self) -> OrderedCommands:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def more(self, count: int) -> None:
        """Waits until so many more are accepted."""
        wanted = len(self.sent) + count
        wait_until(lambda: len(self.sent) >= wanted, f"{count} more accepted commands", 30)

    def done(self, count: int) -> None:
        """Waits until the back end has done so many more of these."""
        before = self._done()
        wait_until(lambda: self._done() >= before + count, f"{count} more effects", 40)

    def _done(self) -> int:
        counted = effects(self._world)
        return sum(one in counted for one in list(self.sent))


def done_once_and_in_order(
    world: ClusterWorld, commands: OrderedCommands, twice_may: frozenset[str] = frozenset()
) -> None:
    """Every accepted command is completed with one effect, in the order of its key, and all three books agree.

    Args:
        world: where.
        commands: what was accepted.
        twice_may: what a killed node had claimed without telling of its end: it may have asked the back end already.
    """
    assert not commands.refused
    client = world.clients["H37/app"]
    assert {fate(world, client, one)["state"] for one in commands.sent} == {"completed"}
    settled(world, *NODES)
    counted = effects(world)
    assert set(commands.sent) <= set(counted), "lost"
    twice = {one for one in commands.sent if counted[one] > 1}
    assert twice <= twice_may, "done twice"
    assert all(counted[one] == 2 for one in twice)
    places: dict[int, list[int]] = {}
    for got in world.backend.received:
        found = commands.sent.get(str(got.header("X-Road-Request-Id")))
        if found is not None and got.method == "POST":
            places.setdefault(found[0], []).append(found[1])
    assert all(line == sorted(line) for line in places.values()), "out of order"
    check_evidence(world, *NODES)


def taken(world: ClusterWorld, code: str) -> frozenset[str]:
    """Ids of the commands that a node has taken."""
    return frozenset(record_id for (record_id,) in rows(world, code, "SELECT id FROM taken"))


def unfinished(world: ClusterWorld, code: str) -> frozenset[str]:
    """Ids of the commands that a node has taken and not ended."""
    return frozenset(record_id for (record_id,) in rows(world, code, "SELECT id FROM task"))


def claimed(world: ClusterWorld, code: str) -> frozenset[str]:
    """Ids of the commands of which a node does not know that the other one has heard of their end."""
    found = rows(world, code, "SELECT id FROM taken JOIN claimed USING (leaf_hash)")
    return frozenset(record_id for (record_id,) in found)


def copies(world: ClusterWorld) -> tuple[str, str]:
    """What doctor says of the servers' copies."""
    told = world.answer("doctor", "--home", str(world.home))
    return next((one["state"], one["seen"]) for one in told["checks"] if one["check"] == "broker-copies")


def slowly(_got: object) -> tuple[int, list[tuple[str, str]], bytes]:
    """An answer of the back end after a while."""
    threading.Event().wait(0.4)
    return QUICKLY


def test_a_killed_nodes_commands_are_taken_over_by_the_other_one(world) -> None:
    had = world.metric(SECOND, "lienthong_commands_taken_over_total", service=world.service_id(SERVICE))
    world.backend.answers["/notes"] = slowly
    with OrderedCommands(world) as commands:
        commands.done(2 * KEYS)
        wait_until(lambda: len(unfinished(world, FIRST)) > 2, "work under way")
        world.kill_gateway(FIRST)
        begun, untold = unfinished(world, FIRST), claimed(world, FIRST)
        world.backend.answers["/notes"] = QUICKLY
        commands.done(4 * KEYS)
    try:
        client = world.clients["H37/app"]
        assert {fate(world, client, one)["state"] for one in commands.sent} == {"completed"}
        now = world.metric(SECOND, "lienthong_commands_taken_over_total", service=world.service_id(SERVICE))
        assert 0 < len(begun) <= now - max(had, 0) <= len(untold)
    finally:
        world.start_gateway(FIRST)
    done_once_and_in_order(world, commands, twice_may=untold)


def test_a_node_and_the_leader_are_killed_at_once_and_the_other_node_goes_on(world) -> None:
    leader = world.leader_of(FIRST)
    with OrderedCommands(world) as commands:
        commands.done(2 * KEYS)
        world.kill_gateway(SECOND)
        world.kill_server(leader)
        untold = claimed(world, SECOND)
        commands.done(3 * KEYS)
        world.start_server(leader)
        world.start_gateway(SECOND)
        commands.done(KEYS)
    done_once_and_in_order(world, commands, twice_may=untold)
    wait_until(lambda: world.is_whole(leader), "all its copies", 30)


def test_the_leader_is_killed_and_loses_its_store_and_carries_the_load_when_its_copies_are_back(world) -> None:
    """The leader of the stream of commands; afterwards another server is killed, so that the new copies count."""
    lost = world.leader_of(FIRST)
    before = {code: taken(world, code) for code in (FIRST, SECOND)}
    with OrderedCommands(world) as commands:
        commands.done(KEYS)
        world.kill_server(lost)
        wait_until(lambda: world.leader_of(FIRST) != lost, "another leader", 20)
        commands.done(2 * KEYS)
        assert copies(world)[0] in ("warn", "fail")
        shutil.rmtree(world.server_home(lost) / "jetstream")
        world.start_server(lost)
        commands.done(2 * KEYS)
        wait_until(lambda: copies(world)[0] == "ok", "all its copies", 40)
        assert world.is_whole(lost), "as the server says itself"
        other = next(number for number in NUMBERS if number != lost)
        world.kill_server(other)
        commands.done(3 * KEYS)
        world.start_server(other)
        commands.more(KEYS)
    done_once_and_in_order(world, commands)
    for code in (FIRST, SECOND):
        assert taken(world, code) - before[code], f"{code} has done none"
