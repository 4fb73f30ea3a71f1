"""Becoming a member: keys and a request, the operator's decision, the certificate.

Nothing is trusted at first use: whoever serves the anchors, they have to follow from the genesis that the operator told
out of band, and a decision counts only with the operators' signatures. Every step also works with files that are
carried by hand. Asks and installs; the operator decides (`console.approving`).
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from console.addresses import check_url, is_loopback
from console.homes import (
    HomeInvalid,
    MemberFacts,
    MemberHome,
    pinned_address,
    read_facts,
    replace_file,
    write_new,
)
from console.membership import call_registry, parse_genesis
from evidence.header import encode_time
from evidence.identifiers import MemberId
from evidence.issue import self_sign_member, to_pem
from evidence.jws import load_public_key
from evidence.leaf import DIRECTORY, wrap
from evidence.signer import FileSigner, KeyKind, generate_key_file, is_encrypted, read_passphrase
from evidence.x509 import load_pem_chain, verify_chain
from registry.client import RegistryClient, RequestDetail, verify_anchors
from registry.documents import Member, PinnedKey, decode
from registry.envelope import read_envelope, sign_document
from registry.fold import Directory, Skipped
from registry.publickeys import key_id, spki_public
from registry.requests import read_refusal

_POLL_S = 0.3
_DAYS = 365


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """How far a member's home is; `joining.json` in it.

    Attributes:
        request: Id of the request.
        state: `pending`, `approved` or `refused`.
        reason: The operator's, when refused.
    """

    request: str
    state: str = "pending"
    reason: str = ""


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's anchors in a file, for who cannot reach the registry; they prove themselves by the genesis."""

    genesis: str
    anchors: list[str]


class CarriedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for membership in a file."""

    member: str
    jws: str


@dataclass(frozen=True, slots=True)
class Application:
    """What an applicant says.

    Attributes:
        member: Identifier that is asked for.
        registry: Address of the registry.
        genesis: `sha256:…`, as the operator told.
        names: By language.
        aliases: Further member codes.
        key: File with a member key that exists already; None makes one.
        kind: Of the key that is made.
        passphrase: File with the passphrase under which the home keeps the key; None keeps it plain.
        certificate: File with its certificates from an accredited authority; None has the instance's authority certify.
        anchors: File with the anchors; None asks the registry.
    """

    member: str
    registry: str
    genesis: str
    names: Mapping[str, str]
    aliases: Sequence[str] = ()
    key: Path | None = None
    certificate: Path | None = None
    anchors: Path | None = None
    kind: KeyKind = "p256"
    passphrase: Path | None = None

    @property
    def address(self) -> str:
        """Address of the registry with what proves it."""
        return pinned_address(self.registry.rstrip("/"), parse_genesis(self.genesis))

    def check(self) -> None:
        """Refuses what cannot be asked for.

        Raises:
            HomeInvalid: naming the option.
            KeyUnusable: the passphrase file.
            IdentifierInvalid: the member's identifier.
        """
        parse_genesis(self.genesis)
        if self.passphrase is not None:
            read_passphrase(self.passphrase)
        MemberId.parse(self.member)
        check_url(self.registry, "--registry")
        host = self.registry.partition("://")[2].partition("/")[0]
        if self.registry.startswith("http:") and not is_loopback(host if ":" in host else f"{host}:80"):
            raise HomeInvalid("--registry: plain http is for a registry on this machine; write https://host:port")
        if (self.key is None) != (self.certificate is None):
            raise HomeInvalid("--certificate and --key belong together: the certificate is for that key")


def apply(home: MemberHome, application: Application) -> bytes:
    """Makes the home with its keys, or takes the one that an earlier try made, and the signed request.

    Returns:
        The request, not yet sent.

    Raises:
        HomeInvalid: the folder belongs to somebody else, or to a member already.
        WrongGenesis: the anchors are of another instance, or a fraud; nothing was made.
    """
    application.check()
    genesis, member = parse_genesis(application.genesis), MemberId.parse(application.member)
    anchors = _anchors(application, genesis)
    directory = verify_anchors(genesis, anchors)
    assert directory.anchor is not None
    if member.instance != directory.instance:
        raise HomeInvalid(f"{member} does not belong to the instance {directory.instance}")
    facts = MemberFacts(
        member=str(member),
        genesis=genesis,
        instance=directory.instance,
        registry=application.address,
        passphrase="" if application.passphrase is None else str(application.passphrase.resolve()),
    )
    _settle(home, facts)
    signer, chain = _own_key(home, application, member)
    _keep_anchors(home, genesis, anchors, directory.anchor.broker.ca)
    document = Member(
        instance=facts.instance,
        subject=facts.member,
        seq=0,
        issued=encode_time(datetime.now(UTC)),
        status="active",
        names=dict(application.names),
        keys=(PinnedKey(spki=base64.b64encode(signer.public_bytes).decode()),),
        aliases=tuple(application.aliases),
    )
    return sign_document(document, signer, chain, genesis)


def _anchors(application: Application, genesis: str) -> list[bytes]:
    if application.anchors is not None:
        invitation = read_facts(application.anchors, Invitation, "lienthong operator invite")
        return [text.encode() for text in invitation.anchors]
    return call_registry(application.address, lambda client: client.anchor(genesis))[1]


def _settle(home: MemberHome, facts: MemberFacts) -> None:
    if not (home.path / "member.json").exists():
        home.write_facts(facts)
        return
    there = home.facts
    if facts.passphrase not in {"", there.passphrase}:
        raise HomeInvalid(
            f"--passphrase-file: the key in {home.path} is there already, under {there.passphrase or 'no passphrase'}"
        )
    if there != msgspec.structs.replace(facts, passphrase=there.passphrase):
        raise HomeInvalid(f"{home.path} belongs to {home.facts.member} already; choose another folder")
    joining = _joining(home)
    if joining is not None and joining.state == "approved":
        raise HomeInvalid(f"{home.path} is the home of a member already; go on with lienthong node add")


def _own_key(home: MemberHome, application: Application, member: MemberId) -> tuple[FileSigner, list[bytes]]:
    """The member's key, and what speaks for it in the request."""
    home.keys.mkdir(mode=0o700, exist_ok=True)
    if application.key is not None and application.certificate is not None:
        chain = load_pem_chain(application.certificate.read_bytes())
        encrypted = application.passphrase is not None and is_encrypted(application.key)
        signer = FileSigner.load(application.key, passphrase_path=application.passphrase if encrypted else None)
        if load_public_key(signer.public_bytes) != _public_key(chain[0]):
            raise HomeInvalid(f"{application.certificate} is not for the key {application.key}")
        if not home.member_key.exists():
            signer.save(
                home.member_key, passphrase=None if (path := home.passphrase) is None else read_passphrase(path)
            )
        replace_file(home.certificate, to_pem(chain), 0o644)
        return signer, chain
    if home.member_key.exists():
        signer = home.load_key()
    else:
        signer = generate_key_file(home.member_key, application.kind, passphrase_path=home.passphrase)
    public = signer.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    replace_file(home.keys / "member.pub", public, 0o644)
    now = datetime.now(UTC)
    since, until = now - timedelta(minutes=5), now + timedelta(days=30)
    return signer, [self_sign_member(signer, member, not_before_at=since, not_after_at=until)]


def _public_key(der: bytes) -> object:
    from evidence.x509 import describe

    return describe(der).public_key


def _keep_anchors(home: MemberHome, genesis: str, anchors: Sequence[bytes], ca: str) -> None:
    kept = Invitation(genesis=genesis, anchors=[jws.decode() for jws in anchors])
    replace_file(home.anchors, msgspec.json.encode(kept), 0o644)
    replace_file(home.path / "ca.pem", ca.encode(), 0o644)


def send(home: MemberHome, jws: bytes) -> Joining:
    """Sends a request to the registry."""
    made = call_registry(home.facts.registry, lambda client: client.request(jws))
    return keep_state(home, Joining(request=made.id, state=made.state))


def carry(home: MemberHome, jws: bytes, out: Path) -> Joining:
    """Writes a request to a file that is carried to the operator."""
    write_new(out, msgspec.json.encode(CarriedRequest(member=home.facts.member, jws=jws.decode())), 0o644)
    digest = read_envelope(jws, genesis=home.facts.genesis).digest
    return keep_state(home, Joining(request=digest))


def keep_state(home: MemberHome, joining: Joining) -> Joining:
    """Notes how far it is."""
    replace_file(home.path / "joining.json", msgspec.json.encode(joining), 0o644)
    return joining


