"""`lienthong service publish|enable|disable|deprecate|callers|list|diff`: what a member offers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(0.1, 300),
    default=10.0,
    show_default=True,
    help="Longest time for one call, in seconds.",
)
@click.option(
    "--max-concurrent",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Calls that a gateway answers at once; more are refused.",
)
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
        + (f"changes   {_changes_text(made['changes'])}\n" if made["changes"] else "")
        + f"backend   {made['backend']}\nnext      grant access; start the gateway, or kill -HUP it when it runs",
        as_json,
    )


def _switch(home: Path, code: str, enabled: bool, notice: str, until: datetime | None, as_json: bool) -> None:
    from console.homes import MemberHome
    from console.services import switch_service

    identifier = switch_service(MemberHome(home), code, enabled, notice, _stamp(until))
    state = "enabled" if enabled else "disabled"
    emit(
        {"service": identifier, "enabled": enabled, "notice": notice, "until": until},
        f"{state}  {identifier}" + ("" if until is None else f" until {until:%Y-%m-%d %H:%M} UTC"),
        as_json,
    )


def _stamp(told: datetime | None) -> str | None:
    from evidence.header import encode_time

    return None if told is None else encode_time(told.replace(tzinfo=UTC))


@service.command()
@_HOME
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@json_option
@reports_errors
def enable(home: Path, code: str, as_json: bool) -> None:
    """Switch a service on."""
    _switch(home, code, True, "", None, as_json)


@service.command()
@_HOME
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@click.option("--notice", required=True, help="Why; callers read it.")
@click.option("--until", type=click.DateTime(), help="When it is on again by itself (UTC); default: at `enable`.")
@json_option
@reports_errors
def disable(home: Path, code: str, notice: str, until: datetime | None, as_json: bool) -> None:
    """Switch a service off; callers get the notice and, with --until, when to try again."""
    _switch(home, code, False, notice, until, as_json)


@service.command()
@_HOME
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@click.argument("operations", nargs=-1, required=True)
@click.option("--sunset", type=click.DateTime(), help="When it ends (UTC); callers read it in the header Sunset.")
@click.option("--undo", is_flag=True, help="Take it back.")
@json_option
@reports_errors
def deprecate(
    home: Path, code: str, operations: tuple[str, ...], sunset: datetime | None, undo: bool, as_json: bool
) -> None:
    """Tell callers of OPERATIONS (ids or 'METHOD /path/{x}') to leave them: headers Deprecation and Sunset."""
    from console.homes import MemberHome
    from console.services import deprecate_operations

    told = deprecate_operations(MemberHome(home), code, operations, _stamp(sunset), undo=undo)
    rows = [{"operation": one.operation, "since": one.since, "sunset": one.sunset} for one in told]
    text = "\n".join(f"{row['operation']:<24} since {row['since']}  ends {row['sunset'] or '-'}" for row in rows)
    emit(
        {"deprecated": rows},
        (text or "nothing is deprecated") + f"\nnext      lienthong service callers {code} --home {home}",
        as_json,
    )


@service.command()
@_HOME
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@click.option("--days", type=click.IntRange(1, 3660), default=30, show_default=True, help="How far to look back.")
@click.option("--deprecated", "only_deprecated", is_flag=True, help="Only operations that are deprecated.")
@json_option
@reports_errors
def callers(home: Path, code: str, days: int, only_deprecated: bool, as_json: bool) -> None:
    """Who calls which operation of SUBSYSTEM/SERVICE, counted from this node's own log."""
    from console.callers import callers as count_callers
    from console.homes import MemberHome
    from console.ownword import own_store
    from console.services import service_id

    member = MemberHome(home)
    identifier = service_id(member, code)
    own = own_store(member)
    try:
        entry = own.state.service(identifier)
    finally:
        own.close()
    deprecated = {} if entry is None else entry.deprecated
    found = count_callers(member.data / "log.db", identifier, datetime.now(UTC) - timedelta(days=days))
    rows: list[dict[str, Any]] = [
        {
            "operation": operation,
            "client": client,
            "calls": calls.count,
            "first": calls.first,
            "last": calls.last,
            "deprecated": operation in deprecated,
        }
        for (operation, client), calls in sorted(found.items())
        if operation in deprecated or not only_deprecated
    ]
    text = "\n".join(
        f"{row['calls']:>9}  {row['operation']:<24} {row['client']}  last {row['last']}"
        + ("  DEPRECATED" if row["deprecated"] else "")
        for row in rows
    )
    emit({"service": identifier, "days": days, "callers": rows}, text or f"nobody in {days} days", as_json)


@service.command("list")
@_HOME
@json_option
@reports_errors
def list_services(home: Path, as_json: bool) -> None:
    """The services of this member, as its gateway enforces them."""
    from console.homes import MemberHome
    from console.ownword import own_store

    member = MemberHome(home)
    own = own_store(member)
    try:
        entries = own.state.services_of(member.facts.member)
    finally:
        own.close()
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {
            "service": entry.id,
            "version": entry.version,
            "on": not entry.is_off(now),
            "notice": entry.notice,
            "resumes": entry.resumes_at,
            "contract": entry.contract_sha256,
            "operations": list(entry.operations),
            "deprecated": list(entry.deprecated),
        }
        for entry in entries
    ]
    text = "\n".join(
        f"{'on ' if row['on'] else 'off'}  {row['service']}  {row['version']}"
        + (f"  {row['notice']}" if row["notice"] else "")
        + (f"  deprecated: {', '.join(row['deprecated'])}" if row["deprecated"] else "")
        for row in rows
    )
    emit({"services": rows}, text or "nothing is published; see `lienthong service publish --help`", as_json)


@service.command()
@click.argument("old", metavar="OLD|SUBSYSTEM/SERVICE")
@click.argument("new", type=click.Path(path_type=Path, exists=True))
@click.option("--home", type=click.Path(path_type=Path, exists=True), help="Home of the member, for a published one.")
@json_option
@reports_errors
def diff(old: str, new: Path, home: Path | None, as_json: bool) -> None:
    """Changes from the contract OLD (a file, or with --home what is published) to NEW; exit code 1 when one breaks."""
    from console.homes import MemberHome
    from console.services import contract_changes, published_contract

    before = Path(old).read_bytes() if home is None else published_contract(MemberHome(home), old)
    rows = [change._asdict() for change in contract_changes(before, new.read_bytes())]
    emit({"changes": rows}, _changes_text(rows) or "no changes", as_json)
    if any(row["breaking"] for row in rows):
        raise SystemExit(1)


def _changes_text(rows: list[dict[str, Any]]) -> str:
    return "\n".join(f"{'BREAKING' if row['breaking'] else 'ok':<9} {row['pointer']}  {row['message']}" for row in rows)
