"""Registry, broker, the other gateway or the back end fail: what a client system sees, how soon, and what is on record."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from fault_evidence import check_evidence, exchange_records, outcome_classes
from fault_world import FaultWorld, LateBackend, Load, assert_retryable, pair
from world import ClientSystem, free_port, wait_until

SERVICE = "G01/desk/notes"
MAX_AGE_S = 3.0
BACK_S = 10.0  # from the return of the registry or the broker to a call that succeeds
BUSY_S = 25.0  # the same where the machine itself is kept busy


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("network")) as made:
        pair(made, "H37", "G01", deadline_s=2.0, join_every_s=0.5)
        made.configure("H37", "directory", max_age_s=MAX_AGE_S)
        made.start_gateways("H37", "G01")
        made.until_ok(made.clients["H37/app"], SERVICE)
        yield made


@pytest.fixture
def client(world: FaultWorld) -> ClientSystem:
    return world.clients["H37/app"]


@pytest.fixture(autouse=True)
def pids_stay(world: FaultWorld) -> Iterator[None]:
    """Everything in this module heals without a restart of the consumer's gateway; its log is right afterwards."""
    before = world.process("H37").pid
    world.backend.release.clear()
    yield
    world.backend.release.set()
    assert world.process("H37").poll() is None
    assert world.process("H37").pid == before
    world.until_ok(world.clients["H37/app"], SERVICE)
    world.wait_closed("H37")
    check_evidence(world, "H37", "G01")


# --- registry ----------------------------------------------------------------------------------------------------------


def test_without_the_registry_calls_go_on_until_the_directory_is_too_old_and_come_back_by_themselves(
    world: FaultWorld, client: ClientSystem
) -> None:
    world.kill_registry()
    try:
        assert world.timed(client, SERVICE).status == 200, "the directory at hand is used"
        wait_until(lambda: world.readiness("H37") == (503, {"directory-stale"}), "staleness", MAX_AGE_S + 5)
        assert world.metric("H37", "lienthong_directory_age_seconds") > MAX_AGE_S
        logged = world.metric("H37", "lienthong_log_size")
        outcome = world.timed(client, SERVICE)
        assert_retryable(outcome, "directory-stale", 1)
        assert (outcome.status, outcome.acted) == (503, "no")
        assert world.metric("H37", "lienthong_log_size") == logged, "nothing was sent, so nothing is logged"
    finally:
        world.start_registry()
    assert world.until_ok(client, SERVICE, deadline_s=BACK_S).status == 200
    world.wait_ready("H37", BACK_S)


def test_a_provider_with_a_directory_that_is_too_old_says_so(world: FaultWorld, client: ClientSystem) -> None:
    world.configure("G01", "directory", max_age_s=1.5)
    world.restart_gateway("G01")
    world.until_ok(client, SERVICE)
    world.kill_registry()
    try:
        wait_until(lambda: "directory-stale" in world.readiness("G01")[1], "staleness")
        served = len(world.backend.received)
        outcome = world.timed(client, SERVICE)
        assert outcome.code in ("provider-dropped", "directory-stale"), outcome
        assert outcome.seconds < 1
        assert len(world.backend.received) == served
    finally:
        world.start_registry()
        world.configure("G01", "directory", max_age_s=900.0)
    world.until_ok(client, SERVICE, deadline_s=BACK_S)
    world.restart_gateway("G01")


# --- broker ------------------------------------------------------------------------------------------------------------


def test_with_the_broker_killed_calls_fail_fast_and_succeed_again_when_it_is_back(
    world: FaultWorld, client: ClientSystem
) -> None:
    provider = world.process("G01").pid
    waiting = world.background(3, client, SERVICE, "/slow")
    wait_until(lambda: world.backend.waiting == 3, "calls under way")
    world.kill_broker()
    for outcome in waiting.outcomes(5):
        assert (outcome.status, outcome.code, outcome.acted) == (504, "timeout", "unknown"), outcome
        assert outcome.retry_after_s > 0
    world.backend.release.set()
    wait_until(lambda: "broker-unavailable" in world.readiness("H37")[1], "readiness that says so")
    for _ in range(5):
        outcome = world.timed(client, SERVICE)
        assert_retryable(outcome, "broker-unavailable", 1)
        assert outcome.acted == "no"
    assert world.metric("H37", "lienthong_broker_connected") == 0
    world.start_broker()
    world.until_ok(client, SERVICE, deadline_s=BACK_S)
    world.wait_ready("H37", BACK_S)
    world.wait_ready("G01", BACK_S)
    assert world.process("G01").pid == provider
    assert world.process("G01").poll() is None


def test_a_broker_that_is_killed_again_and_again_is_always_found_again(world: FaultWorld, client: ClientSystem) -> None:
    with Load(world, client, SERVICE, threads=4) as load:
        for _ in range(3):
            before = load.count(200)
            wait_until(lambda before=before: load.count(200) > before, "calls", BUSY_S)
            world.kill_broker()
            world.start_broker()
        before = load.count(200)
        wait_until(lambda: load.count(200) > before, "calls", BUSY_S)
    assert {outcome.status for outcome in load.outcomes} <= {200, 503, 504}
    until_fresh(world)  # the directory flows again too


def until_fresh(world: FaultWorld) -> None:
    """Waits until calls cannot be refused for the directory's age, on a busy machine either."""
    age_s = "lienthong_directory_age_seconds"
    wait_until(lambda: world.metric("H37", age_s) < MAX_AGE_S / 2, "a fresh directory", BUSY_S)


