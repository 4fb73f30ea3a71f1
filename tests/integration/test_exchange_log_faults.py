"""The exchange log against real faults: killed processes, full disks, an interrupted file.

A child process writes and tells its parent, over a pipe, what it was told itself: that is what has been *released*.
Whatever happens to the child, nothing released may ever be contradicted or missing.
"""

import asyncio
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence import checkpoint, proof
from evidence.errors import LogUnwritable
from evidence.leaf import CONTROL, DIRECTORY, wrap
from evidence.log import ExchangeLog, LogReader, SqliteStore
from evidence.merkle import verify_consistency
from evidence.proof import Proof
from evidence.signer import FileSigner
from evidence.verify import verify_log

ORIGIN = "0f" * 32 + "/VN/GOV/H37/@n1/1"
SIGNER = FileSigner(Ed25519PrivateKey.from_private_bytes(b"a" * 32))
STEPS = ["begin", "guard_head", "write_leaves", "write_tiles", "write_note", "write_caller_rows", "commit"]
SCHEMA = ["CREATE TABLE IF NOT EXISTS outbox (idx INTEGER PRIMARY KEY, what TEXT)"]


async def open_log(path: Path, **more: object) -> ExchangeLog:
    return await ExchangeLog.open(
        path,
        origin=ORIGIN,
        signer=SIGNER,
        now=lambda: datetime.now(UTC),
        token=lambda: os.urandom(16).hex(),
        schema=SCHEMA,
        retry_s=0.02,
        **more,
    )


class DeadlyStore:
    """Kills its own process before or after one step of a chosen commit."""

    def __init__(self, inner: SqliteStore, step: str, when: str, commits: int) -> None:
        self._inner, self._step, self._when, self._left = inner, step, when, commits

    def __getattr__(self, name):
        method = getattr(self._inner, name)
        if name != self._step:
            return method

        def deadly(*args):
            self._left -= 1
            if not self._left and self._when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = method(*args)
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return deadly


# --- the child ---


async def append_until_refused(log: ExchangeLog, leaf: bytes, rows) -> list:
    acknowledged = []
    while True:
        try:
            acknowledged += await log.append([leaf], rows)
        except LogUnwritable:
            return acknowledged


def tell(kind: str, **what: object) -> None:
    os.write(1, (json.dumps({"kind": kind, **what}) + "\n").encode())


async def write(log: ExchangeLog, number: int, worker: int) -> None:
    """Append leaves with an outbox row and tell of each that was acknowledged."""
    while True:
        leaf = wrap(DIRECTORY, f"{os.getpid()} {worker} {number}".encode() * 20)
        row = (0, "INSERT INTO outbox VALUES (?, ?)", (str(number),))
        (logged,) = await log.append([leaf], [row])
        tell("logged", index=logged.index, leaf=leaf.hex(), path=logged.path.hex(), note=logged.note.decode())
        number += 1


async def child(path: Path, step: str, when: str, commits: int) -> None:
    def factory(path: Path) -> DeadlyStore:
        return DeadlyStore(SqliteStore(path), step, when, commits)

    log = await open_log(path, store_factory=factory)
    tell("opened", size=log.size, note=log.note.decode())
    await asyncio.gather(*(write(log, 0, worker) for worker in range(5)))


async def starving_child(path: Path) -> None:
    """Meets a limit on file sizes, and recovers when it is lifted."""
    log = await open_log(path)
    await log.append([wrap(DIRECTORY, b"before")])
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    acknowledged = await append_until_refused(log, wrap(DIRECTORY, b"x" * 500), [])
    assert not log.writable
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await log.until_writable()
    (after,) = await log.append([wrap(DIRECTORY, b"after")])
    tell("done", acknowledged=[entry.index for entry in acknowledged], after=after.index, note=log.note.decode())
    await log.close()


# --- the parent ---


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def told(output: bytes) -> list[dict[str, object]]:
    """Whole lines only: the last one may be cut."""
    return [json.loads(line) for line in output.split(b"\n")[:-1]]


