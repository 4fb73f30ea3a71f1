"""The documents, a class each. Says what they carry; what a type cannot say is in `shape`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from registry.documents.instants import parse_time
from registry.publickeys import decode_base64, spki_public
from registry.view import Limits, MemberStatus, QuotaLimit, RevocationKind, SealingUse

MAX_DOCUMENT_BYTES = 65_535 - len(b"lienthong/v1/directory\n")
"""Largest signed document (JWS): a leaf is at most 65,535 bytes with its prefix (protocol.md "Record")."""

Hex256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Base64 = Annotated[str, Meta(min_length=4, max_length=8192)]
Identifier = Annotated[str, Meta(min_length=1, max_length=512)]
Text = Annotated[str, Meta(max_length=512)]
Word = Annotated[str, Meta(min_length=1, max_length=128)]
Time = Annotated[str, Meta(min_length=27, max_length=27)]
Names = Annotated[dict[Annotated[str, Meta(pattern="^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$")], Text], Meta(max_length=16)]
CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
"""The part of a subject after `#`, in groups and access rights."""

Kem = Literal["MLKEM768-X25519", "X25519", "P-256"]
KEM_PUBLIC_BYTES: dict[str, int] = {"MLKEM768-X25519": 1216, "X25519": 32, "P-256": 65}


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Base of the objects inside a document."""


class Document(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="type",
    gc=False,
):
    """What every document carries.

    Attributes:
        instance: Name of the instance, the first part of every identifier in it.
        subject: What it speaks about, see the module.
        seq: 0 for the first of its chain, then one more each time.
        issued: UTC with six decimals, as its author claims; never before its predecessor's.
        prev: SHA-256 hex of the predecessor's JWS bytes (without leaf prefix); absent exactly at seq 0.
    """

    instance: Word
    subject: Identifier
    seq: Annotated[int, Meta(ge=0, le=2**53)]
    issued: Time
    prev: Hex256 | None = None

    @property
    def type(self) -> str:
        """The type's name on the wire."""
        return str(self.__struct_config__.tag)

    @property
    def issued_at(self) -> datetime:
        """`issued` as an instant."""
        return parse_time(self.issued)


class Operator(Part, frozen=True, kw_only=True):
    """A key of the operator: its key id (see `key_id`) and SPKI in base64."""

    keyid: Hex256
    spki: Base64

    @property
    def public(self) -> bytes:
        """The bare public form."""
        return spki_public(decode_base64(self.spki))


class DirectoryKeys(Part, frozen=True, kw_only=True):
    """Raw Ed25519 public keys (base64) of the directory's log and of its timestamped cosignature."""

    log_key: Base64
    cosigner_key: Base64


class BrokerAddress(Part, frozen=True, kw_only=True):
    """Where the broker is and how it proves itself.

    Attributes:
        urls: `tls://host:port` of its servers.
        ca: PEM of the authority behind its TLS certificate.
        account: Public nkey of the instance's account, in operator mode.
        operator: Public nkey of the broker's operator.
    """

    urls: Annotated[tuple[Word, ...], Meta(max_length=32)] = ()
    ca: Annotated[str, Meta(max_length=16_384)] = ""
    account: Word | None = None
    operator: Word | None = None


Pem = Annotated[str, Meta(min_length=64, max_length=16_384)]


class Anchor(Document, frozen=True, kw_only=True, tag="anchor"):
    """Who is trusted in this instance. The first one carries no genesis: its payload's SHA-256 is the genesis.

    Attributes:
        threshold: How many operator signatures count as the operator's word.
        operators: The operator's keys.
        certification_authorities: PEM certificates behind `x5c` chains of members and operators.
        timestamp_authorities: PEM certificates of RFC 3161 authorities.
        revocation_lists: The only addresses from which CRLs are fetched.
        recovery_delay_s: How long a change of a member's keys that the operator announces alone has to be public before
            it can be confirmed. A later anchor may lengthen it only.
    """

    threshold: Annotated[int, Meta(ge=1, le=16)]
    operators: Annotated[tuple[Operator, ...], Meta(min_length=1, max_length=32)]
    certification_authorities: Annotated[tuple[Pem, ...], Meta(min_length=1, max_length=16)]
    directory: DirectoryKeys
    timestamp_authorities: Annotated[tuple[Pem, ...], Meta(max_length=16)] = ()
    revocation_lists: Annotated[tuple[Text, ...], Meta(max_length=64)] = ()
    broker: BrokerAddress = BrokerAddress()
    recovery_delay_s: Annotated[int, Meta(ge=1, le=31_536_000)] = 604_800


