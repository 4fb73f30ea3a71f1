"""Which versions of the wire the gateway reads, what the directory says of it, and what it writes for others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http.client import OK
from typing import Any

from bus.envelope import KNOWN
from bus.settings import GatewaySettings
from console.doctor.findings import Finding
from console.doctor.reaching import fetch, listening_facts
from console.homes import MemberHome

_NAME = "wire-version"


def check_wire(home: MemberHome, settings: GatewaySettings, announced: int) -> Iterable[Finding]:
    """What others write for this node it reads, and it has a version in common with each peer.

    Args:
        home: of the node.
        settings: of the node.
        announced: by the node's newest statement.
    """
    running = told(settings)
    reads = [int(one) for one in running.get("reads", sorted(KNOWN.spoken))]
    code = settings.node.rpartition("@")[2]
    where = f"--home {'MEMBER' if home.facts.node else home.path}"
    spoken = f"reads version {' and '.join(str(one) for one in reads)}, announces {announced}"
    if announced not in reads:
        do = f"start the newer program, or: lienthong node announce {code} --wire {max(reads)} {where}"
        if announced < min(reads):
            do = f"lienthong node announce {code} {where}"
        yield Finding(_NAME, "fail", f"{spoken}: what others write for this node is dropped", do)
    elif announced < max(reads):
        do = f"when all nodes of this member run this program, for each: lienthong node announce {code} {where}"
        yield Finding(_NAME, "warn", spoken, do)
    else:
        yield Finding(_NAME, "ok", spoken)
    yield from _peers(running.get("with", {}))


def _peers(found: dict[str, int | None]) -> Iterable[Finding]:
    unshared = [peer for peer, version in found.items() if version is None]
    for peer in unshared:
        yield Finding(_NAME, "fail", f"no version in common with {peer}", "one of the two has to upgrade its program")
    versions = sorted({version for version in found.values() if version is not None})
    for version in versions:
        peers = [peer for peer, one in found.items() if one == version]
        named = ", ".join(peers[:5]) + (f" and {len(peers) - 5} more" if len(peers) > 5 else "")
        yield Finding(_NAME, "ok", f"writes version {version} for {named}")


def told(settings: GatewaySettings) -> dict[str, Any]:
    """What the running gateway says; empty when none runs."""
    facts = listening_facts(settings.data)
    status, body = fetch(f"{facts['admin']}/status") if facts.get("admin") else (0, b"")
    try:
        found = json.loads(body)["wire"] if status == OK else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
