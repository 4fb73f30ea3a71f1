"""A provider's own word on its services and rights: what is kept here decides, and what the directory says is compared.

A document goes into the directory and into the own store, or its bytes stay here until the next command knows which: a
registry that took it and whose answer was lost leaves no half state.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

from console.homes import MemberHome, replace_file
from console.predecessors import Predecessor, PredecessorUnproven, own_predecessor
from registry.client import RegistryClient, RegistryRefused
from registry.documents import Access, AnyDocument, Service, decode
from registry.envelope import read_envelope
from registry.own import OwnStore

D = TypeVar("D", Service, Access)


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
    before = await own_predecessor(client, home, type_, subject)
    pending = _pending(home, kind, subject)
    if before is not None and pending.exists() and pending.read_bytes() == before.signed:
        own.put(before.signed)
        pending.unlink()
    head = own.state.head(kind, subject)
    if head is not None and (before is None or before.digest != head.digest):
        raise PredecessorUnproven(
            f"the newest {kind} document of {subject} in the directory is not the one in {home.data / 'own.db'}: "
            "nothing was signed. Either the registry holds documents back, or somebody else signs as this member: see "
            f"lienthong doctor --home {home.path}, and revoke the member's key if it is stolen"
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


async def publish_own(client: RegistryClient, home: MemberHome, own: OwnStore, signed: bytes) -> AnyDocument:
    """Submits a signed service or right, then enforces it.

    Raises:
        RegistryRefused: with the registry's code; nothing is changed.
        RegistryUnavailable: the outcome may be unknown; give the command again.
    """
    document = decode(read_envelope(signed, genesis=own.genesis).payload)
    pending = _pending(home, document.type, document.subject)
    replace_file(pending, signed)
    try:
        await client.submit(signed)
    except RegistryRefused:
        pending.unlink()
        raise
    made = own.put(signed)
    pending.unlink()
    return made


def _pending(home: MemberHome, kind: str, subject: str) -> Path:
    """Where a document stays whose outcome is not known yet."""
    chain = hashlib.sha256(f"{kind} {subject}".encode()).hexdigest()
    return home.data / "pending" / f"{kind}-{chain[:16]}.json"
