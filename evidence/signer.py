"""Signing keys in files (protocol.md "Keys, each for one use").

A key file is PKCS#8 PEM: encrypted with a passphrase that stands in another file, or plain. A plain key and a
passphrase file must be readable by their owner only, or they are refused. Public keys are kept beside the private ones,
because deriving them costs as much as a signature.

Nothing here decides what a key may be used for; the directory does. No key ever appears in a message.
"""

import os
import stat
from pathlib import Path
from typing import Literal, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from evidence.durable import sync_folder
from evidence.errors import KeyUnusable

Algorithm = Literal["EdDSA", "ES256", "ES384", "PS256"]
KeyKind = Literal["ed25519", "p256", "p384", "rsa2048", "rsa3072"]
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MAX_KEY_FILE_BYTES = 65_536
MIN_RSA_BITS = 2048

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)


class Signer(Protocol):
    """Signs bytes with one key; where the key lives is its own affair."""

    @property
    def algorithm(self) -> str:
        """JOSE name: "EdDSA", "ES256", "ES384" or "PS256" (RFC 7518, RFC 8037)."""
        ...

    @property
    def public_bytes(self) -> bytes:
        """Ed25519: the 32 raw bytes. Others: SubjectPublicKeyInfo in DER."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature as JOSE writes it: Ed25519 64 bytes, ECDSA r ‖ s, RSASSA-PSS as is."""
        ...


def algorithm_of(key: PublicKey) -> Algorithm:
    """The one algorithm under which a key is used here.

    Raises:
        KeyUnusable: The key is of another kind, another curve, or an RSA key under 2048 bits.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return "ES256"
        if isinstance(key.curve, ec.SECP384R1):
            return "ES384"
    elif key.key_size >= MIN_RSA_BITS:
        return "PS256"
    raise KeyUnusable("this key is not Ed25519, P-256, P-384 or RSA of at least 2048 bits: make another key")


def public_bytes_of(key: PublicKey) -> bytes:
    """Encode a public key as `Signer.public_bytes` does."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class FileSigner:
    """A signer over a private key in memory, usually read from a file.

    Attributes:
        algorithm: JOSE name.
        public_bytes: See `Signer.public_bytes`.
        private_key: The key object, for certificate issuing and TLS.
    """

    __slots__ = ("algorithm", "private_key", "public_bytes")

    def __init__(self, private_key: PrivateKey) -> None:
        public = private_key.public_key()
        self.algorithm: Algorithm = algorithm_of(public)
        self.public_bytes = public_bytes_of(public)
        self.private_key = private_key

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, passphrase_path: str | os.PathLike[str] | None = None
    ) -> "FileSigner":
        """Read a PKCS#8 PEM key file.

        Args:
            path: The key file. Plain: readable by the owner only (mode 0600 or stricter).
            passphrase_path: File with the passphrase (trailing newline ignored), readable by the owner only.

        Raises:
            KeyUnusable: Missing, too open, not a key, wrong passphrase, or an unsuitable algorithm; do not start.
        """
        passphrase = None if passphrase_path is None else read_passphrase(passphrase_path)
        data = _read_secret(Path(path), owner_only=passphrase is None)
        return cls(_load_private_key(data, passphrase, path))

    @classmethod
    def generate(cls, kind: KeyKind) -> "FileSigner":
        """Make a fresh key in memory."""
        return cls(_generate(kind))

    def sign(self, data: bytes) -> bytes:
        """Sign, see `Signer.sign`."""
        key = self.private_key
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(data)
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, _PSS, hashes.SHA256())
        wide = self.algorithm == "ES384"
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA384() if wide else hashes.SHA256())))
        width = 48 if wide else 32
        return r.to_bytes(width) + s.to_bytes(width)

    def save(self, path: str | os.PathLike[str], *, passphrase: bytes | None = None) -> None:
        """Write the key as a new file of mode 0600, encrypted if a passphrase is given; never over an existing file.

        The file appears whole or not at all: a command that is killed leaves no half key under that name.

        Raises:
            KeyUnusable: The file exists or cannot be written.
        """
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase is not None:
            encryption = serialization.BestAvailableEncryption(passphrase)
        pem = self.private_key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        named = Path(path)
        written = named.with_name(f".{named.name}.new")
        try:
            # Left by a command that was killed; it may be another name of a key that is in use: never written into.
            written.unlink(missing_ok=True)
            with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(written, named)
            finally:
                written.unlink()
            sync_folder(Path(path).parent)
        except OSError as error:
            raise KeyUnusable(
                f"the key file {path} cannot be written ({error.strerror}); nothing was replaced"
            ) from None


