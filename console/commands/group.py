"""`lienthong group set|list`: named sets of subsystems and members, to which rights can be granted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.commands.signing import operator_homes_option
from console.output import emit, json_option, reports_errors

_HOME = click.option(
    "--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of a member or of the operator."
)


@click.group()
def group() -> None:
    """Name sets of subsystems and members; a right to a group is a right of everyone in it."""


@group.command("set")
@_HOME
@click.argument("code")
@click.argument("clients", nargs=-1)
@click.option("--name", "names", multiple=True, help="Name with its language: vi=…, en=….")
@operator_homes_option
@json_option
@reports_errors
def set_group(
    home: Path,
    code: str,
    clients: tuple[str, ...],
    names: tuple[str, ...],
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Say who is in the group CODE: CLIENTS (subsystems or members), and nobody else. Setting it again replaces it."""
    from console.commands.join import parse_names
    from console.groups import speaker_of
    from console.membership import call_registry
    from registry.documents import Group

    speaker, owner = speaker_of(home, folders)
    subject = f"{owner}#{code}"
    told = parse_names(names) or {"en": code}
    call_registry(speaker.url, lambda client: speaker.say(client, Group, subject, names=told, clients=clients))
    emit(
        {"group": subject, "names": told, "clients": list(clients)},
        f"group     {subject}\nmembers   {', '.join(clients) or '(nobody)'}\n"
        f"next      lienthong access grant '{subject}' SUBSYSTEM/SERVICE --home HOME",
        as_json,
    )


@group.command("list")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@json_option
@reports_errors
def list_groups(home: Path, as_json: bool) -> None:
    """All groups of the instance, as this member's verified copy of the directory has them."""
    from console.homes import MemberHome
    from console.views import local_directory

    with local_directory(MemberHome(home)) as directory:
        rows: list[dict[str, Any]] = [
            {"group": subject, "clients": list(clients)} for subject, clients in sorted(directory.groups().items())
        ]
    text = "\n".join(f"{row['group']}\n    " + ("\n    ".join(row["clients"]) or "(nobody)") for row in rows)
    emit({"groups": rows}, text or "there are no groups", as_json)
