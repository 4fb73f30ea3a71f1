"""`lienthong commands list|redrive|discard`: what waits, what is dead, and what an operator does about it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from console.output import emit, json_option, reports_errors

_HOME = click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
_KEY = click.option(
    "--key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    envvar="LIENTHONG_ADMIN_KEY_FILE",
    help="File with the admin key (or LIENTHONG_ADMIN_KEY_FILE).",
)
_SERVICE = click.option("--service", default="", help="Of this service; the end of its identifier is enough.")
_CODE = click.option("--code", default="", help="That failed with this code.")
_OLDER = click.option("--older-than", default="", metavar="AGE", help="Here for longer than this: 90s, 30m, 2h, 3d.")

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def commands() -> None:
    """Commands that wait or are dead letters: list them, try them again, end them."""


@commands.command("list")
@_HOME
@_KEY
@click.option("--outgoing", is_flag=True, help="Commands of own client systems, instead of those of others.")
@click.option("--incoming", is_flag=True, help="Commands of others (the default).")
@click.option("--state", default="", help="In this state: waiting, dead; of outgoing ones those that clients see.")
@_SERVICE
@_CODE
@_OLDER
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="At most so many.")
@json_option
@reports_errors
def list_commands(
    home: Path, key_file: Path, outgoing: bool, incoming: bool, state: str, service: str, code: str, older_than: str,
    limit: int, as_json: bool,
) -> None:  # fmt: skip
    """Commands without an end: since when, why, and when the next attempt is. Never their contents."""
    from console.deadletters import age_s, asked_and_others, list_commands, render, render_asked
    from console.homes import HomeInvalid, MemberHome

    if outgoing and incoming:
        raise HomeInvalid("choose one: --outgoing or --incoming")
    wanted = {"state": state, "service": service, "code": code, "older_than_s": age_s(older_than)}
    direction = "outgoing" if outgoing else "incoming"
    found, more = list_commands(MemberHome(home), key_file, direction, wanted, limit)
    node, others = asked_and_others(MemberHome(home))
    told = {"commands": found, "more": more, "node": node, "other_nodes": others}
    emit(told, render(found, more, datetime.now(UTC), direction) + render_asked(node, others), as_json)


def _act(function: F) -> F:
    options: tuple[Callable[[Any], Any], ...] = (
        reports_errors,
        json_option,
        click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing."),
        click.option("--reason", required=True, help="Why. It stays in the log for ever: name no persons."),
        _OLDER,
        _CODE,
        _SERVICE,
        click.option(
            "--state", type=click.Choice(["dead", "waiting"]), default="dead", help="With --all; default: dead."
        ),
        click.option("--all", "every", is_flag=True, help="All that --service, --code, --state and --older-than say."),
        _KEY,
        _HOME,
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    )
    for decorate in options:
        function = decorate(function)
    return function


@commands.command()
@_act
def redrive(
    ids: tuple[str, ...], home: Path, key_file: Path, every: bool, state: str, service: str, code: str, older_than: str,
    reason: str, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Try commands again now: dead letters, or what waits for its next attempt.

    The exchange id stays the same, so that a back end that remembers ids does nothing twice.
    """
    from console.deadletters import act_on, is_done, render_act
    from console.homes import MemberHome

    wanted = {"state": state, "service": service, "code": code, "older_than": older_than}
    found = act_on(MemberHome(home), key_file, "redrive", ids, every, wanted, reason, dry_run)
    emit(found, render_act(found, "redrive", dry_run), as_json)
    if not is_done(found):
        sys.exit(1)


@commands.command()
@_act
def discard(
    ids: tuple[str, ...], home: Path, key_file: Path, every: bool, state: str, service: str, code: str, older_than: str,
    reason: str, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """End commands of others that cannot be done. Their senders get the reason as a signed result.

    The id of a command of an own client system, not delivered yet, cancels it, as the client system itself may.

    Before that, look whether the back end has done them: an attempt without an answer may have had its effect.
    """
    from console.deadletters import act_on, is_done, render_act
    from console.homes import MemberHome

    wanted = {"state": state, "service": service, "code": code, "older_than": older_than}
    found = act_on(MemberHome(home), key_file, "discard", ids, every, wanted, reason, dry_run)
    emit(found, render_act(found, "discard", dry_run), as_json)
    if not is_done(found):
        sys.exit(1)
