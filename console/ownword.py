"""A provider's own word on its services and rights: what is kept here decides, and what the directory says is compared.

A document is intended, submitted and enforced, in this order. A command that ends in between leaves an intent; the next
one submits the same bytes again before it does anything else: a lost answer leaves no half state.
"""

from __future__ import annotations

from typing import TypeVar

from console.homes import MemberHome
from console.predecessors import Predecessor, PredecessorUnproven, own_predecessor
from registry.client import RegistryClient, RegistryRefused
from registry.documents import Access, AnyDocument, Service
from registry.own import OwnStore

D = TypeVar("D", Service, Access)


def own_store(home: MemberHome) -> OwnStore:
    """The provider's own documents; close it.

    Raises:
        HomeInvalid: this is the home of a further node, which has none.
    """
    home.require_member()
    facts = home.facts
    home.data.mkdir(mode=0o700, exist_ok=True)
    return OwnStore(home.data / "own.db", genesis=facts.genesis, member=facts.member)


async def kept_predecessor(
    client: RegistryClient, home: MemberHome, own: OwnStore, type_: type[D], subject: str
) -> Predecessor[D] | None:
    """The newest document of an own chain: signed by this member and, where the own store has the chain, the one there.

    Without a store that has the chain, only what is proven counts.

    Raises:
        PredecessorUnproven: the directory has another one, or it is not signed by a key of this home.
        RegistryError: the registry does not answer.
    """
    kind = str(type_.__struct_config__.tag)
    await settle_own(client, own)
    before = await own_predecessor(client, home, type_, subject)
    if before is not None and own.intended(before.digest):
        own.put(before.signed)  # the registry said that it refused it
    head = own.state.head(kind, subject)
    if head is not None and (before is None or before.digest != head.digest):
        raise PredecessorUnproven(
            f"the newest {kind} document of {subject} in the directory is not the one in {home.data / 'own.db'}: "
            "nothing was signed. If another home of this member made the change, make this one there, too, and copy "
            "its data/own.db here. Otherwise the registry holds documents back, or somebody else signs as this member: "
            f"see lienthong doctor --home {home.path}, and revoke the member's key if it is stolen"
        )
    return before


async def copied_predecessor(
    client: RegistryClient, home: MemberHome, own: OwnStore, type_: type[D], subject: str
) -> Predecessor[D] | None:
    """As `kept_predecessor`, for a document that says everything anew: None also where nothing here knows the chain.

    A member that lost its keys and its store publishes again; of what it does not know nothing is copied.

    Raises:
        PredecessorUnproven: the own store has the chain, and the directory another document.
        RegistryError: the registry does not answer.
    """
    try:
        return await kept_predecessor(client, home, own, type_, subject)
    except PredecessorUnproven:
        if own.state.head(str(type_.__struct_config__.tag), subject) is not None:
            raise
        return None


async def publish_own(client: RegistryClient, own: OwnStore, signed: bytes) -> AnyDocument:
    """Submits a document and enforces it.

    Raises:
        RegistryRefused: with the registry's code; nothing is changed.
        RegistryUnavailable: the outcome may be unknown; the next command finds it out.
    """
    own.intend(signed)
    return await _submit(client, own, signed)


async def settle_own(client: RegistryClient, own: OwnStore) -> None:
    """Finds out how earlier submissions ended.

    Raises:
        RegistryError: it cannot be found out now.
    """
    for signed in own.intents():
        try:
            await _submit(client, own, signed)
        except RegistryRefused:
            continue  # settled: nothing of it is in force


async def _submit(client: RegistryClient, own: OwnStore, signed: bytes) -> AnyDocument:
    try:
        await client.submit(signed)
    except RegistryRefused:
        own.settle(signed)
        raise
    return own.put(signed)
