"""Documents that the registry must not take, each made with genuine keys and really submitted.

The forger has a member's home and, for some, keys of the operator. A forgery counts as refused only when the registry
says no with the code that names the lie; a document that is refused for another reason proves nothing. What a gateway
does with a directory that holds such a document is not shown here: it folds by the same rules, whoever wrote the log.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from console.demo.cast import SERVICES, VISITED
from console.homes import InstanceHome, MemberHome
from console.membership import Speaker
from console.operators import OperatorKey, keys_at_hand
from evidence.header import encode_time
from evidence.signer import FileSigner
from registry.client import NewestDocument, RegistryClient, RegistryRefused
from registry.documents import Access, AnyDocument, Catalogue, Member, Node, PinnedKey, Revocation, Service, encode
from registry.envelope import add_signature, sign_document


@dataclass(frozen=True, slots=True)
class Forgeries:
    """How it went: `let_in` names those that the registry took, or refused for another reason than the lie."""

    tried: int
    refused: int
    let_in: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forger:
    """Who forges, with what, and at whose cost.

    Attributes:
        client: Of the registry.
        speaker: A genuine member with its own key.
        member: Its identifier.
        right: A right of its own that it granted and withdrew again, as it was first signed.
        operators: Keys of the operator; fewer than the threshold are used where that is the lie.
        service: A service of another member.
    """

    client: RegistryClient
    speaker: Speaker
    member: str
    right: Access
    operators: Sequence[OperatorKey]
    service: str

    @property
    def victim(self) -> str:
        """Member that offers the service."""
        return "/".join(self.service.split("/")[:3])

    async def newest(self, type_: str, subject: str) -> NewestDocument:
        """The newest document of a chain that exists."""
        found = await self.client.newest(type_, subject)
        assert found is not None
        return found

    def signed(self, document: AnyDocument, genesis: str = "") -> bytes:
        """With the member's key."""
        return sign_document(document, self.speaker.signer, self.speaker.chain, genesis or self.speaker.genesis)

    def by_operators(self, document: AnyDocument, count: int) -> bytes:
        """With keys of the operator."""
        first, *others = self.operators[:count]
        signed = sign_document(document, first.signer, first.chain, self.speaker.genesis)
        for other in others:
            signed = add_signature(signed, other.signer, other.chain)
        return signed


