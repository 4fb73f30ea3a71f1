"""The operator's side of becoming a member: which request, what the applicant signed, the approval.

Approves what the applicant signed and nothing that the registry says of it. Refusing is `console.membership`'s; the
applicant's side is `console.joining`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import msgspec

from console.homes import HomeInvalid, InstanceHome, read_facts, replace_file
from console.instance import load_authority
from console.joining import CarriedRequest
from console.membership import OperatorSpeaker
from evidence.identifiers import MemberId
from evidence.issue import issue_member, to_pem
from registry.client import RegistryClient, verify_anchors
from registry.documents import Member, decode
from registry.envelope import Envelope, read_envelope
from registry.errors import DocumentRefused, NotFound
from registry.fold import digest_of
from registry.requests import MemberRequest, is_self_signed, read_request

_DAYS = 365


async def find_request(client: RegistryClient, wanted: str) -> MemberRequest:
    """The one request whose id begins with `wanted`, or the pending one of the member of that name.

    Raises:
        HomeInvalid: none or several.
    """
    found = [
        one
        for one in await client.requests()
        if (wanted and one.id.startswith(wanted)) or (one.member == wanted and one.state == "pending")
    ]
    if len(found) != 1:
        raise HomeInvalid(f"{len(found)} requests are {wanted!r} or begin so; see `lienthong member list`")
    return found[0]


async def pending_requests(
    client: RegistryClient, member: str | None = None, kept: Sequence[str] = ()
) -> list[MemberRequest]:
    """All pending requests, or those for one name, but those whose ids begin with one of `kept`.

    Raises:
        HomeInvalid: what is to be kept is no pending request, or several.
    """
    found = [one for one in await client.requests() if one.state == "pending"]
    for start in kept:
        if sum(one.id.startswith(start) for one in found) != 1:
            raise HomeInvalid(f"--except: {start!r} begins no or several ids; see `lienthong member list`")
    wanted = [one for one in found if member is None or one.member == member]
    return [one for one in wanted if not any(one.id.startswith(start) for start in kept)]


async def approve(
    client: RegistryClient, home: InstanceHome, speaker: OperatorSpeaker, request: MemberRequest, certificate: bytes
) -> MemberRequest:
    """Approves a request: certifies the key where the applicant brought no certificate, then pins it.

    Args:
        client: Of the registry.
        home: Of the instance; its authority certifies.
        speaker: The operator.
        request: The request.
        certificate: PEM from elsewhere; empty has the instance's authority certify.

    Raises:
        SignaturesMissing: too few operator keys are at hand; a proposal was kept.
        RegistryError: the registry refused it, or gave another request than this one; nothing was signed.
    """
    envelope, document = await _asked(client, speaker.genesis, request)
    chain = envelope.signatures[0].chain
    if certificate or is_self_signed(chain):
        await client.put_certificate(request.id, certificate or _certify(home, document.subject, chain[0]))
    signed = await speaker.compose(
        client,
        Member,
        document.subject,
        status="active",
        names=document.names,
        keys=document.keys,
        aliases=document.aliases,
    )
    return await client.decide(request.id, signed)


async def _asked(client: RegistryClient, genesis: str, request: MemberRequest) -> tuple[Envelope, Member]:
    """What the applicant signed. Its id was compared with the applicant's word; the registry's word is no proof."""
    jws = (await client.request_detail(request.id)).jws.encode()
    _, anchors = await client.anchor(genesis)
    read = read_request(jws, verify_anchors(genesis, anchors), datetime.now(UTC))
    if (read.id, read.member, read.keys) != (request.id, request.member, request.keys):
        _refuse_other(request.id)
    envelope = read_envelope(jws, genesis=genesis)
    document = decode(envelope.payload)
    assert isinstance(document, Member)
    return envelope, document


def _refuse_other(wanted: str) -> NoReturn:
    raise DocumentRefused(
        "not-a-request",
        f"the registry gives another request than {wanted[:16]} under that id: it is lying or broken; nothing was "
        "signed. Have the applicant carry the request to you (lienthong join --out), and look into the registry",
    )


def _certify(home: InstanceHome, member: str, der: bytes) -> bytes:
    from evidence.x509 import describe

    if not (home.ca / "ca.pem").exists():
        raise HomeInvalid(
            f"{home.ca}/ca.pem is not here to certify the applicant's key; bring its certificate with --certificate"
        )
    now = datetime.now(UTC)
    issued = issue_member(
        load_authority(home),
        MemberId.parse(member),
        describe(der).public_key,
        not_before_at=now - timedelta(minutes=5),
        not_after_at=now + timedelta(days=_DAYS),
    )
    return to_pem([issued])


async def bring_request(client: RegistryClient, path: Path) -> MemberRequest:
    """Hands a request that was carried here to the registry.

    Raises:
        HomeInvalid: the file is not one.
        RegistryError: the registry refused it, or keeps another one.
    """
    jws = read_facts(path, CarriedRequest, "lienthong join --out").jws.encode()
    kept = await client.request(jws)
    if kept.id != digest_of(jws):
        _refuse_other(digest_of(jws))
    return kept


async def write_decision(client: RegistryClient, request_id: str, out: Path) -> None:
    """Writes a decision to a file that is carried to the applicant.

    Raises:
        NotFound: there is no such request.
    """
    detail = await client.request_detail(request_id)
    if detail.request.state == "pending":
        raise NotFound("the request is not decided yet")
    replace_file(out, msgspec.json.encode(detail), 0o644)
