"""A disk that takes nothing more: the gateway says so, stops, sends nothing that is not logged, and goes on by itself.

The limit is that of the operating system on file sizes of the running process (every write to any file fails), so all
stores of the gateway are hit at once, as on a real full disk.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fault_evidence import check_evidence, exchange_records
from fault_world import FaultWorld, Load, assert_retryable, pair
from world import ClientSystem, wait_until

SERVICE = "G01/desk/notes"
HEALS_S = 20.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("disk")) as made:
        pair(made, "H37", "G01", deadline_s=3.0, join_every_s=0.3)
        made.start_gateways("H37", "G01")
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> ClientSystem:
    return world.clients["H37/app"]


def test_a_consumer_that_cannot_log_says_so_sends_nothing_and_recovers(world: FaultWorld, client: ClientSystem) -> None:
    acknowledged = [world.until_ok(client, SERVICE).record_id]
    pid = world.process("H37").pid
    with world.nothing_writable("H37"):
        assert_retryable(world.timed(client, SERVICE, "/notes/first"), "log-unwritable", 3)
        wait_until(lambda: world.readiness("H37") == (503, {"log-unwritable"}), "readiness that says so")
        assert world.metric("H37", "lienthong_log_writable") == 0
        served = len(world.backend.received)
        records = set(exchange_records(world.members["G01"].log_db))
        for _ in range(20):
            outcome = world.timed(client, SERVICE, "/notes/refused")
            assert_retryable(outcome, "log-unwritable", 1)
            assert outcome.acted == "no"
        assert len(world.backend.received) == served
        assert set(exchange_records(world.members["G01"].log_db)) == records, "the counterparty got something"
        assert world.admin("H37", "/livez").status == 200
    acknowledged.append(world.until_ok(client, SERVICE, deadline_s=HEALS_S).record_id)
    world.wait_ready("H37", HEALS_S)
    assert world.process("H37").pid == pid
    assert world.process("H37").poll() is None
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01", acknowledged=acknowledged)


def test_a_provider_that_cannot_log_serves_nothing_and_recovers(world: FaultWorld, client: ClientSystem) -> None:
    acknowledged = [world.until_ok(client, SERVICE).record_id]
    with world.nothing_writable("G01"):
        wait_until(lambda: world.timed(client, SERVICE).status != 200, "the first refusal")
        wait_until(lambda: world.readiness("G01") == (503, {"log-unwritable"}), "readiness that says so")
        served = len(world.backend.received)
        for _ in range(10):
            outcome = world.timed(client, SERVICE, "/notes", method="POST", body=b'{"text":"x"}')
            assert outcome.code == "provider-dropped", outcome
            assert outcome.seconds < 1, outcome
        assert len(world.backend.received) == served
    acknowledged.append(world.until_ok(client, SERVICE, deadline_s=HEALS_S).record_id)
    world.wait_ready("G01", HEALS_S)
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01", acknowledged=acknowledged)


def test_a_disk_that_fills_under_load_loses_nothing_that_was_acknowledged(
    world: FaultWorld, client: ClientSystem
) -> None:
    with Load(world, client, SERVICE, threads=8) as load:
        for code in ("H37", "G01"):
            before = load.count(200)
            wait_until(lambda before=before: load.count(200) > before + 20, "calls")
            with world.nothing_writable(code):
                wait_until(lambda code=code: world.readiness(code) == (503, {"log-unwritable"}), "unwritable")
            before = load.count(200)
            wait_until(lambda before=before: load.count(200) > before + 20, "calls again", HEALS_S)
    assert {outcome.status for outcome in load.outcomes} <= {200, 502, 503, 504}, load.outcomes
    world.until_ok(client, SERVICE)
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01", acknowledged=load.acknowledged)


def test_a_gateway_that_starts_on_a_full_disk_waits_for_space(world: FaultWorld, client: ClientSystem) -> None:
    world.stop_gateway("H37")
    world.options["H37"] = ["--nothing-writable"]
    try:
        world.start_gateway("H37", ready=False)
        wait_until(lambda: "log-unwritable" in world.readiness("H37")[1], "readiness that says so")
        assert_retryable(world.timed(client, SERVICE), "log-unwritable", 2)
        assert world.readiness("H37")[0] == 503
        with world.nothing_writable("H37"):
            pass  # lifts the limit
        world.wait_ready("H37", HEALS_S)
    finally:
        world.options.pop("H37")
    world.until_ok(client, SERVICE)
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01")


def test_a_gateway_whose_stores_cannot_be_opened_for_lack_of_space_waits_and_then_starts(
    world: FaultWorld, client: ClientSystem
) -> None:
    """Without space nothing is open, so nobody is answered; the process says why, and needs no new start."""
    world.stop_gateway("H37")
    world.options["H37"] = ["--nothing-writable-at-all"]
    said = world.log_path("H37").read_text().count("disk.unwritable")
    try:
        member = world.members["H37"]
        member.process = world.spawn("H37", "gateway", "--home", str(member.home))
        wait_until(lambda: world.log_path("H37").read_text().count("disk.unwritable") > said + 1, "what it waits for")
        pid = world.process("H37").pid
        with world.nothing_writable("H37"):
            pass  # lifts the limit
        world.wait_ready("H37", HEALS_S)
        assert world.process("H37").pid == pid
    finally:
        world.options.pop("H37")
    world.until_ok(client, SERVICE)
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01")


def test_a_day_key_that_could_not_be_written_does_not_stop_the_rest_of_the_day(
    world: FaultWorld, client: ClientSystem
) -> None:
    """The key of a day is made by its first call; a disk that is full just then must not leave half a file."""
    folder = world.members["H37"].data / "day-keys"
    world.stop_gateway("H37")
    for path in folder.iterdir():
        path.rename(path.with_suffix(".kept"))
    try:
        world.start_gateway("H37")
        with world.nothing_writable("H37"):
            assert_retryable(world.timed(client, SERVICE), "log-unwritable", 3)
        world.until_ok(client, SERVICE, deadline_s=HEALS_S)
    finally:
        for path in folder.glob("*.kept"):
            path.unlink()
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01")
