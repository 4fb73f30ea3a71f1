"""Checkpoints of the directory: who signs them and what a verified one says.

A directory checkpoint carries two signatures: the log's own, and a timestamped cosignature that the registry renews
every 30 s, from which freshness is read. Pure; compares with nothing that was seen before (`follower` does).
"""

from __future__ import annotations

from typing import NamedTuple

from evidence import checkpoint as evidence_checkpoint
from evidence import note as evidence_note
from evidence.checkpoint import key_name
from evidence.errors import NoteInvalid
from evidence.note import COSIGNATURE, NoteSigner, VerifierKey
from registry.documents import Anchor
from registry.errors import FeedInvalid
from registry.publickeys import decode_ed25519


class DirectoryVerifier(NamedTuple):
    """Keys that verify the checkpoints of one directory."""

    origin: str
    log: VerifierKey
    cosigner: VerifierKey


class DirectoryCheckpoint(NamedTuple):
    """A verified statement of the registry.

    Attributes:
        size: Leaves of the directory's log.
        root: Root at that size, 32 bytes.
        cosigned: Unix seconds at which the registry last confirmed it.
        note: The signed note.
    """

    size: int
    root: bytes
    cosigned: int
    note: bytes


def directory_origin(genesis: str, instance: str) -> str:
    """Origin of a directory's log: `<genesis>/<INSTANCE>/directory/1`."""
    return f"{genesis}/{instance}/directory/1"


def cosigner_name(genesis: str, instance: str) -> str:
    """Key name of the registry's timestamped cosignature."""
    return key_name(f"{genesis}/{instance}/directory/cosigner")


def directory_verifier(genesis: str, anchor: Anchor) -> DirectoryVerifier:
    """The keys that the anchor names."""
    origin = directory_origin(genesis, anchor.instance)
    return DirectoryVerifier(
        origin,
        VerifierKey(key_name(origin), decode_ed25519(anchor.directory.log_key)),
        VerifierKey(
            cosigner_name(genesis, anchor.instance), decode_ed25519(anchor.directory.cosigner_key), COSIGNATURE
        ),
    )


def cosign_checkpoint(note: bytes, genesis: str, instance: str, signer: NoteSigner, unix_s: int) -> bytes:
    """Add the registry's timestamped cosignature to the log's own note, replacing an earlier one.

    Raises:
        NoteInvalid: The note is malformed.
    """
    text = evidence_note.parse(note).text
    line = evidence_note.cosign(text, cosigner_name(genesis, instance), signer, unix_s)
    return evidence_note.add_signature(note, line)


def verify_checkpoint(note: bytes, verifier: DirectoryVerifier) -> DirectoryCheckpoint:
    """Verify both signatures of a directory checkpoint.

    Raises:
        FeedInvalid: Malformed, of another log, or a signature is missing or wrong.
    """
    try:
        verified = evidence_note.verify(note, verifier[1:])
        found = evidence_checkpoint.verified_checkpoint(verified, (verifier.log,))
        times = [evidence_note.cosigned_at(line) for line in verified.signatures if line.key_id == verifier.cosigner.id]
    except NoteInvalid as error:
        raise FeedInvalid(f"the directory checkpoint does not verify: {error}") from None
    if found.origin != verifier.origin:
        raise FeedInvalid("the checkpoint is of another log than this directory's")
    if not times:
        raise FeedInvalid("the directory checkpoint has no timestamped cosignature")
    return DirectoryCheckpoint(found.size, found.root, times[0], note)
