"""Power cuts under running gateways: what clients and the back end had heard by then is in the log that is left.

Both gateways run under the recorder of `powercut`; afterwards disks are made as cuts at many instants may have left them,
and the exchange log's own recovery opens what is there. The broker is another program without a C library: its syncs
cannot be seen so; docs/durability.md argues it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fault_world import FaultWorld, pair
from world import ClientSystem, wait_until

from evidence.log import ExchangeLog, LogReader
from evidence.verify import verify_log

sys.path.insert(0, str(Path(__file__).parents[1]))

from powercut.disk import Disk, Kind, Operation, read_journal, write_out
from powercut.recording import build, surroundings

SERVICE = "G01/desk/notes"
COMMANDS, THREADS, CUTS = 80, 8, 12
WAYS = ("none", "torn", "all")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    with FaultWorld(tmp_path_factory.mktemp("power")) as made:
        pair(made, "H37", "G01", join_every_s=0.5)
        yield made


def existing(data: Path) -> list[Operation]:
    """What lies in a folder already, as operations that are over."""
    found = []
    for path in sorted(one for one in data.rglob("*") if one.is_file()):
        for kind, content in ((Kind.CREATE, b""), (Kind.WRITE, path.read_bytes()), (Kind.SYNC, b"")):
            found.append(Operation(kind, 0, str(path), 0, content))
        found.append(Operation(Kind.SYNC, 0, str(path.parent)))
    return found


def start_recorded(world: FaultWorld, library: Path, code: str) -> list[Operation]:
    """Starts a gateway under the recorder; what its data folder holds before."""
    data = world.members[code].data
    data.mkdir(exist_ok=True)
    before = existing(data)
    made = surroundings(library, data, world.folder / f"{code}.journal")
    os.environ.update(made)
    try:
        world.start_gateway(code, ready=False)
    finally:
        for name in made:
            del os.environ[name]
    return before


def submit_all(world: FaultWorld, client: ClientSystem) -> dict[str, int]:
    """Submits commands from several threads; when each was acknowledged, on the monotonic clock, by id."""
    accepted: dict[str, int] = {}

    def work(number: int) -> None:
        for _ in range(COMMANDS // THREADS):
            body = json.dumps({"text": f"{number}" * 500}).encode()
            answer = world.call(
                client, SERVICE, "/notes", method="POST", body=body, headers={"Prefer": "respond-async"}
            )
            assert answer.status == 202, answer.body
            accepted[answer.json()["id"]] = time.monotonic_ns()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert len(accepted) == COMMANDS
    return accepted


async def ids_left(world: FaultWorld, code: str, path: Path, table: str) -> set[str]:
    """Ids in a table of a log that the product's own recovery opened, and that verifies as a whole."""
    with LogReader(path) as reader:
        origin = reader.origin
    log = await ExchangeLog.open(
        path, origin=origin, signer=world.members[code].signer("log"), now=lambda: datetime.now(UTC),
        token=lambda: os.urandom(16).hex(),
    )  # fmt: skip
    await log.close()
    report = verify_log(path, [log.verifier_key])
    assert report.verified, report.problems
    with closing(sqlite3.connect(path)) as db:
        return {row[0] for row in db.execute(f"SELECT id FROM {table} WHERE idx IN (SELECT idx FROM leaf)")}


async def check(
    world: FaultWorld, code: str, table: str, before: list[Operation], heard: dict[str, int], tmp_path: Path
) -> None:
    """Cuts the power at many instants between the first and the last that was heard."""
    (journal,) = [
        path for path in world.folder.glob(f"{code}.journal.*") if path.suffix == f".{world.process(code).pid}"
    ]
    operations = read_journal(journal)
    data, chance, disk, seen = world.members[code].data, random.Random(7), Disk(), 0
    first_ns, last_ns = min(heard.values()), max(heard.values())
    interesting = [at for at, one in enumerate(operations) if first_ns <= one.at_ns <= last_ns]
    chosen = set(chance.sample(interesting, CUTS)) | {interesting[-1]}
    for one in before:
        disk.hear(one)
    for at, operation in enumerate(operations):
        disk.hear(operation)
        if at not in chosen:
            continue
        known = {record_id for record_id, at_ns in heard.items() if at_ns <= operation.at_ns}
        seen += len(known)
        for how in WAYS:
            target = tmp_path / "after"
            shutil.rmtree(target, ignore_errors=True)
            write_out(disk.after_cut(chance, how), data, target)
            missing = known - await ids_left(world, code, target / "log.db", table)
            assert not missing, f"{code}, cut after operation {at}, {how}: {len(missing)} of {len(known)} are gone"
    assert seen > COMMANDS, "the cuts came before anything was heard"


@pytest.mark.slow
async def test_a_power_cut_takes_back_nothing_that_was_acknowledged_or_done(world: FaultWorld, tmp_path: Path) -> None:
    library = build(tmp_path)
    client, done = world.clients["H37/app"], dict[str, int]()

    def effect(got):
        done[got.header("X-Road-Request-Id")] = time.monotonic_ns()
        return 200, [("Content-Type", "application/json")], b'{"ok":true}'

    world.backend.answers["/notes"] = effect
    before = {code: start_recorded(world, library, code) for code in ("H37", "G01")}
    for code in before:
        world.wait_ready(code)
    accepted = submit_all(world, client)
    wait_until(lambda: set(accepted) <= set(done), "all effects", 30)
    done = {record_id: done[record_id] for record_id in accepted}
    await check(world, "H37", "command", before["H37"], accepted, tmp_path)
    await check(world, "G01", "taken", before["G01"], done, tmp_path)
