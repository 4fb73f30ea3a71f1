"""Records against the revocation of their signer: before, indeterminate, after; and what a stolen key cannot do."""

import contextlib
import json
import sqlite3
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_world import G01, GENESIS, H37, NOW, ORIGIN, ORIGIN_G01, SIGNER, SIGNER_G01, opened, record, reply

from evidence import checkpoint, note
from evidence.__main__ import main
from evidence.checkpoint import Checkpoint, key_name
from evidence.errors import TrustMalformed
from evidence.export import export_tiles
from evidence.log.reader import LogReader
from evidence.note import COSIGNATURE, VerifierKey
from evidence.signer import FileSigner
from evidence.stamps import encode_time
from evidence.trust import parse_trust
from evidence.verdict import Bounds, Dated, judge
from evidence.verify import verify_log

KEY, KEY_G01 = VerifierKey(ORIGIN, SIGNER.public_bytes), VerifierKey(ORIGIN_G01, SIGNER_G01.public_bytes)
WITNESS = FileSigner.generate("ed25519")
WITNESS_KEY = VerifierKey("witness.example", WITNESS.public_bytes, COSIGNATURE)
SINCE = NOW
EARLIER, LATER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
NODE = f"{H37}/@n1"


def trust_text(**changes):
    document = {
        "genesis": GENESIS,
        "instance": "VN",
        "origins": {
            ORIGIN: {"key": str(KEY), "from": "2020-01-01T00:00:00.000000Z", "until": None},
            ORIGIN_G01: {"key": str(KEY_G01), "from": "2020-01-01T00:00:00.000000Z", "until": None},
        },
        "revocations": [{"kind": "node", "id": NODE, "since": encode_time(SINCE), "index": 40}],
        "witnesses": [str(WITNESS_KEY)],
    }
    return json.dumps(document | changes).encode()


def trust_with(**changes):
    return parse_trust(trust_text(**changes))


def cosigned(data, at):
    text = note.parse(data).text
    return note.add_signature(data, note.cosign(text, "witness.example", WITNESS, int(at.timestamp())))


def dated(data, at, origin=ORIGIN):
    found = checkpoint.parse_note(data)
    return {"origin": origin, "size": found.size, "root": found.root.hex(), "at": encode_time(at), "by": "directory"}


def codes(report):
    return {problem.code for problem in report.problems}


@pytest.fixture
async def log(tmp_path):
    """Path of H37's log of three records, and its newest checkpoint."""
    async with opened(tmp_path / "h37.db") as made:
        await made.append([record(dir="30 " + "ab" * 32) for _ in range(3)])
        return tmp_path / "h37.db", made.note


def test_only_a_bound_on_the_right_side_decides():
    assert judge(SINCE, None, EARLIER) == "before"
    assert judge(SINCE, EARLIER, LATER) == judge(SINCE, None, None) == judge(SINCE, None, SINCE) == "indeterminate"
    assert judge(SINCE, SINCE, None) == judge(SINCE, LATER, LATER) == "after"


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 1000)), max_size=20), st.integers(0, 60))
def test_the_upper_bound_is_the_earliest_statement_that_covers_the_leaf(statements, index):
    made = Bounds([Dated(ORIGIN, size, bytes(32), NOW + timedelta(seconds=at), "x") for size, at in statements])
    covering = [NOW + timedelta(seconds=at) for size, at in statements if size > index]
    assert made.latest_at(index) == min(covering, default=None)


def test_a_record_that_nobody_dated_does_not_pass(log, tmp_path, capsys):
    path, _ = log
    report = verify_log(path, [KEY], trust=trust_with())
    assert (report.verified, report.verdicts, codes(report)) == (False, {"indeterminate": 3}, {"time-indeterminate"})
    (tmp_path / "trust.json").write_bytes(trust_text())
    assert main(["verify", str(path), "--trust", str(tmp_path / "trust.json")]) == 1
    assert "3 indeterminate" in capsys.readouterr().out


