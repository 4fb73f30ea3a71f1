"""Signed notes (C2SP signed-note) and timestamped Ed25519 cosignatures (C2SP tlog-cosignature).

A note is text followed by signature lines. Signatures of unknown keys are ignored; a line that names a known key must
verify, or the whole note is refused; at least one known key must have signed.

This module gives the text no meaning (`evidence.checkpoint` does), and supports Ed25519 only: types 0x01 and 0x04.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from evidence.errors import KeyAmbiguous, NoteInvalid, NoteSignatureInvalid, NoteUnsigned, VerifierKeyInvalid

ED25519 = 0x01
COSIGNATURE = 0x04

MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100

_SIGNATURE_BYTES = {ED25519: 64, COSIGNATURE: 72}
# White_Space of Unicode, and the plus sign
_NAME_FORBIDDEN = re.compile("[+\t\n\x0b\x0c\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ud800-\udfff]")
# besides control characters, what a Python text may hold but UTF-8 cannot
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_KEY_ID = re.compile(r"[0-9a-fA-F]{8}")


class NoteSigner(Protocol):
    """What signing a note needs; `evidence.signer.FileSigner` over an Ed25519 key is one."""

    @property
    def public_bytes(self) -> bytes:
        """The 32 bytes of the Ed25519 public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the Ed25519 signature over `data`."""
        ...


def is_key_name(name: str) -> bool:
    """Whether the text may name a key: not empty, no Unicode spaces, no plus sign."""
    return bool(name) and not _NAME_FORBIDDEN.search(name) and not _CONTROL.search(name)


@lru_cache(maxsize=4096)
def key_id(name: str, type: int, public: bytes) -> bytes:  # noqa: A002  the word of the specification
    """The four bytes that, with the name, identify a key: SHA-256(name ‖ 0x0A ‖ type ‖ public key)[:4]."""
    return sha256(name.encode() + b"\n" + bytes((type,)) + public).digest()[:4]


@lru_cache(maxsize=4096)
def _public_key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


def _decode_base64(text: str, failure: NoteInvalid) -> bytes:
    """Decode the one canonical base64 spelling (RFC 4648 section 3.5); another spelling would be a second signature."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise failure from None
    if base64.b64encode(data).decode() != text:
        raise failure
    return data


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key under a name, as a verifier is configured with it.

    Attributes:
        name: Key name; for a log its origin.
        public: 32 bytes.
        type: `ED25519` (notes) or `COSIGNATURE` (witnesses).
    """

    name: str
    public: bytes
    type: int = ED25519

    def __post_init__(self) -> None:
        if not is_key_name(self.name) or len(self.public) != 32 or self.type not in _SIGNATURE_BYTES:
            raise VerifierKeyInvalid("a verifier key needs a name without spaces or '+', 32 bytes, and a known type")

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read `<name>+<key id, 8 hex digits>+<base64 of type and public key>`.

        Raises:
            VerifierKeyInvalid: Malformed, of an unknown type, or the key id is not that of the key.
        """
        malformed = VerifierKeyInvalid("not a verifier key: <name>+<8 hex digits>+<base64>, copied without changes")
        parts = text.split("+", 2)
        if len(parts) != 3 or not is_key_name(parts[0]) or not _KEY_ID.fullmatch(parts[1]):
            raise malformed
        data = _decode_base64(parts[2], malformed)
        if len(data) != 33:
            raise malformed
        if key_id(parts[0], data[0], data[1:]).hex() != parts[1].lower():
            raise VerifierKeyInvalid("the key id of a verifier key does not belong to it: a character was changed")
        return cls(parts[0], data[1:], data[0])

    @property
    def id(self) -> bytes:
        """Four bytes, see `key_id`."""
        return key_id(self.name, self.type, self.public)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes((self.type,)) + self.public).decode()}"

    def check(self, text: str, signature: bytes) -> bool:
        """Whether `signature` (without key id) is by this key over the note text."""
        if len(signature) != _SIGNATURE_BYTES[self.type]:
            return False
        message = text.encode()
        if self.type == COSIGNATURE:
            message = _cosigned(message, int.from_bytes(signature[:8]))
            signature = signature[8:]
        try:
            _public_key(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line.

    Attributes:
        name: Key name.
        key_id: Four bytes.
        signature: What follows the key id; for a cosignature the 8-byte time and 64 bytes.
    """

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """The signature line, with its newline."""
        return f"— {self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note, as parsed or as verified.

    Attributes:
        text: The signed text, which ends in a newline.
        signatures: From `parse` all lines; from `verify` only those that verified.
    """

    text: str
    signatures: tuple[NoteSignature, ...]

    def format(self) -> bytes:
        """The note as bytes; what `parse` reads.

        Raises:
            NoteInvalid: The parts do not make a well-formed note.
        """
        data = f"{self.text}\n{''.join(signature.line() for signature in self.signatures)}".encode(
            errors="surrogatepass"
        )
        if parse(data) != self:
            raise NoteInvalid("the parts do not make a well-formed note")
        return data


def _parse_line(line: str) -> NoteSignature:
    failure = NoteInvalid("a note has a malformed signature line")
    mark, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    if mark != "—" or not is_key_name(name) or not encoded:
        raise failure
    data = _decode_base64(encoded, failure)
    if len(data) < 5:
        raise failure
    return NoteSignature(name, data[:4], data[4:])


def parse(data: bytes) -> Note:
    """Read a note without verifying anything.

    Raises:
        NoteInvalid: Not UTF-8, control characters, no signature lines, more than 100 of them, or over 1,000,000 bytes.
    """
    if len(data) > MAX_NOTE_BYTES:
        raise NoteInvalid(f"a note of {len(data)} bytes exceeds {MAX_NOTE_BYTES}")
    try:
        content = data.decode()
    except UnicodeDecodeError:
        raise NoteInvalid("a note is not UTF-8") from None
    if _CONTROL.search(content):
        raise NoteInvalid("a note contains a control character")
    text, separator, block = content.rpartition("\n\n")
    if not separator or not block.endswith("\n"):
        raise NoteInvalid("a note has no text or does not end in signature lines")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteInvalid(f"a note has {len(lines)} signatures, more than {MAX_SIGNATURES}")
    return Note(text + "\n", tuple(map(_parse_line, lines)))


def verify(note: bytes, keys: Iterable[VerifierKey]) -> Note:
    """Verify a note against known keys.

    Further signatures by a key that has already verified are ignored.

    Args:
        note: The note as received.
        keys: The keys that the caller trusts for this purpose.

    Returns:
        The note with only the signatures that verified: at least one.

    Raises:
        NoteSignatureInvalid: A line names a known key but does not verify; refuse the whole note.
        KeyAmbiguous: Two of the keys have the same name and key id, and the note is signed under them.
        NoteUnsigned: No known key has signed.
        NoteInvalid: See `parse`.
    """
    known: dict[tuple[str, bytes], list[VerifierKey]] = {}
    for key in keys:
        known.setdefault((key.name, key.id), []).append(key)
    parsed = parse(note)
    verified: dict[tuple[str, bytes], NoteSignature] = {}
    for signature in parsed.signatures:
        identity = (signature.name, signature.key_id)
        candidates = known.get(identity)
        if candidates is None:
            continue
        if len(candidates) > 1:
            raise KeyAmbiguous("two verifier keys have the same name and key id: remove one from the configuration")
        if identity in verified:
            continue
        if not candidates[0].check(parsed.text, signature.signature):
            raise NoteSignatureInvalid(
                f"a signature under the name {signature.name!r} is not by the key known for it: refuse the note",
                key_name=signature.name,
            )
        verified[identity] = signature
    if not verified:
        raise NoteUnsigned("no known key has signed this note")
    return Note(parsed.text, tuple(verified.values()))


def _signed_line(text: str, name: str, type_: int, signer: NoteSigner, signature: bytes) -> NoteSignature:
    return NoteSignature(name, key_id(name, type_, signer.public_bytes), signature)


def sign(text: str, name: str, signer: NoteSigner) -> bytes:
    """Make a note with one Ed25519 signature.

    Args:
        text: Ends in a newline.
        name: Key name.
        signer: An Ed25519 signer.

    Raises:
        NoteInvalid: The text or the name does not fit into a note.
    """
    if not text.endswith("\n") or _CONTROL.search(text) or not is_key_name(name):
        raise NoteInvalid("a note needs text that ends in a newline, without control characters, and a valid key name")
    line = _signed_line(text, name, ED25519, signer, signer.sign(text.encode())).line()
    return f"{text}\n{line}".encode()


def _cosigned(text: bytes, unix_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n%b" % (unix_s, text)


def cosign(text: str, name: str, signer: NoteSigner, unix_s: int) -> NoteSignature:
    """Make a witness's timestamped signature over a checkpoint text (C2SP tlog-cosignature, type 0x04).

    The caller has verified that the checkpoint continues every earlier one it has seen: the signature says so.

    Args:
        text: The note text of the checkpoint.
        name: Key name of the witness.
        signer: An Ed25519 signer.
        unix_s: Seconds since 1970.

    Raises:
        NoteInvalid: The name is not a key name, or the time is not a non-negative 63-bit number.
    """
    if not is_key_name(name) or not 0 <= unix_s < 1 << 63:
        raise NoteInvalid("a cosignature needs a valid key name and a time from 1970 onwards")
    signature = unix_s.to_bytes(8) + signer.sign(_cosigned(text.encode(), unix_s))
    return _signed_line(text, name, COSIGNATURE, signer, signature)


def cosigned_at(signature: NoteSignature) -> int:
    """The time inside a cosignature line.

    Args:
        signature: A line that verified under a key of type `COSIGNATURE`.

    Returns:
        Seconds since 1970.

    Raises:
        NoteInvalid: The signature has not the length of a cosignature.
    """
    if len(signature.signature) != _SIGNATURE_BYTES[COSIGNATURE]:
        raise NoteInvalid("this signature line is not a timestamped cosignature")
    return int.from_bytes(signature.signature[:8])


def add_signature(note: bytes, signature: NoteSignature) -> bytes:
    """Add a signature line; an earlier line of the same key is replaced.

    Raises:
        NoteInvalid: The note is malformed, or has no room for another signature.
    """
    parsed = parse(note)
    identity = (signature.name, signature.key_id)
    kept = tuple(line for line in parsed.signatures if (line.name, line.key_id) != identity)
    return Note(parsed.text, (*kept, signature)).format()
