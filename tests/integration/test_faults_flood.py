"""A flood towards a receiver that is stuck: memory stays bounded, and another member's commands keep their pace.

Run it with `-s` to see what was measured. The bounds are wide, because machines are shared; what they rule out is growth
with the flood, and a latency that belongs to the flood.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest
from fault_world import FaultWorld, pair
from world import ClientSystem, wait_until

FLOODED, QUIET = "G01/desk/notes", "F77/desk/notes"
WAITING, TASKS = 1_500, 300
BODY = json.dumps({"text": "flood " * 2_500}).encode()
GROWTH_MIB = 80.0
IDLE = 0.25
"""Most of a processor that a gateway may use whose receivers are all stuck."""
PACE_S = 0.75
"""Longest median from acceptance to completion of the undisturbed member, while the others are flooding."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("flood")) as made:
        pair(made, "H37", "G01")
        pair(made, "E66", "F77")
        made.configure("H37", "commands", retry_s=1.0, waiting=WAITING)
        made.configure("G01", "commands", tasks=TASKS)
        made.start_gateways("H37", "G01", "E66", "F77")
        for client, service in (("H37/app", FLOODED), ("E66/app", QUIET)):
            made.until_ok(made.clients[client], service)
        yield made


def submit(world: FaultWorld, client: ClientSystem, service: str, body: bytes) -> tuple[int, str]:
    """One command; status, and its id or the code of the refusal."""
    answer = world.call(client, service, "/notes", method="POST", body=body, headers={"Prefer": "respond-async"})
    return answer.status, str(answer.json()["id"]) if answer.status == 202 else answer.code


def pace_s(world: FaultWorld, count: int = 25) -> float:
    """Median time from submission to the fetched state `completed`, for the undisturbed pair."""
    client = world.clients["E66/app"]
    headers = {"X-Road-Client": client.subsystem, "X-LienThong-Key": client.key, "Prefer": "wait=20"}
    found = []
    for _ in range(count):
        began_s = time.monotonic()
        status, record_id = submit(world, client, QUIET, b'{"text":"an ordinary dossier"}')
        assert status == 202, record_id
        told = world.request(world.members["E66"], "GET", f"/exchanges/{record_id}", headers).json()
        assert told["state"] == "completed", told
        found.append(time.monotonic() - began_s)
    return statistics.median(found)


def memory_mib(world: FaultWorld) -> dict[str, float]:
    """Resident memory of the processes that the flood goes through."""
    server = json.loads((world.home / "broker" / "listening.json").read_bytes())["server_pid"]
    pids = {"broker": server, **{code: world.process(code).pid for code in ("H37", "G01")}}
    return {name: psutil.Process(pid).memory_info().rss / 2**20 for name, pid in pids.items()}


def cpu_s(world: FaultWorld) -> dict[str, float]:
    server = json.loads((world.home / "broker" / "listening.json").read_bytes())["server_pid"]
    pids = {"broker": server, "H37": world.process("H37").pid}
    return {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items()}


class Flood:
    """Commands from several threads until stopped; `told` counts what came back."""

    def __init__(self, world: FaultWorld, threads: int = 4) -> None:
        self.told: Counter[str] = Counter()
        self._world = world
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            status, code = submit(self._world, self._world.clients["H37/app"], FLOODED, BODY)
            self.told["accepted" if status == 202 else code] += 1
            self._stop.wait(0.0 if status == 202 else 0.05)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def used(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {name: round(after[name] - before[name], 2) for name in before}


@pytest.mark.slow
def test_a_flood_towards_a_stuck_gateway_is_bounded_and_nobody_elses_concern(world: FaultWorld) -> None:
    calm_s, before = pace_s(world), memory_mib(world)
    with world.stopped("G01"):
        flood = Flood(world)
        wait_until(lambda: flood.told["outbox-share-full"] > 20, "its share of the outbox full", 100)
        flooded_s, during = pace_s(world), memory_mib(world)
        flood.stop()
        spent, began_s = cpu_s(world), time.monotonic()
        stuck_s = pace_s(world)
        left = {name: used_s / (time.monotonic() - began_s) for name, used_s in used(spent, cpu_s(world)).items()}
    print(f"\npace calm {calm_s:.3f} s, under flood {flooded_s:.3f} s, stuck {stuck_s:.3f} s; told {dict(flood.told)}")
    print(f"memory grew by {used(before, during)} MiB; processors while only stuck: {left}")
    assert set(flood.told) <= {"accepted", "outbox-share-full"}, flood.told
    assert flood.told["accepted"] <= WAITING + 64, "more than the outbox may hold was accepted"
    assert all(grown < GROWTH_MIB for grown in used(before, during).values()), (before, during)
    assert flooded_s < PACE_S, (calm_s, flooded_s)
    assert stuck_s < PACE_S, (calm_s, stuck_s)
    assert left["H37"] < IDLE, "attempts that the stuck receiver's stream refuses keep the processor busy"
    began_s = time.monotonic()
    wait_until(lambda: world.metric("H37", "lienthong_outbox_records") == 0, "the flood drained", 100)
    print(f"drained in {time.monotonic() - began_s:.1f} s")


@pytest.mark.slow
def test_a_flood_towards_a_stuck_back_end_is_bounded_too(world: FaultWorld) -> None:
    calm_s, before = pace_s(world), memory_mib(world)
    hold = threading.Event()

    def held(got):
        if b"flood" in got.body:
            hold.wait(60)
        return 200, [("Content-Type", "application/json")], b'{"ok":true}'

    world.backend.answers["/notes"] = held
    try:
        flood = Flood(world)
        wait_until(lambda: flood.told["outbox-share-full"] > 20, "its share of the outbox full", 100)
        flooded_s, during = pace_s(world), memory_mib(world)
        flood.stop()
    finally:
        hold.set()
        world.backend.answers.clear()
    print(f"\npace calm {calm_s:.3f} s, under flood {flooded_s:.3f} s; told {dict(flood.told)}")
    print(f"memory grew by {used(before, during)} MiB")
    assert all(grown < GROWTH_MIB for grown in used(before, during).values()), (before, during)
    assert flooded_s < PACE_S, (calm_s, flooded_s)
    began_s = time.monotonic()
    wait_until(lambda: world.metric("H37", "lienthong_outbox_records") == 0, "the flood drained", 100)
    print(f"drained in {time.monotonic() - began_s:.1f} s")