def test_without_a_revocation_nothing_is_judged(log):
    report = verify_log(log[0], [KEY], trust=trust_with(revocations=[]))
    assert (report.verified, report.verdicts) == (True, {})
    other = [{"kind": "node", "id": f"{G01}/@n1", "since": encode_time(SINCE)}]
    assert verify_log(log[0], [KEY], trust=trust_with(revocations=other)).verified


@pytest.mark.parametrize(
    "revoked",
    [("node", NODE), ("member", H37), ("key", sha256(SIGNER.public_bytes).hexdigest())],
    ids=["node", "member", "key"],
)
def test_a_witness_that_saw_it_in_time_lets_it_pass(log, revoked):
    path, newest = log
    trust = trust_with(revocations=[{"kind": revoked[0], "id": revoked[1], "since": encode_time(SINCE)}])
    report = verify_log(path, [KEY], trust=trust, known=[cosigned(newest, EARLIER)])
    assert (report.verified, report.verdicts) == (True, {"before": 3})
    late = verify_log(path, [KEY], trust=trust, known=[cosigned(newest, LATER)])
    assert (late.verified, late.verdicts) == (False, {"indeterminate": 3})


def test_a_cosignature_of_a_stranger_dates_nothing(log):
    path, newest = log
    report = verify_log(path, [KEY], trust=trust_with(witnesses=[]), known=[cosigned(newest, EARLIER)])
    assert report.verdicts == {"indeterminate": 3}


def test_a_tree_that_the_directory_named_in_time_lets_it_pass(log):
    path, newest = log
    assert verify_log(path, [KEY], trust=trust_with(dated=[dated(newest, EARLIER)])).verdicts == {"before": 3}


async def test_only_what_the_dated_tree_holds_is_before(tmp_path):
    async with opened(tmp_path / "h37.db") as made:
        await made.append([record()])
        early = made.note
        await made.append([record(), record()])
    report = verify_log(tmp_path / "h37.db", [KEY], trust=trust_with(dated=[dated(early, EARLIER)]))
    assert (report.verified, report.verdicts) == (False, {"before": 1, "indeterminate": 2})


async def test_who_names_a_view_with_the_revocation_signed_afterwards(tmp_path):
    async with opened(tmp_path / "h37.db") as made:
        await made.append([record(dir="41 " + "ab" * 32)])
    report = verify_log(tmp_path / "h37.db", [KEY], trust=trust_with())
    assert (report.verdicts, codes(report)) == ({"after": 1}, {"signed-after-revocation"})


async def test_who_names_a_view_that_is_younger_than_the_revocation_signed_afterwards(tmp_path):
    async with opened(tmp_path / "h37.db") as made:
        await made.append([record(dir="36 " + "ab" * 32)])
    views = [{"size": 35, "from": encode_time(EARLIER), "until": encode_time(LATER)}]
    assert verify_log(tmp_path / "h37.db", [KEY], trust=trust_with(views=views)).verdicts == {"after": 1}
    views[0]["until"] = encode_time(EARLIER)
    assert verify_log(tmp_path / "h37.db", [KEY], trust=trust_with(views=views)).verdicts == {"indeterminate": 1}


# --- a stolen key -----------------------------------------------------------------------------------------------------


async def test_a_back_dated_tree_of_a_stolen_key_is_caught_by_the_tree_that_somebody_dated(log, tmp_path):
    _, newest = log
    async with opened(tmp_path / "forged.db") as forged:  # the same origin, the stolen key, other records, old claims
        await forged.append([record(dir="3 " + "ab" * 32) for _ in range(3)])
    alone = verify_log(tmp_path / "forged.db", [KEY])
    assert alone.verified, "the signature is the key's: that alone shows nothing"
    for trust, known in ((trust_with(dated=[dated(newest, EARLIER)]), []), (trust_with(), [cosigned(newest, EARLIER)])):
        report = verify_log(tmp_path / "forged.db", [KEY], trust=trust, known=known)
        assert not report.verified
        assert codes(report) & {"log-forked", "root-differs"}
        assert "before" not in report.verdicts, "a bound for the true tree does not date the forged one"


