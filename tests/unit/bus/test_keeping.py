"""What is written beside the log, and what an earlier run left."""

from __future__ import annotations

import json
import sqlite3
import stat
from datetime import date, timedelta

import pytest
from bus_world import G01, NOW, SERVICE, Clock, FakeDirectory, running_bus
from cryptography.exceptions import InvalidTag
from test_verification import World

from bus.errors import ContentsErased, LogUnwritable, StoreTooNew
from bus.exchange.keeping import DayKeys, Keeper, note_hash, open_particulars
from bus.exchange.peerproofs import export_peer_proofs
from bus.exchange.peers import PeerHead, Peers, PeersUnwritable
from bus.exchange.recovery import left_behind, newest_peer_notes
from bus.sealing.contents import Particulars, encode_particulars
from evidence import proof
from evidence.errors import SourceUnreadable

NOW_S = int(NOW.timestamp())


@pytest.fixture
def keys(tmp_path):
    return DayKeys(tmp_path / "days", Clock().random)


def test_a_day_has_one_key_in_a_file_of_its_own(keys, tmp_path):
    nonce = bytes(12)
    sealed = keys.cipher("2026-11-23").encrypt(nonce, b"x", None)
    (path,) = (tmp_path / "days").iterdir()
    assert path.name == "2026-11-23.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "days").stat().st_mode) == 0o700
    assert len(path.read_bytes()) == 32
    again = DayKeys(tmp_path / "days", Clock(seed=2).random)
    assert again.cipher("2026-11-23").decrypt(nonce, sealed, None) == b"x"


def test_days_have_different_keys_and_few_are_in_memory(keys, tmp_path):
    for at in range(1, 8):
        keys.cipher(f"2026-11-0{at}")
    assert len({path.read_bytes() for path in (tmp_path / "days").iterdir()}) == 7
    assert sorted(keys._loaded) == ["2026-11-05", "2026-11-06", "2026-11-07"]


def test_erasing_deletes_the_keys_of_the_days_before(keys, tmp_path):
    for at in range(1, 5):
        keys.cipher(f"2026-11-0{at}")
    assert keys.erase_before(date(2026, 11, 4)) == ["2026-11-01", "2026-11-02", "2026-11-03"]
    assert [path.stem for path in (tmp_path / "days").iterdir()] == ["2026-11-04"]
    assert sorted(keys._loaded) == ["2026-11-04"]
    assert keys.erase_before(date(2026, 11, 4)) == []


def test_half_a_key_is_never_taken(keys, tmp_path):
    (tmp_path / "days" / "2026-11-23.key").write_bytes(b"half")
    with pytest.raises(LogUnwritable):
        keys.cipher("2026-11-23")


def test_a_key_that_cannot_be_written_stops_the_exchange(keys, tmp_path):
    (tmp_path / "days" / "2026-11-23.new").mkdir()
    with pytest.raises(LogUnwritable):
        keys.cipher("2026-11-23")
    assert not (tmp_path / "days" / "2026-11-23.key").exists()


def test_particulars_open_with_the_days_key_only(keys):
    keeper = Keeper(keys, Clock(seed=3).random)
    kept = (b"s" * 64, encode_particulars(Particulars(official="nguyen.an")))
    position, sql, (day, data) = keeper.particulars(1, kept, NOW)
    assert (position, day) == (1, "2026-11-23")
    assert "INSERT INTO particulars" in sql
    assert b"nguyen" not in data
    assert open_particulars(keys, day, data) == (b"s" * 64, Particulars(official="nguyen.an"))
    keys.cipher("2026-11-22")
    with pytest.raises(InvalidTag):
        open_particulars(keys, "2026-11-22", data)
    keys.erase_before(date(2026, 11, 24))
    with pytest.raises(ContentsErased):
        open_particulars(keys, day, data)
    with pytest.raises(ContentsErased):
        keys.kept(day)  # asking makes no new key


def test_a_peers_note_is_written_once_until_a_commit_failed(keys):
    world, keeper = World(), Keeper(keys, Clock().random)
    record = world.verify(world.log.envelope(made_query()))
    assert [len(keeper.proof(0, record)) for _ in range(3)] == [2, 1, 1]
    keeper.forget_notes()
    rows = keeper.proof(2, record)
    assert [row[0] for row in rows] == [None, 2]
    assert rows[0][2] == (note_hash(record.envelope.note), record.envelope.note)
    assert rows[1][2] == (record.envelope.index, record.envelope.size, record.envelope.path, record.note_hash)


def made_query():
    from test_verification import made_header

    return made_header()


def test_the_memory_of_notes_is_bounded(keys):
    world, keeper = World(), Keeper(keys, Clock().random)
    record = world.verify(world.log.envelope(made_query()))
    keeper._notes.update(dict.fromkeys([at.to_bytes(4) for at in range(512)]))
    keeper.proof(0, record)
    assert len(keeper._notes) == 512
    assert record.note_hash in keeper._notes


