"""`lienthong member list|approve|refuse`: the operator decides who becomes a member."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.commands.memberkeys import confirm, recover, recovery_key, rotate
from console.commands.revoke import revoke_member
from console.output import emit, json_option, reports_errors

_INSTANCE = click.option(
    "--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the instance."
)
_OPERATORS = click.option(
    "--operator-home",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder with a further operator key; those in the home are found.",
)
_OUT = click.option("--out", type=click.Path(path_type=Path), help="Write the decision to a file to carry.")


@click.group()
def member() -> None:
    """Decide who becomes a member; who wants to become one uses `lienthong join`."""


for _command in (revoke_member, rotate, recovery_key, confirm, recover):
    member.add_command(_command)


@member.command(name="list")
@_INSTANCE
@json_option
@reports_errors
def list_(home: Path, as_json: bool) -> None:
    """Requests for membership and how they were decided."""
    from console.homes import InstanceHome
    from console.membership import call_registry

    found = call_registry(InstanceHome(home).facts.registry_url, lambda client: client.requests())
    rows: list[dict[str, Any]] = [
        {"id": one.id, "member": one.member, "names": one.names, "state": one.state, "reason": one.reason}
        for one in found
    ]
    text = "\n".join(f"{row['state']:<9} {row['id'][:16]}  {row['member']}" for row in rows) or "no requests"
    emit({"requests": rows}, text, as_json)


@member.command()
@_INSTANCE
@click.argument("request", required=False)
@click.option("--file", "path", type=click.Path(path_type=Path, exists=True), help="A request that was carried here.")
@click.option("--certificate", type=click.Path(path_type=Path, exists=True), help="Certificate made elsewhere (PEM).")
@_OPERATORS
@_OUT
@json_option
@reports_errors
def approve(
    home: Path,
    request: str | None,
    path: Path | None,
    certificate: Path | None,
    folders: tuple[Path, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Approve REQUEST (its first characters, or the member's identifier): its keys are certified and pinned.

    Make sure of who asks before you do: compare the request's id with the one that the applicant tells you.
    """
    from console.approving import approve as approve_request
    from console.approving import bring_request, find_request, write_decision
    from console.homes import InstanceHome
    from console.membership import Speaker, call_registry
    from registry.client import RegistryClient

    if (request is None) == (path is None):
        raise click.UsageError("name one request, or bring one with --file")
    instance = InstanceHome(home)
    speaker = Speaker.operator(instance, folders)
    brought = b"" if certificate is None else certificate.read_bytes()

    async def work(client: RegistryClient) -> Any:
        wanted = await (find_request(client, request or "") if path is None else bring_request(client, path))
        decided = await approve_request(client, instance, speaker, wanted, brought)
        if out is not None:
            await write_decision(client, decided.id, out)
        return decided

    decided = call_registry(speaker.url, work)
    following = f"carry {out} to the applicant" if out is not None else "the applicant runs: lienthong join --status"
    emit(
        {"request": decided.id, "member": decided.member, "state": decided.state},
        f"{decided.state}  {decided.member}\nnext      {following}",
        as_json,
    )


@member.command()
@_INSTANCE
@click.argument("request", required=False)
@click.option("--all-pending", is_flag=True, help="Refuse every request that is pending; see --for and --except.")
@click.option("--for", "name", help="With --all-pending: only requests for this member.")
@click.option("--except", "kept", multiple=True, help="With --all-pending: but not this one (its first characters).")
@click.option("--reason", required=True, help="Why; the applicant reads it.")
@_OPERATORS
@_OUT
@json_option
@reports_errors
def refuse(
    home: Path,
    request: str | None,
    all_pending: bool,
    name: str | None,
    kept: tuple[str, ...],
    reason: str,
    folders: tuple[Path, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Refuse REQUEST with a reason, signed by the operator; or many at once, which were not decided yet."""
    from console.approving import find_request, pending_requests, write_decision
    from console.homes import InstanceHome
    from console.membership import Speaker, call_registry
    from registry.client import RegistryClient

    if (request is None) != all_pending:
        raise click.UsageError("name one request, or say --all-pending")
    if all_pending and out is not None:
        raise click.UsageError("--out takes one decision: name its request")
    if not all_pending and (name is not None or kept):
        raise click.UsageError("--for and --except go with --all-pending")
    speaker = Speaker.operator(InstanceHome(home), folders)

    async def work(client: RegistryClient) -> list[Any]:
        wanted = await (pending_requests(client, name, kept) if request is None else one(client, request))
        decided = [await client.decide(each.id, await speaker.refuse(client, each.id, reason)) for each in wanted]
        if out is not None:
            await write_decision(client, decided[0].id, out)
        return decided

    async def one(client: RegistryClient, named: str) -> list[Any]:
        return [await find_request(client, named)]

    decided = call_registry(speaker.url, work)
    rows = [{"request": each.id, "member": each.member, "state": each.state, "reason": each.reason} for each in decided]
    text = "\n".join(f"{row['state']}  {row['member']}: {row['reason']}" for row in rows) or "nothing is pending"
    emit({"refused": rows} if all_pending else rows[0], text, as_json)
