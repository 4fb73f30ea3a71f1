"""`lienthong purposes publish|list`: the instance's catalogue of purposes and legal grounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.commands.signing import operator_homes_option
from console.output import emit, json_option, reports_errors


@click.group()
def purposes() -> None:
    """Publish and read the purposes and legal grounds that rights may name."""


@purposes.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the operator.")
@operator_homes_option
@json_option
@reports_errors
def publish(file: Path, home: Path, folders: tuple[Path, ...], as_json: bool) -> None:
    """Publish the catalogue in FILE (TOML: tables purposes and grounds, each code with its names) in its entirety."""
    from console.homes import InstanceHome
    from console.membership import Speaker, call_registry
    from console.rights import read_terms
    from registry.documents import Catalogue

    instance = InstanceHome(home)
    terms, speaker = read_terms(file), Speaker.operator(instance, folders)
    call_registry(speaker.url, lambda client: speaker.say(client, Catalogue, instance.facts.instance, **terms))
    told: dict[str, list[str]] = {name: [term.code for term in found] for name, found in terms.items()}
    emit(
        told,
        f"purposes  {', '.join(told['purposes']) or '(any)'}\ngrounds   {', '.join(told['grounds']) or '(any)'}\n"
        "next      new rights name these; rights that were granted before stay as they are",
        as_json,
    )


@purposes.command("list")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@json_option
@reports_errors
def list_terms(home: Path, as_json: bool) -> None:
    """The catalogue as this member's verified copy of the directory has it."""
    from console.homes import MemberHome
    from console.views import local_directory

    with local_directory(MemberHome(home)) as directory:
        catalogue = directory.catalogue
    told: dict[str, list[dict[str, Any]]] = {"purposes": [], "grounds": []}
    if catalogue is not None:
        for name, terms in (("purposes", catalogue.purposes), ("grounds", catalogue.grounds)):
            told[name] = [{"code": term.code, "names": dict(term.names)} for term in terms]
    lines = [
        f"{name[:-1]:<8} {term['code']}  {next(iter(term['names'].values()), '')}".rstrip()
        for name, terms_told in told.items()
        for term in terms_told
    ]
    emit(told, "\n".join(lines) or "the instance has no catalogue: any purpose and ground may be named", as_json)
