import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519

from evidence.errors import KeyUnusable
from evidence.jws import load_public_key, verify_raw
from evidence.signer import FileSigner, generate_key_file


@pytest.fixture
def passphrase(tmp_path):
    path = tmp_path / "passphrase"
    path.write_bytes(b"a long secret\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("ed25519", "EdDSA"), ("p256", "ES256"), ("p384", "ES384"), ("rsa2048", "PS256"), ("rsa3072", "PS256")],
)
def test_a_key_of_every_kind_is_made_and_signs(kind, algorithm):
    signer = FileSigner.generate(kind)
    assert signer.algorithm == algorithm
    verify_raw(load_public_key(signer.public_bytes), signer.sign(b"data"), b"data")


def test_a_plain_key_file_is_for_its_owner_only(tmp_path):
    made = generate_key_file(tmp_path / "key.pem", "ed25519")
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert FileSigner.load(tmp_path / "key.pem").public_bytes == made.public_bytes
    for mode in (0o640, 0o604, 0o622):
        (tmp_path / "key.pem").chmod(mode)
        with pytest.raises(KeyUnusable, match="0600"):
            FileSigner.load(tmp_path / "key.pem")


def test_an_encrypted_key_file_needs_its_passphrase(tmp_path, passphrase):
    made = generate_key_file(tmp_path / "key.pem", "p256", passphrase_path=passphrase)
    assert b"ENCRYPTED" in (tmp_path / "key.pem").read_bytes()
    assert FileSigner.load(tmp_path / "key.pem", passphrase_path=passphrase).public_bytes == made.public_bytes
    (tmp_path / "key.pem").chmod(0o644)
    assert FileSigner.load(tmp_path / "key.pem", passphrase_path=passphrase).public_bytes == made.public_bytes
    (tmp_path / "key.pem").chmod(0o666)
    with pytest.raises(KeyUnusable):
        FileSigner.load(tmp_path / "key.pem", passphrase_path=passphrase)
    (tmp_path / "key.pem").chmod(0o600)
    with pytest.raises(KeyUnusable):
        FileSigner.load(tmp_path / "key.pem")
    passphrase.write_bytes(b"another secret")
    with pytest.raises(KeyUnusable):
        FileSigner.load(tmp_path / "key.pem", passphrase_path=passphrase)
    passphrase.chmod(0o640)
    with pytest.raises(KeyUnusable, match="0600"):
        FileSigner.load(tmp_path / "key.pem", passphrase_path=passphrase)


def test_a_plain_key_is_not_read_under_a_passphrase(tmp_path, passphrase):
    generate_key_file(tmp_path / "key.pem", "ed25519")
    with pytest.raises(KeyUnusable):
        FileSigner.load(tmp_path / "key.pem", passphrase_path=passphrase)


def test_an_existing_file_is_never_replaced(tmp_path):
    generate_key_file(tmp_path / "key.pem", "ed25519")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(KeyUnusable):
        generate_key_file(tmp_path / "key.pem", "ed25519")
    assert (tmp_path / "key.pem").read_bytes() == before


def test_files_that_are_no_keys_are_refused(tmp_path):
    path = tmp_path / "key.pem"
    with pytest.raises(KeyUnusable):
        FileSigner.load(path)
    for contents in (b"", b"no key", b"x" * 70_000):
        path.write_bytes(contents)
        path.chmod(0o600)
        with pytest.raises(KeyUnusable):
            FileSigner.load(path)
    with pytest.raises(KeyUnusable):
        FileSigner.load(tmp_path)


def test_a_device_is_not_a_key_file():
    with pytest.raises(KeyUnusable):
        FileSigner.load("/dev/null")


def test_keys_that_are_not_used_here_are_refused(tmp_path):
    unsuitable = [
        x25519.X25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
    ]
    for number, key in enumerate(unsuitable):
        path = tmp_path / f"{number}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        path.chmod(0o600)
        with pytest.raises(KeyUnusable):
            FileSigner.load(path)
