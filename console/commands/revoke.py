"""`lienthong member|node|key revoke`: trust withdrawn, at every gateway within seconds; `lienthong key list`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.commands.signing import operator_homes_option
from console.output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from registry.view import RevocationKind

_HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Home of the member itself, or of the instance (operator).",
)
_SINCE = click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"]),
    help="From when on it is not to be trusted (UTC); default: now. Records are judged against it.",
)
_REASON = click.option("--reason", required=True, help="Why; everybody in the instance can read it. No personal data.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be published; publish nothing.")


def _revoke(
    home: Path,
    kind: RevocationKind,
    named: str | None,
    since: datetime | None,
    reason: str,
    dry_run: bool,
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    from console import revocations

    target = revocations.target_of(kind, named, home)
    since_at = None if since is None else since.replace(tzinfo=UTC)
    made = revocations.revoke(home, kind, target, since_at=since_at, reason=reason, dry_run=dry_run, folders=folders)
    word = "would revoke" if dry_run else "revoked"
    after = "nothing was published" if dry_run else f"directory index {made['index']}; it cannot be taken back"
    emit(
        made,
        f"{word:<9} {kind} {target}\nsince     {made['since']}\nreason    {reason}\nstate     {after}\n"
        f"next      lienthong audit trust --home MEMBER --out trust.json   (records are judged against the revocation)",
        as_json,
    )


@click.command(name="revoke")
@click.argument("identifier", required=False)
@_HOME
@_SINCE
@_REASON
@_DRY_RUN
@operator_homes_option
@json_option
@reports_errors
def revoke_member(
    identifier: str | None,
    home: Path,
    since: datetime | None,
    reason: str,
    dry_run: bool,
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Withdraw trust from the member IDENTIFIER (default: the member of HOME): no call from it or to it any more."""
    _revoke(home, "member", identifier, since, reason, dry_run, folders, as_json)


@click.command(name="revoke")
@click.argument("node")
@_HOME
@_SINCE
@_REASON
@_DRY_RUN
@operator_homes_option
@json_option
@reports_errors
def revoke_node(
    node: str, home: Path, since: datetime | None, reason: str, dry_run: bool, folders: tuple[Path, ...], as_json: bool
) -> None:
    """Withdraw trust from NODE (its identifier, or the code of an own node): lost, stolen or taken over."""
    _revoke(home, "node", node, since, reason, dry_run, folders, as_json)


@click.group()
def key() -> None:
    """See which keys the directory knows, and withdraw trust from one."""


@key.command()
@click.argument("target", metavar="KEY")
@_HOME
@_SINCE
@_REASON
@_DRY_RUN
@operator_homes_option
@json_option
@reports_errors
def revoke(
    target: str,
    home: Path,
    since: datetime | None,
    reason: str,
    dry_run: bool,
    folders: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Withdraw trust from KEY: its id of 64 hex digits, or a PEM file with the public key or certificate."""
    _revoke(home, "key", target, since, reason, dry_run, folders, as_json)


@key.command(name="list")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option("--all", "everybody", is_flag=True, help="Keys of all members, the operator and the directory.")
@json_option
@reports_errors
def list_(home: Path, everybody: bool, as_json: bool) -> None:
    """Keys that the directory has seen, each with its one use."""
    from console.homes import MemberHome
    from console.revocations import known_keys
    from console.views import local_directory

    member_home = MemberHome(home)
    with local_directory(member_home) as directory:
        rows = known_keys(directory, None if everybody else member_home.facts.member)
    lines = [
        f"{row['use']:<16} {row['key']}  {row['of']}"
        + (f"  revoked since {row['revoked_since']}" * bool(row["revoked_since"]))
        for row in rows
    ]
    emit({"keys": rows}, "\n".join(lines) or "no keys", as_json)
