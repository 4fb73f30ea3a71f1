"""Checkpoints: the size and root of a log at one moment, as the text of a signed note (C2SP tlog-checkpoint).

`parse_note` reads without verifying; `verify` is what may be relied on: it also binds the origin in the text to the
name of the key that signed.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from evidence import note
from evidence.errors import CheckpointMalformed, NoteUnsigned
from evidence.note import Note, VerifierKey

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_NOT_IN_NAMES = re.compile("[+ \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
MAX_SIZE = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself.

    Attributes:
        origin: Name of the log.
        size: Number of leaves.
        root: 32 bytes, RFC 9162 root of the tree of that size.
        extensions: Further lines; ours has none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> str:
        """The note text: origin, size, base64 root, one a line."""
        lines = "".join(f"{line}\n" for line in self.extensions)
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n{lines}"


def key_name(origin: str) -> str:
    """The note key name of a log: its origin, percent-encoded where notes forbid a character."""
    return _NOT_IN_NAMES.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), origin)


def parse_text(text: str) -> Checkpoint:
    """Read a checkpoint text.

    Raises:
        CheckpointMalformed: Not at least three non-empty lines of origin, size and root in their one spelling.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise CheckpointMalformed("a checkpoint has at least three lines, none of them empty")
    origin, size, root64 = lines[:3]
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise CheckpointMalformed("the size in a checkpoint is not a decimal number without leading zeros")
    try:
        root = base64.b64decode(root64, validate=True)
    except (binascii.Error, ValueError):
        root = b""
    if len(root) != 32 or base64.b64encode(root).decode() != root64:
        raise CheckpointMalformed("the root in a checkpoint is not the base64 of 32 bytes")
    return Checkpoint(origin, int(size), root, tuple(lines[3:-1]))


def parse_note(data: bytes) -> Checkpoint:
    """Read the checkpoint in a note WITHOUT verifying any signature.

    Raises:
        NoteInvalid: The note is malformed, or its text is no checkpoint (`CheckpointMalformed`).
    """
    return parse_text(note.parse(data).text)


def verify(data: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Verify a checkpoint by the key of its own log.

    Args:
        data: The note.
        keys: Trusted keys of logs and, if wanted, witnesses; a witness's signature alone is not enough.

    Raises:
        NoteUnsigned: No known key of the log named in the text has signed.
        NoteInvalid: See `note.verify` and `parse_text`.
    """
    known = tuple(keys)
    return verified_checkpoint(note.verify(data, known), known)


def verified_checkpoint(verified: Note, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Read the checkpoint from a note that `note.verify` returned, requiring the log's own signature.

    Raises:
        NoteUnsigned: None of the signatures is by a log key under the name of this origin.
        CheckpointMalformed: The text is no checkpoint.
    """
    return _with_signer(verified, keys)[0]


def verify_signed(data: bytes, keys: Iterable[VerifierKey]) -> tuple[Checkpoint, VerifierKey]:
    """As `verify`, with the key of the log that signed: a log has several, each with its own time.

    Raises:
        NoteInvalid: See `verify`.
    """
    known = tuple(keys)
    return _with_signer(note.verify(data, known), known)


def _with_signer(verified: Note, keys: Iterable[VerifierKey]) -> tuple[Checkpoint, VerifierKey]:
    checkpoint = parse_text(verified.text)
    name = key_name(checkpoint.origin)
    own = {key.id: key for key in keys if key.name == name and key.type == note.ED25519}
    for line in verified.signatures:
        if line.name == name and line.key_id in own:
            return checkpoint, own[line.key_id]
    raise NoteUnsigned("this checkpoint is not signed by a known key of the log that it names")
