"""What passes between a member's home and a further node of it: a request one way, a bundle the other way.

A request is signed with each log and broker key that it names: who asks holds them. A bundle is signed with the member
key and sealed to a key that only this node has (HPKE base mode, RFC 9180, with the KEM of sealing keys): whoever
carries it reads and changes nothing. Formats only: makes no keys, asks no registry, writes no file.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag

from bus.errors import BusError
from bus.sealing.keys import SealingKeyInvalid, SealingKeyPair, SealingPublicKey
from evidence import jws
from evidence.errors import EvidenceError
from evidence.header import encode_time
from evidence.signer import Signer
from evidence.x509 import load_pem_chain, verify_chain
from registry.client import verify_anchors
from registry.documents import LogHead, parse_time
from registry.errors import RegistryError
from registry.publickeys import decode_base64, key_id, spki_public

_REQUEST, _BUNDLE = "lienthong-node-request+json", "lienthong-node-bundle+json"
_INFO = b"lienthong/v1/node-bundle\n"
MAX_ANSWER_KEYS = 400
T = TypeVar("T")


class NodeRequestRefused(BusError):
    """A further node's request cannot be granted."""

    code = "node-request-refused"
    title = "The request of a further node is refused"
    disposition = "reject"


class BundleRefused(BusError):
    """A bundle is not for this home, or not the member's."""

    code = "bundle-refused"
    title = "The bundle is not for this node"
    disposition = "reject"


class PublicKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sealing key's public form, base64."""

    kem: str
    public: str

    @classmethod
    def of(cls, pair: SealingKeyPair) -> PublicKey:
        """The public half of a pair."""
        return cls(kem=pair.public_key.kem, public=base64.b64encode(pair.public_key.public).decode())

    def load(self) -> SealingPublicKey:
        """The key.

        Raises:
            NodeRequestRefused: it is none.
        """
        try:
            return SealingPublicKey.load(self.kem, base64.b64decode(self.public, validate=True))
        except (SealingKeyInvalid, ValueError) as error:
            raise NodeRequestRefused(f"the request names a sealing key that is no key of {self.kem[:32]}") from error


class AnswerKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to which answers for this node are sealed, and when."""

    key: PublicKey
    valid_from: str
    until: str


class NodeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a further node asks its member for.

    Attributes:
        member: Whose node.
        node: Its code.
        issued: UTC, by the clock of the new machine.
        log: Raw Ed25519 public key (base64).
        broker: Raw Ed25519 public key (base64).
        bundle: What the bundle is sealed to.
        answers: Keys for answers, to be published.
        next_log: Raw Ed25519 public key (base64) that is to follow `log`; empty where none is.
        head: The newest tree of the node's log, for the directory to date.
    """

    member: str
    node: str
    issued: str
    log: str
    broker: str
    bundle: PublicKey
    answers: tuple[AnswerKey, ...]
    next_log: str = ""
    head: LogHead | None = None


class SharedKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sealing key of the member that all of its nodes have: private form in base64."""

    kem: str
    private: str

    def load(self) -> SealingKeyPair:
        """The pair.

        Raises:
            BundleRefused: it is none.
        """
        try:
            return SealingKeyPair.load(self.kem, base64.b64decode(self.private, validate=True))
        except (SealingKeyInvalid, ValueError) as error:
            raise BundleRefused("a sealing key in the bundle is damaged") from error


class Contents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a further node gets. The member key and the member's store of its own word are never in it.

    Attributes:
        issued: UTC; an older bundle does not follow a younger one.
        anchors: Signed anchor documents, oldest first.
        registry: Address of the registry.
        ca: PEM of the authority behind the instance's servers.
        certificate: PEM of the member's certificate.
        signers: Key ids that sign for the member.
        broker_urls: Servers of the broker.
        credentials: Broker credentials (JWT).
        sealing: The member's sealing keys.
        services: Names and text of the settings of back ends.
    """

    issued: str
    anchors: tuple[str, ...]
    registry: str
    ca: str
    certificate: str
    signers: tuple[str, ...]
    broker_urls: tuple[str, ...]
    credentials: str
    sealing: tuple[SharedKey, ...]
    services: dict[str, str] = {}