async def test_a_back_dated_tree_is_caught_by_a_checkpoint_that_a_counterparty_remembers(log, tmp_path):
    async with opened(tmp_path / "forged.db") as forged:
        await forged.append([record() for _ in range(9)])
    report = verify_log(tmp_path / "forged.db", [KEY], trust=trust_with(), known=[log[1]])
    assert "root-differs" in codes(report)


async def test_a_forged_record_is_missing_from_the_counterpartys_log(tmp_path, capsys):
    async with opened(tmp_path / "forged.db") as forged:
        await forged.append([record()])
    async with opened(tmp_path / "g01.db", origin=ORIGIN_G01, signer=SIGNER_G01) as honest:
        await honest.append([reply(record())])
    (tmp_path / "trust.json").write_bytes(trust_text())
    paths = [str(tmp_path / "forged.db"), str(tmp_path / "g01.db")]
    assert main(["reconcile", *paths, "--trust", str(tmp_path / "trust.json")]) == 1
    assert "not-received: query" in capsys.readouterr().out


async def test_the_counterpartys_dated_log_lets_both_entries_pass(tmp_path, capsys):
    query = record()
    answer = reply(query)
    async with opened(tmp_path / "h37.db") as mine:
        await mine.append([query, answer])
    async with opened(tmp_path / "g01.db", origin=ORIGIN_G01, signer=SIGNER_G01) as theirs:
        await theirs.append([query, answer])
        newest = theirs.note
    paths = [str(tmp_path / "h37.db"), str(tmp_path / "g01.db")]
    trust = tmp_path / "trust.json"
    trust.write_bytes(trust_text(dated=[dated(newest, EARLIER, ORIGIN_G01)]))
    assert main(["reconcile", *paths, "--trust", str(trust)]) == 0
    trust.write_bytes(trust_text())
    assert main(["reconcile", *paths, "--trust", str(trust)]) == 1
    out = capsys.readouterr().out
    assert "1 before" in out
    assert "1 indeterminate" in out


async def test_one_record_with_its_proof_is_judged_too(tmp_path, capsys):
    from evidence.proof import Proof

    leaf = record()
    async with opened(tmp_path / "h37.db") as made:
        (logged,) = await made.append([leaf])
    (tmp_path / "leaf").write_bytes(leaf)
    proof = Proof(index=logged.index, path=logged.path, note=logged.note, extra=None)
    (tmp_path / "proof").write_text(proof.format())
    (tmp_path / "trust").write_bytes(trust_text())
    arguments = ["proof", str(tmp_path / "leaf"), str(tmp_path / "proof"), "--trust", str(tmp_path / "trust")]
    assert main(arguments) == 1
    assert "time-indeterminate" in capsys.readouterr().out
    (tmp_path / "trust").write_bytes(trust_text(dated=[dated(logged.note, EARLIER)]))
    assert main(arguments) == 0


# --- several keys of one log ------------------------------------------------------------------------------------------


def two_keys(second):
    keys = [
        {"key": str(KEY), "from": "2020-01-01T00:00:00.000000Z", "until": encode_time(NOW)},
        {"key": str(second), "from": encode_time(EARLIER), "until": None},
    ]
    return {ORIGIN: {**keys[1], "keys": keys}}


async def test_a_log_that_goes_on_under_a_new_key_stands_when_the_old_key_is_revoked(tmp_path):
    new = FileSigner.generate("ed25519")
    second = VerifierKey(key_name(ORIGIN), new.public_bytes)
    async with opened(tmp_path / "h37.db") as made:
        await made.append([record()])
        old_note = made.note
    revoked = [{"kind": "key", "id": sha256(SIGNER.public_bytes).hexdigest(), "since": encode_time(SINCE)}]
    trust = trust_with(origins=two_keys(second), revocations=revoked)
    assert verify_log(tmp_path / "h37.db", trust.keys_for(ORIGIN), trust=trust).verdicts == {"indeterminate": 1}
    async with opened(tmp_path / "h37.db", signer=new, earlier_keys=[KEY]) as made:
        await made.append([record()])
    report = verify_log(
        tmp_path / "h37.db", trust.keys_for(ORIGIN), trust=trust, known=[old_note], every_checkpoint=True
    )
    assert (report.verified, report.verdicts) == (True, {}), "the new key stands for the whole tree"


