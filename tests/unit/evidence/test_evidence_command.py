import json
import subprocess
import sys

import pytest
from log_world import G01, GENESIS, H37, ORIGIN, ORIGIN_G01, SIGNER, SIGNER_G01, opened, record, reply

from evidence.__main__ import main
from evidence.export import export_tiles
from evidence.note import VerifierKey
from evidence.proof import Proof

KEYS = {
    ORIGIN: str(VerifierKey(ORIGIN, SIGNER.public_bytes)),
    ORIGIN_G01: str(VerifierKey(ORIGIN_G01, SIGNER_G01.public_bytes)),
}
FROM = "2026-01-01T00:00:00.000000Z"


def trust(path, **entry):
    origins = {origin: {"key": key, "from": FROM} | entry for origin, key in KEYS.items()}
    path.write_text(json.dumps({"genesis": GENESIS, "instance": "VN-DEMO", "origins": origins}))
    return str(path)


@pytest.fixture
async def world(tmp_path):
    """Two logs with one exchange, the first also as tiles; a record with its proof; the trust file."""
    query = record()
    answer = reply(query)
    async with opened(tmp_path / "h37.db") as log:
        (logged,) = await log.append([query])
        (tmp_path / "early").write_bytes(log.note)
        await log.append([answer])
    async with opened(tmp_path / "g01.db", origin=ORIGIN_G01, signer=SIGNER_G01) as log:
        await log.append([query, answer])
    export_tiles(tmp_path / "h37.db", tmp_path / "tiles")
    (tmp_path / "leaf").write_bytes(query)
    (tmp_path / "proof").write_text(Proof(logged.index, logged.path, logged.note).format())
    trust(tmp_path / "trust.json")
    return tmp_path


def run(capsys, *arguments):
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize("name", ["h37.db", "tiles"])
def test_a_good_log_is_verified(world, capsys, name):
    how = ["--trust", world / "trust.json", "--known", world / "early", "--every-checkpoint"]
    code, out, _ = run(capsys, "verify", world / name, *how)
    assert code == 0
    assert out.startswith(f"VERIFIED: {ORIGIN}\n  3 of 3 records")
    code, out, _ = run(capsys, "verify", world / name, "--json", *how)
    assert (code, json.loads(out)["verified"], json.loads(out)["counts"]["answer"]) == (0, True, 1)


def test_a_bad_log_is_named(world, capsys):
    bundle = world / "tiles/tile/entries/000.p/3"
    bundle.write_bytes(bundle.read_bytes().replace(b'"1.0"', b'"1.1"', 1))
    code, out, _ = run(capsys, "verify", world / "tiles", "--trust", world / "trust.json")
    assert code == 1
    assert out.startswith("NOT VERIFIED")
    assert "first bad leaf: 1, recorded " in out
    assert "leaf-changed" in out


def test_a_log_without_a_readable_checkpoint_is_not_verified(world, capsys):
    (world / "tiles/checkpoint").write_bytes(b"x")
    code, out, _ = run(capsys, "verify", world / "tiles", "--trust", world / "trust.json")
    assert (code, "no readable checkpoint" in out) == (1, True)


def test_a_database_copy_is_read_as_immutable(world, capsys):
    code, _, _ = run(capsys, "verify", world / "h37.db", "--trust", world / "trust.json", "--immutable")
    assert code == 0


def test_a_record_with_its_proof_is_verified(world, capsys):
    code, out, _ = run(capsys, "proof", world / "leaf", world / "proof", "--trust", world / "trust.json")
    assert code == 0
    assert out.startswith(f"VERIFIED\n  said by {ORIGIN}, leaf 1 of 2")
    code, out, _ = run(capsys, "proof", world / "leaf", world / "proof", "--trust", world / "trust.json", "--json")
    assert (code, json.loads(out)["record"]["said"]) == (0, True)


def test_a_changed_record_is_not_verified(world, capsys):
    (world / "leaf").write_bytes((world / "leaf").read_bytes()[:-1])
    code, out, _ = run(capsys, "proof", world / "leaf", world / "proof", "--trust", world / "trust.json")
    assert (code, out.startswith("NOT VERIFIED\n  proof-invalid")) == (1, True)


def test_a_record_outside_its_key_s_time_is_not_verified(world, capsys):
    late = trust(world / "late.json", until="2026-02-01T00:00:00.000000Z")
    code, out, _ = run(capsys, "proof", world / "leaf", world / "proof", "--trust", late)
    assert (code, "key-out-of-time" in out) == (1, True)


def test_two_good_logs_reconcile(world, capsys):
    code, out, _ = run(capsys, "reconcile", world / "h37.db", world / "g01.db")
    assert code == 0
    assert out == "RECONCILED: 2 matched, 0 explained, 0 unmatched, 0 malformed\n"
    code, out, _ = run(
        capsys, "reconcile", world / "tiles", world / "g01.db", "--trust", world / "trust.json", "--json"
    )
    assert code == 0
    assert [log["verified"] for log in json.loads(out)["logs"]] == [True, True]


async def test_an_unmatched_record_is_named(world, capsys):
    async with opened(world / "h37.db") as log:
        await log.append([record(member=H37, to=G01)])
    code, out, _ = run(capsys, "reconcile", world / "h37.db", world / "g01.db", "--trust", world / "trust.json")
    assert (code, "not-received: query" in out, "NOT RECONCILED" in out) == (1, True, True)


def test_what_cannot_be_read_is_told_apart(world, capsys):
    none, good = world / "none", world / "trust.json"
    for arguments in (
        ["verify", none, "--trust", good],
        ["verify", world / "h37.db", "--trust", none],
        ["verify", world / "h37.db"],
        ["verify", world / "h37.db", "--trust", good, "--known", none],
        ["proof", none, world / "proof", "--trust", good],
        ["proof", world / "trust.json", world / "h37.db", "--trust", world / "leaf"],
        ["reconcile", none],
        ["reconcile"],
        [],
        ["guess"],
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert err


def test_a_file_that_is_too_large_cannot_be_a_leaf(world, capsys):
    (world / "leaf").write_bytes(bytes(70_000))
    code, _, _ = run(capsys, "proof", world / "leaf", world / "proof", "--trust", world / "trust.json")
    assert code == 2


def test_a_log_without_a_checkpoint_does_not_reconcile(world, capsys):
    (world / "tiles/checkpoint").write_bytes(b"x")
    code, _, err = run(capsys, "reconcile", world / "tiles")
    assert (code, err.startswith("not verified")) == (1, True)


def test_the_command_needs_nothing_of_the_bus(world):
    program = (
        "import runpy, sys\n"
        "sys.argv = ['evidence', *sys.argv[1:]]\n"
        "try:\n    runpy.run_module('evidence', run_name='__main__')\n"
        "except SystemExit as stopped:\n    code = stopped.code\n"
        "ours = {'bus', 'registry', 'adapters', 'console', 'nats', 'aiohttp', 'uvloop', 'structlog', 'click'}\n"
        "sys.exit(9 if ours & set(sys.modules) else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "verify", world / "h37.db", "--trust", world / "trust.json"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.startswith(b"VERIFIED")) == (0, True), done.stderr