# --- recovery -------------------------------------------------------------------------------------------------------


async def test_consumed_ids_and_open_requests_are_found_again(tmp_path):
    folder = tmp_path / "100% #1?"
    folder.mkdir()
    async with running_bus(folder) as bus:
        await bus.ask()
        bus.h37.faults.arm("ok", "fails")
        from bus import errors

        with pytest.raises(errors.LogUnwritable):
            await bus.ask()
        await bus.settle()
        ((index, head, hashed),) = left_behind(bus.h37.path, NOW_S).open_requests
        assert (index, hashed, head) == [item for item in bus.h37.records() if item[2].type == "query"][1]
        assert head.to == SERVICE
        seen = left_behind(bus.g01.path, NOW_S).seen
        assert len(seen) == 2
        assert {until for _, until in seen} == {NOW_S + 10 + 61}
        assert left_behind(bus.g01.path, NOW_S + 72).seen == []


async def test_a_log_of_a_newer_version_is_left_alone(tmp_path):
    async with running_bus(tmp_path) as bus:
        path = bus.h37.path
    db = sqlite3.connect(path)
    db.execute("UPDATE exchange_schema SET version = 2")
    db.commit()
    db.close()
    with pytest.raises(StoreTooNew):
        left_behind(path, 0)


@pytest.mark.parametrize("content", [None, b"", b"not a database, but long enough to be looked at" * 10])
def test_a_file_that_is_no_log_cannot_be_read(tmp_path, content):
    path = tmp_path / "log.db"
    if content is not None:
        path.write_bytes(content)
    for read in (lambda: left_behind(path, 0), lambda: newest_peer_notes(path)):
        with pytest.raises(SourceUnreadable):
            read()


async def test_the_checkpoints_that_came_last_are_found_again(tmp_path):
    async with running_bus(tmp_path) as bus:
        for _ in range(3):
            await bus.ask()
        notes = [row[0] for row in bus.g01.rows("SELECT note FROM peer_note")]
        assert len(notes) == 3
        assert set(newest_peer_notes(bus.g01.path)) == set(notes)
        (newest,) = newest_peer_notes(bus.g01.path, received=1)
        assert newest in notes


async def test_the_peers_proofs_are_exported_with_their_records(tmp_path):
    async with running_bus(tmp_path) as bus:
        for _ in range(2):
            await bus.ask()
        path, size, records = bus.g01.path, bus.g01.log.size, bus.g01.records()
        out = tmp_path / "proofs.jsonl"
        assert export_peer_proofs(path, out, size) == 2
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert [line["leaf_hash"] for line in lines] == [hashed for _, hashed, head in records if head.type == "query"]
        assert [line["index"] for line in lines] == [1, 3]
        assert all(proof.parse(line["proof"]).index in (1, 3) for line in lines)
        assert export_peer_proofs(path, out, 2) == 1


# --- peers ----------------------------------------------------------------------------------------------------------


def head(origin: str, size: int) -> PeerHead:
    return PeerHead(origin, f"{G01}/@n1", size, bytes([size]) * 32, b"note %d" % size)


def test_heads_are_replaced_and_ordered_by_when_they_were_kept(tmp_path):
    peers = Peers(tmp_path / "peers.db")
    peers.keep(head("a", 1), 10)
    peers.keep(head("b", 1), 20)
    assert [one.origin for one in peers.heads()] == ["b", "a"]
    peers.keep(head("a", 2), 30)
    assert peers.heads() == [head("a", 2), head("b", 1)]
    peers.close()
    again = Peers(tmp_path / "peers.db")
    assert again.heads() == [head("a", 2), head("b", 1)]
    again.close()


def test_the_first_evidence_of_a_fork_is_kept_for_ever(tmp_path):
    peers = Peers(tmp_path / "peers.db")
    peers.keep_fork("a", b"1", b"2")
    peers.keep_fork("a", b"3", b"4")
    assert peers.forks() == {"a": (b"1", b"2")}
    peers.close()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path):
    Peers(tmp_path / "peers.db").close()
    db = sqlite3.connect(tmp_path / "peers.db")
    db.execute("UPDATE meta SET version = 2")
    db.commit()
    db.close()
    with pytest.raises(StoreTooNew):
        Peers(tmp_path / "peers.db")


def test_a_full_disk_is_told(tmp_path):
    peers = Peers(tmp_path / "peers.db")
    peers._db.execute("PRAGMA query_only = 1")
    with pytest.raises(PeersUnwritable):
        peers.keep(head("a", 1), 1)
    with pytest.raises(PeersUnwritable):
        peers.keep_fork("a", b"1", b"2")
    peers.close()


def test_the_fake_directory_is_empty_until_it_is_filled():
    assert FakeDirectory().sealing_key(G01, "query", NOW + timedelta(1)) is None
