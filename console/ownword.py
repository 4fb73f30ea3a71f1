"""A provider's own word: how a service or an access right becomes enforced and public, whatever fails in between.

A document is intended, submitted and enforced, in this order. A command that ends in between leaves an intent; the next
one submits the same bytes again before it does anything else. Composes nothing.
"""

from __future__ import annotations

from console.homes import MemberHome
from registry.client import RegistryClient, RegistryRefused
from registry.documents import AnyDocument
from registry.own import OwnStore


def own_store(home: MemberHome) -> OwnStore:
    """The provider's own documents; close it."""
    facts = home.facts
    home.data.mkdir(mode=0o700, exist_ok=True)
    return OwnStore(home.data / "own.db", genesis=facts.genesis, member=facts.member)


async def publish_own(client: RegistryClient, own: OwnStore, signed: bytes) -> AnyDocument:
    """Submits a document and enforces it.

    Raises:
        RegistryError: the registry refused it, and nothing changed; or it is not known how it ended, and the next
            command finds out.
    """
    own.intend(signed)
    return await _submit(client, own, signed)


async def settle_own(client: RegistryClient, own: OwnStore) -> None:
    """Finds out how earlier submissions ended; to be called before the next document is composed.

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
