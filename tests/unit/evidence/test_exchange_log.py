import asyncio
import shutil
import sqlite3
import threading
from contextlib import suppress

import pytest
from log_world import G01, NOW, ORIGIN, ORIGIN_G01, SIGNER, SIGNER_G01, Faults, Heard, opened, record, token

from evidence import checkpoint, proof
from evidence.errors import (
    IndexUnknown,
    KeyUnusable,
    LeafMalformed,
    LeafTooLarge,
    LogBusy,
    LogClosed,
    LogCorrupt,
    LogForked,
    LogLocked,
    LogMismatch,
    LogUnwritable,
    ProofInvalid,
    RowRefused,
    SchemaNewer,
)
from evidence.leaf import EXCHANGE, decode_control, unwrap
from evidence.log import ExchangeLog, LogReader, appender, exchange_log
from evidence.merkle import leaf_hash, verify_consistency
from evidence.proof import Proof
from evidence.signer import FileSigner

OUTBOX = ["CREATE TABLE IF NOT EXISTS outbox (idx INTEGER, what TEXT UNIQUE)"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.db"


def check(log, leaf, logged):
    """The proof that a caller received holds."""
    found = proof.verify_proof(Proof(logged.index, logged.path, logged.note), leaf, [log.verifier_key])
    assert (found.origin, found.size) == (log.origin, logged.size)
    assert logged.leaf_hash == leaf_hash(leaf)


def rows(path):
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT idx, what FROM outbox ORDER BY rowid").fetchall()
    connection.close()
    return found


async def test_a_new_log_begins_with_a_control_leaf(path):
    async with opened(path) as log:
        assert (log.size, log.writable, log.origin) == (1, True, ORIGIN)
        assert checkpoint.verify(log.note, [log.verifier_key]).root == log.root
        _, data = unwrap(await log.read(0))
        assert decode_control(data).time == "2026-11-23T01:02:03.000000Z"


async def test_an_append_returns_proofs_that_hold(path):
    async with opened(path) as log:
        leaves = [record() for _ in range(5)]
        logged = await log.append(leaves)
        assert [entry.index for entry in logged] == [1, 2, 3, 4, 5]
        for leaf, entry in zip(leaves, logged, strict=True):
            check(log, leaf, entry)
            assert await log.prove(entry.index) == entry
        assert (log.size, log.note) == (6, logged[0].note)


async def test_concurrent_appends_share_commits(path):
    heard = Heard()
    async with opened(path, observer=heard) as log:
        leaves = [record() for _ in range(200)]
        logged = await asyncio.gather(*(log.append([leaf]) for leaf in leaves))
        assert [entry.index for (entry,) in logged] == list(range(1, 201))
        for leaf, (entry,) in zip(leaves, logged, strict=True):
            check(log, leaf, entry)
        assert heard.batches == [1, 128, 72]
        assert heard.failures == 0


async def test_a_batch_has_a_bound_but_a_call_stays_whole(path):
    heard = Heard()
    async with opened(path, observer=heard) as log:
        counts = [appender.MAX_BATCH_LEAVES + 1, 600, 600]
        calls = await asyncio.gather(*(log.append([record() for _ in range(count)]) for count in counts))
        assert heard.batches == [1, *counts]
        assert len({entry.size for entry in calls[1]}) == 1


async def test_callers_rows_are_written_in_the_same_commit(path):
    async with opened(path, schema=OUTBOX) as log:
        insert = "INSERT INTO outbox VALUES (?, ?)"
        await log.append(
            [record(), record()],
            [(1, insert, ("second",)), (0, insert, ("first",)), (None, insert, (None, "none"))],
        )
    assert rows(path) == [(2, "second"), (1, "first"), (None, "none")]


@pytest.mark.parametrize(
    "row",
    [
        (0, "INSERT INTO outbox VALUES (?, ?)", ("taken",)),
        (0, "INSERT INTO outbox VALUES (?, ?)", ()),
        (0, "INSERT INTO outbox VALUES (?, ?)", (object(),)),
        (0, "INSERT INTO nowhere VALUES (?)", ()),
    ],
)
async def test_a_refused_row_harms_only_its_own_call(path, row):
    async with opened(path, schema=OUTBOX) as log:
        await log.append([record()], [(0, "INSERT INTO outbox VALUES (?, ?)", ("taken",))])
        leaves = [record() for _ in range(4)]
        calls = [
            log.append([leaves[0]], [(0, "INSERT INTO outbox VALUES (?, ?)", ("a",))]),
            log.append([leaves[1]], [(0, "INSERT INTO outbox VALUES (?, ?)", ("not stored",)), row]),
            log.append([leaves[2]]),
            log.append([leaves[3]], [(0, "INSERT INTO outbox VALUES (?, ?)", ("b",))]),
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(results[1], RowRefused)
        for at, index in ((0, 2), (2, 3), (3, 4)):
            assert results[at][0].index == index
            check(log, leaves[at], results[at][0])
        assert log.writable
    assert rows(path) == [(1, "taken"), (2, "a"), (4, "b")]


async def test_a_failing_rollback_is_an_unknown_outcome(path):
    faults = Faults()
    async with opened(path, faults=faults, schema=OUTBOX) as log:
        faults.arm("rollback")
        with pytest.raises(LogUnwritable):
            await log.append([record()], [(0, "INSERT INTO nowhere VALUES (?)", ())])
        assert not log.writable
        await log.until_writable()
        check(log, leaf := record(), (await log.append([leaf]))[0])


@pytest.mark.parametrize(
    ("leaves", "more", "error"),
    [
        ([], [], LeafMalformed),
        ([b"no prefix"], [], LeafMalformed),
        ([EXCHANGE + b"x" * 65_535], [], LeafTooLarge),
        ([EXCHANGE], [(1, "SELECT ?", ())], RowRefused),
        ([EXCHANGE], [(-1, "SELECT ?", ())], RowRefused),
    ],
)
async def test_what_is_no_leaf_is_not_taken(path, leaves, more, error):
    async with opened(path) as log:
        with pytest.raises(error):
            await log.append(leaves, more)
        assert log.size == 1


async def test_more_waiting_leaves_than_the_bound_are_refused(path):
    async with opened(path, max_pending=3) as log:
        results = await asyncio.gather(*(log.append([record(), record()]) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [list, LogBusy, LogBusy]
        await log.append([record(), record(), record()])


async def test_a_cancelled_caller_does_not_take_its_leaf_back(path):
    async with opened(path) as log:
        leaf = record()
        task = asyncio.create_task(log.append([leaf]))
        other = asyncio.create_task(log.append([record()]))
        await asyncio.sleep(0)
        task.cancel()
        await other
        assert task.cancelled()
        assert await log.read(1) == leaf


async def test_a_reopened_log_continues_the_old_one(path):
    async with opened(path) as log:
        (old,) = await log.append([leaf := record()])
        old_root = log.root
    async with opened(path) as log:
        assert log.size == old.size + 1
        path_between = await log.consistency(old.size, log.size)
        verify_consistency(old.size, log.size, old_root, log.root, path_between)
        check(log, leaf, await log.prove(old.index))
        assert await log.prove(old.index, old.size) == old


async def test_late_proofs_have_one_checkpoint_for_a_while(path):
    async with opened(path) as log:
        await log.append([record()])
        first = await log.prove_late(1)
        await log.append([record()])
        assert (await log.prove_late(1)).note == first.note, "the same checkpoint as a moment ago"
        assert (await log.prove_late(2)).size == log.size, "what came after it has a newer one"
        assert (await log.prove_late(1)).size == log.size
        with pytest.raises(IndexUnknown):
            await log.prove_late(log.size)


async def test_a_log_over_many_tiles_reopens_and_proves(path):
    async with opened(path) as log:
        leaves = [record() for _ in range(700)]
        for start in range(0, 700, 100):
            await log.append(leaves[start : start + 100])
        middle = log.size
    async with opened(path) as log:
        for index in (1, 255, 256, 257, 511, 512, 700):
            check(log, leaves[index - 1], await log.prove(index))
            check(log, leaves[index - 1], await log.prove(index, middle))


async def test_two_processes_never_write_one_log(path):
    async with opened(path):
        with pytest.raises(LogLocked):
            async with opened(path):
                pass
    async with opened(path) as log:
        assert log.size == 2


async def test_a_log_of_another_origin_or_key_is_not_opened(path):
    async with opened(path):
        pass
    for how in ({"origin": ORIGIN_G01}, {"signer": SIGNER_G01}):
        with pytest.raises(LogMismatch):
            async with opened(path, **how):
                pass
    async with opened(path) as log:
        assert log.size == 2


async def test_a_log_of_a_newer_program_is_not_opened(path):
    async with opened(path):
        pass
    edit(path, "UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(SchemaNewer) as caught:
        async with opened(path):
            pass
    assert (caught.value.found, caught.value.supported) == (99, 1)
    with pytest.raises(SchemaNewer):
        LogReader(path)


async def test_only_an_ed25519_key_signs_a_log(path):
    with pytest.raises(KeyUnusable):
        async with opened(path, signer=FileSigner.generate("p256")):
            pass
    with pytest.raises(OSError, match="no store"):
        await ExchangeLog.open(path, origin=ORIGIN, signer=SIGNER, now=lambda: NOW, token=token, store_factory=no_store)
    async with opened(path):
        pass  # the lock was given back


def no_store(_path):
    raise OSError("no store")


async def test_a_log_that_cannot_be_made_says_so(tmp_path):
    with pytest.raises(LogUnwritable):
        async with opened(tmp_path / "missing" / "log.db"):
            pass
    (tmp_path / "log.db").mkdir()
    with pytest.raises(LogUnwritable):
        async with opened(tmp_path / "log.db"):
            pass


async def test_a_closed_log_takes_nothing(path):
    async with opened(path) as log:
        waiting = [asyncio.create_task(log.append([record()])) for _ in range(3)]
        await asyncio.sleep(0)
        await log.close()
        assert [entry.index for task in waiting for entry in task.result()] == [1, 2, 3]
        assert not log.writable
        for call in (log.append([record()]), log.prove(0), log.until_writable()):
            with pytest.raises(LogClosed):
                await call
        await log.close()


async def test_a_close_past_its_deadline_refuses_who_still_waits(path, monkeypatch):
    monkeypatch.setattr(appender, "CLOSE_DEADLINE_S", 0.0)
    faults = Faults()
    async with opened(path, faults=faults) as log:
        gate = faults.gates["commit"] = threading.Event()
        first = asyncio.create_task(log.append([record()]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = asyncio.create_task(log.append([record()]))
        await asyncio.sleep(0)
        await log.close()
        with pytest.raises(LogUnwritable):
            await second
        with pytest.raises(LogLocked):  # the file is still in use
            async with opened(path):
                pass
        gate.set()
        assert (await first)[0].index == 1


async def test_questions_beyond_the_log_are_refused(path):
    async with opened(path) as log:
        await log.append([record()])
        for question in (
            log.prove(2),
            log.prove(-1),
            log.prove(0, 3),
            log.prove(1, 1),
            log.consistency(1, 3),
            log.read(2),
            log.read(-1),
        ):
            with pytest.raises(IndexUnknown):
                await question
        with pytest.raises(ProofInvalid):
            await log.consistency(0, 2)


async def test_reads_have_a_bound(path, monkeypatch):
    monkeypatch.setattr(exchange_log, "MAX_READS", 1)
    async with opened(path) as log:
        results = await asyncio.gather(log.read(0), log.read(0), return_exceptions=True)
        assert [type(result) for result in results] == [bytes, LogBusy]


# --- what was stored is examined on opening ---


def edit(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leaf SET data = CAST(data || x'00' AS BLOB) WHERE idx = 301",
        "UPDATE leaf SET hash = zeroblob(32) WHERE idx = 301",
        "DELETE FROM leaf WHERE idx = 301",
        "DELETE FROM leaf WHERE idx >= 256",
        "INSERT INTO leaf VALUES (303, zeroblob(32), x'00')",
        "DELETE FROM tile",
        "UPDATE tile SET root = zeroblob(32)",
        "UPDATE head SET root = zeroblob(32)",
        "UPDATE head SET edge = zeroblob(32)",
        "UPDATE head SET size = 302",
        "DELETE FROM note WHERE size = 301",
        "UPDATE note SET note = (SELECT note FROM note WHERE size = 1) WHERE size = 301",
        "UPDATE note SET note = x'ff' WHERE size = 301",
    ],
)
async def test_a_changed_log_is_not_continued(path, statement):
    async with opened(path) as log:
        await log.append([record() for _ in range(300)])
        assert log.size == 301
    edit(path, statement.replace("301", "300") if "idx = 301" in statement else statement)
    with pytest.raises(LogCorrupt):
        async with opened(path):
            pass


# --- failures of each step of a commit ---

STEPS = ["begin", "guard_head", "write_leaves", "write_tiles", "write_note", "write_caller_rows", "commit"]


@pytest.mark.parametrize("how", ["fails", "reported"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_failed_step_refuses_everybody_and_the_log_recovers(path, step, how):
    faults, heard = Faults(), Heard()
    released = {}
    async with opened(path, faults=faults, observer=heard, schema=OUTBOX) as log:
        before = await log.append([record() for _ in range(254)])
        released[log.size] = log.root
        faults.arm(step, how)
        row = [(0, "INSERT INTO outbox VALUES (?, ?)", ("x",))]
        lost = [record() for _ in range(3)]
        results = await asyncio.gather(
            *(log.append([leaf], row) for leaf in lost[:1]),
            *(log.append([leaf]) for leaf in lost[1:]),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [LogUnwritable] * 3
        assert heard.failures == 1
        assert released == {log.size: log.root}, "nothing of the failed batch is visible"
        assert not log.writable
        with pytest.raises(LogUnwritable):
            await log.append([record()])
        await log.until_writable()
        stored = step == "commit" and how == "reported"
        assert log.size == 255 + (3 if stored else 0) + 1
        proof_between = await log.consistency(255, log.size)
        verify_consistency(255, log.size, released[255], log.root, proof_between)
        (after,) = await log.append([leaf := record()])
        check(log, leaf, after)
        assert await log.prove(before[0].index, 255) == before[0]
        assert unwrap(await log.read(log.size - 2))[1].startswith(b'{"kind":"boot"')
    assert rows(path) == ([(255, "x")] if stored else [])


async def test_a_failing_wal_checkpoint_is_recovered_from(path, monkeypatch):
    monkeypatch.setattr(appender, "CHECKPOINT_IDLE_PAGES", 1)
    faults, heard = Faults(), Heard()
    async with opened(path, faults=faults, observer=heard) as log:
        faults.arm("checkpoint")
        with suppress(LogUnwritable):  # the checkpoint after the control leaf may be the one that fails
            await log.append([record()])
        await asyncio.wait_for(heard.failure.wait(), 30)
        await log.until_writable()
        check(log, leaf := record(), (await log.append([leaf]))[0])


@pytest.mark.parametrize("step", ["open", "recover", "head", "tail", "note", "begin", "commit"])
async def test_recovery_is_tried_until_it_succeeds(path, step):
    faults, heard = Faults(), Heard()
    async with opened(path, faults=faults, observer=heard) as log:
        await log.append([record()])
        faults.arm(step, times=4)
        if step not in {"begin", "commit"}:
            faults._armed["write_note"] = ["fails", 1, OSError("gone")]
        with pytest.raises(LogUnwritable):
            await log.append([record()])
        await log.until_writable()
        assert log.size == 3
        assert faults._armed[step][1] == 0
        check(log, leaf := record(), (await log.append([leaf]))[0])


async def test_who_waits_for_the_next_batch_is_refused_too(path):
    faults = Faults()
    async with opened(path, faults=faults) as log:
        faults.arm("commit")
        first = asyncio.create_task(log.append([record()]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        second = asyncio.create_task(log.append([record()]))
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(result) for result in results] == [LogUnwritable] * 2
        await log.until_writable()


async def test_a_log_that_cannot_be_opened_gives_the_lock_back(path):
    for step in ("open", "recover", "initialise", "begin", "commit"):
        faults = Faults()
        faults.arm(step)
        with pytest.raises(LogUnwritable):
            async with opened(path, faults=faults):
                pass
    async with opened(path) as log:
        assert log.writable


async def test_closing_ends_a_recovery(path):
    faults = Faults()
    async with opened(path, faults=faults, retry_s=3600) as log:
        faults.arm("commit")
        faults.arm("recover", times=1000)
        with pytest.raises(LogUnwritable):
            await log.append([record()])
    assert not log.writable


async def test_a_failure_while_closing_starts_no_recovery(path):
    faults = Faults()
    async with opened(path, faults=faults) as log:
        faults.arm("commit")
        task = asyncio.create_task(log.append([record()]))
        await asyncio.sleep(0)
        await log.close()
        with pytest.raises(LogUnwritable):
            await task


class BrokenSigner:
    algorithm = "EdDSA"
    public_bytes = SIGNER.public_bytes
    broken = False

    def sign(self, data):
        if self.broken:
            raise RuntimeError("the token was pulled out")
        return SIGNER.sign(data)


async def test_a_failing_signer_leaves_nobody_waiting(path):
    signer = BrokenSigner()
    async with opened(path, signer=signer) as log:
        signer.broken = True
        with pytest.raises(LogUnwritable):
            await log.append([record()])
        signer.broken = False
        await log.until_writable()
        assert log.size == 2


# --- another file takes the log's place while it runs ---


async def replaced(path, copy, faults, log):
    for suffix in ("", "-wal", "-shm"):
        target = path.with_name(path.name + suffix)
        target.unlink(missing_ok=True)
    shutil.copy(copy, path)
    faults.arm("commit")
    with pytest.raises(LogUnwritable):
        await log.append([record()])
    await log.until_writable()


async def test_an_older_copy_in_its_place_halts_the_log(path):
    faults = Faults()
    async with opened(path):
        pass
    shutil.copy(path, path.with_name("older.db"))
    async with opened(path, faults=faults) as log:
        await log.append([record() for _ in range(3)])
        note = log.note
        with pytest.raises(LogForked):
            await replaced(path, path.with_name("older.db"), faults, log)
        with pytest.raises(LogForked):
            await log.append([record()])
        assert (log.note, log.writable) == (note, False)


@pytest.mark.parametrize("leaves", [3, 300])
async def test_a_diverged_copy_in_its_place_halts_the_log(path, leaves):
    faults = Faults()
    async with opened(path):
        pass
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    async with opened(copy) as other:
        await other.append([record(to=G01) for _ in range(leaves + 3)])
    async with opened(path, faults=faults) as log:
        await log.append([record() for _ in range(leaves)])
        with pytest.raises(LogForked):
            await replaced(path, copy, faults, log)


# --- the write-ahead log stays bounded ---


async def test_the_write_ahead_log_is_checkpointed_when_idle(path, monkeypatch):
    monkeypatch.setattr(appender, "CHECKPOINT_IDLE_PAGES", 40)
    faults = Faults()
    async with opened(path, faults=faults) as log:
        for _ in range(60):
            await log.append([record()])
        assert faults.seen.count("checkpoint") >= 3
        assert path.with_name("log.db-wal").stat().st_size < 200 * 4120


async def test_the_write_ahead_log_is_checkpointed_under_load(path, monkeypatch):
    monkeypatch.setattr(appender, "CHECKPOINT_IDLE_PAGES", 10**9)
    monkeypatch.setattr(appender, "CHECKPOINT_BOUND_PAGES", 40)
    faults = Faults()
    async with opened(path, faults=faults) as log:
        reader = LogReader(path)

        calls = []
        for _ in range(60):
            # while this one is committed, the next already waits
            calls.append(asyncio.create_task(log.append([record()])))
            await asyncio.wait(calls[-2:-1] or [asyncio.create_task(asyncio.sleep(0))])
        await asyncio.gather(*calls)
        assert faults.seen.count("checkpoint") >= 3
        assert reader.head().size == log.size
        reader.close()
