import json

import pytest

from evidence.errors import TrustMalformed
from evidence.note import VerifierKey
from evidence.signer import FileSigner
from evidence.stamps import decode_time
from evidence.trust import load_trust, parse_trust

GENESIS = "0f" * 32
ORIGIN = f"{GENESIS}/VN/GOV/H37/@n1/1"
KEY = VerifierKey(ORIGIN, FileSigner.generate("ed25519").public_bytes)
FROM, UNTIL = "2026-01-01T00:00:00.000000Z", "2026-12-31T00:00:00.000000Z"


def document(**changes):
    entry = {"key": str(KEY), "from": FROM, "until": UNTIL}
    return {"genesis": GENESIS, "instance": "VN-DEMO", "origins": {ORIGIN: entry}} | changes


def test_a_trust_file_gives_the_keys_of_its_logs(tmp_path):
    (tmp_path / "trust.json").write_text(json.dumps(document()))
    trust = load_trust(tmp_path / "trust.json")
    assert trust.keys_for(ORIGIN) == trust.keys() == [KEY]
    assert trust.keys_for("someone else") == []


def test_a_key_covers_its_own_time():
    entry = parse_trust(json.dumps(document()).encode()).origins[ORIGIN]
    assert [entry.covers(decode_time(text), KEY) for text in (FROM, UNTIL, "2027-01-01T00:00:00.000000Z")] == [
        True,
        True,
        False,
    ]
    open_ended = {ORIGIN: {"key": str(KEY), "from": FROM, "until": None}}
    entry = parse_trust(json.dumps(document(origins=open_ended)).encode()).origins[ORIGIN]
    assert entry.covers(decode_time("2036-01-01T00:00:00.000000Z"), KEY)
    assert not entry.covers(decode_time("2025-01-01T00:00:00.000000Z"), KEY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff",
        json.dumps(document(extra=1)).encode(),
        json.dumps(document(genesis="00" * 32)).encode(),
        json.dumps(document(origins={"x": {"key": str(KEY), "from": FROM}})).encode(),
        json.dumps(document(origins={ORIGIN: {"key": "x", "from": FROM}})).encode(),
        json.dumps(document(origins={ORIGIN[:-1] + "2": {"key": str(KEY), "from": FROM}})).encode(),
        json.dumps(document(origins={ORIGIN: {"key": str(KEY), "from": "today"}})).encode(),
        json.dumps(document(origins={ORIGIN: {"key": str(KEY), "from": FROM, "until": "never"}})).encode(),
    ],
)
def test_another_form_of_a_trust_file_is_refused(data):
    with pytest.raises(TrustMalformed):
        parse_trust(data)


def test_a_missing_trust_file_is_refused(tmp_path):
    with pytest.raises(TrustMalformed):
        load_trust(tmp_path / "none.json")
