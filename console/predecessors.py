"""The newest document of a chain as its author signed it, and the document that follows it.

A registry is trusted for nothing that somebody signs again: what a command copies comes from signed bytes, and they are
verified first. A member's own documents are signed by a key that this home holds or held; the operator's by the
threshold of an anchor that follows from the genesis. A genuine document that is not the newest does no harm: its
successor takes `seq` and `prev` from it, and no reader accepts that.

Signs and submits nothing (`membership`). What a provider keeps of its own word is compared in `ownword`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, NoReturn, TypeVar

from bus.errors import BusError
from console.heldkeys import key_id_of, keys_of_files, member_keys, named_keys
from console.homes import MemberHome
from evidence import jws
from evidence.errors import EvidenceError
from evidence.header import encode_time
from evidence.x509 import describe
from registry.authorship import require_operator
from registry.client import RegistryClient, verify_anchors
from registry.documents import Anchor, AnyDocument, Document, Revocation, decode, encode
from registry.envelope import Envelope, EnvelopeSignature, read_envelope, verify_envelope
from registry.errors import RegistryError

D = TypeVar("D", bound=AnyDocument)
COMMON_FIELDS = frozenset(Document.__struct_fields__)


class PredecessorUnproven(BusError):
    """What the registry gave as the newest document is not signed by whom it would have to be."""

    code = "predecessor-unproven"
    title = "The newest document in the directory is not proven"
    disposition = "halt"


class KeyNotOwn(BusError):
    """A document that this member is about to sign names a key of which its home has no file."""

    code = "key-not-own"
    title = "A document names a key that is not the member's"
    disposition = "halt"


@dataclass(frozen=True, slots=True)
class Predecessor(Generic[D]):
    """A verified document.

    Attributes:
        document: What was signed.
        digest: SHA-256 hex of the JWS: what the next one names as `prev`.
        signed: The JWS.
    """

    document: D
    digest: str
    signed: bytes


def successor(before: Predecessor[D], changes: dict[str, Any]) -> D:
    """The next document of a chain: everything as before but for the changes.

    Raises:
        DocumentMalformed: no reader would accept it.
    """
    document = before.document
    kept = {name: getattr(document, name) for name in document.__struct_fields__ if name not in COMMON_FIELDS}
    made = type(document)(
        instance=document.instance,
        subject=document.subject,
        seq=document.seq + 1,
        issued=encode_time(datetime.now(UTC)),
        prev=before.digest,
        **{**kept, **changes},
    )
    decode(encode(made))
    return made


async def own_predecessor(
    client: RegistryClient, home: MemberHome, type_: type[D], subject: str
) -> Predecessor[D] | None:
    """The newest document that this member signed; None where the chain begins.

    Raises:
        PredecessorUnproven: no key that this member holds or held signed it.
        RegistryError: the registry does not answer.
    """
    found = await _signed(client, home.facts.genesis, type_, subject)
    if found is None:
        return None
    envelope, before = found
    held = member_keys(home)
    if not any(_is_signed_by(one, held) for one in envelope.signatures):
        _refuse(
            type_,
            subject,
            "no key that this home holds or held signed it. If an earlier key of this member did, put its certificate "
            f"(PEM) into {home.keys / 'retired'}; otherwise the registry is lying or the member's key is stolen: "
            "nothing was signed; tell the operator",
        )
    return before


async def operators_predecessor(
    client: RegistryClient, genesis: str, type_: type[D], subject: str
) -> Predecessor[D] | None:
    """The newest document that the operator signed; None where the chain begins.

    Raises:
        PredecessorUnproven: too few operators of every anchor signed it.
        WrongGenesis: the registry's anchors do not follow from the genesis.
        RegistryError: the registry does not answer.
    """
    found = await _signed(client, genesis, type_, subject)
    if found is None:
        return None
    envelope, before = found
    _, anchors = await client.anchor(genesis)
    # Which anchor was the newest when it was logged only the whole log can say; the newest is the likeliest.
    for count in range(len(anchors), 0, -1):
        directory = verify_anchors(genesis, anchors[:count])
        assert directory.anchor is not None
        try:
            authorities = directory.anchor.certification_authorities
            require_operator(verify_envelope(envelope, authorities, before.document.issued_at), directory)
        except RegistryError:
            continue
        break
    else:
        _refuse(type_, subject, "the operators did not sign it: the registry is lying; nothing was signed")
    return before


async def newest_anchor(client: RegistryClient, genesis: str) -> Predecessor[Anchor]:
    """The newest anchor.

    Raises:
        WrongGenesis: the registry's anchors do not follow from the genesis.
        RegistryError: the registry does not answer.
    """
    anchor, documents = await client.anchor(genesis)
    envelope = read_envelope(documents[-1], genesis=genesis if len(documents) > 1 else None)
    return Predecessor(anchor, envelope.digest, documents[-1])


async def check_own_keys(client: RegistryClient, home: MemberHome, document: AnyDocument) -> None:
    """Refuses to bring a key into force that is in no file of this home, unless it was revoked.

    A log key that was once named has to be named again: once it is revoked, that does no harm.

    Raises:
        KeyNotOwn: naming the key.
    """
    named = named_keys(document)
    foreign = named.keys() - (keys_of_files(home) if named else frozenset())
    for keyid in sorted(foreign):
        if not await is_revoked(client, home, keyid):
            raise KeyNotOwn(
                f"{document.subject} would name the {named[keyid]}, of which {home.keys} has no file: nothing was "
                f"signed. If it is not yours, somebody signs as this member: lienthong key revoke {keyid} --home "
                f"{home.path}. If it is, put its public half (PEM, .pub) into {home.keys / 'retired'}"
            )


async def is_revoked(client: RegistryClient, home: MemberHome, keyid: str) -> bool:
    """Whether this member or the operator withdrew trust in a key.

    Raises:
        RegistryError: the registry does not answer.
    """
    subject = f"key:{keyid}"
    try:
        return await own_predecessor(client, home, Revocation, subject) is not None
    except PredecessorUnproven:
        pass  # not the member's word; it may be the operator's
    try:
        return await operators_predecessor(client, home.facts.genesis, Revocation, subject) is not None
    except PredecessorUnproven:
        return False


async def _signed(
    client: RegistryClient, genesis: str, type_: type[D], subject: str
) -> tuple[Envelope, Predecessor[D]] | None:
    """What the registry gives: read, nothing verified but that it is of this chain."""
    kind = str(type_.__struct_config__.tag)
    newest = await client.newest(kind, subject)
    if newest is None:
        return None
    if not newest.jws:
        _refuse(type_, subject, "the registry gives it without its signature: the registry has to be updated first")
    signed = newest.jws.encode()
    try:
        envelope = read_envelope(signed, genesis=genesis)
        document = decode(envelope.payload)
    except RegistryError as error:
        _refuse(type_, subject, f"it is no signed document ({error.code})")
    if envelope.type != kind or not isinstance(document, type_) or document.subject != subject:
        _refuse(type_, subject, "the registry gave another document than the one asked for")
    return envelope, Predecessor(document, envelope.digest, signed)


def _is_signed_by(one: EnvelopeSignature, held: frozenset[str]) -> bool:
    """Whether a held key made a signature. Its certificate is not judged: the key is known by itself."""
    try:
        public = describe(one.chain[0]).public_bytes
        if key_id_of(public) not in held:
            return False
        jws.verify(one.signature, public)
    except (EvidenceError, RegistryError):
        return False
    return True


def _refuse(type_: type[Any], subject: str, why: str) -> NoReturn:
    raise PredecessorUnproven(f"the newest {type_.__struct_config__.tag} document of {subject}: {why}")
