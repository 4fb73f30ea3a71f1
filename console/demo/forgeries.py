"""What nobody may be able to put into the directory, each tried for real: with the genuine keys of the operator, of the
instance's authority and of one member.

`FORGERIES` is the one list. The demonstration submits each to the running registry and counts refusals; the tests also
append each to the directory's log as a hostile registry would, and look at what gateways make of it. A forgery counts
as refused when the registry says so, or when it answers with the place of the old document and appends nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from console.homes import InstanceHome, MemberHome
from console.instance import load_authority
from console.membership import Speaker
from console.operators import keys_at_hand
from evidence.header import encode_time
from evidence.identifiers import MemberId
from evidence.issue import Authority, create_authority, issue_member
from evidence.leaf import DIRECTORY, unwrap
from evidence.log.reader import LogReader
from evidence.signer import FileSigner
from registry import documents as d
from registry.client import RegistryClient, RegistryRefused
from registry.envelope import add_signature, sign_document
from registry.fold import Applied, Directory
from registry.publickeys import key_id, spki_public

D = TypeVar("D", bound=d.Document)


@dataclass(frozen=True, slots=True)
class Party:
    """A key with certificates."""

    signer: FileSigner
    chain: tuple[bytes, ...]

    @property
    def spki(self) -> str:
        """Its public key in base64."""
        return base64.b64encode(self.signer.public_bytes).decode()


@dataclass(frozen=True, slots=True)
class Forger:
    """Everything that the owner of a registry, or of a member, can have.

    Attributes:
        directory: folded from `leaves`.
        leaves: of the directory's log.
        operators: keys of the operator that are at hand.
        authority: the instance's own.
        insider: the key of a genuine member.
        insider_id: that member.
        victim: the member in whose name documents are forged; it has a node, a service and a right to it.
    """

    directory: Directory
    leaves: list[bytes]
    operators: tuple[Party, ...]
    authority: Authority
    insider: Party
    insider_id: str
    victim: str

    @property
    def genesis(self) -> str:
        """Of the instance."""
        return self.directory.genesis

    def newest(self, type_: type[D], beginning: str) -> D:
        """The newest document of a type whose subject begins like that, first by subject.

        Raises:
            LookupError: the directory has none.
        """
        kind = str(type_.__struct_config__.tag)
        subjects = sorted(s for t, s in self.directory.heads if t == kind and s.startswith(beginning))
        if not subjects:
            raise LookupError(f"the directory has no {kind} document of {beginning}")
        found = d.decode(self.payload(self.directory.heads[kind, subjects[0]].index))
        assert isinstance(found, type_)
        return found

    def jws(self, index: int) -> bytes:
        """The signed document at an index."""
        return unwrap(self.leaves[index])[1]

    def payload(self, index: int) -> bytes:
        """The document at an index."""
        text = str(json.loads(self.jws(index))["payload"])
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    def following(self, document: D, **changes: Any) -> D:
        """The next document of a chain."""
        head = self.directory.heads.get((document.type, changes.get("subject", document.subject)))
        common = {"seq": 0, "prev": None} if head is None else {"seq": head.seq + 1, "prev": head.digest}
        return msgspec.structs.replace(document, issued=encode_time(datetime.now(UTC)), **{**common, **changes})

    def signed(self, document: d.AnyDocument, *parties: Party, genesis: str = "") -> bytes:
        """Signed by these parties."""
        first, *others = parties
        signed = sign_document(document, first.signer, first.chain, genesis or self.genesis)
        for other in others:
            signed = add_signature(signed, other.signer, other.chain)
        return signed

    def by_operator(self, document: d.AnyDocument) -> bytes:
        """Signed by all operator keys that are at hand."""
        return self.signed(document, *self.operators)

    def certified(self, member: str, authority: Authority | None = None) -> Party:
        """A new key with a certificate that names a member; from the instance's authority unless another is given."""
        signer, now = FileSigner.generate("p256"), datetime.now(UTC)
        certificate = issue_member(
            authority or self.authority,
            MemberId.parse(member),
            signer.private_key.public_key(),
            not_before_at=now - timedelta(hours=2),
            not_after_at=now + timedelta(days=1),
        )
        return Party(signer, (certificate,))


Make = Callable[[Forger], bytes]


@dataclass(frozen=True, slots=True)
class Forgery:
    """One document that must not count.

    Attributes:
        name: what it is.
        code: why every reader skips it.
        make: the signed bytes.
    """

    name: str
    code: str
    make: Make


