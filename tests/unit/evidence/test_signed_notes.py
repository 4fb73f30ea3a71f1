"""The examples by Peter Neumann and Enoch Root are those of Go's sumdb/note, which defined the format."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from evidence import note
from evidence.errors import KeyAmbiguous, NoteInvalid, NoteSignatureInvalid, NoteUnsigned, VerifierKeyInvalid
from evidence.note import COSIGNATURE, Note, NoteSignature, VerifierKey
from evidence.signer import FileSigner

PETER_TEXT = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER = VerifierKey.parse(PETER_TEXT)
ENOCH = VerifierKey.parse("EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop")
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
PETER_SIGNER = FileSigner(Ed25519PrivateKey.from_private_bytes(PETER_SEED))
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)


def names(verified):
    return [line.name for line in verified.signatures]


def test_signatures_of_unknown_keys_are_ignored():
    verified = note.verify(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode(), [PETER])
    assert verified.text == TEXT
    assert names(verified) == ["PeterNeumann"]
    assert names(note.verify(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode(), [ENOCH, PETER])) == [
        "PeterNeumann",
        "EnochRoot",
    ]


def test_a_note_without_any_known_signature_is_refused():
    with pytest.raises(NoteUnsigned):
        note.verify(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode(), [])


def test_a_known_key_whose_signature_fails_refuses_the_whole_note():
    forged = PETER_LINE[:60] + "ABCD" + PETER_LINE[60:]
    with pytest.raises(NoteSignatureInvalid) as caught:
        note.verify(f"{TEXT}\n{ENOCH_LINE}{forged}".encode(), [ENOCH, PETER])
    assert caught.value.key_name == "PeterNeumann"
    with pytest.raises(NoteSignatureInvalid):
        note.verify(f"{TEXT.upper()}\n{PETER_LINE}".encode(), [PETER])


def test_repeated_signatures_of_one_key_are_dropped():
    forged = PETER_LINE[:60] + "ABCD" + PETER_LINE[60:]
    verified = note.verify(f"{TEXT}\n{PETER_LINE}{PETER_LINE}{forged}{ENOCH_LINE}{ENOCH_LINE}".encode(), [PETER])
    assert names(verified) == ["PeterNeumann"]


def test_an_ambiguous_key_is_refused_only_where_it_matters():
    assert note.verify(f"{TEXT}\n{PETER_LINE}".encode(), [ENOCH, PETER, ENOCH])
    with pytest.raises(KeyAmbiguous):
        note.verify(f"{TEXT}\n{ENOCH_LINE}".encode(), [ENOCH, PETER, ENOCH])


def test_a_known_name_with_another_key_id_is_unknown():
    other = VerifierKey("PeterNeumann", ENOCH.public)
    assert names(note.verify(f"{TEXT}\n{PETER_LINE}{ENOCH_LINE}".encode(), [other, ENOCH])) == ["EnochRoot"]


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT + "\n",
        f"{TEXT}\n{PETER_LINE[:-1]}",
        f"\x01{TEXT}\n{PETER_LINE}",
        f"{TEXT}\r\n{PETER_LINE}",
        f"{TEXT}\t\n\n{PETER_LINE}",
        f"{TEXT}\n{PETER_LINE}Unexpected line.\n",
        f"{TEXT}\n{PETER_LINE}\n",
        f"{TEXT}\n— Bad Name {PETER_LINE.split(' ')[2]}",
        f"{TEXT}\n— Bad+Name {PETER_LINE.split(' ')[2]}",
        f"{TEXT}\n— Bad\u3000Name {PETER_LINE.split(' ')[2]}",
        f"{TEXT}\n—  {PETER_LINE.split(' ')[2]}",
        f"{TEXT}\n— PeterNeumann\n",
        f"{TEXT}\n— PeterNeumann \n",
        f"{TEXT}\n— PeterNeumann x08gow==\n",
        f"{TEXT}\n— PeterNeumann !!!!\n",
        f"{TEXT}\n— PeterNeumann x08goAB=\n",
        f"{TEXT}\n– PeterNeumann x08goAAA\n",
        f"{TEXT}\n{PETER_LINE.replace(' ', '  ')}",
        f"{TEXT}\n{PETER_LINE.replace('=', '')}",
        "",
        "\n",
    ],
)
def test_a_malformed_note_is_refused(data):
    with pytest.raises(NoteInvalid):
        note.verify(data.encode(), [PETER])


def test_a_note_that_is_not_utf8_is_refused():
    with pytest.raises(NoteInvalid):
        note.parse(b"\xff" + f"{TEXT}\n{PETER_LINE}".encode())


def test_a_hundred_signatures_are_read_and_one_more_is_not():
    assert note.verify(f"{TEXT}\n{ENOCH_LINE * 99}{PETER_LINE}".encode(), [PETER])
    for keys in ([PETER], []):
        with pytest.raises(NoteInvalid):
            note.verify(f"{TEXT}\n{PETER_LINE * 101}".encode(), keys)


def test_sixteen_large_signatures_are_read():
    large = "".join(NoteSignature(f"w{n}", b"abcd", bytes(5000)).line() for n in range(15))
    assert names(note.verify(f"{TEXT}\n{large}{PETER_LINE}".encode(), [PETER])) == ["PeterNeumann"]


def test_a_note_over_the_limit_is_refused():
    with pytest.raises(NoteInvalid):
        note.parse(f"{'x' * note.MAX_NOTE_BYTES}\n\n{PETER_LINE}".encode())


def test_the_text_may_contain_blank_lines_and_end_in_one():
    signed = note.sign("a\n\nb\n\n", "PeterNeumann", PETER_SIGNER)
    assert note.verify(signed, [PETER]).text == "a\n\nb\n\n"
    assert note.verify(note.sign("\n", "PeterNeumann", PETER_SIGNER), [PETER]).text == "\n"


def test_signing_gives_the_published_note():
    assert PETER_SIGNER.public_bytes == PETER.public
    assert note.sign(TEXT, "PeterNeumann", PETER_SIGNER).decode() == f"{TEXT}\n{PETER_LINE}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("abc", "n"),
        ("a\tb\n", "n"),
        ("\ud800\n", "n"),
        ("abc\n", ""),
        ("abc\n", "a b"),
        ("abc\n", "a+b"),
        ("abc\n", "a\x01"),
    ],
)
def test_what_does_not_fit_into_a_note_is_not_signed(text, name):
    with pytest.raises(NoteInvalid):
        note.sign(text, name, PETER_SIGNER)


def test_every_cut_and_change_of_a_verifier_key_is_refused():
    assert str(PETER) == PETER_TEXT
    for start in range(len(PETER_TEXT)):
        for end in range(start + 1, len(PETER_TEXT) + 1):
            if (start, end) != (0, len(PETER_TEXT)):
                with pytest.raises(VerifierKeyInvalid):
                    VerifierKey.parse(PETER_TEXT[start:end])
    for at in range(len(PETER_TEXT)):
        changed = PETER_TEXT[:at] + chr(ord(PETER_TEXT[at]) + 1) + PETER_TEXT[at + 1 :]
        with pytest.raises(VerifierKeyInvalid):
            VerifierKey.parse(changed)


@pytest.mark.parametrize(
    "text",
    [
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_a_verifier_key_of_wrong_length_or_unknown_type_is_refused(text):
    with pytest.raises(VerifierKeyInvalid):
        VerifierKey.parse(text)


@pytest.mark.parametrize(("name", "public", "type_"), [("a b", bytes(32), 1), ("a", bytes(31), 1), ("a", bytes(32), 2)])
def test_a_verifier_key_is_not_made_of_wrong_parts(name, public, type_):
    with pytest.raises(VerifierKeyInvalid):
        VerifierKey(name, public, type_)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_parser_fail_otherwise(data):
    try:
        parsed = note.parse(data)
    except NoteInvalid:
        return
    assert parsed.format() == data


text_lines = st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.just("\n"), max_size=60)
key_names = st.text("abc/é.", min_size=1, max_size=20)


@given(text_lines, key_names)
def test_whatever_was_signed_verifies_and_reads_the_same(text, name):
    signed = note.sign(text + "\n", name, PETER_SIGNER)
    verified = note.verify(signed, [VerifierKey(name, PETER.public)])
    assert verified.text == text + "\n"
    assert verified.format() == signed


def test_parts_that_make_no_note_are_not_formatted():
    with pytest.raises(NoteInvalid):
        Note("a\n\nb", (NoteSignature("n", b"abcd", b"e"),)).format()
    with pytest.raises(NoteInvalid):
        Note("a\n", ()).format()
    with pytest.raises(NoteInvalid):
        Note("\ud800\n", (NoteSignature("n", b"abcd", b"e"),)).format()
    with pytest.raises(NoteInvalid):
        Note("a\n", (NoteSignature("n", b"abcde", b"f"),)).format()


# --- cosignatures (C2SP tlog-cosignature) ---

CHECKPOINT = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
WITNESS = VerifierKey("witness.example.com/w1", PETER.public, COSIGNATURE)


def cosigned():
    signed = note.sign(CHECKPOINT, "example.com/behind-the-sofa", PETER_SIGNER)
    return note.add_signature(signed, note.cosign(CHECKPOINT, WITNESS.name, PETER_SIGNER, 1679315147))


def test_a_cosignature_is_over_header_time_and_text():
    line = note.cosign(CHECKPOINT, WITNESS.name, PETER_SIGNER, 1679315147)
    assert line.signature[:8] == (1679315147).to_bytes(8)
    message = b"cosignature/v1\ntime 1679315147\n" + CHECKPOINT.encode()
    PETER_SIGNER.private_key.public_key().verify(line.signature[8:], message)


def test_a_cosignature_verifies_and_tells_its_time():
    verified = note.verify(cosigned(), [WITNESS])
    assert names(verified) == ["witness.example.com/w1"]
    assert note.cosigned_at(verified.signatures[0]) == 1679315147


def test_a_cosignature_with_a_changed_time_is_refused():
    line = note.cosign(CHECKPOINT, WITNESS.name, PETER_SIGNER, 1679315147)
    later = NoteSignature(line.name, line.key_id, (1679315148).to_bytes(8) + line.signature[8:])
    with pytest.raises(NoteSignatureInvalid):
        note.verify(note.add_signature(cosigned(), later), [WITNESS])


def test_a_plain_signature_is_no_cosignature_and_the_reverse():
    plain = VerifierKey(WITNESS.name, PETER.public)
    with pytest.raises(NoteUnsigned):
        note.verify(cosigned(), [plain])
    line = note.parse(cosigned()).signatures[0]
    with pytest.raises(NoteInvalid):
        note.cosigned_at(line)


def test_a_new_signature_of_the_same_key_replaces_the_old_one():
    data = note.add_signature(cosigned(), note.cosign(CHECKPOINT, WITNESS.name, PETER_SIGNER, 1679315999))
    lines = note.parse(data).signatures
    assert [line.name for line in lines] == ["example.com/behind-the-sofa", "witness.example.com/w1"]
    assert note.cosigned_at(lines[1]) == 1679315999


def test_no_signature_is_added_past_the_limit():
    full = f"{TEXT}\n{PETER_LINE * 100}".encode()
    with pytest.raises(NoteInvalid):
        note.add_signature(full, note.cosign(TEXT, "w", PETER_SIGNER, 1))


@pytest.mark.parametrize(("name", "unix_s"), [("a b", 1), ("w", -1), ("w", 1 << 63)])
def test_a_cosignature_needs_a_name_and_a_time(name, unix_s):
    with pytest.raises(NoteInvalid):
        note.cosign(CHECKPOINT, name, PETER_SIGNER, unix_s)


def test_the_published_cosignature_has_the_expected_form():
    line = (
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nN"
        "o0xUe+mbIUBkBIfZ+qnA==\n"
    )
    parsed = note.parse(f"{CHECKPOINT}\n{line}".encode())
    assert note.cosigned_at(parsed.signatures[0]) == 1679315147
    assert parsed.signatures[0].line() == line
