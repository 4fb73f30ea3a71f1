"""Offline-verifiable proofs that a record is in a log, in the text form of C2SP tlog-proof.

The compact binary form on the wire belongs to `bus`; this is what exports and archives hold.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from evidence import checkpoint
from evidence.checkpoint import Checkpoint
from evidence.errors import ProofInvalid
from evidence.merkle import HASH_BYTES, leaf_hash, split_path, verify_inclusion
from evidence.note import MAX_NOTE_BYTES, VerifierKey

HEADER_LINE = "c2sp.org/tlog-proof@v1"
MAX_PATH_HASHES = 63
MAX_EXTRA_BYTES = 65_536
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 100_000

_INDEX = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof as it travels in text.

    Attributes:
        index: Zero-based position of the leaf.
        path: Sibling hashes from the leaf upwards, concatenated.
        note: The signed checkpoint, verbatim.
        extra: Opaque and unauthenticated; never to be relied on.
    """

    index: int
    path: bytes
    note: bytes
    extra: bytes | None = None

    def format(self) -> str:
        """Write the text form.

        Raises:
            ProofInvalid: The path does not consist of hashes, or the note is not UTF-8.
        """
        lines = [HEADER_LINE]
        if self.extra is not None:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines.extend(base64.b64encode(entry).decode() for entry in split_path(self.path))
        try:
            return "\n".join(lines) + "\n\n" + self.note.decode()
        except UnicodeDecodeError:
            raise ProofInvalid("the note of a proof is not UTF-8") from None


def _decode_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProofInvalid("a proof contains a line that is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ProofInvalid("a proof contains base64 in another than the canonical spelling")
    return data


def _parse_head(lines: list[str]) -> tuple[int, bytes, bytes | None]:
    if not lines or lines[0] != HEADER_LINE:
        raise ProofInvalid(f"a proof begins with the line {HEADER_LINE}")
    lines = lines[1:]
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = _decode_base64(lines[0].removeprefix("extra "))
        lines = lines[1:]
    if extra is not None and len(extra) > MAX_EXTRA_BYTES:
        raise ProofInvalid(f"the extra data of a proof exceeds {MAX_EXTRA_BYTES} bytes")
    index = lines[0].removeprefix("index ") if lines and lines[0].startswith("index ") else ""
    if not _INDEX.fullmatch(index):
        raise ProofInvalid("a proof has no line 'index <decimal number>'")
    if len(lines) - 1 > MAX_PATH_HASHES:
        raise ProofInvalid(f"a proof has more than {MAX_PATH_HASHES} hashes")
    hashes = [_decode_base64(line) for line in lines[1:]]
    if any(len(entry) != HASH_BYTES for entry in hashes):
        raise ProofInvalid("a proof contains a hash that is not 32 bytes long")
    return int(index), b"".join(hashes), extra


def parse(data: str | bytes) -> Proof:
    """Read the text form without verifying anything.

    Raises:
        ProofInvalid: Not the text form of a proof, or over the limits.
    """
    if len(data) > MAX_PROOF_BYTES:
        raise ProofInvalid(f"a proof exceeds {MAX_PROOF_BYTES} bytes")
    try:
        text = data.decode() if isinstance(data, bytes) else data
        head, separator, note = text.partition("\n\n")
        note_bytes = note.encode()
    except UnicodeError:
        raise ProofInvalid("a proof is not UTF-8") from None
    if not separator:
        raise ProofInvalid("a proof has no checkpoint")
    index, path, extra = _parse_head(head.split("\n"))
    return Proof(index, path, note_bytes, extra)


def verify_proof(proof: Proof, leaf: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Verify that a log has committed to a leaf.

    Args:
        proof: Parsed, unverified.
        leaf: The whole leaf, with its prefix.
        keys: Trusted keys; the log's own must be among them, under the name of its origin.

    Returns:
        The verified checkpoint. Whether its origin is the one that may speak is for the caller to check.

    Raises:
        ProofInvalid: The path does not lead to the root.
        NoteInvalid: The checkpoint is malformed or not signed by a known key of its log.
    """
    return verify_signed_proof(proof, leaf, keys)[0]


def verify_signed_proof(proof: Proof, leaf: bytes, keys: Iterable[VerifierKey]) -> tuple[Checkpoint, VerifierKey]:
    """As `verify_proof`, with the key of the log that signed the checkpoint.

    Raises:
        ProofInvalid, NoteInvalid: See `verify_proof`.
    """
    verified, key = checkpoint.verify_signed(proof.note, keys)
    verify_inclusion(leaf_hash(leaf), proof.index, verified.size, proof.path, verified.root)
    return verified, key