SECOND = FileSigner.generate("ed25519")
SECOND_KEY = VerifierKey(key_name(ORIGIN), SECOND.public_bytes)
YEAR_END, REVOKED_AT = "2025-12-31T23:59:59.000000Z", "2025-06-01T00:00:00.000000Z"
KEY_REVOKED = [{"kind": "key", "id": sha256(SIGNER.public_bytes).hexdigest(), "since": REVOKED_AT, "index": 1}]


def retired(revocations=(), until=YEAR_END):
    """A trust file in which the first key of the log ended before its records were made."""
    keys = [
        {"key": str(KEY), "from": "2020-01-01T00:00:00.000000Z", "until": until},
        {"key": str(SECOND_KEY), "from": YEAR_END, "until": None},
    ]
    theirs = {"key": str(KEY_G01), "from": "2020-01-01T00:00:00.000000Z", "until": None}
    return trust_text(origins={ORIGIN: {**keys[1], "keys": keys}, ORIGIN_G01: theirs}, revocations=list(revocations))


async def test_a_retired_key_proves_nothing_of_today(tmp_path, capsys):
    from evidence.proof import Proof

    leaf = record()
    async with opened(tmp_path / "h37.db") as made:
        (logged,) = await made.append([leaf])
        forged = made.note
    (tmp_path / "leaf").write_bytes(leaf)
    (tmp_path / "proof").write_text(Proof(index=logged.index, path=logged.path, note=logged.note).format())
    (tmp_path / "trust").write_bytes(retired())
    assert main(["proof", str(tmp_path / "leaf"), str(tmp_path / "proof"), "--trust", str(tmp_path / "trust")]) == 1
    assert "key-out-of-time" in capsys.readouterr().out
    trust = parse_trust(retired())
    report = verify_log(tmp_path / "h37.db", trust.keys_for(ORIGIN), trust=trust)
    assert (report.verified, codes(report)) == (False, {"key-out-of-time"})
    with LogReader(tmp_path / "h37.db") as reader:
        export_tiles(reader, tmp_path / "tiles")
    assert codes(verify_log(tmp_path / "tiles", trust.keys_for(ORIGIN), trust=trust)) == {"key-out-of-time"}
    in_time = parse_trust(retired(until=encode_time(NOW)))
    assert verify_log(tmp_path / "h37.db", trust.keys_for(ORIGIN), trust=in_time).verified
    async with opened(tmp_path / "h37.db", signer=SECOND, earlier_keys=[KEY]) as made:
        await made.append([record()])
    assert verify_log(tmp_path / "h37.db", trust.keys_for(ORIGIN), trust=trust).verified
    known = verify_log(tmp_path / "h37.db", trust.keys_for(ORIGIN), trust=trust, known=[forged])
    assert codes(known) == {"key-out-of-time"}
    every = verify_log(tmp_path / "h37.db", trust.keys_for(ORIGIN), trust=trust, every_checkpoint=True)
    assert codes(every) == {"key-out-of-time"}


async def test_a_proof_under_a_new_key_stands_for_records_from_before_it(tmp_path, capsys):
    from evidence.proof import Proof

    leaf = record(time="2025-03-01T00:00:00.000000Z")
    async with opened(tmp_path / "h37.db", signer=SECOND) as made:
        (logged,) = await made.append([leaf])
    (tmp_path / "leaf").write_bytes(leaf)
    (tmp_path / "proof").write_text(Proof(index=logged.index, path=logged.path, note=logged.note).format())
    (tmp_path / "trust").write_bytes(retired())
    assert main(["proof", str(tmp_path / "leaf"), str(tmp_path / "proof"), "--trust", str(tmp_path / "trust")]) == 0