class _Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signed part of a bundle: for whom, and the ciphertext in base64."""

    member: str
    node: str
    keyid: str
    sealed: str


def sign_request(request: NodeRequest, genesis: str, log: Signer, *further: Signer) -> bytes:
    """A request, signed with every key that it names: log key, broker key, and next log key where there is one."""
    header = {"typ": _REQUEST, "genesis": genesis}
    signed = jws.sign_flattened(msgspec.json.encode(request), header, log)
    for signer in further:
        signed = jws.add_signature(signed, header, signer)
    return signed


def request_id(signed: bytes) -> str:
    """What two people compare by telephone: SHA-256 hex of the signed request."""
    return hashlib.sha256(signed).hexdigest()


def read_request(signed: bytes, genesis: str, member: str) -> NodeRequest:
    """Checks a request.

    Args:
        signed: The file's bytes.
        genesis: Of the member's instance.
        member: Whose home reads it.

    Raises:
        NodeRequestRefused: Not a request, of another instance or member, or not signed with its own keys.
    """
    parsed = _parse(signed, _REQUEST, NodeRequestRefused)
    if parsed.signatures[0].protected.get("genesis") != genesis:
        raise NodeRequestRefused("the request is for another instance; make it with the genesis of this member's")
    request = _payload(parsed, NodeRequest, NodeRequestRefused)
    if request.member != member:
        raise NodeRequestRefused(
            f"the request is for a node of {request.member[:200]}, and this is the home of {member}"
        )
    keys = (request.log, request.broker, *([request.next_log] if request.next_log else []))
    if len(parsed.signatures) != len(keys) or not 1 <= len(request.answers) <= MAX_ANSWER_KEYS:
        raise NodeRequestRefused(
            f"a request has a signature of each of its {len(keys)} keys, and 1 to {MAX_ANSWER_KEYS} keys for answers"
        )
    if len(set(keys)) != len(keys):
        raise NodeRequestRefused("the request names one key for two uses: each of them has a key of its own")
    try:
        parse_time(request.issued)
        for signature, key in zip(parsed.signatures, keys, strict=True):
            if signature.protected.get("genesis") != genesis:
                raise NodeRequestRefused("one of the signatures is for another instance")
            jws.verify(signature, decode_base64(key))
        for one in request.answers:
            if parse_time(one.valid_from) >= parse_time(one.until):
                raise NodeRequestRefused("a key for answers ends before it begins")
            one.key.load()
    except (EvidenceError, RegistryError) as error:
        raise NodeRequestRefused("the request is not signed with the keys that it names, or is malformed") from error
    request.bundle.load()
    return request


def seal_bundle(
    contents: Contents, request: NodeRequest, genesis: str, signer: Signer, chain: Sequence[bytes]
) -> bytes:
    """A bundle for the node of a request, sealed to it and signed by the member."""
    key = request.bundle.load()
    sealed = key.wrap(msgspec.json.encode(contents), _info(genesis, request.member, request.node, key.keyid))
    outer = _Sealed(member=request.member, node=request.node, keyid=key.keyid, sealed=base64.b64encode(sealed).decode())
    header = {"typ": _BUNDLE, "genesis": genesis, "x5c": [base64.b64encode(der).decode() for der in chain]}
    return jws.sign_flattened(msgspec.json.encode(outer), header, signer)


def open_bundle(bundle: bytes, *, genesis: str, member: str, node: str, pair: SealingKeyPair, at: datetime) -> Contents:
    """Opens a bundle and checks that this member made it, for this node.

    Args:
        bundle: The file's bytes.
        genesis: Of the instance, as it was told to this machine by another way.
        member: Own member.
        node: Own code.
        pair: The node's own key for bundles.
        at: Now.

    Raises:
        BundleRefused: Not a bundle, for another instance, member or node, altered, or not signed by the member.
    """
    parsed = _parse(bundle, _BUNDLE, BundleRefused)
    outer = _payload(parsed, _Sealed, BundleRefused)
    header = parsed.signatures[0].protected
    if header.get("genesis") != genesis:
        raise BundleRefused("the bundle is of another instance than this node")
    if outer.member != member:
        raise BundleRefused(f"the bundle is of {outer.member[:200]}, and this home is of a node of {member}")
    if outer.node != node:
        raise BundleRefused(f"the bundle is for the node {outer.node[:64]}, and this home is of {node}")
    if outer.keyid != pair.keyid:
        raise BundleRefused(
            f"the bundle is for a node {node} with other keys: it answers another request than those of this home"
        )
    try:
        plain = pair.unwrap(base64.b64decode(outer.sealed, validate=True), _info(genesis, member, node, pair.keyid))
        contents = msgspec.json.decode(plain, type=Contents)
        parse_time(contents.issued)
    except (InvalidTag, ValueError, msgspec.MsgspecError, RegistryError) as error:
        raise BundleRefused("the bundle cannot be opened: it was damaged or altered on its way") from error
    _verify_member(parsed, contents, genesis, member, at)
    return contents


def _verify_member(parsed: jws.Jws, contents: Contents, genesis: str, member: str, at: datetime) -> None:
    """The bundle's anchors follow from the genesis, and a certificate under them says that the signer is the member."""
    try:
        directory = verify_anchors(genesis, [text.encode() for text in contents.anchors])
        assert directory.anchor is not None
        authorities = [
            der for pem in directory.anchor.certification_authorities for der in load_pem_chain(pem.encode())
        ]
        [signature] = parsed.signatures
        chain = [base64.b64decode(one, validate=True) for one in signature.protected["x5c"]]
        found = verify_chain(chain, authorities, at, usage="member")
        jws.verify(signature, found.public_bytes)
    except (EvidenceError, RegistryError, ValueError, TypeError, KeyError) as error:
        raise BundleRefused(f"the bundle is not signed by {member}: {error}") from error
    if found.member is None or str(found.member) != member:
        raise BundleRefused(f"the bundle is signed by somebody else than {member}")
    if key_id(spki_public(found.public_bytes)) not in contents.signers:
        raise BundleRefused("the bundle does not name the key that signed it")


def now_text(now: datetime) -> str:
    """An instant as requests and bundles write it."""
    return encode_time(now)


def _info(genesis: str, member: str, node: str, keyid: str) -> bytes:
    return _INFO + f"{genesis}\n{member}\n{node}\n{keyid}".encode()


def _parse(data: bytes, typ: str, refused: type[BusError]) -> jws.Jws:
    try:
        parsed = jws.parse(data)
    except EvidenceError as error:
        raise refused(f"the file is not a {typ.split('-', 1)[1].partition('+')[0]}: {error}") from error
    if any(one.protected.get("typ") != typ for one in parsed.signatures):
        raise refused(f"the file is not a {typ.split('-', 1)[1].partition('+')[0]}")
    return parsed


def _payload(parsed: jws.Jws, type_: type[T], refused: type[BusError]) -> T:
    try:
        return msgspec.json.decode(parsed.payload, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise refused("the file is signed, but is not of the form that this version reads") from error
