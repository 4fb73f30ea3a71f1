"""Every failure that this room reports, as one tree under `EvidenceError`.

Each class carries a stable `code` and a `disposition`: *retry* (the same call may succeed later), *reject* (this input
will never be accepted) or *halt* (stop and let a person look). Context is kept as attributes. No message repeats
payload or personal data: at most positions, sizes, digests and identifiers of organisations.

This module does not map errors to HTTP answers; `bus` does.
"""

from typing import ClassVar, Literal

Disposition = Literal["retry", "reject", "halt"]


class EvidenceError(Exception):
    """Root of all failures of the evidence room."""

    code: ClassVar[str] = "evidence-error"
    disposition: ClassVar[Disposition] = "reject"


class IdentifierInvalid(EvidenceError):
    """A text is not a member, subsystem, service or node identifier, or may not be created as one."""

    code = "identifier-invalid"


class HeaderMalformed(EvidenceError):
    """A record header is not the one exact encoding of a valid header.

    Attributes:
        field: Wire name of the offending attribute, or "" when the whole text is at fault.
    """

    code = "header-malformed"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class LeafMalformed(EvidenceError):
    """A leaf has no known prefix, or its control contents do not parse."""

    code = "leaf-malformed"


class LeafTooLarge(EvidenceError):
    """A leaf is longer than 65,535 bytes and does not fit the entry bundles of C2SP tlog-tiles.

    Attributes:
        size_bytes: Length of the refused leaf.
    """

    code = "leaf-too-large"

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes


class DigestMismatch(EvidenceError):
    """Opened contents do not belong to the salted digest in the signed header."""

    code = "digest-mismatch"


class SaltInvalid(EvidenceError):
    """A salt is not 32 bytes long."""

    code = "salt-invalid"


class ProofInvalid(EvidenceError):
    """A Merkle inclusion or consistency proof, or its text form, does not hold."""

    code = "proof-invalid"


class NoteInvalid(EvidenceError):
    """A signed note is malformed, or not signed as required."""

    code = "note-invalid"


class NoteUnsigned(NoteInvalid):
    """A well-formed note carries no signature of a known key."""

    code = "note-unsigned"


class NoteSignatureInvalid(NoteInvalid):
    """A signature line names a known key, but the signature is not by that key.

    Attributes:
        key_name: Name in the signature line.
    """

    code = "note-signature-invalid"

    def __init__(self, message: str, *, key_name: str) -> None:
        super().__init__(message)
        self.key_name = key_name


class KeyAmbiguous(NoteInvalid):
    """Two configured verifier keys have the same name and key id, and a note is signed under them."""

    code = "key-ambiguous"


class VerifierKeyInvalid(NoteInvalid):
    """A verifier key text is malformed, of an unknown type, or its key id does not belong to it."""

    code = "verifier-key-invalid"


class CheckpointMalformed(NoteInvalid):
    """The text of a note is not a tlog-checkpoint."""

    code = "checkpoint-malformed"


class SignatureInvalid(EvidenceError):
    """A signature does not verify, or its algorithm does not fit the key or the allowed list."""

    code = "signature-invalid"


class JwsMalformed(EvidenceError):
    """A document is not an exact JWS JSON serialisation within the limits."""

    code = "jws-malformed"


class CertificateInvalid(EvidenceError):
    """A certificate chain does not lead to an anchor under the rules of `evidence.x509`.

    Attributes:
        reason: Short stable word for the rule that failed, e.g. "expired", "no-anchor".
    """

    code = "certificate-invalid"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RevocationListInvalid(EvidenceError):
    """A revocation list is not a complete, signed list of a trusted authority.

    Attributes:
        reason: Short stable word for the rule that failed, e.g. "delta", "signature".
    """

    code = "revocation-list-invalid"

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class KeyUnusable(EvidenceError):
    """A private key file cannot be used: missing, readable by others, wrong passphrase or unsuitable algorithm."""

    code = "key-unusable"
    disposition = "halt"


class TrustMalformed(EvidenceError):
    """The trust file is not readable or not of the documented form."""

    code = "trust-malformed"


class SourceUnreadable(EvidenceError):
    """A log database or tile directory cannot be read at all."""

    code = "source-unreadable"


class LogUnwritable(EvidenceError):
    """The log could not commit; nothing was promised, and whether it was written may be unknown.

    The log reopens by itself. Until it has committed a control leaf, every append fails with this error.
    """

    code = "log-unwritable"
    disposition = "retry"


class LogBusy(LogUnwritable):
    """Too many leaves wait for a commit; this call was not taken and may be repeated shortly."""

    code = "log-busy"


class LogClosed(LogUnwritable):
    """The log has been closed by its owner; this call was not taken."""

    code = "log-closed"


class RowRefused(EvidenceError):
    """A caller's own row was refused by the database (a constraint, or a wrong statement).

    Nothing of that append was written; appends of others are not touched.
    """

    code = "row-refused"


class LogLocked(EvidenceError):
    """Another process holds the exclusive lock of this log."""

    code = "log-locked"
    disposition = "halt"


class LogForked(EvidenceError):
    """The stored log contradicts what this process has released: an older or other copy took its place."""

    code = "log-forked"
    disposition = "halt"


class LogCorrupt(EvidenceError):
    """The stored leaves and tiles do not give the stored root."""

    code = "log-corrupt"
    disposition = "halt"


class LogMismatch(EvidenceError):
    """The database belongs to another origin, or its last checkpoint was signed by another key."""

    code = "log-mismatch"
    disposition = "halt"


class SchemaNewer(EvidenceError):
    """The database was written by a newer version of this program.

    Attributes:
        found: Schema version in the file.
        supported: Newest version that this program knows.
    """

    code = "schema-newer"
    disposition = "halt"

    def __init__(self, message: str, *, found: int, supported: int) -> None:
        super().__init__(message)
        self.found = found
        self.supported = supported


class IndexUnknown(EvidenceError):
    """There is no leaf at that index, or no checkpoint of that size, in this log."""

    code = "index-unknown"
