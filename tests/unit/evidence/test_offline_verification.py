import asyncio
import shutil
import sqlite3

import msgspec
import pytest
from log_world import (
    G01,
    H37,
    ORIGIN,
    ORIGIN_G01,
    SIGNER,
    SIGNER_G01,
    opened,
    record,
    reply,
)

from evidence import note
from evidence.act import Act, encode_act
from evidence.checkpoint import Checkpoint, key_name
from evidence.errors import HeaderMalformed, NoteUnsigned, ProofInvalid, SourceUnreadable
from evidence.export import export_tiles
from evidence.leaf import ADMIN, EXCHANGE, wrap
from evidence.log import LogReader
from evidence.merkle import leaf_hash
from evidence.note import VerifierKey
from evidence.proof import Proof
from evidence.rebuild import MAX_PROBLEMS
from evidence.verify import verify_log, verify_record

KEY = VerifierKey(ORIGIN, SIGNER.public_bytes)
SIZE = 600


ACT = Act(
    id="01234567-89ab-7def-8123-456789abcdef",
    time="2026-11-23T01:02:03.000004Z",
    node="VN/GOV/H37/@n1",
    act="maintenance.on",
    outcome="allowed",
    key="ops",
    roles=("XROAD_SYSTEM_ADMINISTRATOR",),
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A log of 600 leaves, as database and as tiles; its leaves and an early checkpoint."""
    return asyncio.run(_write_original(tmp_path_factory.mktemp("log")))


async def _write_original(root):
    query = record()
    leaves = [query, reply(query), record("event"), encode_act(ACT)] + [record() for _ in range(595)]
    async with opened(root / "log.db") as log:
        await log.append(leaves[:299])
        early = log.note
        logged = await log.append(leaves[299:])
    export_tiles(root / "log.db", root / "tiles")
    return root, leaves, early, logged


@pytest.fixture
def copies(original, tmp_path):
    root = original[0]
    shutil.copy(root / "log.db", tmp_path / "log.db")
    shutil.copytree(root / "tiles", tmp_path / "tiles")
    return tmp_path


def edit(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement, *params in statements:
            connection.execute(statement, params)
    connection.close()


def codes(report):
    return [problem.code for problem in report.problems]


@pytest.mark.parametrize("name", ["log.db", "tiles"])
def test_an_unchanged_log_verifies(copies, original, name):
    report = verify_log(copies / name, [KEY], known=[original[2]], every_checkpoint=True)
    assert report.verified, report.problems
    assert (report.origin, report.size, report.records_verified) == (ORIGIN, SIZE, SIZE)
    assert report.counts == {"admin": 1, "answer": 1, "control": 1, "event": 1, "query": 596}
    assert report.first_bad_leaf is None
    assert report.seconds > 0
    assert msgspec.json.decode(msgspec.json.encode(report))["verified"] is True


def test_an_opened_reader_is_verified_and_left_open(copies):
    with LogReader(copies / "log.db") as reader:
        assert verify_log(reader, [KEY]).verified
        assert reader.head().size == SIZE


@pytest.mark.parametrize("index", [0, 1, 255, 256, 300, 599])
def test_a_changed_byte_names_its_leaf_in_a_database(copies, index):
    leaf = _leaf(copies / "log.db", index)
    changed = leaf[:-3] + bytes([leaf[-3] ^ 1]) + leaf[-2:]
    edit(copies / "log.db", ("UPDATE leaf SET data = ? WHERE idx = ?", changed, index))
    report = verify_log(copies / "log.db", [KEY])
    assert not report.verified
    assert "leaf-changed" in codes(report)
    assert "root-differs" in codes(report)
    assert report.first_bad_leaf.index == index
    assert report.first_bad_leaf.recorded_hash == leaf_hash(leaf).hex()
    assert report.first_bad_leaf.computed_hash == leaf_hash(changed).hex()


@pytest.mark.parametrize("index", [0, 1, 255, 256, 300, 599])
def test_a_changed_byte_names_its_leaf_in_tiles(copies, index):
    leaf = _leaf(copies / "log.db", index)
    changed = leaf[:-3] + bytes([leaf[-3] ^ 1]) + leaf[-2:]
    (bundle,) = (
        file for file in (copies / "tiles/tile/entries").rglob("*") if file.is_file() and leaf in file.read_bytes()
    )
    bundle.write_bytes(bundle.read_bytes().replace(leaf, changed))
    report = verify_log(copies / "tiles", [KEY])
    assert not report.verified
    assert "leaf-changed" in codes(report)
    assert (report.first_bad_leaf.index, report.first_bad_leaf.recorded_hash) == (index, leaf_hash(leaf).hex())


def test_the_first_of_several_changed_leaves_is_named(copies):
    changed = wrap(ADMIN, b"forged")
    edit(copies / "log.db", *(("UPDATE leaf SET data = ? WHERE idx = ?", changed, index) for index in (9, 300, 5)))
    assert verify_log(copies / "log.db", [KEY]).first_bad_leaf.index == 5


def _leaf(path, index):
    with LogReader(path) as reader:
        return reader.leaf(index)


@pytest.mark.parametrize("index", [3, 300])
def test_a_leaf_changed_together_with_its_recorded_hashes_is_still_noticed(copies, index):
    changed = wrap(ADMIN, b"forged")
    edit(
        copies / "log.db",
        ("UPDATE leaf SET data = ?, hash = ? WHERE idx = ?", changed, leaf_hash(changed), index),
    )
    report = verify_log(copies / "log.db", [KEY])
    assert "root-differs" in codes(report)
    assert report.first_bad_leaf.index == index  # the tile still knows


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("UPDATE tile SET hashes = zeroblob(8192) WHERE level = 0 AND idx = 1", "tile-changed"),
        ("UPDATE tile SET root = zeroblob(32) WHERE level = 0 AND idx = 1", "tile-changed"),
        ("UPDATE tile SET hashes = zeroblob(32) WHERE level = 0 AND idx = 1", "tile-missing"),
        ("DELETE FROM tile WHERE level = 0 AND idx = 0", "tile-missing"),
        ("UPDATE leaf SET hash = zeroblob(32) WHERE idx = 7", "hash-changed"),
        ("DELETE FROM leaf WHERE idx = 7", "leaf-missing"),
        ("DELETE FROM leaf WHERE idx >= 590", "leaf-missing"),
        ("UPDATE head SET size = 599", "head-changed"),
        ("UPDATE head SET root = zeroblob(32)", "head-changed"),
        ("DELETE FROM note WHERE size = 600", "head-changed"),
        ("DELETE FROM note", "checkpoint-missing"),
    ],
)
def test_a_changed_database_is_noticed(copies, statement, code):
    edit(copies / "log.db", (statement,))
    report = verify_log(copies / "log.db", [KEY])
    assert not report.verified
    assert code in codes(report)


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/002.p/88", "tile/1/000.p/2"])
def test_a_changed_or_missing_tile_file_is_noticed(copies, name):
    file = copies / "tiles" / name
    contents = bytearray(file.read_bytes())
    contents[40] ^= 1
    file.write_bytes(contents)
    assert "tile-changed" in codes(verify_log(copies / "tiles", [KEY]))
    file.write_bytes(contents[:-1])
    assert "tile-missing" in codes(verify_log(copies / "tiles", [KEY]))
    file.unlink()
    assert "tile-missing" in codes(verify_log(copies / "tiles", [KEY]))


@pytest.mark.parametrize(("name", "index"), [("000", 0), ("001", 256), ("002.p/88", 512)])
def test_a_missing_or_cut_bundle_is_noticed(copies, name, index):
    file = copies / "tiles/tile/entries" / name
    file.write_bytes(file.read_bytes()[:-1])
    report = verify_log(copies / "tiles", [KEY])
    assert codes(report) == ["leaf-missing"]
    assert report.problems[0].index >= index
    file.unlink()
    report = verify_log(copies / "tiles", [KEY])
    assert (codes(report), report.problems[0].index) == (["leaf-missing"], index)


def test_a_log_cut_back_to_an_earlier_state_needs_somebody_s_memory(copies, original):
    late = _note(copies / "log.db")
    edit(
        copies / "log.db",
        ("DELETE FROM leaf WHERE idx >= 300",),
        ("DELETE FROM tile WHERE idx > 0",),
        ("DELETE FROM note WHERE size > 300",),
        ("UPDATE head SET size = 300, root = ?", _root(original[2])),
    )
    assert verify_log(copies / "log.db", [KEY]).verified
    report = verify_log(copies / "log.db", [KEY], known=[late])
    assert codes(report) == ["log-cut-back"]


def _note(path):
    with LogReader(path) as reader:
        return reader.note()


def _root(signed):
    from evidence.checkpoint import parse_note

    return parse_note(signed).root


def test_a_fork_is_noticed_through_a_checkpoint_that_someone_holds(copies, original):
    fork = note.sign(Checkpoint(ORIGIN, 300, bytes(32)).text(), key_name(ORIGIN), SIGNER)
    assert codes(verify_log(copies / "log.db", [KEY], known=[fork])) == ["root-differs"]
    assert codes(verify_log(copies / "log.db", [KEY], known=[original[2], fork])) == ["log-forked"]


def test_foreign_and_unsigned_checkpoints_are_named(copies):
    foreign = note.sign(Checkpoint(ORIGIN_G01, 3, bytes(32)).text(), key_name(ORIGIN_G01), SIGNER_G01)
    keys = [KEY, VerifierKey(ORIGIN_G01, SIGNER_G01.public_bytes)]
    assert codes(verify_log(copies / "log.db", keys, known=[foreign])) == ["checkpoint-foreign"]
    assert codes(verify_log(copies / "log.db", [KEY], known=[foreign])) == ["note-unsigned"]


def test_a_log_without_a_trusted_key_is_not_verified(copies):
    assert codes(verify_log(copies / "tiles", [])) == ["note-unsigned"]
    stranger = VerifierKey(ORIGIN, SIGNER_G01.public_bytes)
    assert codes(verify_log(copies / "log.db", [stranger])) == ["note-unsigned"]


def test_an_unreadable_checkpoint_is_no_log(copies):
    (copies / "tiles/checkpoint").write_bytes(b"x")
    report = verify_log(copies / "tiles", [KEY])
    assert (codes(report), report.size, report.origin) == (["note-invalid"], 0, "")


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(SourceUnreadable):
        verify_log(tmp_path / "none", [KEY])


async def test_malformed_leaves_are_named_but_hashed(tmp_path):
    async with opened(tmp_path / "log.db") as log:
        await log.append([wrap(EXCHANGE, b"{}")] * (MAX_PROBLEMS + 5))
    report = verify_log(tmp_path / "log.db", [KEY])
    assert not report.verified
    assert report.counts == {"control": 1, "malformed": MAX_PROBLEMS + 5}
    assert (report.problems[0].code, report.problems[0].index) == ("header-malformed", 1)
    assert len(report.problems) == MAX_PROBLEMS


def test_a_large_log_is_rebuilt_over_three_tile_levels():
    from evidence.merkle import Frontier
    from evidence.rebuild import GrowingTree

    hashes = [leaf_hash(number.to_bytes(4)) for number in range(65_800)]
    rebuild = GrowingTree()
    completed = [rebuild.add(entry) for entry in hashes]
    assert rebuild.root() == Frontier().extend(hashes).root
    assert completed[65_535] == 2
    assert sum(map(bool, completed)) == 257


# --- single records ---


def as_proof(logged):
    return Proof(logged.index, logged.path, logged.note).format()


def test_a_record_with_its_proof_is_its_author_s_word(original):
    _, leaves, _, logged = original
    report = verify_record(leaves[299], as_proof(logged[0]), [KEY])
    assert (report.origin, report.index, report.size, report.said) == (ORIGIN, 300, SIZE, True)
    assert report.leaf_hash == leaf_hash(leaves[299]).hex()
    assert report.header.type == "query"


async def test_a_record_in_somebody_else_s_log_was_only_received(tmp_path):
    foreign = record(member=G01, to=H37)
    odd = record(member=H37, source=f"{G01}/sub")
    async with opened(tmp_path / "log.db") as log:
        received, strange, admin = await log.append([foreign, odd, wrap(ADMIN, b"x")])
    assert not verify_record(foreign, as_proof(received), [KEY]).said
    assert not verify_record(odd, as_proof(strange), [KEY]).said
    report = verify_record(wrap(ADMIN, b"x"), as_proof(admin), [KEY])
    assert (report.said, report.header) == (True, None)


async def test_a_log_without_a_node_says_nothing_itself(tmp_path):
    leaf = record()
    async with opened(tmp_path / "log.db", origin="example.vn/log") as log:
        (logged,) = await log.append([leaf])
        assert not verify_record(leaf, as_proof(logged), [log.verifier_key]).said


async def test_a_malformed_record_is_refused_whatever_proves_it(tmp_path):
    leaf = wrap(EXCHANGE, b"{}")
    async with opened(tmp_path / "log.db") as log:
        (logged,) = await log.append([leaf])
    with pytest.raises(HeaderMalformed):
        verify_record(leaf, as_proof(logged), [KEY])


def test_another_leaf_or_key_does_not_verify(original):
    _, leaves, _, logged = original
    with pytest.raises(ProofInvalid):
        verify_record(leaves[300], as_proof(logged[0]), [KEY])
    with pytest.raises(NoteUnsigned):
        verify_record(leaves[299], as_proof(logged[0]), [VerifierKey(ORIGIN, SIGNER_G01.public_bytes)])