class PinnedKey(Part, frozen=True, kw_only=True):
    """A member's public key (SPKI, base64): for signing documents and seals, or for recovery only."""

    spki: Base64
    kind: Literal["signing", "recovery"] = "signing"

    @property
    def public(self) -> bytes:
        """The bare public form."""
        return spki_public(decode_base64(self.spki))


class Member(Document, frozen=True, kw_only=True, tag="member"):
    """A member as the operator registered it.

    Attributes:
        status: As the operator sets it.
        names: Language tag to name.
        keys: Pinned public keys.
        aliases: Other member codes in the same class.
        change: `announced`: `keys` are to be the member's once the anchor's delay has passed; nothing else changes now.
            `confirmed`: they are now. Only for members that lost all their keys; others sign a change themselves.
    """

    status: MemberStatus
    names: Names
    keys: Annotated[tuple[PinnedKey, ...], Meta(min_length=1, max_length=16)]
    aliases: Annotated[tuple[Word, ...], Meta(max_length=64)] = ()
    change: Literal["", "announced", "confirmed"] = ""


class ClosedLog(Part, frozen=True, kw_only=True):
    """Where an earlier incarnation's log ends."""

    origin: Identifier
    size: Annotated[int, Meta(ge=0, le=2**53)]
    root: Hex256


class LogHead(Part, frozen=True, kw_only=True):
    """A tree of the log as it was when the statement was made: the directory's cosigned time dates it."""

    size: Annotated[int, Meta(ge=1, le=2**53)]
    root: Hex256


class LogKeyWindow(Part, frozen=True, kw_only=True, rename={"from_": "from"}):
    """Another key of the same log: one that served before, or one that will.

    Attributes:
        key: Raw Ed25519 key (base64).
        from_: Start of its validity.
        until: End, exclusive; absent is open.
    """

    key: Base64
    from_: Time
    until: Time | None = None


class NodeLog(Part, frozen=True, kw_only=True):
    """A node's log.

    Attributes:
        key: Raw Ed25519 key (base64) that signs its checkpoints.
        origin: With incarnation.
        closes: The log that it follows.
        key_from: Since when `key` serves; absent: since the statement's `valid_from`.
        others: Keys before and after `key`; every later statement of this log names them all again.
        head: A tree of this log.
    """

    key: Base64
    origin: Identifier
    closes: ClosedLog | None = None
    key_from: Time | None = None
    others: Annotated[tuple[LogKeyWindow, ...], Meta(max_length=32)] = ()
    head: LogHead | None = None


class Node(Document, frozen=True, kw_only=True, tag="node"):
    """A node statement: keys of one node, each for one use.

    Attributes:
        log: Its exchange log.
        broker_key: Raw Ed25519 public key (base64) of its broker user.
        valid_from: Start of validity.
        until: End, exclusive; absent is open.
        tls: SHA-256 hex of its TLS public key (SPKI).
    """

    log: NodeLog
    broker_key: Base64
    valid_from: Time
    until: Time | None = None
    tls: Hex256 | None = None


class Sealing(Document, frozen=True, kw_only=True, tag="sealing"):
    """A key that others seal to; a later document of its chain may only change the validity.

    Attributes:
        kem: Which KEM the key is for.
        public: Its public form, base64; the key id in the subject is the SHA-256 of these bytes.
        use: What may be sealed to it.
    """

    kem: Kem
    public: Base64
    use: Annotated[tuple[SealingUse, ...], Meta(min_length=1, max_length=4)]
    valid_from: Time
    until: Time | None = None

    @property
    def owner(self) -> str:
        """Member or node id that can open what is sealed to it."""
        return self.subject.partition("#")[0]

    @property
    def keyid(self) -> str:
        """SHA-256 hex of the public form."""
        return self.subject.partition("#")[2]


class Subsystem(Document, frozen=True, kw_only=True, tag="subsystem"):
    """A subsystem of a member."""

    names: Names


