"""`lienthong member`: request and approval of a membership."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.commands.memberkeys import confirm, recover, rotate
from console.commands.revoke import revoke_member
from console.output import emit, json_option, reports_errors

_MEMBER = click.option(
    "--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member."
)
_INSTANCE = click.option(
    "--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the instance."
)


@click.group()
def member() -> None:
    """Become a member, or decide who becomes one."""


for _command in (revoke_member, rotate, confirm, recover):
    member.add_command(_command)


@member.command()
@_MEMBER
@click.option("--name", "names", multiple=True, required=True, help="Name with its language: vi=…, en=….")
@click.option("--alias", "aliases", multiple=True, help="Another member code, like 000.00.18.G12.")
@json_option
@reports_errors
def request(home: Path, names: tuple[str, ...], aliases: tuple[str, ...], as_json: bool) -> None:
    """Ask the operator for membership; signed by the member key, which is pinned with the approval."""
    import base64

    from console.homes import MemberHome
    from console.membership import Speaker, call_registry
    from registry.client import RegistryClient
    from registry.documents import Member, PinnedKey

    member_home = MemberHome(home)
    facts, speaker = member_home.facts, Speaker.member(member_home)

    async def work(client: RegistryClient) -> Any:
        signed = await speaker.compose(
            client,
            Member,
            facts.member,
            status="active",
            names=parse_names(names),
            keys=(PinnedKey(spki=base64.b64encode(speaker.signer.public_bytes).decode()),),
            aliases=aliases,
        )
        return await client.request(signed)

    made = call_registry(facts.registry, work)
    emit(
        {"request": made.id, "member": made.member, "state": made.state},
        f"request   {made.id}\nmember    {made.member}\nstate     {made.state}\n"
        f"next      the operator runs: lienthong member approve --home INSTANCE {made.id[:16]}",
        as_json,
    )


@member.command(name="list")
@_INSTANCE
@json_option
@reports_errors
def list_(home: Path, as_json: bool) -> None:
    """Requests for membership and how they were decided."""
    from console.homes import InstanceHome
    from console.membership import Speaker, call_registry

    speaker = Speaker.operator(InstanceHome(home))
    found = call_registry(speaker.url, lambda client: client.requests())
    rows: list[dict[str, Any]] = [
        {"id": one.id, "member": one.member, "names": one.names, "state": one.state, "reason": one.reason}
        for one in found
    ]
    text = "\n".join(f"{row['state']:<9} {row['id'][:16]}  {row['member']}" for row in rows) or "no requests"
    emit({"requests": rows}, text, as_json)


@member.command()
@_INSTANCE
@click.argument("request_id")
@json_option
@reports_errors
def approve(home: Path, request_id: str, as_json: bool) -> None:
    """Approve REQUEST_ID (its first characters suffice): the member's keys are pinned in the directory."""
    from console.homes import InstanceHome
    from console.membership import Speaker, call_registry
    from registry.client import RegistryClient
    from registry.documents import Member, decode
    from registry.envelope import read_envelope

    speaker = Speaker.operator(InstanceHome(home))

    async def work(client: RegistryClient) -> Any:
        wanted = await find_request(client, request_id)
        detail = await client.request_detail(wanted.id)
        document = decode(read_envelope(detail.jws.encode(), genesis=speaker.genesis).payload)
        assert isinstance(document, Member)
        signed = await speaker.compose(
            client,
            Member,
            document.subject,
            status="active",
            names=document.names,
            keys=document.keys,
            aliases=document.aliases,
        )
        return await client.decide(wanted.id, signed)

    decided = call_registry(speaker.url, work)
    emit(
        {"request": decided.id, "member": decided.member, "state": decided.state},
        f"{decided.state}  {decided.member}",
        as_json,
    )


@member.command()
@_INSTANCE
@click.argument("request_id")
@click.option("--reason", required=True, help="Why; the applicant reads it.")
@json_option
@reports_errors
def refuse(home: Path, request_id: str, reason: str, as_json: bool) -> None:
    """Refuse REQUEST_ID with a reason, signed by the operator."""
    from datetime import UTC, datetime

    from console.homes import InstanceHome
    from console.membership import Speaker, call_registry
    from evidence.header import encode_time
    from registry.client import RegistryClient
    from registry.requests import Refusal, sign_refusal

    speaker = Speaker.operator(InstanceHome(home))

    async def work(client: RegistryClient) -> Any:
        wanted = await find_request(client, request_id)
        refusal = Refusal(request=wanted.id, reason=reason, issued=encode_time(datetime.now(UTC)))
        return await client.decide(wanted.id, sign_refusal(refusal, speaker.signer, speaker.chain, speaker.genesis))

    decided = call_registry(speaker.url, work)
    emit(
        {"request": decided.id, "member": decided.member, "state": decided.state, "reason": decided.reason},
        f"{decided.state}  {decided.member}: {decided.reason}",
        as_json,
    )


async def find_request(client: Any, start: str) -> Any:
    """The one request whose id begins with `start`.

    Raises:
        HomeInvalid: none or several.
    """
    from console.homes import HomeInvalid

    found = [one for one in await client.requests() if one.id.startswith(start)]
    if len(found) != 1:
        raise HomeInvalid(f"{len(found)} requests begin with {start}; see `lienthong member list`")
    return found[0]


def parse_names(names: tuple[str, ...]) -> dict[str, str]:
    """`{"vi": "…"}` of `vi=…`.

    Raises:
        click.BadParameter: another form.
    """
    found = {}
    for item in names:
        language, separator, text = item.partition("=")
        if not separator or not language or not text:
            raise click.BadParameter(f"{item!r}: write LANGUAGE=NAME, like vi=Sở Nội vụ", param_hint="--name")
        found[language] = text
    return found
