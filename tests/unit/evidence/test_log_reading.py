"""The read-only view, the schema and the tile export of a log."""

import asyncio
import sqlite3
import threading

import pytest
from log_world import ORIGIN, SIGNER, opened, record

from evidence import checkpoint
from evidence.errors import IndexUnknown, LogForked, LogUnwritable, ProofInvalid, SchemaNewer, SourceUnreadable
from evidence.export import export_tiles
from evidence.log import LogReader, SqliteStore
from evidence.log.lock import LogLock
from evidence.log.recovery import check_continues, load_tree
from evidence.log.schema import check_version, initialise, read_version
from evidence.log.tree import Released
from evidence.log.writer_thread import WriterThread
from evidence.merkle import leaf_hash, verify_consistency, verify_inclusion
from evidence.note import VerifierKey
from evidence.tile_directory import TileDirectory, join_bundle, split_bundle

KEY = VerifierKey(ORIGIN, SIGNER.public_bytes)


@pytest.fixture
async def path(tmp_path):
    """A closed log of 600 leaves in four commits."""
    async with opened(tmp_path / "log.db") as log:
        for count in (1, 298, 300):
            await log.append([record() for _ in range(count)])
    return tmp_path / "log.db"


def test_a_reader_sees_what_was_committed(path):
    with LogReader(path) as reader:
        assert (reader.origin, reader.verifier_key) == (ORIGIN, str(KEY))
        signed = checkpoint.verify(reader.note(), [KEY])
        assert (signed.size, signed.root) == (600, reader.head().root)
        assert [size for size, _ in reader.notes()] == [1, 2, 300, 600]
        assert [size for size, _ in reader.notes(300)] == [300, 600]
        leaves = list(reader.leaves())
        assert [index for index, _, _ in leaves] == list(range(600))
        assert all(stored == leaf_hash(leaf) for _, stored, leaf in leaves)
        assert reader.leaf(599) == leaves[599][2]
        assert [index for index, _, _ in reader.leaves(255, 258)] == [255, 256, 257]


