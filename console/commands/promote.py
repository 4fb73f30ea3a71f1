"""`lienthong service promote`: from the instance where a contract was tried to another."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors

_HOME = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@click.option("--from", "source", type=_HOME, required=True, help="Home of the member where it was tried.")
@click.option("--to", "target", type=_HOME, required=True, help="Home of the member where it is to be published.")
@click.option("--kind", required=True, help="Kind of source behind it there: http, sql, ….")
@click.option("--settings", type=click.Path(path_type=Path, exists=True), help="TOML with the source's settings there.")
@click.option("--contract", default="", help="sha256:… that the contract must have.")
@json_option
@reports_errors
def promote(
    code: str, source: Path, target: Path, kind: str, settings: Path | None, contract: str, as_json: bool
) -> None:
    """Publish SUBSYSTEM/SERVICE in another instance under the very contract that was tried in the first."""
    from console.homes import MemberHome
    from console.promotion import promote_service

    digest = contract.removeprefix("sha256:")
    made = promote_service(MemberHome(source), MemberHome(target), code, kind, settings, digest)
    emit(
        made,
        f"from      {made['from']}\nservice   {made['service']}\ncontract  sha256:{made['contract']}\n"
        f"backend   {made['backend']}\nnext      grant access; start the gateway, or kill -HUP it when it runs",
        as_json,
    )