class Group(Document, frozen=True, kw_only=True, tag="group"):
    """A named set of subsystems or members, to which a provider may grant a right."""

    names: Names
    clients: Annotated[tuple[Identifier, ...], Meta(max_length=1024)] = ()


class Operation(Part, frozen=True, kw_only=True):
    """One operation of the contract."""

    id: Word
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
    path: Annotated[str, Meta(pattern="^/", max_length=1024)]


class Deprecation(Part, frozen=True, kw_only=True):
    """An operation that callers should leave, since when (RFC 9745) and, if decided, when it ends (RFC 8594)."""

    operation: Word
    since: Time
    sunset: Time | None = None


class Service(Document, frozen=True, kw_only=True, tag="service"):
    """A service: its contract by digest, what of it callers need to route and decide, and its limits.

    Attributes:
        contract: SHA-256 hex of the contract's bytes.
        version: The contract's own version.
        operations: As in the contract.
        fields: Names of the contract's marked fields.
        enabled: Switch of the provider; `notice` explains to callers.
        until: End of the service, exclusive.
        deprecated: Operations that callers should leave.
        resumes: When a service that is switched off is on again by itself; absent until somebody switches it on.
    """

    contract: Hex256
    title: Text
    version: Text
    operations: Annotated[tuple[Operation, ...], Meta(min_length=1, max_length=512)]
    fields: Annotated[tuple[Word, ...], Meta(max_length=256)] = ()
    limits: Limits = Limits()
    enabled: bool = True
    notice: Text = ""
    until: Time | None = None
    deprecated: Annotated[tuple[Deprecation, ...], Meta(max_length=512)] = ()
    resumes: Time | None = None


class Access(Document, frozen=True, kw_only=True, tag="access"):
    """A right of one client to one service of the signer.

    Attributes:
        client: A subsystem, a member, or a group (`…#…`).
        service: The service; the subject begins with it.
        operations: Granted operation ids; absent grants all.
        purposes: Granted purposes; `*` is any.
        grounds: Granted legal grounds; `*` is any.
        fields: Granted marked fields; empty grants none, `*` every one.
        official_required: Refuse calls that name no acting official.
        valid_from: Start; absent is `issued`.
        until: End, exclusive. A right is withdrawn by a document with `until` not after `issued`.
    """

    client: Identifier
    service: Identifier
    purposes: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=256)]
    grounds: Annotated[tuple[Text, ...], Meta(min_length=1, max_length=256)]
    operations: Annotated[tuple[Word, ...], Meta(max_length=512)] | None = None
    fields: Annotated[tuple[Word, ...], Meta(max_length=256)] = ()
    official_required: bool = False
    quota: QuotaLimit = QuotaLimit()
    valid_from: Time | None = None
    until: Time | None = None


class Term(Part, frozen=True, kw_only=True):
    """A purpose or a legal ground: the word that calls state and rights name, and what it is called."""

    code: Annotated[str, Meta(min_length=1, max_length=512)]
    names: Names = {}


class Catalogue(Document, frozen=True, kw_only=True, tag="catalogue"):
    """The purposes and legal grounds of an instance. Rights that are granted from now on name only these."""

    purposes: Annotated[tuple[Term, ...], Meta(max_length=256)] = ()
    grounds: Annotated[tuple[Term, ...], Meta(max_length=256)] = ()


class Revocation(Document, frozen=True, kw_only=True, tag="revocation"):
    """Trust withdrawn from a member, a node or a key; it cannot be taken back, only moved earlier."""

    since: Time
    reason: Text = ""

    @property
    def kind(self) -> RevocationKind:
        """What the target is."""
        kind = self.subject.partition(":")[0]
        return "member" if kind == "member" else "node" if kind == "node" else "key"

    @property
    def target(self) -> str:
        """Member id, node id or key id."""
        return self.subject.partition(":")[2]


AnyDocument = Anchor | Member | Node | Sealing | Subsystem | Group | Service | Access | Catalogue | Revocation
TYPES: tuple[str, ...] = tuple(
    str(kind.__struct_config__.tag)
    for kind in (Anchor, Member, Node, Sealing, Subsystem, Group, Service, Access, Catalogue, Revocation)
)
