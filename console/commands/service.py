"""`lienthong service publish|enable|disable|diff`: what a member offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.commands.promote import promote
from console.output import emit, json_option, reports_errors

_HOME = click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")


@click.group()
def service() -> None:
    """Publish services and switch them on and off."""


service.add_command(promote)


@service.command()
@_HOME
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@click.option("--contract", type=click.Path(path_type=Path, exists=True), required=True, help="OpenAPI 3.0 or 3.1.")
@click.option("--kind", required=True, help="Kind of source behind it: http, sql, population, business, ….")
@click.option("--settings", type=click.Path(path_type=Path, exists=True), help="TOML with the source's settings.")
@click.option("--deadline", "deadline_s", type=click.FloatRange(0.1, 300), default=10.0, show_default=True)
@click.option("--max-concurrent", type=click.IntRange(1), default=256, show_default=True)
@json_option
@reports_errors
def publish(
    home: Path,
    code: str,
    contract: Path,
    kind: str,
    settings: Path | None,
    deadline_s: float,
    max_concurrent: int,
    as_json: bool,
) -> None:
    """Publish SUBSYSTEM/SERVICE (like population/citizens): contract, directory entry, back end of the gateway."""
    from console.homes import MemberHome
    from console.services import publish_service

    made = publish_service(MemberHome(home), code, contract, kind, settings, deadline_s, max_concurrent)
    emit(
        made,
        f"service   {made['service']}\ncontract  sha256:{made['contract']}\n"
        f"operations {', '.join(made['operations'])}\nfields    {', '.join(made['fields']) or '(none marked)'}\n"
        f"backend   {made['backend']}\nnext      grant access; start the gateway, or kill -HUP it when it runs",
        as_json,
    )


def _switch(home: Path, code: str, enabled: bool, notice: str, as_json: bool) -> None:
    from console.homes import MemberHome
    from console.services import switch_service

    identifier = switch_service(MemberHome(home), code, enabled, notice)
    state = "enabled" if enabled else "disabled"
    emit({"service": identifier, "enabled": enabled, "notice": notice}, f"{state}  {identifier}", as_json)


@service.command()
@_HOME
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@json_option
@reports_errors
def enable(home: Path, code: str, as_json: bool) -> None:
    """Switch a service on."""
    _switch(home, code, True, "", as_json)


@service.command()
@_HOME
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@click.option("--notice", required=True, help="Why, and until when; callers read it.")
@json_option
@reports_errors
def disable(home: Path, code: str, notice: str, as_json: bool) -> None:
    """Switch a service off; callers get the notice."""
    _switch(home, code, False, notice, as_json)


@service.command()
@click.argument("old", type=click.Path(path_type=Path, exists=True))
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@json_option
@reports_errors
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Changes between two contracts; exit code 1 when one of them breaks callers."""
    from registry.contract import diff_contracts, parse_contract

    changes = diff_contracts(parse_contract(old.read_bytes()), parse_contract(new.read_bytes()))
    rows: list[dict[str, Any]] = [
        {"pointer": one.pointer, "kind": one.kind, "breaking": one.breaking, "message": one.message} for one in changes
    ]
    text = "\n".join(f"{'BREAKING' if row['breaking'] else 'ok':<9} {row['pointer']}  {row['message']}" for row in rows)
    emit({"changes": rows}, text or "no changes", as_json)
    if any(row["breaking"] for row in rows):
        raise SystemExit(1)
