"""Old backups, clones, repeated messages, wrong clocks: what a node and its counterparties make of them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_evidence import check_evidence
from fault_world import FaultWorld, pair
from world import ClientSystem, eventually, wait_until

SERVICE = "G01/desk/notes"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("identity")) as made:
        pair(made, "H37", "G01", join_every_s=0.3)
        made.start_gateways("H37", "G01")
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> ClientSystem:
    return world.clients["H37/app"]


# --- restored and cloned ---------------------------------------------------------------------------------------------------


def keep_log(world: FaultWorld, code: str, folder: Path) -> Path:
    """A backup of a stopped node's log."""
    assert world.members[code].process is None
    folder.mkdir()
    for path in world.members[code].data.glob("log.db*"):
        shutil.copy(path, folder)
    return folder


def put_log(world: FaultWorld, code: str, folder: Path) -> None:
    data = world.members[code].data
    for path in data.glob("log.db*"):
        path.unlink()
    for path in folder.iterdir():
        shutil.copy(path, data)


async def test_a_node_with_an_old_backup_refuses_to_start_before_it_sends_anything(
    world: FaultWorld, client: ClientSystem, tmp_path: Path
) -> None:
    node = world.members["H37"].node
    wait_until(lambda: knows_of(world, "H37", "G01"), "a joined head of the counterparty")
    world.stop_gateway("H37")
    backup = keep_log(world, "H37", tmp_path / "backup")
    world.start_gateway("H37")
    assert world.log_lines("H37", "head.confirmed")[-1]["counterparties"] == 1, "the normal start asks and goes on"
    for _ in range(3):
        world.until_ok(client, SERVICE)
    world.stop_gateway("H37")
    current = keep_log(world, "H37", tmp_path / "current")
    put_log(world, "H37", backup)
    served = len(world.backend.received)
    spy = await world.nats_connection()
    heard: list[str] = []

    async def hear(message: object) -> None:
        heard.append(message.subject)  # type: ignore[attr-defined]

    await spy.subscribe("lt.q.>", cb=hear)
    await spy.flush()
    try:
        for _ in range(2):  # a service manager starts it again: the answer is the same
            assert world.refuses_to_start("H37") > 0
        await spy.flush()
    finally:
        await spy.close()
    assert heard == []
    assert len(world.backend.received) == served
    lines = world.tail("H37").splitlines()
    assert any("clone-suspected" in line and node in line for line in lines[-3:]), lines
    assert "Traceback" not in world.tail("H37")
    put_log(world, "H37", current)
    world.start_gateway("H37")
    world.until_ok(client, SERVICE)
    check_evidence(world, "H37", "G01")


def knows_of(world: FaultWorld, code: str, other: str) -> bool:
    import contextlib
    import sqlite3

    path = world.members[code].data / "peers.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return bool(db.execute("SELECT 1 FROM head WHERE node = ?", (world.members[other].node,)).fetchone())


def test_a_counterparty_that_was_killed_meanwhile_still_remembers(
    world: FaultWorld, client: ClientSystem, tmp_path: Path
) -> None:
    """What it received last stands in its own log, however long ago it last joined its peers' checkpoints."""
    wait_until(lambda: knows_of(world, "H37", "G01"), "a joined head of the counterparty")
    world.configure("G01", "limits", join_every_s=600.0)
    world.restart_gateway("G01")
    world.until_ok(client, SERVICE)
    world.stop_gateway("H37")
    backup = keep_log(world, "H37", tmp_path / "backup")
    world.start_gateway("H37")
    world.until_ok(client, SERVICE)
    world.stop_gateway("H37")
    current = keep_log(world, "H37", tmp_path / "current")
    world.kill_gateway("G01")
    world.start_gateway("G01")
    put_log(world, "H37", backup)
    try:
        assert world.refuses_to_start("H37") > 0
        assert "clone-suspected" in world.tail("H37")
    finally:
        put_log(world, "H37", current)
        world.start_gateway("H37")
        world.configure("G01", "limits", join_every_s=0.3)
        world.restart_gateway("G01")
    world.until_ok(client, SERVICE)
    check_evidence(world, "H37", "G01")


def test_a_second_copy_of_a_running_node_does_not_get_to_work(
    world: FaultWorld, client: ClientSystem, tmp_path: Path
) -> None:
    """The clone has everything of the node, but stands still since it was made."""
    wait_until(lambda: knows_of(world, "H37", "G01"), "a joined head of the counterparty")
    home = world.members["H37"].home
    world.stop_gateway("H37")
    clone = clone_of(world, home, "H37clone")
    world.start_gateway("H37")
    world.until_ok(client, SERVICE)
    assert world.refuses_to_start("H37clone") > 0
    assert "clone-suspected" in world.tail("H37clone")
    world.until_ok(client, SERVICE)
    check_evidence(world, "H37", "G01")
    shutil.rmtree(clone)
    del world.members["H37clone"]


def clone_of(world: FaultWorld, home: Path, name: str) -> Path:
    from world import Member

    copy = world.folder / name
    shutil.copytree(home, copy)
    world.members[name] = Member(name, world.member_id("H37"), copy)
    return copy


