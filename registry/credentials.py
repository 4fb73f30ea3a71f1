"""Who gets broker credentials: a node that the directory names and has not withdrawn. Mints nothing itself."""

from __future__ import annotations

from registry.errors import NotFound
from registry.ports import CredentialMinter
from registry.state import State


async def mint_for(directory: State, minter: CredentialMinter, node: str) -> str:
    """Credentials of a node.

    Args:
        directory: As the registry folded it.
        minter: Makes them.
        node: `INSTANCE/CLASS/MEMBER/@NODE`.

    Raises:
        NotFound: The directory has no such node, or it is not active: it gets none.
        RegistryUnavailable: See `CredentialMinter`.
    """
    entry = directory.node(node)
    member = None if entry is None else directory.member(entry.member)
    if entry is None or member is None or directory.anchor is None:
        raise NotFound("the directory has no such node: publish its statement first")
    if entry.status != "active":
        raise NotFound(f"{entry.node} is {entry.status}: it gets no credentials")
    return await minter.mint(entry, member)
