import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import note, proof
from evidence.checkpoint import Checkpoint, key_name
from evidence.errors import NoteInvalid, NoteUnsigned, ProofInvalid
from evidence.leaf import EXCHANGE, wrap
from evidence.merkle import Frontier, leaf_hash
from evidence.note import VerifierKey
from evidence.proof import Proof
from evidence.signer import FileSigner

LOG = FileSigner.generate("ed25519")
ORIGIN = "0f" * 32 + "/VN/GOV/H37/@n1/1"
KEY = VerifierKey(ORIGIN, LOG.public_bytes)
LEAVES = [wrap(EXCHANGE, str(number).encode()) for number in range(11)]
GROWN = Frontier().extend([leaf_hash(leaf) for leaf in LEAVES])
NOTE = note.sign(Checkpoint(ORIGIN, 11, GROWN.root).text(), key_name(ORIGIN), LOG)
PROOFS = [Proof(index, path, NOTE) for index, path in enumerate(GROWN.paths)]
TEXT = PROOFS[3].format()


@given(st.integers(0, 10), st.none() | st.binary(max_size=40))
def test_every_proof_survives_its_text_and_verifies(index, extra):
    made = Proof(index, GROWN.paths[index], NOTE, extra)
    read = proof.parse(made.format())
    assert read == made == proof.parse(made.format().encode())
    assert proof.verify_proof(read, LEAVES[index], [KEY]).size == 11


def test_the_text_is_as_specified():
    lines = Proof(3, GROWN.paths[3], NOTE, b"extra").format().split("\n")
    assert lines[:3] == ["c2sp.org/tlog-proof@v1", "extra ZXh0cmE=", "index 3"]
    assert [base64.b64decode(line) for line in lines[3:7]] == [
        GROWN.paths[3][at : at + 32] for at in range(0, len(GROWN.paths[3]), 32)
    ]
    assert lines[7] == ""
    assert "\n".join(lines[8:]).encode() == NOTE


def test_a_proof_for_another_leaf_or_index_is_refused():
    for made, leaf in [
        (PROOFS[3], LEAVES[4]),
        (Proof(4, PROOFS[3].path, NOTE), LEAVES[3]),
        (Proof(11, PROOFS[3].path, NOTE), LEAVES[3]),
        (Proof(3, PROOFS[3].path[:-32], NOTE), LEAVES[3]),
        (Proof(3, PROOFS[3].path + bytes(32), NOTE), LEAVES[3]),
        (Proof(3, PROOFS[3].path[:-1], NOTE), LEAVES[3]),
    ]:
        with pytest.raises(ProofInvalid):
            proof.verify_proof(made, leaf, [KEY])


def test_a_proof_against_another_root_is_refused():
    other = note.sign(Checkpoint(ORIGIN, 11, bytes(32)).text(), key_name(ORIGIN), LOG)
    with pytest.raises(ProofInvalid):
        proof.verify_proof(Proof(3, PROOFS[3].path, other), LEAVES[3], [KEY])


def test_a_proof_signed_by_a_stranger_is_refused():
    stranger = FileSigner.generate("ed25519")
    forged = note.sign(Checkpoint(ORIGIN, 11, GROWN.root).text(), key_name(ORIGIN), stranger)
    with pytest.raises(NoteUnsigned):
        proof.verify_proof(Proof(3, PROOFS[3].path, forged), LEAVES[3], [KEY])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        TEXT.replace("@v1", "@v2"),
        TEXT.replace("index 3", "index 03"),
        TEXT.replace("index 3", "index -3"),
        TEXT.replace("index 3", "index"),
        TEXT.replace("index 3\n", ""),
        TEXT.replace("index 3", "extra !\nindex 3"),
        TEXT.replace("index 3", "extra ZXh0cmF=\nindex 3"),
        TEXT.replace("index 3", "extra ZXh0cmE=\nextra ZXh0cmE=\nindex 3"),
        TEXT.replace("index 3", "index 3\nindex 3"),
        TEXT.replace("index 3", "index 3\nAAAA"),
        TEXT.replace("index 3", "index 3\n" + "\n".join([base64.b64encode(bytes(32)).decode()] * 60)),
        TEXT.replace("index 3", f"extra {base64.b64encode(bytes(70_000)).decode()}\nindex 3"),
        TEXT.split("\n\n")[0],
        "c2sp.org/tlog-proof@v1\n\n",
        "c2sp.org/tlog-proof@v1\nextra ZXh0cmE=\n\n",
        TEXT + "x" * proof.MAX_PROOF_BYTES,
        "\ud800" + TEXT,
        TEXT + "\ud800",
        b"\xff" + TEXT.encode(),
    ],
)
def test_another_form_of_a_proof_is_refused(text):
    with pytest.raises((ProofInvalid, NoteInvalid)):
        proof.verify_proof(proof.parse(text), LEAVES[3], [KEY])


@given(st.text(max_size=200))
def test_no_text_makes_the_parser_fail_otherwise(text):
    try:
        read = proof.parse(text)
    except ProofInvalid:
        return
    assert proof.parse(read.format()) == read


def test_a_proof_with_a_note_that_is_not_text_is_not_formatted():
    with pytest.raises(ProofInvalid):
        Proof(0, b"", b"\xff").format()
