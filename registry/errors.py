"""The registry's error root and its short tree.

Messages are for people and never carry payload or personal data: identifiers, codes and sizes only.
Does not map errors to HTTP answers of a gateway (`bus` does) nor to exit codes (`console` does).
"""

from __future__ import annotations

from typing import Literal

Disposition = Literal["retry", "reject", "halt"]


class RegistryError(Exception):
    """Root of everything this room raises.

    Attributes:
        code: Stable, kebab-case; programs match on it.
        disposition: `retry` later, `reject` the request, or `halt` the component.
    """

    code: str = "registry-error"
    disposition: Disposition = "reject"


class DocumentMalformed(RegistryError):
    """The bytes are not a directory document in its one exact encoding."""

    code = "document-malformed"


class EnvelopeInvalid(RegistryError):
    """The signed envelope breaks a rule or a signature in it does not verify.

    Attributes:
        code: Which rule, narrower than the class.
    """

    code = "envelope-invalid"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class AuthorshipRefused(RegistryError):
    """The signers of a document are not the ones that its type asks for.

    Attributes:
        code: Which requirement is not met.
    """

    code = "authorship-refused"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class DocumentRefused(RegistryError):
    """A document breaks a rule of the directory: every reader skips it, and the authority does not append it.

    Attributes:
        code: Which rule; the same code under which the fold reports it as skipped.
    """

    code = "document-refused"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ContractMissing(RegistryError):
    """A service document names a contract whose bytes the registry does not hold."""

    code = "contract-missing"


class ContractMismatch(RegistryError):
    """A contract's bytes do not have the digest they were announced under, or contradict the service document."""

    code = "contract-mismatch"


class TooLarge(RegistryError):
    """Something is over its size limit.

    Attributes:
        limit: The limit, in bytes or entries as the message says.
    """

    code = "too-large"

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class NotFound(RegistryError):
    """What was asked for is not here."""

    code = "not-found"


class RequestConflict(RegistryError):
    """A pending request cannot be changed in that way (already decided, or the same identifier twice)."""

    code = "request-conflict"


class QueueFull(RegistryError):
    """A bounded list is full; it has to be worked off first."""

    code = "queue-full"
    disposition = "retry"


class StoreUnusable(RegistryError):
    """A SQLite file of this room cannot be used: another schema version, another instance, or damaged."""

    code = "store-unusable"
    disposition: Disposition = "halt"


class StoreUnwritable(StoreUnusable):
    """A SQLite file of this room cannot be opened or written at this moment: the disk is full, or fails."""

    code = "store-unwritable"
    disposition = "retry"


class RegistryUnavailable(RegistryError):
    """The registry did not answer, or answered that it cannot serve now."""

    code = "registry-unavailable"
    disposition = "retry"


class FeedUnavailable(RegistryError):
    """The feed has nothing, is behind its own checkpoint, or cannot be reached."""

    code = "feed-unavailable"
    disposition = "retry"


class FeedInvalid(RegistryError):
    """What the feed delivered does not verify: malformed, oversized, or not what the checkpoint commits to."""

    code = "feed-invalid"
    disposition = "retry"


class WrongGenesis(RegistryError):
    """The directory belongs to another instance than the one that was named out of band."""

    code = "wrong-genesis"
    disposition = "halt"


class RollbackDetected(RegistryError):
    """A validly signed checkpoint is older than one that was already accepted."""

    code = "directory-rollback"
    disposition = "retry"


class ForkDetected(RegistryError):
    """Two validly signed checkpoints cannot belong to one append-only log."""

    code = "directory-fork"
    disposition = "halt"