def test_a_second_process_on_the_same_data_does_not_start(world: FaultWorld, client: ClientSystem) -> None:
    from world import Member

    home = world.members["H37"].home
    world.members["H37twin"] = Member("H37twin", world.member_id("H37"), home)
    listening = (home / "data" / "listening.json").read_bytes()
    process = world.members["H37twin"].process = world.spawn("H37twin", "gateway", "--home", str(home))
    wait_until(lambda: process.poll() is not None, "the end of the second process")
    (home / "data" / "listening.json").write_bytes(listening)
    del world.members["H37twin"]
    assert process.returncode == 1
    wait_until(lambda: "log-locked" in world.tail("H37twin"), "a line that says why", 3)
    assert "Traceback" not in world.tail("H37twin")
    world.until_ok(client, SERVICE)


# --- duplicates ----------------------------------------------------------------------------------------------------------


def test_a_client_that_tries_again_gets_a_new_exchange(world: FaultWorld, client: ClientSystem) -> None:
    served = len(world.backend.received)
    answers = [world.call(client, SERVICE, "/notes/1", headers={"X-Road-Id": "one-and-the-same"}) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    assert {answer.headers["x-road-id"] for answer in answers} == {"one-and-the-same"}
    assert len({answer.headers["x-road-request-id"] for answer in answers}) == 2
    assert len(world.backend.received) == served + 2


async def test_a_message_sent_again_is_dropped_also_by_a_provider_that_was_killed_and_restarted(
    world: FaultWorld, client: ClientSystem
) -> None:
    spy = await world.nats_connection()
    heard: list[tuple[str, str, bytes]] = []

    async def hear(message: object) -> None:
        heard.append((message.subject, message.reply, message.data))  # type: ignore[attr-defined]

    try:
        subscription = await spy.subscribe("lt.q.>", cb=hear)
        await spy.flush()
        assert (await world.call_async(client, SERVICE, "/notes/once")).status == 200
        await eventually(lambda: heard, "the message")
        await subscription.unsubscribe()
        subject, reply, data = heard[0]
        served = len(world.backend.received)
        before = world.dropped("G01").get("replayed", 0)
        await spy.publish(subject, data, reply)
        await spy.flush()
        await eventually(lambda: world.dropped("G01").get("replayed", 0) == before + 1, "the drop")
        world.kill_gateway("G01")
        world.start_gateway("G01")
        await spy.publish(subject, data, reply)
        await spy.flush()
        await eventually(lambda: world.dropped("G01").get("replayed", 0) == 1, "the drop after the restart")
        assert len(world.backend.received) == served
    finally:
        await spy.close()
    await asyncio.to_thread(world.until_ok, client, SERVICE)
    check_evidence(world, "H37", "G01")


# --- clocks --------------------------------------------------------------------------------------------------------------


def set_clocks(world: FaultWorld, who: str, offset_s: float, **limits: float) -> None:
    """Restarts both gateways at once: one with a clock that is wrong, the other with a right one."""
    world.configure("G01", "limits", **limits)
    for code in ("H37", "G01"):
        world.stop_gateway(code)
        world.options[code] = ["--clock-offset-s", str(offset_s if code == who else 0)]
    world.start_gateways("H37", "G01")


@pytest.fixture
def clocks(world: FaultWorld) -> Iterator[FaultWorld]:
    yield world
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01")


@pytest.fixture(scope="module", autouse=True)
def right_clocks_at_last(world: FaultWorld) -> Iterator[None]:
    """After all the wrong ones, everything works again."""
    yield
    set_clocks(world, "H37", 0, clock_skew_s=60.0)
    world.until_ok(world.clients["H37/app"], SERVICE)


# The keys of this instance are minutes old: a clock that is further back finds none of them in use yet.
@pytest.mark.parametrize(
    ("who", "offset_s", "code"),
    [("H37", 600, "clock-ahead"), ("H37", -50, "expired"), ("G01", 600, "expired"), ("G01", -50, "clock-ahead")],
)
def test_a_clock_that_is_wrong_by_minutes_is_refused_with_a_code_that_says_so(
    clocks: FaultWorld, client: ClientSystem, who: str, offset_s: float, code: str
) -> None:
    set_clocks(clocks, who, offset_s, clock_skew_s=5.0)
    served = len(clocks.backend.received)
    dropped = clocks.dropped("G01").get(code, 0)
    answer = clocks.call(client, SERVICE, "/notes/1")
    assert answer.status == 502
    assert answer.code == "provider-dropped"
    assert code in answer.json()["detail"], answer.json()
    assert clocks.dropped("G01")[code] == dropped + 1
    assert clocks.metric("H37", "lienthong_hints_total", code=code) >= 1
    assert len(clocks.backend.received) == served


@pytest.mark.parametrize(("who", "offset_s"), [("H37", 20), ("G01", -20)])
def test_a_clock_that_is_wrong_by_seconds_is_shown_by_a_metric(
    clocks: FaultWorld, client: ClientSystem, who: str, offset_s: float
) -> None:
    set_clocks(clocks, who, offset_s, clock_skew_s=60.0)
    assert clocks.until_ok(client, SERVICE).status == 200
    expected = -offset_s if who == "H37" else offset_s
    shown = clocks.metric("H37", "lienthong_clock_offset_seconds", member=clocks.member_id("G01"))
    assert abs(shown - expected) < 3
