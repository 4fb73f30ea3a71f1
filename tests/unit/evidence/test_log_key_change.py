"""A log that goes on under another key: between two commits, over failures, over restarts."""

import asyncio

import pytest
from log_world import ORIGIN, SIGNER, Faults, opened, record

from evidence import checkpoint
from evidence.checkpoint import key_name
from evidence.errors import KeyUnusable, LogMismatch, LogUnwritable, NoteUnsigned
from evidence.note import VerifierKey
from evidence.signer import FileSigner
from evidence.verify import verify_log

OLD = VerifierKey(key_name(ORIGIN), SIGNER.public_bytes)
NEXT = FileSigner.generate("ed25519")
NEW = VerifierKey(key_name(ORIGIN), NEXT.public_bytes)


async def test_another_key_signs_from_the_next_commit_on(tmp_path):
    async with opened(tmp_path / "log.db") as log:
        (before,) = await log.append([record()])
        under_way = asyncio.gather(*(log.append([record()]) for _ in range(5)))
        log.take_signer(NEXT)
        (after,) = await log.append([record()])
        assert len(await under_way) == 5, "nothing that is under way is lost"
        assert (log.verifier_key, log.verifier_keys) == (NEW, (NEW, OLD))
    checkpoint.verify(before.note, [OLD])
    checkpoint.verify(after.note, [NEW])
    with pytest.raises(NoteUnsigned):
        checkpoint.verify(after.note, [OLD])
    assert verify_log(tmp_path / "log.db", [OLD, NEW], every_checkpoint=True).verified
    assert not verify_log(tmp_path / "log.db", [NEW], every_checkpoint=True).verified


async def test_a_failed_first_commit_under_the_new_key_is_recovered_from(tmp_path):
    faults = Faults()
    async with opened(tmp_path / "log.db", faults=faults) as log:
        await log.append([record()])
        log.take_signer(NEXT)
        faults.arm("commit")
        with pytest.raises(LogUnwritable):
            await log.append([record()])
        await asyncio.wait_for(log.until_writable(), 5)
        (logged,) = await log.append([record()])
        checkpoint.verify(logged.note, [NEW])


async def test_a_restart_needs_the_word_of_the_directory_for_another_key(tmp_path):
    async with opened(tmp_path / "log.db") as log:
        await log.append([record()])
    with pytest.raises(LogMismatch):
        async with opened(tmp_path / "log.db", signer=NEXT):
            pass
    stranger = VerifierKey(key_name(ORIGIN), FileSigner.generate("ed25519").public_bytes)
    with pytest.raises(LogMismatch):
        async with opened(tmp_path / "log.db", signer=NEXT, earlier_keys=[stranger]):
            pass
    async with opened(tmp_path / "log.db", signer=NEXT, earlier_keys=[NEW, OLD]) as log:
        assert log.size == 3
        assert log.verifier_keys == (NEW, OLD)
    async with opened(tmp_path / "log.db", signer=NEXT):
        pass  # its newest checkpoint is under the new key by now


async def test_a_key_of_another_kind_changes_nothing(tmp_path):
    async with opened(tmp_path / "log.db") as log:
        with pytest.raises(KeyUnusable):
            log.take_signer(FileSigner.generate("p256"))
        assert log.verifier_key == OLD
