"""A commit that dies, fails, or is reported as failed although it was done: at each of its steps, on both sides.

Two pairs of gateways are used at the same time, so that a consumer and a provider meet the same fault at once.
"""

from __future__ import annotations

import random
import shutil
import signal
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_evidence import (
    check_evidence,
    closing_records,
    exchange_records,
    notes_held,
    origin_of,
    outcome_classes,
    trusted_keys,
)
from fault_world import FaultWorld, Load, pair
from world import ClientSystem, wait_until

from evidence.log import LogReader, SqliteStore, recovery
from evidence.note import VerifierKey
from evidence.verify import verify_log

SERVICE = {"H37": "G01/desk/notes", "H38": "G02/desk/notes"}
ALL = ("H37", "G01", "H38", "G02")
LIMITS = {"deadline_s": 0.8, "join_every_s": 0.3}
CUTS = 8

# Up to the commit nothing is stored: "after" a step is before the next one.
STEPS = (
    "begin",
    "guard_head",
    "write_leaves",
    "write_tiles",
    "write_note",
    "write_caller_rows",
    "commit",
    "checkpoint",
)
KILLS = [(step, "kill") for step in STEPS] + [("commit", "kill-after"), ("checkpoint", "kill-after")]
FAILURES = [(step, "fail") for step in STEPS] + [("commit", "fail-after"), ("checkpoint", "fail-after")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("commit")) as made:
        pair(made, "H37", "G01", **LIMITS)
        pair(made, "H38", "G02", **LIMITS)
        for code in ALL:
            made.options[code] = []
        made.start_gateways(*ALL)
        for code, service in SERVICE.items():
            made.until_ok(made.clients[f"{code}/app"], service)
        yield made


def client_of(world: FaultWorld, code: str) -> ClientSystem:
    return world.clients[f"{code}/app"]


def both_break(world: FaultWorld, step: str, action: str) -> list[str]:
    """Breaks the consumer of one pair and the provider of the other under load; what clients had acknowledged."""
    with (
        Load(world, client_of(world, "H37"), SERVICE["H37"]) as first,
        Load(world, client_of(world, "H38"), SERVICE["H38"]) as second,
    ):
        wait_until(lambda: first.count(200) > 3 and second.count(200) > 3, "calls before the fault")
        armed = [world.arm(code, step, action, nth=3) for code in ("H37", "G02")]
        wait_until(lambda: not any(path.exists() for path in armed), f"the fault at {step}", 20)
        if action.startswith("fail"):
            before = first.count(200), second.count(200)
            wait_until(
                lambda: first.count(200) > before[0] and second.count(200) > before[1],
                "calls that succeed again by themselves",
            )
    return first.acknowledged + second.acknowledged


def settle(world: FaultWorld, acknowledged: list[str], *, every_checkpoint: bool = False) -> None:
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(world.until_ok, client_of(world, code), service) for code, service in SERVICE.items()]
        acknowledged += [call.result().record_id for call in calls]
    for code in SERVICE:
        world.wait_closed(code)
    check_evidence(world, *ALL, acknowledged=acknowledged, every_checkpoint=every_checkpoint)


# --- power cut ---------------------------------------------------------------------------------------------------------


def frames_committed(shm: Path) -> tuple[int, int]:
    """Frames of the write-ahead log up to the last commit that was synced, and the page size (WAL-index header).

    SQLite moves this number only after the sync of a commit: what lies behind it may be lost by a power cut, what lies
    before it may not (sqlite.org/walformat.html, "The WAL-Index File Format").
    """
    page_bytes, frames = struct.unpack_from("=HI", shm.read_bytes()[:48], 14)
    return frames, 65_536 if page_bytes == 1 else page_bytes


def torn(wal: bytes, durable_bytes: int, chance: random.Random) -> Iterator[bytes]:
    """What a power cut may leave of a write-ahead log."""
    durable, rest = wal[:durable_bytes], wal[durable_bytes:]
    yield wal
    yield durable
    yield durable + bytes(len(rest))
    yield durable + rest[: chance.randrange(len(rest) + 1)]
    yield durable + b"".join(
        sector if chance.random() < 0.5 else bytes(len(sector))
        for sector in (rest[at : at + 512] for at in range(0, len(rest), 512))
    )


