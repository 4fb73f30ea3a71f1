"""The next anchor of an instance: what changes, and the document that follows.

Signs nothing itself (`membership.OperatorSpeaker`) and decides nothing: both the operators so far and those of the new
anchor have to sign, which every reader of the directory checks.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from console.homes import HomeInvalid
from console.listsources import with_authorities
from console.membership import OperatorSpeaker
from console.operators import OperatorHome
from console.predecessors import newest_anchor
from evidence.x509 import describe, load_pem_chain
from registry.client import RegistryClient
from registry.documents import Anchor, Operator, decode
from registry.envelope import read_envelope
from registry.publickeys import key_id, spki_public


@dataclass(frozen=True, slots=True)
class AnchorChange:
    """What is to change; what is empty stays as it is.

    Attributes:
        added: Folders with the certificates of operator keys to add.
        dropped: Beginnings of key ids to take away.
        threshold: New threshold.
        authorities: PEM files of further certification authorities.
        revocation_lists: All addresses of revocation lists, anew.
        broker_urls: All addresses of the broker, anew.
        recovery_delay_s: How long new keys of a member that lost its own are announced; never shorter than before.
    """

    added: Sequence[Path] = ()
    dropped: Sequence[str] = ()
    threshold: int | None = None
    authorities: Sequence[Path] = ()
    revocation_lists: Sequence[str] = ()
    broker_urls: Sequence[str] = ()
    recovery_delay_s: int | None = None


async def change_anchor(client: RegistryClient, speaker: OperatorSpeaker, change: AnchorChange) -> Anchor:
    """Publishes the next anchor.

    Raises:
        HomeInvalid: nothing changes, the operators that would remain cannot sign, or the delay would be shorter.
        SignaturesMissing: too few operator keys are at hand; a proposal was kept.
        RegistryError: the registry refused it.
    """
    before = await newest_anchor(client, speaker.genesis)
    anchor = before.document
    changes = _changes(anchor, change)
    if all(getattr(anchor, name) == value for name, value in changes.items()):
        raise HomeInvalid("this anchor would be like the one before: say what is to change")
    signed = await speaker.amend(client, before, **changes)
    await client.submit(signed)
    made = decode(read_envelope(signed, genesis=speaker.genesis).payload)
    assert isinstance(made, Anchor)
    return made


def _changes(anchor: Anchor, change: AnchorChange) -> dict[str, Any]:
    """The fields that are named anew; all others stay."""
    operators = _operators(anchor, change)
    threshold = change.threshold or anchor.threshold
    if threshold > len(operators):
        raise HomeInvalid(f"{len(operators)} keys cannot make a threshold of {threshold}")
    delay_s = change.recovery_delay_s or anchor.recovery_delay_s
    if delay_s < anchor.recovery_delay_s:
        days = anchor.recovery_delay_s / 86_400
        raise HomeInvalid(f"the recovery delay is {days:g} days: it can be lengthened, never shortened")
    added = tuple(path.read_text(encoding="ascii") for path in change.authorities)
    authorities = (*anchor.certification_authorities, *added)
    return {
        "threshold": threshold,
        "operators": operators,
        "certification_authorities": authorities,
        "revocation_lists": with_authorities(change.revocation_lists, authorities) or anchor.revocation_lists,
        "broker": msgspec.structs.replace(anchor.broker, urls=tuple(change.broker_urls) or anchor.broker.urls),
        "recovery_delay_s": delay_s,
    }


def _operators(anchor: Anchor, change: AnchorChange) -> tuple[Operator, ...]:
    for start in change.dropped:
        if sum(one.keyid.startswith(start) for one in anchor.operators) != 1:
            raise HomeInvalid(f"--drop: {start!r} begins no or several key ids; see lienthong operator show")
    kept = [one for one in anchor.operators if not any(one.keyid.startswith(start) for start in change.dropped)]
    for folder in change.added:
        [der, *_] = load_pem_chain(OperatorHome(folder).certificate.read_bytes())
        public = describe(der).public_bytes
        kept.append(Operator(keyid=key_id(spki_public(public)), spki=base64.b64encode(public).decode()))
    return tuple({one.keyid: one for one in kept}.values())
