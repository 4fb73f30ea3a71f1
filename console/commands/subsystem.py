"""`lienthong subsystem add`: the systems that speak for a member."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors


@click.group()
def subsystem() -> None:
    """Register the systems of a member."""


@subsystem.command()
@click.argument("code")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option("--name", "names", multiple=True, help="Name with its language: vi=…, en=….")
@json_option
@reports_errors
def add(code: str, home: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Register the subsystem CODE (like onedoor) of this member."""
    from console.commands.join import parse_names
    from console.homes import MemberHome
    from console.membership import Speaker, call_registry
    from evidence.identifiers import MemberId, SubsystemId, check_creatable
    from registry.documents import Subsystem

    member_home = MemberHome(home)
    facts, speaker = member_home.facts, Speaker.member(member_home)
    check_creatable(code)
    identifier = str(SubsystemId(MemberId.parse(facts.member), code))
    told = parse_names(names) or {"en": code}
    call_registry(facts.registry, lambda client: speaker.say(client, Subsystem, identifier, names=told))
    emit({"subsystem": identifier, "names": told}, f"registered {identifier}", as_json)
