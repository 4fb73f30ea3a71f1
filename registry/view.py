"""What a directory says, as the exchange reads it: plain entries and the look-ups over them.

Every key is a string in slash form; every look-up is a dictionary access. Entries are immutable and replaced
whole when a document changes them. Does not fold documents (`fold`), decide (`decision`) or verify anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from evidence.note import VerifierKey

MemberStatus = Literal["active", "suspended", "left"]
NodeStatus = Literal["active", "closed", "suspended", "left", "revoked"]
RevocationKind = Literal["member", "node", "key"]
SealingUse = Literal["query", "command", "answer", "topic"]


class MemberEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A member: an agency with pinned keys.

    Attributes:
        id: `INSTANCE/CLASS/MEMBER`.
        status: As the operator set it.
        names: Language tag to name.
        aliases: Other member codes under which callers may know it, same class.
        signing_keys: Key ids (SHA-256 hex, see `documents.key_id`) that may sign its documents.
        recovery_keys: Key ids that may only confirm a key change or revoke.
        since_at: When the newest member document was issued.
        keys_from_at: Where the operator replaced lost keys: documents issued earlier are not taken from the new ones.
    """

    id: str
    status: MemberStatus
    names: Mapping[str, str]
    aliases: tuple[str, ...]
    signing_keys: frozenset[str]
    recovery_keys: frozenset[str]
    since_at: datetime
    keys_from_at: datetime | None = None


class Announced(msgspec.Struct, frozen=True, gc=False):
    """A change of a member's keys that the operator announced, and when it can be confirmed at the earliest."""

    signing_keys: frozenset[str]
    recovery_keys: frozenset[str]
    due_at: datetime


class SubsystemEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A subsystem: the unit that calls and is called."""

    id: str
    member: str
    names: Mapping[str, str]


class LogKey(msgspec.Struct, frozen=True, gc=False):
    """A further key of a log, with the time in which its checkpoints are accepted (`until_at` exclusive)."""

    key: VerifierKey
    from_at: datetime
    until_at: datetime | None
    revoked: bool = False

    def usable(self, at: datetime) -> bool:
        """Whether a checkpoint under it is accepted at that instant."""
        return not self.revoked and self.from_at <= at and (self.until_at is None or at < self.until_at)


class NodeEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One incarnation of a node: an origin, its log key, and whether it may speak now.

    Attributes:
        node: `INSTANCE/CLASS/MEMBER/@NODE`.
        member: `INSTANCE/CLASS/MEMBER`.
        origin: Origin of its exchange log; one entry per origin, older incarnations stay as `closed`.
        incarnation: Last part of the origin.
        log_key: Verifies the checkpoints of that origin.
        broker_key: Raw Ed25519 public key (32 bytes) of its broker user.
        tls: SHA-256 hex of the TLS public key, when one is stated.
        valid_from_at: Start of validity.
        until_at: End of validity, exclusive; None is open.
        status: `closed` for an earlier incarnation, else `revoked`, or the member's status.
        closed_size: Size at which a later statement closed this log; None while open.
        closed_root: Root at that size.
        key_from_at: Since when `log_key` serves.
        other_keys: Keys of this log before and after `log_key`.
        wire: The newest version of the wire that it reads; it also reads the one before.
    """

    node: str
    member: str
    origin: str
    incarnation: int
    log_key: VerifierKey
    broker_key: bytes
    tls: str | None
    valid_from_at: datetime
    until_at: datetime | None
    status: NodeStatus
    closed_size: int | None = None
    closed_root: bytes | None = None
    key_from_at: datetime | None = None
    other_keys: tuple[LogKey, ...] = ()
    wire: int = 1

    def keys_at(self, at: datetime) -> tuple[VerifierKey, ...]:
        """Keys whose checkpoints of this log are accepted at that instant; `log_key` first."""
        if not self.other_keys:
            return (self.log_key,)
        return (self.log_key, *(one.key for one in self.other_keys if one.usable(at)))

    def all_keys(self) -> tuple[VerifierKey, ...]:
        """All keys of this log, whatever their time, revoked ones included."""
        return (self.log_key, *(one.key for one in self.other_keys))

    def usable(self, at: datetime) -> bool:
        """Whether a message proven by this origin may be accepted at that instant."""
        return self.status == "active" and self.valid_from_at <= at and (self.until_at is None or at < self.until_at)


class SealingKeyEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A public key that others seal to.

    Attributes:
        keyid: SHA-256 hex of `public`.
        owner: Member id or node id.
        kem: `MLKEM768-X25519`, `X25519` or `P-256`.
        public: The public form of that KEM (1,216, 32 or 65 bytes).
        use: What may be sealed to it.
    """

    keyid: str
    owner: str
    kem: str
    public: bytes
    use: frozenset[str]
    valid_from_at: datetime
    until_at: datetime | None

    def usable(self, at: datetime) -> bool:
        """Whether it may be sealed to at that instant."""
        return self.valid_from_at <= at and (self.until_at is None or at < self.until_at)


class ServiceOperation(msgspec.Struct, frozen=True, gc=False):
    """One OpenAPI operation of a service."""

    id: str
    method: str
    path: str


class Limits(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """What one call of a service may take.

    Attributes:
        deadline_s: Longest time the provider works on one query.
        max_body_bytes: Largest request body.
        max_answer_bytes: Largest answer body.
        max_concurrent: Most queries at one node at the same time.
    """

    deadline_s: float = 10.0
    max_body_bytes: int = 1_048_576
    max_answer_bytes: int = 4_194_304
    max_concurrent: int = 256


class DeprecatedOperation(msgspec.Struct, frozen=True, gc=False):
    """Since when callers should leave an operation, and when it ends (None: not decided)."""

    since_at: datetime
    sunset_at: datetime | None = None


class ServiceEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A service as its provider published it.

    Attributes:
        fields: Names of the marked fields (delivered only when a right grants them).
        enabled: False when the provider switched it off; `notice` says why, in the provider's words.
        author: Member that signed the document.
        until_at: End of the service, exclusive.
        deprecated: Operations that callers should leave, by id.
        resumes_at: When a service that is switched off is on again; None: when somebody switches it on.
    """

    id: str
    provider: str
    subsystem: str
    contract_sha256: str
    title: str
    version: str
    operations: Mapping[str, ServiceOperation]
    fields: frozenset[str]
    limits: Limits
    enabled: bool
    notice: str
    since_at: datetime
    until_at: datetime | None
    deprecated: Mapping[str, DeprecatedOperation] = {}
    resumes_at: datetime | None = None

    def is_off(self, at: datetime) -> bool:
        """Whether the provider has switched it off at that instant."""
        return not self.enabled and (self.resumes_at is None or at < self.resumes_at)


class QuotaLimit(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """How often a right may be used; None is unlimited."""

    per_second: float | None = None
    per_day: int | None = None


class AccessEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A right of one client (subsystem, member or group) to one service.

    Attributes:
        subject: Subject of the access document, `<service>#<code>`: what a decision names as its rule.
        operations: Granted operation ids; None grants all.
        purposes: Granted purposes; `*` is any, also none given.
        grounds: Granted legal grounds; `*` is any, also none given.
        fields: Granted marked fields; `*` is every one.
        author: Member that signed it (the provider).
        since_at: When it was issued.
    """

    subject: str
    client: str
    service: str
    operations: frozenset[str] | None
    purposes: frozenset[str]
    grounds: frozenset[str]
    official_required: bool
    fields: frozenset[str]
    quota: QuotaLimit
    author: str
    since_at: datetime
    valid_from_at: datetime
    until_at: datetime | None


class Revocation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A withdrawal of trust.

    Attributes:
        since_at: From when on the target is not to be trusted; may lie before the document.
        author: Member id, or `operator`.
    """

    kind: RevocationKind
    id: str
    since_at: datetime
    reason: str
    author: str


class DecisionView(Protocol):
    """What the access decision asks; `fold.Directory` and `own.OwnView` give it."""

    def member(self, id: str) -> MemberEntry | None:  # noqa: A002  (the protocol's word)
        """The member with that identifier."""
        ...

    def subsystem(self, id: str) -> SubsystemEntry | None:  # noqa: A002
        """The subsystem with that identifier."""
        ...

    def service(self, id: str) -> ServiceEntry | None:  # noqa: A002
        """The service with that identifier."""
        ...

    def rights(self, client: str, service: str) -> tuple[AccessEntry, ...]:
        """Rights of a subsystem to a service: its own, its member's, its groups'."""
        ...

    def is_revoked(self, kind: RevocationKind, id: str) -> bool:  # noqa: A002
        """Whether trust in a member, node or key was withdrawn."""
        ...

    def nodes_of(self, member: str) -> tuple[NodeEntry, ...]:
        """Newest incarnation of each node of a member."""
        ...


class DirectoryView(DecisionView, Protocol):
    """Everything the exchange reads from a directory on its hot path."""

    genesis: str
    instance: str
    size: int
    root: bytes
    view: str

    def root_at(self, size: int) -> bytes | None:
        """The root of an earlier tree of this directory; None when it is not remembered."""
        ...

    def node_by_origin(self, origin: str) -> NodeEntry | None:
        """The node whose log has that origin, whatever its status."""
        ...

    def nodes_of(self, member: str) -> tuple[NodeEntry, ...]:
        """Newest incarnation of each node of a member."""
        ...

    def resolve_alias(self, id: str) -> str:  # noqa: A002
        """The identifier with an alias in its member part replaced; unchanged when there is none."""
        ...

    def services_of(self, member: str) -> tuple[ServiceEntry, ...]:
        """Services that a member provides."""
        ...

    def sealing_key(self, owner: str, use: str, at: datetime) -> SealingKeyEntry | None:
        """The newest key of an owner that may be sealed to for that use at that instant."""
        ...

    def sealing_key_by_id(self, keyid: str) -> SealingKeyEntry | None:
        """The key with that id, valid or not."""
        ...