Make = Callable[[Forger], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Forgery:
    """One lie: `code` is what the registry must call it, `make` gives the signed bytes."""

    name: str
    code: str
    make: Make


def _following(found: NewestDocument) -> AnyDocument:
    """The next document of a chain, with the same words."""
    document = found.document
    return msgspec.structs.replace(document, seq=document.seq + 1, prev=found.digest, issued=_now())


def _now() -> str:
    return encode_time(datetime.now(UTC))


async def _anothers_service(forger: Forger) -> bytes:
    document = _following(await forger.newest("service", forger.service))
    assert isinstance(document, Service)
    return forger.signed(msgspec.structs.replace(document, title="In another's name"))


async def _anothers_right(forger: Forger) -> bytes:
    return await forger.speaker.compose(
        forger.client,
        Access,
        f"{forger.service}#forged",
        client=forger.right.client,
        service=forger.service,
        purposes=("*",),
        grounds=("*",),
        fields=("*",),
    )


async def _anothers_node(forger: Forger) -> bytes:
    document = _following(await forger.newest("node", f"{forger.victim}/@n1"))
    assert isinstance(document, Node)
    own = FileSigner.generate("ed25519").public_bytes
    return forger.signed(msgspec.structs.replace(document, broker_key=base64.b64encode(own).decode()))


async def _anothers_revocation(forger: Forger) -> bytes:
    target = f"node:{forger.victim}/@n1"
    return await forger.speaker.compose(forger.client, Revocation, target, since=_now(), reason="not mine to say")


async def _rekeyed(forger: Forger) -> bytes:
    document = _following(await forger.newest("member", forger.victim))
    assert isinstance(document, Member)
    key = PinnedKey(spki=base64.b64encode(FileSigner.generate("p256").public_bytes).decode())
    return forger.by_operators(msgspec.structs.replace(document, keys=(key,)), len(forger.operators))


async def _suspended_by_one(forger: Forger) -> bytes:
    document = _following(await forger.newest("member", forger.victim))
    assert isinstance(document, Member)
    return forger.by_operators(msgspec.structs.replace(document, status="suspended"), 1)


async def _operators_word(forger: Forger) -> bytes:
    return await forger.speaker.compose(forger.client, Catalogue, forger.speaker.instance)


async def _older_right(forger: Forger) -> bytes:
    return forger.signed(forger.right)


async def _other_instance(forger: Forger) -> bytes:
    document = _following(await forger.newest("access", forger.right.subject))
    return forger.signed(document, "0" * 64)


async def _changed_afterwards(forger: Forger) -> bytes:
    document = _following(await forger.newest("access", forger.right.subject))
    signed = msgspec.json.decode(forger.signed(document), type=dict[str, object])
    assert isinstance(document, Access)
    other = encode(msgspec.structs.replace(document, purposes=("anything",)))
    signed["payload"] = base64.urlsafe_b64encode(other).rstrip(b"=").decode()
    return msgspec.json.encode(signed)


FORGERIES: tuple[Forgery, ...] = (
    Forgery("a service in another's name", "member-signature-missing", _anothers_service),
    Forgery("a right to another's service", "member-signature-missing", _anothers_right),
    Forgery("another's node with a key of one's own", "member-signature-missing", _anothers_node),
    Forgery("another's node revoked", "operator-signature-missing", _anothers_revocation),
    Forgery("a member re-keyed by the operators alone", "previous-key-missing", _rekeyed),
    Forgery("a member suspended by one operator of two", "operator-signature-missing", _suspended_by_one),
    Forgery("the operator's word with a member's key", "operator-signature-missing", _operators_word),
    Forgery("a right that was withdrawn, once more", "sequence-replayed", _older_right),
    Forgery("a document of another instance", "wrong-genesis", _other_instance),
    Forgery("a right that was changed after it was signed", "signature-invalid", _changed_afterwards),
)


async def _make_forger(client: RegistryClient, instance: Path, insider: Path, service: str) -> Forger:
    """With an old right of its own: granted and withdrawn again."""
    home = MemberHome(insider)
    speaker, member, own = Speaker.member(home), home.facts.member, VISITED.id
    subject, terms = f"{own}#earlier", {"client": member, "service": own, "purposes": ("*",), "grounds": ("*",)}
    await speaker.say(client, Access, subject, **terms)
    granted = await client.newest("access", subject)
    await speaker.say(client, Access, subject, **terms, until=_now())
    assert granted is not None
    right = granted.document
    assert isinstance(right, Access)
    return Forger(client, speaker, member, right, keys_at_hand(InstanceHome(instance)), service)


async def try_forgeries(instance: Path, insider: Path, victim: str) -> Forgeries:
    """Tries every forgery against the running registry of an instance.

    Args:
        instance: Home of the instance, with as many operator keys as the anchor asks for.
        insider: Home of the member that forges; it offers `cast.VISITED`.
        victim: A member of the cast with a node n1 and a service.

    Raises:
        RegistryError: The registry does not answer, or refused what is genuine.
    """
    service = next(one.id for one in SERVICES if one.provider.id == victim)
    async with RegistryClient(InstanceHome(instance).facts.registry_url) as client:
        forger = await _make_forger(client, instance, insider, service)
        let_in = [one.name for one in FORGERIES if not await _refused(forger, one)]
    return Forgeries(len(FORGERIES), len(FORGERIES) - len(let_in), tuple(let_in))


async def _refused(forger: Forger, forgery: Forgery) -> bool:
    try:
        await forger.client.submit(await forgery.make(forger))
    except RegistryRefused as refused:
        return refused.code == forgery.code
    return False
