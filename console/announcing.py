"""Announcing which version of the wire a node reads: its statement, said again with another number.

The member signs, in its own home, for its node there and for those that it endorsed on other machines. Of a node of
this home the running gateway is asked first; of one elsewhere only the people there can know. Exchanges no key.
"""

from __future__ import annotations

from typing import Any

from bus.envelope import KNOWN
from bus.settings import load_settings
from console.carriedkeys import require_endorsed
from console.doctor.wire import told
from console.homes import HomeInvalid, MemberHome
from console.membership import MemberSpeaker, Speaker, call_registry
from console.predecessors import Predecessor, successor
from console.rotation import statement
from console.views import other_nodes
from evidence.identifiers import MemberId, NodeId
from registry.client import RegistryClient
from registry.documents import Node
from registry.envelope import sign_document


def announce(home: MemberHome, code: str, version: int | None) -> dict[str, Any]:
    """Has the directory say which version a node reads. Said already, nothing is published.

    Args:
        home: of the member.
        code: of the node.
        version: what it reads, and the one before; None: the newest of this program.

    Raises:
        HomeInvalid: the gateway here does not read that version, this program does not know it, or the node is neither
            of this home nor endorsed by it.
        PredecessorUnproven: the statement in the directory is not this member's.
        RegistryError: the registry refused, or does not answer; do it again.
    """
    speaker, wanted = Speaker.member(home), KNOWN.newest if version is None else version
    node = str(NodeId(MemberId.parse(home.facts.member), code.removeprefix("@")))
    if wanted not in KNOWN.spoken:
        raise HomeInvalid(
            f"this program speaks {_list(KNOWN.spoken)} of the wire, not {wanted}: announce with the program that the "
            "node runs, one version at a time"
        )
    is_here = home.settings.exists() and load_settings(home.settings).node == node

    async def publish(client: RegistryClient) -> int:
        found = await statement(client, home, node)
        before = found.document.wire
        if before == wanted:
            return before
        if is_here and wanted > before:
            _require_reading(home, node, wanted)
        await client.submit(await _said(client, speaker, found, code, wanted, is_here=is_here))
        return before

    before = call_registry(speaker.url, publish)
    others = {one.node: one.wire for one in other_nodes(home, node)}
    return {"node": node, "wire": wanted, "before": before, "checked": is_here, "others": others}


async def _said(
    client: RegistryClient, speaker: MemberSpeaker, found: Predecessor[Node], code: str, wanted: int, *, is_here: bool
) -> bytes:
    if is_here:
        return await speaker.amend(client, found, wire=wanted)
    # its keys are in no file of this home: the request that was endorsed speaks for them
    await require_endorsed(client, speaker.home, code.removeprefix("@"), found.document)
    return sign_document(successor(found, {"wire": wanted}), speaker.signer, speaker.chain, speaker.genesis)


def reads(home: MemberHome) -> list[int] | None:
    """The versions that the running gateway of a home reads; None when none runs, or it is of an older program."""
    found = told(load_settings(home.settings)).get("reads")
    return [int(one) for one in found] if isinstance(found, list) else None


def _require_reading(home: MemberHome, node: str, wanted: int) -> None:
    found = reads(home)
    if found is None or wanted not in found:
        seen = "does not run" if found is None else f"reads {_list(found)}"
        raise HomeInvalid(
            f"the gateway of {node} {seen}: nothing was announced, because what is sent to it in version {wanted} "
            f"would be dropped. Start it with the new program first: lienthong gateway --home {home.path}"
        )


def _list(versions: Any) -> str:
    return "version " + " and ".join(str(one) for one in sorted(versions))
