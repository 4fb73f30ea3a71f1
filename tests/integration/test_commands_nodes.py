"""Several nodes of one member do commands once: with real processes, killed, stopped and brought back."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from commanding import SERVICE, ask, effects, fate, rows, settled, submit
from fault_evidence import check_evidence
from fault_world import FaultWorld, pair
from world import ClientSystem, eventually, wait_until

DEAD_S = 2.0
NODES = ("H37", "G01", "G01-n2")


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("nodes")) as made:
        pair(made, "H37", "G01", join_every_s=0.5, clock_skew_s=1.0)
        made.add_node("G01", "n2")
        for code in NODES:
            made.configure(code, "commands", retry_s=1.0, retry_max_s=4.0, node_dead_s=DEAD_S, attempt_s=0.5)
        for code in ("G01", "G01-n2"):
            made.configure(code, "limits", join_every_s=0.5, clock_skew_s=1.0)
            made.options[code] = ["--clock-offset-s", "0"]
        made.start_gateways(*NODES)
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> ClientSystem:
    return world.clients["H37/app"]


def taken(world: FaultWorld, code: str) -> set[str]:
    """Ids of the commands that a node has taken."""
    return {record_id for (record_id,) in rows(world, code, "SELECT id FROM taken")}


def hold_back_end(world: FaultWorld) -> None:
    """The back end answers when it is released."""
    world.backend.release.clear()
    world.backend.answers["/notes"] = lambda _got: (
        world.backend.release.wait(30), (200, [("Content-Type", "application/json")], b'{"ok":true}')
    )[1]  # fmt: skip


def test_a_killed_nodes_commands_are_done_by_the_other_one_once_and_in_order(world, client) -> None:
    keys, each = 20, 10
    world.backend.answers["/notes"] = lambda _got: (
        threading.Event().wait(0.01), (200, [("Content-Type", "application/json")], b'{"ok":true}')
    )[1]  # fmt: skip
    sent = {submit(world, client, f"{key}:{at}", **{"X-LienThong-Order-Key": f"H37-{key}"}): (key, at)
            for at in range(each) for key in range(keys)}  # fmt: skip
    wait_until(lambda: len(effects(world)) > 40 and taken(world, "G01"), "the middle")
    in_flight = len(rows(world, "G01", "SELECT 1 FROM task"))
    world.kill_gateway("G01")
    assert {fate(world, client, one)["state"] for one in sent} == {"completed"}
    assert taken(world, "G01"), "the killed node has done some"
    assert taken(world, "G01-n2"), "and so has the other"
    counted = effects(world)
    assert set(counted) == set(sent)
    twice = [one for one, count in counted.items() if count > 1]
    assert len(twice) <= max(in_flight, keys), "only what was in flight at the kill may have been done again"
    assert max(counted.values()) <= 2
    order: dict[int, list[int]] = {}
    for got in world.backend.received:
        if got.method == "POST" and got.target.startswith("/notes"):
            key, at = sent[str(got.header("X-Road-Request-Id"))]
            order.setdefault(key, []).append(at)
    assert all(line == sorted(line) for line in order.values())

    before = effects(world)
    world.start_gateway("G01")
    settled(world, *NODES)
    assert fate(world, client, submit(world, client))["state"] == "completed"
    assert {one: count for one, count in effects(world).items() if one in before} == before
    settled(world, *NODES)
    check_evidence(world, *NODES)


def test_what_a_killed_node_had_begun_is_done_by_the_other_and_not_again_when_it_is_back(world, client) -> None:
    hold_back_end(world)
    ids = [submit(world, client) for _ in range(6)]
    wait_until(lambda: len(effects(world)) == 6, "all begun")
    mine = taken(world, "G01") & set(ids)
    victim, other = ("G01", "G01-n2") if mine else ("G01-n2", "G01")
    had = taken(world, victim) & set(ids)
    world.kill_gateway(victim)
    wait_until(lambda: had <= taken(world, other), "the take-over", 20)
    name, service = "lienthong_commands_taken_over_total", world.service_id(SERVICE)
    wait_until(lambda: world.metric(other, name, service=service) == len(had), "all of them counted", 10)
    world.backend.release.set()
    assert {fate(world, client, one)["state"] for one in ids} == {"completed"}
    assert {effects(world)[one] for one in had} == {2}, "the documented case: no result was there when it died"
    assert {effects(world)[one] for one in set(ids) - had} <= {1}
    before = effects(world)
    world.start_gateway(victim)
    settled(world, "H37", victim, other)
    assert effects(world) == before
    check_evidence(world, *NODES)


def test_a_node_that_was_stopped_lets_go_what_the_other_one_has_taken_over(world, client) -> None:
    """It does not know that time has passed: its results come late and change nothing."""
    hold_back_end(world)
    ids = [submit(world, client) for _ in range(6)]
    wait_until(lambda: len(effects(world)) == 6, "all begun")
    victim = "G01" if taken(world, "G01") & set(ids) else "G01-n2"
    other = "G01-n2" if victim == "G01" else "G01"
    had = taken(world, victim) & set(ids)
    with world.stopped(victim):
        wait_until(lambda: had <= taken(world, other), "the take-over", 20)
        world.backend.release.set()
        assert {fate(world, client, one)["state"] for one in ids} == {"completed"}
    settled(world, "H37", victim, other)
    assert max(effects(world).values()) <= 2
    results = [data for (data,) in rows(world, victim, "SELECT data FROM leaf") if b'"type":"result"' in data]
    assert len(results) == 0, "what it had begun was not its own any more"
    outcomes = [data for (data,) in rows(world, victim, "SELECT data FROM leaf") if b'"type":"outcome"' in data]
    assert len(outcomes) == len(had)
    check_evidence(world, *NODES)


def test_results_come_to_the_node_that_asked_and_a_restarted_broker_changes_nothing(world, client) -> None:
    """The second node of the asking member has its own outbox, its own states, and its own replies."""
    world.add_node("H37", "n2")
    world.configure("H37-n2", "commands", retry_s=1.0, retry_max_s=4.0, node_dead_s=DEAD_S)
    world.start_gateway("H37-n2")
    sent = {submit(world, client, through=node): node for node in ("H37", "H37-n2") * 5}
    world.kill_broker()
    sent |= {submit(world, client, through=node): node for node in ("H37", "H37-n2") * 5}
    world.start_broker()
    for one, node in sent.items():
        assert fate(world, client, one, node)["state"] == "completed"
        assert ask(world, client, one, "H37-n2" if node == "H37" else "H37").status == 404
    settled(world, "H37", "H37-n2", "G01", "G01-n2")
    assert effects(world) == Counter(dict.fromkeys(sent, 1))
    for node in ("H37", "H37-n2"):
        assert world.metric(node, "lienthong_dropped_total", code="reply-unmatched") == 0


async def test_copies_of_a_command_at_both_nodes_have_one_effect(world, client) -> None:
    """Its sender's broker key is used by somebody else: the broker lets the copies through, the claims do not."""
    world.stop_gateway("G01")
    world.stop_gateway("G01-n2")
    record_id = submit(world, client)
    await eventually(lambda: ask(world, client, record_id).json()["state"] == "sent", "the broker's word")
    spy = await world.nats_connection(as_node="G01")
    caught: list[bytes] = []

    async def catch(message) -> None:
        if message.subject.startswith("lt.c."):
            caught.append(message.data)

    await spy.subscribe("_I.GOV~G01~n1.spy", cb=catch)
    wanted = json.dumps({"batch": 1, "expires": 5_000_000_000}).encode()
    await spy.publish("$JS.API.CONSUMER.MSG.NEXT.CMD_GOV~G01.own", wanted, "_I.GOV~G01~n1.spy")
    await eventually(lambda: caught, "a copy of the command")
    await spy.close()
    copier = await world.nats_connection(as_node="H37")
    for _ in range(20):
        await copier.publish("lt.c.GOV~G01.GOV~H37", caught[0])
    await copier.flush()
    await copier.close()
    world.start_gateways("G01", "G01-n2")
    assert fate(world, client, record_id)["state"] == "completed"
    settled(world, "H37", "G01", "G01-n2")
    await eventually(
        lambda: sum(world.metric(node, "lienthong_dropped_total", code="replayed") for node in ("G01", "G01-n2")) >= 20,
        "all copies seen to", 40,
    )  # fmt: skip
    assert effects(world)[record_id] == 1
    assert sum(record_id in taken(world, node) for node in ("G01", "G01-n2")) == 1