def generate_key_file(
    path: str | os.PathLike[str], kind: KeyKind, *, passphrase_path: str | os.PathLike[str] | None = None
) -> FileSigner:
    """Make a key and write it to a new file.

    Args:
        path: Where; an existing file is never replaced.
        kind: "ed25519" for log and broker keys, "p256" for members.
        passphrase_path: File with the passphrase to encrypt under, readable by the owner only.

    Raises:
        KeyUnusable: The file exists or cannot be written, or the passphrase file is missing or too open.
    """
    passphrase = None if passphrase_path is None else read_passphrase(passphrase_path)
    signer = FileSigner.generate(kind)
    signer.save(path, passphrase=passphrase)
    return signer


def read_passphrase(path: str | os.PathLike[str]) -> bytes:
    """The passphrase in a file, without the newline at its end.

    Raises:
        KeyUnusable: Missing, too open, or empty.
    """
    found = _read_secret(Path(path)).rstrip(b"\r\n")
    if not found:
        raise KeyUnusable(f"the passphrase file {path} holds no passphrase: write one into it")
    return found


def is_encrypted(path: str | os.PathLike[str]) -> bool:
    """Whether a key file is encrypted PKCS#8 PEM (RFC 7468 section 11).

    Raises:
        KeyUnusable: It cannot be read.
    """
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in _read_secret(Path(path), owner_only=False)


def public_key_of_pem(path: str | os.PathLike[str]) -> bytes:
    """The public key of a PEM file that holds a public key or a certificate, as `Signer.public_bytes` gives it.

    Raises:
        KeyUnusable: It cannot be read, or holds neither.
    """
    try:
        data = Path(path).read_bytes()
        if b"BEGIN CERTIFICATE" in data:
            key: object = x509.load_pem_x509_certificate(data).public_key()
        else:
            key = serialization.load_pem_public_key(data)
    except (OSError, ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise KeyUnusable(f"{path} holds neither a public key nor a certificate in PEM") from None
    if not isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise KeyUnusable(f"the key in {path} is not Ed25519, P-256, P-384 or RSA")
    algorithm_of(key)
    return public_bytes_of(key)


def _generate(kind: KeyKind) -> PrivateKey:
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "p384":
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=3072 if kind == "rsa3072" else 2048)


def _read_secret(path: Path, *, owner_only: bool = True) -> bytes:
    try:
        with path.open("rb") as file:
            # the open file is examined, not the name: nobody can exchange it in between
            status = os.fstat(file.fileno())
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise KeyUnusable(f"the key or passphrase file {path} cannot be read ({error.strerror})") from None
    forbidden = 0o077 if owner_only else 0o022
    if not stat.S_ISREG(status.st_mode) or status.st_mode & forbidden or status.st_uid not in {0, os.geteuid()}:
        raise KeyUnusable(
            f"the key or passphrase file {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}): "
            "make it owned by this user, with chmod 0600"
        )
    if not data or len(data) > MAX_KEY_FILE_BYTES:
        raise KeyUnusable(f"the key or passphrase file {path} is empty or too large")
    return data


def _load_private_key(data: bytes, passphrase: bytes | None, path: str | os.PathLike[str]) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyUnusable(
            f"the key file {path} is not a PKCS#8 PEM key under this passphrase (or lack of one)"
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise KeyUnusable(f"the key in {path} is not Ed25519, P-256, P-384 or RSA: make another key")
    return key