def test_a_reader_proves_any_leaf_at_any_checkpoint(path):
    with LogReader(path) as reader:
        for size in (1, 2, 300, 600):
            root = checkpoint.parse_note(reader.note(size)).root
            for index in {0, size // 2, size - 1}:
                logged = reader.prove(index, size)
                verify_inclusion(logged.leaf_hash, index, size, logged.path, root)
            verify_consistency(size, 600, root, reader.head().root, reader.consistency(size, 600))
        assert reader.prove(7) == reader.prove(7, 600)


def test_a_reader_refuses_what_is_not_there(path):
    with LogReader(path) as reader:
        for question in (
            lambda: reader.prove(600),
            lambda: reader.prove(-1),
            lambda: reader.prove(0, 599),
            lambda: reader.note(599),
            lambda: reader.leaf(600),
            lambda: reader.consistency(1, 601),
            lambda: reader.stored_tile(0, 2, 256),
            lambda: reader.tile(0, 2, 256),
        ):
            with pytest.raises(IndexUnknown):
                question()
        with pytest.raises(ProofInvalid):
            reader.consistency(0, 600)
        assert reader.stored_root(0, 2) == b""


def test_a_reader_cannot_write(path):
    with LogReader(path) as reader, pytest.raises(sqlite3.OperationalError):
        reader._connection.execute("DELETE FROM leaf")


async def test_a_reader_works_beside_the_writer(path):
    async with opened(path) as log:
        with LogReader(path) as reader:
            assert reader.head().size == log.size == 601
            await log.append([record()])
            assert reader.head().size == 602
            assert reader.prove(601).note == log.note


def test_a_read_only_medium_is_read_as_immutable(path):
    path.chmod(0o444)
    with LogReader(path, immutable=True) as reader:
        assert reader.prove(5).size == 600


def test_what_is_no_log_is_not_read(tmp_path):
    with pytest.raises(SourceUnreadable):
        LogReader(tmp_path / "none.db")
    (tmp_path / "text.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(SourceUnreadable):
        LogReader(tmp_path / "text.db")
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE x (y)")
    connection.close()
    with pytest.raises(SourceUnreadable):
        LogReader(tmp_path / "other.db")


@pytest.mark.parametrize(
    ("statement", "question"),
    [
        ("DELETE FROM head", lambda reader: reader.head()),
        ("DELETE FROM meta WHERE key = 'origin'", lambda reader: reader.origin),
        ("DROP TABLE note", lambda reader: reader.note()),
    ],
)
def test_a_mutilated_log_is_reported(path, statement, question):
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    with LogReader(path) as reader, pytest.raises(SourceUnreadable):
        question(reader)


@pytest.mark.parametrize("statement", ["DELETE FROM leaf WHERE idx = 5", "DELETE FROM tile WHERE idx = 0"])
def test_a_proof_over_missing_parts_is_refused(path, statement):
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
        connection.execute("DELETE FROM leaf WHERE idx = 3")
    connection.close()
    with LogReader(path) as reader, pytest.raises(IndexUnknown):
        reader.prove(5)


def test_a_proof_over_a_cut_tile_is_refused(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tile SET hashes = zeroblob(64)")
    connection.close()
    with LogReader(path) as reader, pytest.raises(IndexUnknown):
        reader.prove(5)


# --- schema ---


def test_an_older_database_is_migrated(tmp_path):
    connection = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    first = ["CREATE TABLE a (x)"]
    second = ["ALTER TABLE a ADD COLUMN y"]
    initialise(connection, origin="o", verifier_key="k", migrations=[first])
    assert read_version(connection) == 1
    initialise(connection, origin="o", verifier_key="k", migrations=[first, second])
    assert read_version(connection) == 2
    assert [row[1] for row in connection.execute("PRAGMA table_info(a)")] == ["x", "y"]
    with pytest.raises(SchemaNewer):
        initialise(connection, origin="o", verifier_key="k", migrations=[first])
    connection.execute("DELETE FROM meta WHERE key = 'schema_version'")
    assert read_version(connection) == 0
    connection.close()
    check_version(1)


def test_a_store_refuses_a_file_system_without_a_write_ahead_log():
    store = SqliteStore(":memory:")
    with pytest.raises(LogUnwritable):
        store.head()
    store.close()


def test_a_store_whose_head_moved_refuses_the_commit(path):
    store = SqliteStore(path)
    store.open()
    head = store.head()
    store.begin()
    with pytest.raises(LogUnwritable):
        store.guard_head(type(head)(head.size - 1, head.root, b""), head)
    store.close()


def test_a_store_over_another_file_is_not_opened(tmp_path):
    (tmp_path / "text.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        SqliteStore(tmp_path / "text.db").open()


def test_a_stored_tree_with_missing_tiles_does_not_continue_anything(path):
    store = SqliteStore(path)
    store.open()
    tree = load_tree(store)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM tile")
    connection.close()
    store.open()
    for size in (300, 500):
        with pytest.raises(LogForked):
            check_continues(store, tree, Released(size, bytes(32), b""))
    store.close()


async def test_a_cancelled_wait_does_not_stop_a_job():
    loop = asyncio.get_running_loop()
    thread = WriterThread(loop)
    gate, done = threading.Event(), []
    waiting = asyncio.create_task(thread.run(lambda: gate.wait(10) and done.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    gate.set()
    assert await thread.run(lambda: "next") == "next"
    assert done == [1]
    assert thread.stop(10)


def test_a_job_that_outlives_its_loop_ends_the_thread():
    async def start():
        thread = WriterThread(asyncio.get_running_loop())
        gate = threading.Event()
        thread.submit(lambda: gate.wait(10), lambda _result, _error: None)
        return thread, gate

    thread, gate = asyncio.run(start())
    gate.set()
    assert thread.stop(10)


def test_a_lock_is_given_back_once(tmp_path):
    lock = LogLock(tmp_path / "log.db")
    lock.release()
    lock.release()
    LogLock(tmp_path / "log.db").release()


def test_a_reader_in_the_middle_of_a_query_delays_recovery(path, monkeypatch):
    monkeypatch.setattr("evidence.log.store.BUSY_TIMEOUT_MS", 1)
    store = SqliteStore(path)
    store.open()
    store.begin()
    store.write_note(10_000, b"")
    store.commit()
    reader = sqlite3.connect(path)
    cursor = reader.execute("SELECT * FROM leaf")
    cursor.fetchone()
    store.begin()
    store.write_note(10_001, b"")
    store.commit()
    with pytest.raises(LogUnwritable):
        store.recover()
    assert store.checkpoint() >= 0
    cursor.close()
    reader.close()
    store.recover()
    store.close()


# --- export ---


def test_an_export_has_the_layout_of_the_specification(path, tmp_path):
    out = tmp_path / "tiles"
    assert export_tiles(path, out) == 600
    files = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    assert files == [
        "checkpoint",
        "tile/0/000",
        "tile/0/001",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/88",
    ]
    assert (out / "tile/0/000").stat().st_size == 8192
    directory = TileDirectory(out)
    with LogReader(path) as reader:
        assert directory.note() == reader.note()
        assert [leaf for _, _, leaf in directory.leaves()] == [leaf for _, _, leaf in reader.leaves()]


async def test_a_later_export_adds_to_an_earlier_one(path, tmp_path):
    out = tmp_path / "tiles"
    export_tiles(path, out)
    full = (out / "tile/0/000").stat().st_mtime_ns
    async with opened(path) as log:
        await log.append([record() for _ in range(300)])
    assert export_tiles(path, out, entries=False) == 901
    assert not (out / "tile/entries/002").exists()
    assert export_tiles(path, out) == 901
    assert (out / "tile/0/000").stat().st_mtime_ns == full
    assert TileDirectory(out).stored_tile(0, 2, 88) == (out / "tile/0/002").read_bytes()[: 88 * 32]
    (out / "tile/0/002.p/88").unlink()
    assert TileDirectory(out).stored_tile(0, 2, 88) == (out / "tile/0/002").read_bytes()[: 88 * 32]


async def test_two_logs_do_not_share_a_directory(path, tmp_path):
    export_tiles(path, tmp_path / "tiles")
    async with opened(tmp_path / "other.db", origin=ORIGIN[:-1] + "2"):
        pass
    with pytest.raises(SourceUnreadable):
        export_tiles(tmp_path / "other.db", tmp_path / "tiles")


def test_an_export_that_cannot_be_written_says_so(path, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceUnreadable):
        export_tiles(path, tmp_path / "file" / "tiles")


def test_a_directory_without_a_checkpoint_is_no_log(tmp_path):
    with pytest.raises(SourceUnreadable):
        TileDirectory(tmp_path)
    (tmp_path / "checkpoint").write_bytes(b"x" * 1_000_001)
    with pytest.raises(SourceUnreadable):
        TileDirectory(tmp_path)


def test_an_unreadable_checkpoint_stands_for_an_empty_log(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"x")
    assert TileDirectory(tmp_path).size() == 0
    assert list(TileDirectory(tmp_path).leaves()) == []


def test_a_broken_bundle_ends_where_it_breaks():
    bundle = join_bundle([b"a", b"", b"ccc"])
    assert split_bundle(bundle) == [b"a", b"", b"ccc"]
    assert split_bundle(bundle[:-1]) == [b"a", b""]
    assert split_bundle(bundle + b"\x00") == [b"a", b"", b"ccc"]
