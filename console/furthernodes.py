"""Further nodes of a member, from the member's home: a request is endorsed, and a bundle made for its node.

The home keeps each endorsed request in `nodes/`: when the member's shared sealing keys are exchanged, every node that
was not revoked gets a new bundle. `noderequests` is the other side.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bus.gateway.sealingkeys import load_keys
from bus.settings import load_settings
from console.carriedkeys import Endorsed, Timing, exchange_keys, keep
from console.heldkeys import key_id_of, member_keys
from console.homes import HomeInvalid, MemberHome, read_facts, replace_file
from console.joining import Invitation
from console.membership import MemberSpeaker, Speaker, call_registry
from console.nodebundle import (
    Contents,
    NodeRequest,
    NodeRequestRefused,
    SharedKey,
    now_text,
    read_request,
    request_id,
    seal_bundle,
)
from console.statements import Stated, StatedKey, carry, publish_missing, raw, read_answer
from evidence.identifiers import MemberId, NodeId
from registry.client import RegistryClient


def endorse(
    home: MemberHome,
    code: str,
    request: Path,
    bundle: Path,
    *,
    services: bool = True,
    timing: Timing = Timing(),  # noqa: B008 - immutable
) -> dict[str, Any]:
    """States the node of a request in the directory, and writes its bundle. Can be done again at any time.

    Args:
        home: of the member, with its key.
        code: of the node, as the person at the home was told.
        request: file from the new machine.
        bundle: where the bundle goes; replaced.
        services: whether the settings of back ends go along.
        timing: of an exchange of the log key.

    Raises:
        NodeRequestRefused: it is no request for that node of this member, an older one, or the node was revoked.
        HomeInvalid: there is a node of that name with other keys.
        KeyNotOwn: the directory names a log key for it that was never endorsed here.
        RegistryError: the registry refused, or does not answer; do it again.
    """
    speaker, signed, asked, stated = _read(home, code, request)

    async def publish(client: RegistryClient) -> tuple[Endorsed, str, tuple[str, ...]]:
        await _refuse_revoked(client, str(stated.node))
        endorsed = await exchange_keys(client, speaker, signed, asked, timing)
        await publish_missing(client, speaker, replace(stated, log=raw(endorsed.log)))
        given = await client.credentials(str(stated.node))
        return endorsed, given.jwt, tuple(given.broker.urls)

    endorsed, jwt, urls = call_registry(speaker.url, publish)
    keep(home, asked, signed)
    _write(speaker, asked, (jwt, urls), bundle, services=services)
    return _told(stated, signed, bundle) | _log_told(asked, endorsed)


def endorse_carried(home: MemberHome, code: str, request: Path, out: Path) -> dict[str, Any]:
    """As `endorse`, for a home without a line to the registry: the signed statements go into a file.

    Raises:
        NodeRequestRefused, HomeInvalid: as `endorse`, or the file exists.
    """
    speaker, signed, asked, stated = _read(home, code, request)
    _refuse_carried(asked)
    carry(speaker, stated, out)
    return {"node": str(stated.node), "request": request_id(signed), "out": out}


def endorse_accepted(
    home: MemberHome, code: str, request: Path, answer: Path, bundle: Path, *, services: bool = True
) -> dict[str, Any]:
    """Takes the registry's answer that was carried back, and writes the bundle.

    Raises:
        NodeRequestRefused, HomeInvalid: as `endorse`, or the answer is for another node.
    """
    speaker, signed, asked, stated = _read(home, code, request)
    _refuse_carried(asked)
    given = read_answer(answer, stated, speaker.genesis)
    keep(home, asked, signed)
    _write(speaker, asked, (given.credentials, given.broker_urls), bundle, services=services)
    return _told(stated, signed, bundle)


def renew_bundles(home: MemberHome) -> list[Path]:
    """New bundles for all further nodes that were not revoked, in `nodes/`.

    Raises:
        RegistryError: the registry does not answer; do it again.
    """
    kept = sorted((home.path / "nodes").glob("*.request"))
    if not kept:
        return []
    speaker, made = Speaker.member(home), []

    async def work(client: RegistryClient) -> None:
        for path in kept:
            asked = read_request(path.read_bytes(), speaker.genesis, home.facts.member)
            node = f"{asked.member}/@{asked.node}"
            if await _is_revoked(client, node):
                continue
            given = await client.credentials(node)
            out = path.with_suffix(".bundle")
            _write(speaker, asked, (given.jwt, tuple(given.broker.urls)), out, services=True)
            made.append(out)

    call_registry(speaker.url, work)
    return made


def has_further_nodes(home: MemberHome) -> bool:
    """Whether this home endorsed nodes that have a home of their own."""
    return any((home.path / "nodes").glob("*.request"))


def _read(home: MemberHome, code: str, request: Path) -> tuple[MemberSpeaker, bytes, NodeRequest, Stated]:
    facts, speaker = home.facts, Speaker.member(home)
    if not home.settings.exists():
        raise HomeInvalid(
            f"{home.path} has no node yet, so the member has no sealing keys to share: lienthong node add n1 --home "
            f"{home.path} first"
        )
    signed = request.read_bytes()
    asked = read_request(signed, facts.genesis, facts.member)
    if asked.node != code:
        raise NodeRequestRefused(f"the request is for a node {asked.node[:64]}, not for {code}")
    node = NodeId(MemberId.parse(facts.member), asked.node)
    keys = [StatedKey(str(node), one.key.load(), ("answer",), one.valid_from, one.until) for one in asked.answers]
    return speaker, signed, asked, Stated(node, raw(asked.log), raw(asked.broker), tuple(keys))


async def _is_revoked(client: RegistryClient, node: str) -> bool:
    return await client.newest("revocation", f"node:{node}") is not None


async def _refuse_revoked(client: RegistryClient, node: str) -> None:
    if await _is_revoked(client, node):
        raise NodeRequestRefused(
            f"trust in {node} was withdrawn, for good: nothing was signed. A machine that is to serve again asks anew, "
            "in a new home and under another name: lienthong node request"
        )


def _write(
    speaker: MemberSpeaker, asked: NodeRequest, given: tuple[str, tuple[str, ...]], out: Path, *, services: bool
) -> None:
    home, facts = speaker.home, speaker.home.facts
    folder = load_settings(home.settings).keys.sealing
    shared = [
        SharedKey(kem=pair.public_key.kem, private=base64.b64encode(pair.private).decode())
        for pair in load_keys(folder)["query"].values()
    ]
    parts = sorted(home.settings_parts.glob("service-*.toml")) if services else []
    contents = Contents(
        issued=now_text(datetime.now(UTC)),
        anchors=tuple(read_facts(home.anchors, Invitation, "lienthong join").anchors),
        registry=facts.registry,
        ca=(home.path / "ca.pem").read_text(encoding="ascii"),
        certificate=home.certificate.read_text(encoding="ascii"),
        signers=tuple(sorted({*member_keys(home), key_id_of(speaker.signer.public_bytes)})),
        broker_urls=given[1],
        credentials=given[0],
        sealing=tuple(shared),
        services={part.name: part.read_text(encoding="utf-8") for part in parts},
    )
    replace_file(out, seal_bundle(contents, asked, speaker.genesis, speaker.signer, speaker.chain))


def _refuse_carried(asked: NodeRequest) -> None:
    if asked.next_log:
        raise NodeRequestRefused(
            "a statement that is carried begins a node, and this request exchanges the log key of one that is there: "
            "give this command where the registry answers, without --out and --accept"
        )


def _log_told(asked: NodeRequest, endorsed: Endorsed) -> dict[str, Any]:
    """What became of a next log key: it counts later, or is in first place already."""
    if not asked.next_log:
        return {}
    return {"log_key_usable_from": endorsed.usable_from, "log_key_replaced": endorsed.log == asked.next_log}


def _told(stated: Stated, signed: bytes, bundle: Path) -> dict[str, Any]:
    return {"node": str(stated.node), "request": request_id(signed), "bundle": bundle}