# --- the provider's gateway ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_without_a_gateway_of_the_provider_the_client_knows_at_once(
    world: FaultWorld, client: ClientSystem, end: str
) -> None:
    before = outcome_classes(world, "H37")["undelivered"]
    if end == "SIGTERM":
        world.stop_gateway("G01")
    else:
        world.kill_gateway("G01")
    until_fresh(world)
    outcome = world.timed(client, SERVICE)
    assert_retryable(outcome, "provider-unavailable", 1)
    assert (outcome.status, outcome.acted) == (503, "no")
    assert outcome_classes(world, "H37")["undelivered"] == before + 1
    world.start_gateway("G01")


def test_when_the_provider_dies_after_it_acted_the_client_hears_unknown(
    world: FaultWorld, client: ClientSystem
) -> None:
    before = outcome_classes(world, "H37")["timedout"]
    waiting = world.background(1, client, SERVICE, "/slow")
    wait_until(lambda: world.backend.waiting == 1, "the call at the back end")
    world.kill_gateway("G01")
    world.backend.release.set()
    (outcome,) = waiting.outcomes()
    assert (outcome.status, outcome.code, outcome.acted) == (504, "timeout", "unknown"), outcome
    assert 1.5 < outcome.seconds < 4
    assert outcome_classes(world, "H37")["timedout"] == before + 1
    world.start_gateway("G01")


def test_an_answer_that_comes_after_the_deadline_is_explained_by_the_outcome(
    world: FaultWorld, client: ClientSystem
) -> None:
    before = outcome_classes(world, "H37")["timedout"]
    answers = _answers(world)
    with world.stopped("G01"):
        (outcome,) = world.background(1, client, SERVICE, "/notes/late").outcomes()
        assert (outcome.status, outcome.code, outcome.acted) == (504, "timeout", "unknown"), outcome
    # the request was waiting in its socket: past its time it is dropped, not served
    wait_until(lambda: world.dropped("G01").get("expired", 0) >= 1, "the drop")
    waiting = world.background(1, client, SERVICE, "/slow")
    wait_until(lambda: world.backend.waiting == 1, "the call at the back end")
    world.process("G01").send_signal(signal.SIGSTOP)
    world.backend.release.set()
    (outcome,) = waiting.outcomes()
    world.process("G01").send_signal(signal.SIGCONT)
    assert (outcome.status, outcome.code, outcome.acted) == (504, "timeout", "unknown"), outcome
    wait_until(lambda: _answers(world) > answers, "the late answer in the provider's log")
    assert outcome_classes(world, "H37")["timedout"] == before + 2


def _answers(world: FaultWorld) -> int:
    records = exchange_records(world.members["G01"].log_db).values()
    return sum(record.type == "answer" for record in records)


# --- the back end ----------------------------------------------------------------------------------------------------------


def test_a_back_end_that_is_down_is_said_at_once_then_left_alone_then_found_again(
    world: FaultWorld, client: ClientSystem
) -> None:
    late = LateBackend(free_port())
    world.publish("G01", "desk/late", settings={"base_url": late.url})
    world.grant(client.subsystem, "G01", "desk/late")
    world.reload_gateway("G01")
    service = world.service_id("G01/desk/late")
    try:
        wait_until(lambda: world.timed(client, "G01/desk/late").code == "backend-unavailable", "the new service")
        wait_until(
            lambda: _says_down(world, client) and world.metric("G01", "lienthong_breaker_open", service=service) == 1,
            "the breaker",
        )
        outcome = world.timed(client, "G01/desk/late")
        assert_retryable(outcome, "backend-unavailable", 1)
        backend = late.start()
        world.until_ok(client, "G01/desk/late", deadline_s=BACK_S)
        assert backend.received
        assert world.metric("G01", "lienthong_breaker_open", service=service) == 0
    finally:
        late.close()


def _says_down(world: FaultWorld, client: ClientSystem) -> bool:
    outcome = world.timed(client, "G01/desk/late")
    assert_retryable(outcome, "backend-unavailable", 1)
    assert (outcome.status, outcome.acted) == (503, "no")
    return True


def test_a_slow_back_end_does_not_outlast_the_deadline(world: FaultWorld, client: ClientSystem) -> None:
    outcome = world.timed(client, SERVICE, "/slow")
    assert outcome.status == 504, outcome
    assert outcome.code in ("backend-timeout", "timeout")
    assert outcome.acted == "unknown"
    assert outcome.seconds < 2.0 + 1.0
    assert outcome.retry_after_s > 0


def test_a_back_end_slower_than_its_own_limit_is_named_as_the_reason(world: FaultWorld, client: ClientSystem) -> None:
    world.publish("G01", "desk/hasty", settings={"base_url": world.backend.url, "timeout_s": 0.3})
    world.grant(client.subsystem, "G01", "desk/hasty")
    world.reload_gateway("G01")
    wait_until(lambda: world.timed(client, "G01/desk/hasty").status == 200, "the new service")
    outcome = world.timed(client, "G01/desk/hasty", "/slow")
    assert (outcome.status, outcome.code, outcome.acted) == (504, "backend-timeout", "unknown"), outcome
    assert 0.25 < outcome.seconds < 1.5
    # what a client with less time than the back end needs does to itself, it does not do to others
    assert world.timed(client, "G01/desk/hasty").status == 200
