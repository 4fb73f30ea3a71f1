import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import checkpoint, note
from evidence.checkpoint import MAX_SIZE, Checkpoint, key_name, parse_note, parse_text
from evidence.errors import CheckpointMalformed, NoteUnsigned
from evidence.note import COSIGNATURE, VerifierKey
from evidence.signer import FileSigner

LOG = FileSigner.generate("ed25519")
WITNESS = FileSigner.generate("ed25519")
ORIGIN = "0f" * 32 + "/VN/GOV/H37/@n1/1"
ROOT = bytes(range(32))
STATE = Checkpoint(ORIGIN, 5, ROOT)
KEY = VerifierKey(ORIGIN, LOG.public_bytes)


def test_the_example_of_the_specification_is_read():
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    found = parse_text(text)
    assert (found.origin, found.size, found.extensions) == ("example.com/behind-the-sofa", 20852163, ())
    assert found.text() == text


@given(
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=40),
    st.integers(0, MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text("abc d", min_size=1, max_size=9), max_size=3),
)
def test_every_checkpoint_survives_its_text(origin, size, root, extensions):
    state = Checkpoint(origin, size, root, tuple(extensions))
    assert parse_text(state.text()) == state


ROOT64 = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"o\n1\n{ROOT64}",
        f"\n1\n{ROOT64}\n",
        f"o\n\n{ROOT64}\n",
        "o\n1\n\n",
        "o\n1\n",
        f"o\n1\n{ROOT64}\n\n",
        f"o\n1\n{ROOT64}\n\nx\n",
        f"o\n01\n{ROOT64}\n",
        f"o\n-1\n{ROOT64}\n",
        f"o\n+1\n{ROOT64}\n",
        f"o\n1.0\n{ROOT64}\n",
        f"o\n٣\n{ROOT64}\n",
        f"o\n{1 << 63}\n{ROOT64}\n",
        f"o\n{10**19}\n{ROOT64}\n",
        f"o\n1\n{ROOT64[:-1]}\n",
        f"o\n1\n{ROOT64[:-2]}9=\n",
        f"o\n1\n{base64.b64encode(ROOT[:-1]).decode()}\n",
        "o\n1\n!\n",
        "o\n1\né\n",
    ],
)
def test_another_form_of_a_checkpoint_is_refused(text):
    with pytest.raises(CheckpointMalformed):
        parse_text(text)


def test_a_checkpoint_verifies_by_the_key_of_its_log():
    signed = note.sign(STATE.text(), key_name(ORIGIN), LOG)
    assert checkpoint.verify(signed, [KEY]) == STATE
    assert checkpoint.verify(signed, iter([KEY])) == STATE
    assert parse_note(signed) == STATE


def test_a_witness_alone_does_not_make_a_checkpoint():
    signed = note.add_signature(
        note.sign(STATE.text(), key_name(ORIGIN), LOG), note.cosign(STATE.text(), "w", WITNESS, 1)
    )
    witness = VerifierKey("w", WITNESS.public_bytes, COSIGNATURE)
    with pytest.raises(NoteUnsigned):
        checkpoint.verify(signed, [witness])
    assert checkpoint.verify(signed, [witness, KEY]) == STATE


def test_a_log_cannot_speak_for_another_origin():
    other = Checkpoint(ORIGIN[:-1] + "2", 5, ROOT)
    signed = note.sign(other.text(), key_name(ORIGIN), LOG)
    with pytest.raises(NoteUnsigned):
        checkpoint.verify(signed, [KEY])


def test_a_cosignature_under_the_log_s_own_name_is_not_the_log_s_signature():
    line = note.cosign(STATE.text(), key_name(ORIGIN), LOG, 1)
    signed = note.add_signature(note.sign(STATE.text(), "someone", WITNESS), line)
    with pytest.raises(NoteUnsigned):
        checkpoint.verify(signed, [VerifierKey(ORIGIN, LOG.public_bytes, COSIGNATURE)])


def test_what_notes_forbid_in_names_is_encoded():
    assert key_name("a+b c\u3000d/mộ") == "a%2Bb%20c%E3%80%80d/mộ"
    assert note.is_key_name(key_name("a+b c\u3000d/mộ"))
