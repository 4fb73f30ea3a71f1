"""After a power cut at any instant, the real recovery finds everything that was acknowledged before it."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from evidence.log import LogReader
from evidence.merkle import leaf_hash
from evidence.verify import verify_log

from .disk import Disk, Kind, Operation, cuts, read_journal, write_out
from .recording import build, run
from .writing_log import open_log

HERE = Path(__file__).parent
WAYS = ("none", "torn", "torn", "all")
SEED = 7


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("recorder"))


def said(operations: list[Operation]) -> list[str]:
    """What the program acknowledged, line by line."""
    data = b"".join(one.data for one in operations if one.kind is Kind.WRITE and one.path.endswith("/acknowledged"))
    return data.decode().splitlines()


def rest_of(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if not name.endswith("/acknowledged")}


async def lost_by_log(under: Path, operations: list[Operation], tmp_path: Path, every: int) -> list[str]:
    """Cuts the power many times; what of the acknowledged was not there, or why the log could not be opened."""
    chance, lost, tried = random.Random(SEED), [], 0
    for count, disk in cuts(operations, chance, every):
        acknowledged = [json.loads(line) for line in said(operations[:count])]
        for how in WAYS:
            target = tmp_path / "after"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            write_out(rest_of(disk.after_cut(chance, how)), under, target)
            tried += 1
            try:
                await check_log(target / "log.db", acknowledged)
            except Exception as error:  # whatever stands in the way of the data
                lost.append(f"after {count} operations, {how}: {type(error).__name__}: {str(error)[:200]}")
    assert tried > 40, "too few cuts to say anything"
    return lost


async def check_log(path: Path, acknowledged: list[dict]) -> None:
    """The log opens, continues, verifies, and holds what was acknowledged, with the rows beside it."""
    log = await open_log(path)
    await log.append([b"lienthong/v1/directory\nafter the cut"])
    await log.close()
    with LogReader(path) as reader:
        leaves = {index: data for index, _, data in reader.leaves()}
    for one in acknowledged:
        assert leaf_hash(leaves[one["index"]]).hex() == one["hash"], f"record {one['index']} is another"
    newest = [max(acknowledged, key=lambda one: one["index"])["note"].encode()] if acknowledged else []
    report = verify_log(path, [log.verifier_key], known=newest)
    assert report.verified, report.problems
    with closing(sqlite3.connect(path)) as db:
        rows = {row[0] for row in db.execute("SELECT idx FROM outbox")}
    assert {one["index"] for one in acknowledged} <= rows, "a row beside the log is missing"


async def test_an_exchange_log_holds_what_it_acknowledged_after_any_cut(library: Path, tmp_path: Path) -> None:
    under = tmp_path / "data"
    operations = read_journal(run(library, under, HERE / "writing_log.py", str(under), "120"))
    assert len(said(operations)) == 600
    assert sum(one.kind is Kind.WRITE and one.path.endswith("log.db") for one in operations) > 200, "no checkpoint ran"
    assert await lost_by_log(under, operations, tmp_path, len(operations) // 30) == []


async def test_a_log_that_never_syncs_is_caught(library: Path, tmp_path: Path) -> None:
    """The test's own test: with syncs that do nothing, cuts lose what was acknowledged, and it is seen."""
    under = tmp_path / "data"
    operations = read_journal(run(library, under, HERE / "writing_log.py", str(under), "20", ignores_sync=True))
    assert await lost_by_log(under, operations, tmp_path, len(operations) // 15) != []


def test_own_documents_are_there_after_any_cut(library: Path, tmp_path: Path) -> None:
    from registry.database import open_store

    from .writing_store import SCHEMA

    under, chance = tmp_path / "data", random.Random(SEED)
    operations = read_journal(run(library, under, HERE / "writing_store.py", str(under), "400"))
    assert sum(one.kind is Kind.WRITE and one.path.endswith("own.db") for one in operations) > 50, "no checkpoint ran"
    for count, disk in cuts(operations, chance, len(operations) // 40):
        acknowledged = {int(line) for line in said(operations[:count])}
        for how in WAYS:
            target = tmp_path / "after"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            write_out(rest_of(disk.after_cut(chance, how)), under, target)
            with closing(
                open_store(target / "own.db", kind="own-documents", version=1, genesis="0f" * 32, schema=SCHEMA)
            ) as store:
                assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                found = {row[0] for row in store.execute("SELECT number FROM own")}
            assert acknowledged <= found, (count, how)
            assert len(found) <= len(acknowledged) + 1, (count, how)


def test_keys_and_settings_are_whole_and_there_after_any_cut(library: Path, tmp_path: Path) -> None:
    under, chance = tmp_path / "data", random.Random(SEED)
    operations = read_journal(run(library, under, HERE / "writing_keys.py", str(under), "6"))
    for count, disk in cuts(operations, chance, 1):
        told = dict(line.split() for line in said(operations[:count]))
        written = [line.split()[1] for line in said(operations) if line.startswith("replaced ")]
        for how in WAYS:
            files = {Path(name).name: data.hex() for name, data in rest_of(disk.after_cut(chance, how)).items()}
            for name, data in told.items():
                if name == "replaced":  # the next one may be there already, but never less and never half
                    assert files.get(name) in written[written.index(data) :], (count, how, name)
                else:
                    assert files.get(name) == data, (count, how, name)


def test_the_model_drops_what_was_not_synced_and_keeps_what_was() -> None:
    disk, chance = Disk(), random.Random(1)
    for kind, name, offset, data in (
        (Kind.CREATE, "/d/a", 0, b""),
        (Kind.WRITE, "/d/a", 0, b"one"),
        (Kind.SYNC, "/d/a", 0, b""),
    ):
        disk.hear(Operation(kind, 0, name, offset, data))
    assert disk.after_cut(chance, "none") == {}, "the name is not certain before its folder is synced"
    assert disk.after_cut(chance, "all") == {"/d/a": b"one"}
    disk.hear(Operation(Kind.SYNC, 0, "/d"))
    disk.hear(Operation(Kind.WRITE, 0, "/d/a", 3, b"two" * 1_000))
    assert disk.after_cut(chance, "none") == {"/d/a": b"one"}
    torn = {disk.after_cut(chance, "torn")["/d/a"] for _ in range(20)}
    assert len(torn) > 10
    assert all(one.startswith(b"one") for one in torn)
    disk.hear(Operation(Kind.UNLINK, 0, "/d/a"))
    assert disk.after_cut(chance, "none") == {"/d/a": b"one"}
    disk.hear(Operation(Kind.SYNC, 0, "/d"))
    assert disk.after_cut(chance, "none") == {}