@dataclass(frozen=True, slots=True)
class Forgeries:
    """How it went: `let_in` names those that were appended."""

    tried: int
    refused: int
    let_in: tuple[str, ...]


# Documents ---------------------------------------------------------------------------------------------------------


def _right(forger: Forger, **changes: Any) -> d.Access:
    """A right for the insider to a service of the victim."""
    service = forger.newest(d.Service, f"{forger.victim}/").subject
    right = forger.newest(d.Access, f"{forger.victim}/")
    given = {"subject": f"{service}#forged", "service": service, "client": f"{forger.insider_id}/onedoor"}
    return forger.following(right, **{**given, "purposes": ("*",), "grounds": ("*",), "fields": (), **changes})


def _service(forger: Forger, **changes: Any) -> d.Service:
    """The victim's service, changed."""
    return forger.following(forger.newest(d.Service, f"{forger.victim}/"), title="forged", **changes)


def _rekeyed(forger: Forger, **changes: Any) -> d.Member:
    """The victim with a key of the forger's."""
    pinned = d.PinnedKey(spki=forger.certified(forger.victim).spki)
    return forger.following(forger.newest(d.Member, forger.victim), keys=(pinned,), **changes)


def _newcomer(forger: Forger) -> d.Member:
    """A member that nobody admitted."""
    member = f"{forger.directory.instance}/GOV/X99"
    pinned = d.PinnedKey(spki=forger.certified(member).spki)
    return forger.following(forger.newest(d.Member, forger.victim), subject=member, keys=(pinned,), aliases=())


def _ed25519() -> str:
    return base64.b64encode(FileSigner.generate("ed25519").public_bytes).decode()


def _node(forger: Forger, **changes: Any) -> d.Node:
    """The victim's node with a broker key of the forger's."""
    return forger.following(forger.newest(d.Node, f"{forger.victim}/"), broker_key=_ed25519(), **changes)


def _sealing(forger: Forger) -> d.Sealing:
    """A key of the forger's to which everybody should seal what is for the victim."""
    public = FileSigner.generate("ed25519").public_bytes
    known = forger.newest(d.Sealing, forger.victim)
    made = {"subject": f"{forger.victim}#{key_id(public)}", "public": base64.b64encode(public).decode()}
    return forger.following(known, kem="X25519", **made)


def _anchor(forger: Forger, **changes: Any) -> d.Anchor:
    return forger.following(forger.newest(d.Anchor, forger.directory.instance), **changes)


def _revocation(forger: Forger) -> d.Revocation:
    now = encode_time(datetime.now(UTC))
    target = f"member:{forger.victim}"
    return d.Revocation(instance=forger.directory.instance, subject=target, seq=0, issued=now, since=now)


def _group(forger: Forger) -> d.Group:
    now, instance = encode_time(datetime.now(UTC)), forger.directory.instance
    subject = f"{forger.victim}#forged"
    return d.Group(
        instance=instance, subject=subject, seq=0, issued=now, names={}, clients=(f"{forger.insider_id}/onedoor",)
    )


def _subsystem(forger: Forger) -> d.Subsystem:
    now, instance = encode_time(datetime.now(UTC)), forger.directory.instance
    return d.Subsystem(instance=instance, subject=f"{forger.victim}/forged", seq=0, issued=now, names={})


# Forgeries with a course of their own --------------------------------------------------------------------------------


def _oldest_right(forger: Forger) -> bytes:
    """The first document of a right that was changed since, or of any."""
    heads = forger.directory.heads
    rights = [subject for kind, subject in heads if kind == "access" and subject.startswith(f"{forger.victim}/")]
    changed = min(rights, key=lambda subject: (-heads["access", subject].seq, subject))
    for leaf in forger.leaves:
        kind, jws = unwrap(leaf)
        if kind == DIRECTORY and f'"subject":"{changed}"'.encode() in _payload_of(jws):
            return jws
    raise LookupError(changed)