def test_a_power_cut_at_any_instant_leaves_a_committed_state_with_everything_that_was_seen(
    world: FaultWorld, tmp_path: Path
) -> None:
    chance = random.Random(20_260_101)
    source = world.members["H37"].log_db
    origin, keys = origin_of(source), trusted_keys(world, "H37")
    with Load(world, client_of(world, "H37"), SERVICE["H37"], threads=8) as load:
        for number in range(CUTS):
            wanted = load.count(200) + chance.randrange(3, 25)
            wait_until(lambda wanted=wanted: load.count(200) >= wanted, "calls before the cut")
            cut = tmp_path / str(number)
            cut.mkdir()
            with world.stopped("H37"):
                acknowledged = load.acknowledged
                held = notes_held(world.members["G01"].log_db, origin)
                for suffix in ("", "-wal", "-shm"):
                    shutil.copy(source.with_name("log.db" + suffix), cut)
            frames, page_bytes = frames_committed(cut / "log.db-shm")
            wal = (cut / "log.db-wal").read_bytes()
            (cut / "log.db-shm").unlink()
            for variant, left in enumerate(torn(wal, 32 + frames * (page_bytes + 24), chance)):
                copy = cut / str(variant)
                copy.mkdir()
                shutil.copy(cut / "log.db", copy)
                (copy / "log.db-wal").write_bytes(left)
                opens_to_a_committed_state(copy / "log.db")
                report = verify_log(copy / "log.db", keys, known=held)
                assert report.verified, (number, variant, report.problems)
                assert_holds(copy / "log.db", acknowledged)
    settle(world, load.acknowledged)


def opens_to_a_committed_state(path: Path) -> None:
    """As the owner of the log does it at each start."""
    store = SqliteStore(path)
    store.open()
    try:
        store.recover()
        tree = recovery.load_tree(store)
        with LogReader(path) as reader:
            origin_key = reader.verifier_key
        recovery.check_note(store, tree, [VerifierKey.parse(origin_key)])
    finally:
        store.close()


def assert_holds(path: Path, acknowledged: list[str]) -> None:
    """Requests and answers that clients know of are there."""
    records = exchange_records(path)
    node = "VN-TEST/GOV/H37/@n1"
    closed = closing_records(records, node)
    ids = {record.id: key for key, record in records.items() if record.type == "query"}
    for record_id in acknowledged:
        assert closed[ids[record_id]] == 1


# --- each step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "action"), KILLS)
def test_a_gateway_killed_at_a_step_of_the_commit_has_lost_nothing_that_anyone_saw(
    world: FaultWorld, step: str, action: str
) -> None:
    acknowledged = both_break(world, step, action)
    assert world.wait_end("H37") == world.wait_end("G02") == -signal.SIGKILL
    world.start_gateways("H37", "G02")
    settle(world, acknowledged)


@pytest.mark.parametrize(("step", "action"), FAILURES)
def test_a_commit_that_fails_or_is_reported_as_failed_heals_without_a_restart(
    world: FaultWorld, step: str, action: str
) -> None:
    failures = {code: world.metric(code, "lienthong_log_failures_total") for code in ("H37", "G02")}
    pids = {code: world.process(code).pid for code in ALL}
    acknowledged = both_break(world, step, action)
    assert {code: world.process(code).pid for code in ALL} == pids
    assert all(world.process(code).poll() is None for code in ALL)
    for code, before in failures.items():
        assert world.metric(code, "lienthong_log_failures_total") > before
    settle(world, acknowledged)


def test_a_request_of_a_dead_run_is_closed_as_unknown(world: FaultWorld) -> None:
    before = outcome_classes(world, "H37")["unknown"]
    client = client_of(world, "H37")
    world.backend.release.clear()
    waiting = world.background(5, client, SERVICE["H37"], "/slow")
    wait_until(lambda: world.backend.waiting == 5, "calls at the back end")
    world.kill_gateway("H37")
    world.backend.release.set()
    assert {outcome.status for outcome in waiting.outcomes()} == {0}
    world.start_gateway("H37")
    assert world.open_requests("H37") == 0, "closed before the gateway says that it is ready"
    assert outcome_classes(world, "H37")["unknown"] == before + 5
    settle(world, [], every_checkpoint=True)
