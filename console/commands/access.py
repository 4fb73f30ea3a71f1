"""`lienthong access grant|revoke|list|why`: who may call what."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from registry.view import AccessEntry

_HOME = click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")


@click.group()
def access() -> None:
    """Grant, revoke and explain access rights."""


@access.command()
@_HOME
@click.argument("client")
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@click.option("--operation", "operations", multiple=True, help="Operation id or 'METHOD /path/{x}'; default: all.")
@click.option("--purpose", "purposes", multiple=True, help="Granted purpose, of the instance's catalogue.")
@click.option("--ground", "grounds", multiple=True, help="Granted legal ground, of the instance's catalogue.")
@click.option("--any", "any_term", is_flag=True, help="Any purpose and any legal ground, where none is named.")
@click.option("--field", "fields", multiple=True, help="Granted marked field; default: none; * for all.")
@click.option("--official-required", is_flag=True, help="Refuse calls that name no acting official.")
@click.option("--per-second", type=click.FloatRange(0), help="Quota per second.")
@click.option("--per-day", type=click.IntRange(0), help="Quota per day.")
@click.option("--from", "valid_from", type=click.DateTime(), help="Begin (UTC); default: now.")
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
    any_term: bool,
    fields: tuple[str, ...],
    official_required: bool,
    per_second: float | None,
    per_day: int | None,
    valid_from: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Grant CLIENT (a subsystem, a member, or a group OWNER#CODE) access to SUBSYSTEM/SERVICE.

    Granting again replaces the right.
    """
    from console.homes import MemberHome
    from console.rights import Terms, grant_access
    from registry.view import QuotaLimit

    terms = Terms(
        operations=operations,
        purposes=purposes,
        grounds=grounds,
        any_term=any_term,
        fields=fields,
        official_required=official_required,
        quota=QuotaLimit(per_second=per_second, per_day=per_day),
        valid_from=_stamp(valid_from),
        until=_stamp(until),
    )
    subject = grant_access(MemberHome(home), client, code, terms)
    emit({"right": subject, "client": client, "granted": True}, f"granted  {subject}", as_json)


def _stamp(told: datetime | None) -> str | None:
    from evidence.header import encode_time

    return None if told is None else encode_time(told.replace(tzinfo=UTC))


@access.command()
@_HOME
@click.argument("client")
@click.argument("code", metavar="SUBSYSTEM/SERVICE")
@json_option
@reports_errors
def revoke(home: Path, client: str, code: str, as_json: bool) -> None:
    """Withdraw the right of CLIENT to SUBSYSTEM/SERVICE, at once."""
    from console.homes import MemberHome
    from console.rights import revoke_access

    subject = revoke_access(MemberHome(home), client, code)
    emit({"right": subject, "client": client, "granted": False}, f"revoked  {subject}", as_json)


@access.command("list")
@_HOME
@click.option("--all", "also_ended", is_flag=True, help="Also rights that have ended or were withdrawn.")
@json_option
@reports_errors
def list_rights(home: Path, also_ended: bool, as_json: bool) -> None:
    """The rights that this member has granted, as its gateway enforces them."""
    from console.homes import MemberHome
    from console.ownword import own_store

    own = own_store(MemberHome(home))
    try:
        rights = sorted(own.state.access_rights(), key=lambda right: right.subject)
    finally:
        own.close()
    now = datetime.now(UTC)
    rows = [_right(right, now) for right in rights if also_ended or right.until_at is None or right.until_at > now]
    text = "\n".join(
        f"{row['client']} -> {row['service']}  [{row['state']}]\n"
        f"    operations {_words(row['operations'] or ['*'])}; purposes {_words(row['purposes'])};"
        f" grounds {_words(row['grounds'])}; fields {_words(row['fields'] or ['-'])}"
        for row in rows
    )
    emit({"rights": rows}, text or "nothing is granted; see `lienthong access grant --help`", as_json)


def _words(words: list[str]) -> str:
    return ", ".join(words)


def _right(right: AccessEntry, now: datetime) -> dict[str, Any]:
    ended = right.until_at is not None and right.until_at <= now
    return {
        "right": right.subject,
        "client": right.client,
        "service": right.service,
        "state": "ended" if ended else "valid" if right.valid_from_at <= now else "begins later",
        "operations": None if right.operations is None else sorted(right.operations),
        "purposes": sorted(right.purposes),
        "grounds": sorted(right.grounds),
        "fields": sorted(right.fields),
        "official_required": right.official_required,
        "per_second": right.quota.per_second,
        "per_day": right.quota.per_day,
        "from": right.valid_from_at,
        "until": right.until_at,
    }


@access.command()
@_HOME
@click.argument("client")
@click.argument("service")
@click.argument("operation")
@click.option("--purpose", default="", help="Stated purpose.")
@click.option("--ground", default="", help="Stated legal ground.")
@click.option("--official", default="", help="Acting official.")
@click.option("--at", "asked_at", type=click.DateTime(), help="Instant (UTC); default: now.")
@json_option
@reports_errors
def why(
    home: Path,
    client: str,
    service: str,
    operation: str,
    purpose: str,
    ground: str,
    official: str,
    asked_at: datetime | None,
    as_json: bool,
) -> None:
    """Why can CLIENT call OPERATION (id or 'METHOD /path/{x}') of SERVICE, or why not? Exit code 1 when it cannot."""
    from console.homes import MemberHome
    from console.operations import operation_at
    from console.views import decision_view
    from registry.decision import NOT_SEEN, authorise

    with decision_view(MemberHome(home)) as view:
        decision = authorise(
            view,
            client=client,
            service=service,
            operation=operation_at(view.service(service), operation),
            purpose=purpose,
            ground=ground,
            official=official,
            at=datetime.now(UTC) if asked_at is None else asked_at.replace(tzinfo=UTC),
        )
    result = {
        "allowed": decision.allowed,
        "code": decision.code,
        "reason": decision.reason,
        "rule": decision.rule,
        "author": decision.author,
        "since": decision.since_at,
        "fields": sorted(decision.granted),
        "per_second": decision.quota.per_second,
        "per_day": decision.quota.per_day,
        "not_seen": list(NOT_SEEN),
    }
    lines = [f"{'allowed' if decision.allowed else 'refused'}   {decision.code}: {decision.reason}"]
    if decision.rule:
        lines.append(f"rule      {decision.rule}\nauthor    {decision.author}\nsince     {decision.since_at}")
    if decision.allowed:
        lines.append(f"fields    {', '.join(sorted(decision.granted)) or '(no marked field)'}")
        lines.append(f"not seen  {', '.join(NOT_SEEN)}: a gateway may still refuse for them")
    emit(result, "\n".join(lines), as_json)
    if not decision.allowed:
        raise SystemExit(1)