def _payload_of(jws: bytes) -> bytes:
    text = str(json.loads(jws)["payload"])
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def _respelled(forger: Forger) -> bytes:
    """An old right under another signature of the same key: who knows (r, s) knows (r, n - s) too."""
    parts = json.loads(_oldest_right(forger))
    raw = base64.urlsafe_b64decode(parts["signature"] + "==")
    other = raw[:32] + (_P256_ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    parts["signature"] = base64.urlsafe_b64encode(other).decode().rstrip("=")
    return msgspec.json.encode(parts)


def _widened(forger: Forger) -> bytes:
    """The author's own signature under a right that says more."""
    right = forger.newest(d.Access, f"{forger.victim}/")
    jws = forger.jws(forger.directory.heads["access", right.subject].index)
    parts = json.loads(jws)
    wider = d.encode(forger.following(right, purposes=("*",), grounds=("*",)))
    parts["payload"] = base64.urlsafe_b64encode(wider).decode().rstrip("=")
    return msgspec.json.encode(parts)


def _mislabelled(forger: Forger) -> bytes:
    """The insider's own word under the label of another type."""
    document = _right(forger)
    parts = json.loads(forger.signed(document, forger.insider))
    header = json.loads(base64.urlsafe_b64decode(parts["protected"] + "=" * (-len(parts["protected"]) % 4)))
    header["typ"] = "lienthong-service+json"
    parts["protected"] = base64.urlsafe_b64encode(msgspec.json.encode(header)).decode().rstrip("=")
    return msgspec.json.encode(parts)


def _foreign_authority(forger: Forger) -> bytes:
    now = datetime.now(UTC)
    authority = create_authority(
        "foreign", FileSigner.generate("p256"), not_before_at=now - timedelta(hours=3), not_after_at=now + timedelta(1)
    )
    return forger.signed(_right(forger), forger.certified(forger.victim, authority))


def _borrowed_key(forger: Forger) -> bytes:
    """The insider's node with the victim's broker key: the broker's challenge would sign for the other."""
    theirs = forger.newest(d.Node, f"{forger.victim}/").broker_key
    own = forger.newest(d.Node, f"{forger.insider_id}/")
    return forger.signed(forger.following(own, broker_key=theirs), forger.insider)


def _own_anchor(forger: Forger) -> bytes:
    """The forger as the only operator."""
    usurper = forger.certified(forger.insider_id)
    operator = d.Operator(keyid=key_id(spki_public(usurper.signer.public_bytes)), spki=usurper.spki)
    return forger.signed(_anchor(forger, operators=(operator,), threshold=1), usurper)


def _gap(forger: Forger) -> bytes:
    """A withdrawn chain begun behind its own end: what lies between would never be asked for."""
    own = forger.newest(d.Subsystem, f"{forger.insider_id}/")
    following = forger.following(own)
    return forger.signed(msgspec.structs.replace(following, seq=following.seq + 1), forger.insider)


def _other_past(forger: Forger) -> bytes:
    """The next document of a chain on top of another predecessor."""
    own = forger.following(forger.newest(d.Subsystem, f"{forger.insider_id}/"))
    return forger.signed(msgspec.structs.replace(own, prev="0" * 64), forger.insider)


_SIGNATURE, _OPERATORS = "member-signature-missing", "operator-signature-missing"

FORGERIES: tuple[Forgery, ...] = (
    Forgery("a service in a member's name, by the operator", _SIGNATURE, lambda f: f.by_operator(_service(f))),
    Forgery("a right in a member's name, by the operator", _SIGNATURE, lambda f: f.by_operator(_right(f))),
    Forgery("a right in a member's name, by another member", _SIGNATURE, lambda f: f.signed(_right(f), f.insider)),
    Forgery(
        "a right in a member's name, by a new key that the authority certified for it",
        _SIGNATURE,
        lambda f: f.signed(_right(f), f.certified(f.victim)),
    ),
    Forgery("a right in a member's name, by a key of a foreign authority", "certificate-invalid", _foreign_authority),
    Forgery("a service in a member's name, by another member", _SIGNATURE, lambda f: f.signed(_service(f), f.insider)),
    Forgery("a member's keys replaced without its own", "previous-key-missing", lambda f: f.by_operator(_rekeyed(f))),
    Forgery(
        "a member's keys replaced as if that had been announced",
        "recovery-not-announced",
        lambda f: f.by_operator(_rekeyed(f, change="confirmed")),
    ),
    Forgery("an old right once more", "sequence-replayed", _oldest_right),
    Forgery("an old right once more, its signature respelled", "sequence-replayed", _respelled),
    Forgery("a right widened under its author's signature", "signature-invalid", _widened),
    Forgery("a document under the label of another type", "type-mismatch", _mislabelled),
    Forgery("a member's node with another broker key", _SIGNATURE, lambda f: f.signed(_node(f), f.insider)),
    Forgery("a member's node, by the operator", _SIGNATURE, lambda f: f.by_operator(_node(f))),
    Forgery("a sealing key for a member, by the operator", _SIGNATURE, lambda f: f.by_operator(_sealing(f))),
    Forgery("a sealing key for a member, by another member", _SIGNATURE, lambda f: f.signed(_sealing(f), f.insider)),
    Forgery("another member's broker key as one's own", "key-reused", _borrowed_key),
    Forgery("a client system of another member", _SIGNATURE, lambda f: f.signed(_subsystem(f), f.insider)),
    Forgery("a group of another member", _SIGNATURE, lambda f: f.signed(_group(f), f.insider)),
    Forgery("a member revoked by another member", _OPERATORS, lambda f: f.signed(_revocation(f), f.insider)),
    Forgery("a member admitted by another member", _OPERATORS, lambda f: f.signed(_newcomer(f), f.insider)),
    Forgery("an anchor with the forger as the only operator", _OPERATORS, _own_anchor),
    Forgery(
        "an anchor with other keys of the directory",
        "directory-key-changed",
        lambda f: f.by_operator(_anchor(f, directory=d.DirectoryKeys(log_key=_ed25519(), cosigner_key=_ed25519()))),
    ),
    Forgery(
        "a member's document for another instance",
        "wrong-genesis",
        lambda f: f.signed(f.following(f.newest(d.Subsystem, f"{f.insider_id}/")), f.insider, genesis="0" * 64),
    ),
    Forgery(
        "a document that names another instance",
        "wrong-instance",
        lambda f: f.signed(
            f.following(f.newest(d.Subsystem, f"{f.insider_id}/"), instance=f"{f.directory.instance}X"), f.insider
        ),
    ),
    Forgery("a chain that skips a document", "sequence-gap", _gap),
    Forgery("a chain with another past", "predecessor-mismatch", _other_past),
)
TOO_FEW = Forgery(
    "a member admitted by too few operators", _OPERATORS, lambda f: f.signed(_newcomer(f), f.operators[0])
)
"""Where the threshold is more than one."""


def listed(forger: Forger) -> tuple[Forgery, ...]:
    """What can be tried in this instance."""
    anchor = forger.directory.anchor
    return (*FORGERIES, TOO_FEW) if anchor is not None and anchor.threshold > 1 else FORGERIES


def registry_leaves(home: InstanceHome) -> list[bytes]:
    """The directory's log as it lies at the registry, which may be running."""
    with LogReader(home.registry / "directory.db") as reader:
        return [leaf for _, _, leaf in reader.leaves()]


def make_forger(instance: Path, insider: Path, victim: str, leaves: list[bytes]) -> Forger:
    """Takes all keys that lie in an instance's and a member's home.

    Args:
        instance: home of the instance, operator keys and authority included.
        insider: home of a member with a node and a subsystem.
        victim: `INSTANCE/CLASS/MEMBER` with a node, a sealing key, a service and a right to it.
        leaves: of the directory's log.
    """
    home, member = InstanceHome(instance), Speaker.member(MemberHome(insider))
    directory = Directory(home.facts.genesis)
    for index, leaf in enumerate(leaves):
        directory.apply(index, leaf)
    return Forger(
        directory=directory,
        leaves=leaves,
        operators=tuple(Party(key.signer, key.chain) for key in keys_at_hand(home, ())),
        authority=load_authority(home),
        insider=Party(member.signer, tuple(member.chain)),
        insider_id=MemberHome(insider).facts.member,
        victim=victim,
    )


async def try_forgeries(instance: Path, insider: Path, victim: str) -> Forgeries:
    """Submits every forgery to the running registry of an instance; see `make_forger`.

    Raises:
        RegistryUnavailable: the registry does not answer.
    """
    leaves = registry_leaves(InstanceHome(instance))
    forger = make_forger(instance, insider, victim, leaves)
    let_in = []
    async with RegistryClient(InstanceHome(instance).facts.registry_url) as registry:
        for forgery in (tried := listed(forger)):
            try:
                submitted = await registry.submit(forgery.make(forger))
            except RegistryRefused:
                continue
            if submitted.index >= len(leaves):
                let_in.append(forgery.name)
    return Forgeries(len(tried), len(tried) - len(let_in), tuple(let_in))


def skipped_code(forger: Forger, jws: bytes) -> str:
    """The code under which a reader would skip a document now; empty when it would count."""
    outcome = forger.directory.check(DIRECTORY + jws)
    return "" if isinstance(outcome, Applied) else outcome.code