async def received_under(tmp_path, signer, keep=True):
    """G01's log with a query that H37 proved under a key, and G01's answer; H37's proof beside it, if it is kept."""
    query = record(dir="30 " + "ab" * 32)
    async with opened(tmp_path / "h37.db", signer=signer) as ours:
        (logged,) = await ours.append([query])
    async with opened(tmp_path / "g01.db", origin=ORIGIN_G01, signer=SIGNER_G01) as theirs:
        received, _ = await theirs.append([query, reply(query)])
    if keep:
        with contextlib.closing(sqlite3.connect(tmp_path / "g01.db")) as database:
            database.execute("CREATE TABLE peer_note (hash BLOB PRIMARY KEY, note BLOB)")
            database.execute(
                "CREATE TABLE peer_proof (idx INTEGER PRIMARY KEY, leaf_index, size, path, note_hash BLOB)"
            )
            database.execute("INSERT INTO peer_note VALUES (x'01', ?)", (logged.note,))
            row = (received.index, logged.index, logged.size, logged.path)
            database.execute("INSERT INTO peer_proof VALUES (?, ?, ?, ?, x'01')", row)
            database.commit()
    trust = parse_trust(retired(KEY_REVOKED))
    return verify_log(tmp_path / "g01.db", trust.keys_for(ORIGIN_G01), trust=trust)


async def test_what_was_received_under_a_revoked_and_retired_key_is_judged(tmp_path):
    report = await received_under(tmp_path, SIGNER)
    assert (report.verdicts, codes(report)) == ({"after": 1}, {"signed-after-revocation"})


async def test_what_was_received_under_the_key_after_it_stands(tmp_path):
    report = await received_under(tmp_path, SECOND)
    assert (report.verified, report.verdicts) == (True, {})


async def test_what_was_received_without_its_proof_does_not_pass(tmp_path):
    report = await received_under(tmp_path, SECOND, keep=False)
    assert (report.verified, report.verdicts) == (False, {"indeterminate": 1})


async def test_a_kept_proof_that_does_not_hold_says_nothing(tmp_path):
    await received_under(tmp_path, SECOND)
    for damage in ("path = 'text'", "path = x'00'", "leaf_index = 7"):
        with contextlib.closing(sqlite3.connect(tmp_path / "g01.db")) as database:
            database.execute(f"UPDATE peer_proof SET {damage}")
            database.commit()
        trust = parse_trust(retired(KEY_REVOKED))
        report = verify_log(tmp_path / "g01.db", trust.keys_for(ORIGIN_G01), trust=trust)
        assert (report.verified, report.verdicts) == (False, {"indeterminate": 1})


def test_a_trust_file_names_its_newest_key_among_all():
    keys = two_keys(VerifierKey(key_name(ORIGIN), FileSigner.generate("ed25519").public_bytes))
    assert len(trust_with(origins=keys).keys_for(ORIGIN)) == 2
    keys[ORIGIN]["keys"] = keys[ORIGIN]["keys"][:1]
    with pytest.raises(TrustMalformed):
        trust_with(origins=keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"revocations": [{"kind": "person", "id": "x", "since": encode_time(NOW)}]},
        {"revocations": [{"kind": "node", "id": NODE, "since": "yesterday"}]},
        {"views": [{"size": 1, "from": "x", "until": encode_time(NOW)}]},
        {"dated": [{"origin": ORIGIN, "size": 3, "root": "ab", "at": encode_time(NOW)}]},
        {"witnesses": ["nobody"]},
    ],
)
def test_what_judges_is_refused_when_it_is_malformed(changes):
    with pytest.raises(TrustMalformed):
        trust_with(**changes)


def test_a_checkpoint_text_of_another_log_dates_nothing(log):
    path, _ = log
    foreign = note.sign(Checkpoint(ORIGIN_G01, 4, bytes(32)).text(), key_name(ORIGIN_G01), SIGNER_G01)
    report = verify_log(path, [KEY], trust=trust_with(dated=[dated(foreign, EARLIER, ORIGIN_G01)]))
    assert report.verdicts == {"indeterminate": 3}