class Memory:
    """What a counterparty remembers: every root it was ever shown, by size."""

    def __init__(self) -> None:
        self.roots: dict[int, bytes] = {}
        self.notes: list[bytes] = []
        self.leaves: dict[int, bytes] = {}

    def remember(self, lines: list[dict[str, object]], key) -> None:
        for line in lines:
            note = line["note"].encode()
            signed = checkpoint.verify(note, [key])
            assert self.roots.setdefault(signed.size, signed.root) == signed.root, "two roots of one size were released"
            self.notes.append(note)
            if line["kind"] == "logged":
                leaf = bytes.fromhex(line["leaf"])
                proof.verify_proof(Proof(line["index"], bytes.fromhex(line["path"]), note), leaf, [key])
                assert self.leaves.setdefault(line["index"], leaf) == leaf

    async def check(self, path: Path) -> None:
        """Reopen and require that everything remembered is there and continued."""
        log = await open_log(path)
        try:
            for index, leaf in self.leaves.items():
                assert await log.read(index) == leaf
            for size, root in self.roots.items():
                verify_consistency(size, log.size, root, log.root, await log.consistency(size, log.size))
            assert self.roots.setdefault(log.size, log.root) == log.root
            key = log.verifier_key
        finally:
            await log.close()
        report = verify_log(path, [key], known=self.notes, every_checkpoint=True)
        assert report.verified, report.problems
        assert set(report.counts) <= {"directory", "control"}
        with LogReader(path) as reader, sqlite3.connect(path) as connection:
            rows = {index for (index,) in connection.execute("SELECT idx FROM outbox")}
            admin = {index for index, _, leaf in reader.leaves() if not leaf.startswith(CONTROL)}
        connection.close()
        assert rows == admin, "callers' rows and leaves stand or fall together"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_process_killed_at_a_step_loses_nothing_that_it_released(tmp_path, step, when):
    path, memory = tmp_path / "log.db", Memory()
    # each round dies at a later commit; tiles are complete only once in 256 leaves
    for commits in (1,) if step == "write_tiles" else (2, 5, 3):
        with running("child", path, step, when, commits) as process:
            output, errors = await asyncio.to_thread(process.communicate, timeout=60)
            assert process.returncode == -signal.SIGKILL, errors.decode()
        memory.remember(told(output), verifier_key())
        await memory.check(path)
    assert memory.leaves or step != "write_tiles"


def verifier_key():
    from evidence.note import VerifierKey

    return VerifierKey(checkpoint.key_name(ORIGIN), SIGNER.public_bytes)


async def test_a_process_killed_at_any_moment_loses_nothing_that_it_released(tmp_path):
    path, memory = tmp_path / "log.db", Memory()
    for lines in (1, 40, 170, 300):
        with running("child", path, "none", "before", 0) as process:
            output = b""
            while output.count(b"\n") < lines:
                chunk = await asyncio.to_thread(os.read, process.stdout.fileno(), 1 << 16)
                assert chunk, process.stderr.read().decode()
                output += chunk
            process.kill()
            output += process.communicate(timeout=60)[0]
        memory.remember(told(output), verifier_key())
        await memory.check(path)
    assert len(memory.leaves) > 300


async def test_a_file_that_cannot_grow_stops_the_log_until_it_can(tmp_path):
    path = tmp_path / "log.db"
    with running("starving", path) as process:
        output, errors = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, errors.decode()
    (line,) = told(output)
    assert line["acknowledged"] == list(range(2, 2 + len(line["acknowledged"])))
    report = verify_log(path, [verifier_key()], known=[line["note"].encode()], every_checkpoint=True)
    assert report.verified, report.problems
    assert report.counts["control"] == 2


class SmallStore(SqliteStore):
    """A store on a disk whose size a test sets, in pages."""

    __slots__ = ()
    pages = 1 << 30

    def open(self) -> None:
        super().open()
        self._db.execute(f"PRAGMA max_page_count={type(self).pages}")


@pytest.mark.parametrize("also_write", [False, True])
async def test_a_full_disk_stops_the_log_until_there_is_space(tmp_path, also_write):
    class Store(SmallStore):
        __slots__ = ()

    path = tmp_path / "log.db"
    log = await open_log(path, store_factory=Store)
    key = log.verifier_key
    leaf = wrap(DIRECTORY, b"x" * 2_000)
    row = [(0, "INSERT INTO outbox VALUES (?, ?)", ("y" * 20_000,))] if also_write else []
    acknowledged = await log.append([leaf], row)
    Store.pages = 60
    log._appender._store._db.execute("PRAGMA max_page_count=60")
    acknowledged += await append_until_refused(log, leaf, row)
    before = log.note
    assert not log.writable
    with pytest.raises(LogUnwritable):
        await log.append([leaf])
    Store.pages = 1 << 30
    await log.until_writable()
    acknowledged += await log.append([leaf], row)
    await log.close()
    with LogReader(path) as reader:
        for entry in acknowledged:
            assert reader.prove(entry.index, entry.size) == entry
    report = verify_log(path, [key], known=[before], every_checkpoint=True)
    assert report.verified, report.problems
    assert report.counts == {"directory": len(acknowledged), "control": 2}


if __name__ == "__main__":
    if sys.argv[1] == "starving":
        asyncio.run(starving_child(Path(sys.argv[2])))
    else:
        asyncio.run(child(Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])))
