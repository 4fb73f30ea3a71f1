"""`lienthong access grant|revoke|why`: who may call what."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from console.output import emit, json_option, reports_errors

_HOME = click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")


@click.group()
def access() -> None:
    """Grant, revoke and explain access rights."""


@access.command()
@_HOME
@click.argument("client")
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@click.option("--operation", "operations", multiple=True, help="Granted operation; default: all.")
@click.option("--purpose", "purposes", multiple=True, help="Granted purpose; default: any.")
@click.option("--ground", "grounds", multiple=True, help="Granted legal ground; default: any.")
@click.option("--field", "fields", multiple=True, help="Granted marked field; default: none; * for all.")
@click.option("--official-required", is_flag=True, help="Refuse calls that name no acting official.")
@click.option("--per-second", type=float, help="Quota per second.")
@click.option("--per-day", type=int, help="Quota per day.")
@click.option("--until", type=click.DateTime(), help="End (UTC).")
@json_option
@reports_errors
def grant(
    home: Path,
    client: str,
    code: str,
    operations: tuple[str, ...],
    purposes: tuple[str, ...],
    grounds: tuple[str, ...],
    fields: tuple[str, ...],
    official_required: bool,
    per_second: float | None,
    per_day: int | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Grant CLIENT (a subsystem or member) access to SUBSYSTEM/SERVICE. Granting again replaces the right."""
    from console.homes import MemberHome
    from console.services import grant_access
    from evidence.header import encode_time
    from registry.view import QuotaLimit

    subject = grant_access(
        MemberHome(home),
        client,
        code,
        operations=operations,
        purposes=purposes,
        grounds=grounds,
        fields=fields,
        official_required=official_required,
        quota=QuotaLimit(per_second=per_second, per_day=per_day),
        until=None if until is None else encode_time(until.replace(tzinfo=UTC)),
    )
    emit({"right": subject, "client": client, "granted": True}, f"granted  {subject}", as_json)


@access.command()
@_HOME
@click.argument("client")
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@json_option
@reports_errors
def revoke(home: Path, client: str, code: str, as_json: bool) -> None:
    """Withdraw the right of CLIENT to SUBSYSTEM/SERVICE, at once."""
    from console.homes import MemberHome
    from console.services import grant_access
    from evidence.header import encode_time
    from registry.view import QuotaLimit

    subject = grant_access(
        MemberHome(home),
        client,
        code,
        operations=(),
        purposes=(),
        grounds=(),
        fields=(),
        official_required=False,
        quota=QuotaLimit(),
        until=encode_time(datetime(2020, 1, 1, tzinfo=UTC)),
    )
    emit({"right": subject, "client": client, "granted": False}, f"revoked  {subject}", as_json)


@access.command()
@_HOME
@click.argument("client")
@click.argument("service")
@click.argument("operation")
@click.option("--purpose", default="", help="Stated purpose.")
@click.option("--ground", default="", help="Stated legal ground.")
@click.option("--official", default="", help="Acting official.")
@json_option
@reports_errors
def why(
    home: Path, client: str, service: str, operation: str, purpose: str, ground: str, official: str, as_json: bool
) -> None:
    """Why can CLIENT call OPERATION of SERVICE, or why not? Exit code 1 when it cannot."""
    from console.homes import MemberHome
    from console.views import decision_view
    from registry.decision import authorise

    with decision_view(MemberHome(home)) as view:
        decision = authorise(
            view,
            client=client,
            service=service,
            operation=operation,
            purpose=purpose,
            ground=ground,
            official=official,
            at=datetime.now(UTC),
        )
    result = {
        "allowed": decision.allowed,
        "code": decision.code,
        "reason": decision.reason,
        "rule": decision.rule,
        "author": decision.author,
        "since": decision.since_at,
        "fields": sorted(decision.granted),
    }
    lines = [f"{'allowed' if decision.allowed else 'refused'}   {decision.code}: {decision.reason}"]
    if decision.rule:
        lines.append(f"rule      {decision.rule}\nauthor    {decision.author}\nsince     {decision.since_at}")
    if decision.allowed:
        lines.append(f"fields    {', '.join(sorted(decision.granted)) or '(no marked field)'}")
    emit(result, "\n".join(lines), as_json)
    if not decision.allowed:
        raise SystemExit(1)