def _joining(home: MemberHome) -> Joining | None:
    path = home.path / "joining.json"
    return read_facts(path, Joining, "lienthong join") if path.exists() else None


def status(home: MemberHome, wait_s: float) -> Joining:
    """Asks for the decision, and takes it when it is there.

    Args:
        home: Of the applicant.
        wait_s: How long to wait for it.

    Raises:
        HomeInvalid: nothing was asked for from here, or the decision does not verify.
    """
    joining = _joining(home)
    if joining is None:
        raise HomeInvalid(f"nothing was asked for from {home.path}; begin with lienthong join --genesis …")
    if joining.state != "pending":
        return joining
    request, until_s = joining.request, time.monotonic() + wait_s

    async def work(client: RegistryClient) -> RequestDetail:
        while True:
            detail = await client.request_detail(request)
            if detail.request.state != "pending" or time.monotonic() >= until_s:
                break
            await asyncio.sleep(_POLL_S)
        # The operators may have changed since: who decides is said by the newest anchor.
        anchor, anchors = await client.anchor(home.facts.genesis)
        _keep_anchors(home, home.facts.genesis, anchors, anchor.broker.ca)
        return detail

    return accept(home, call_registry(home.facts.registry, work))


def accept(home: MemberHome, detail: RequestDetail) -> Joining:
    """Takes a decision: verifies that the operators made it, and installs the certificate.

    Raises:
        HomeInvalid: it is of another request, or not by this instance's operators.
        EvidenceError: the certificate does not verify.
        RegistryError: the decision is malformed.
    """
    joining = _joining(home)
    if joining is None or detail.request.id != joining.request:
        raise HomeInvalid(f"this decision is of another request than the one that {home.path} made")
    if detail.request.state == "pending":
        return joining
    directory = _directory(home)
    if detail.request.state == "refused":
        refusal = read_refusal(detail.decision.encode(), detail.request, directory)
        return keep_state(home, Joining(request=joining.request, state="refused", reason=refusal.reason))
    _check_approval(home, directory, detail)
    if detail.certificate:
        _install_certificate(home, directory, detail.certificate.encode())
    if not home.certificate.exists():
        raise HomeInvalid("the approval came without a certificate; ask the operator for one")
    return keep_state(home, Joining(request=joining.request, state="approved"))


def _directory(home: MemberHome) -> Directory:
    genesis = home.facts.genesis
    kept = read_facts(home.anchors, Invitation, "lienthong join")
    return verify_anchors(genesis, [text.encode() for text in kept.anchors])


def _check_approval(home: MemberHome, directory: Directory, detail: RequestDetail) -> None:
    outcome = directory.check(wrap(DIRECTORY, detail.decision.encode()))
    if isinstance(outcome, Skipped):
        raise HomeInvalid(f"the approval is not the operators' word ({outcome.code}): {outcome.message}")
    document = outcome.document
    if not isinstance(document, Member) or document.subject != home.facts.member:
        raise HomeInvalid("the approval is of another member")
    envelope = read_envelope(detail.jws.encode(), genesis=home.facts.genesis)
    requested = decode(envelope.payload)
    if envelope.digest != detail.request.id or not isinstance(requested, Member):
        raise HomeInvalid("the approval came with another request than the one that this home signed")
    own = key_id(spki_public(home.load_key().public_bytes))
    if own not in {key_id(key.public) for key in document.keys} or document.keys != requested.keys:
        raise HomeInvalid("the approval pins other keys than were requested: whoever made it can speak as this member")
    if document.status != "active":
        raise HomeInvalid("the approval does not make this member active")


def _install_certificate(home: MemberHome, directory: Directory, pem: bytes) -> None:
    anchor = directory.anchor
    assert anchor is not None
    anchors = [der for one in anchor.certification_authorities for der in load_pem_chain(one.encode())]
    chain = load_pem_chain(pem)
    found = verify_chain(chain, anchors, datetime.now(UTC), usage="member")
    if str(found.member) != home.facts.member or found.public_key != load_public_key(home.load_key().public_bytes):
        raise HomeInvalid("the certificate that came with the approval is not for this member and key")
    replace_file(home.certificate, to_pem(chain), 0o644)
