"""`lienthong exchange list|show|result|cancel`: what became of commands, as the client system that sent them asks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from console.commands.call import at_gateway
from console.output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from console.exchanges import Asking

_ID = click.argument("id_", metavar="ID")


@click.group()
def exchange() -> None:
    """Own commands, seen by the client system that sent them: list, show, fetch the result, cancel."""


@exchange.command("list")
@at_gateway
@click.option("--state", default="", help="Only in this state: accepted, sent, delivered, completed, failed, …")
@click.option("--since", default="", metavar="TIME", help="Accepted since then: 2026-11-23T00:00:00Z.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many.")
@json_option
@reports_errors
def list_(
    url: str, ca: Path | None, client_id: str, key_file: Path, state: str, since: str, limit: int, as_json: bool
) -> None:
    """The subsystem's commands, the newest first."""
    from console.exchanges import list_exchanges, render_list

    found, more = list_exchanges(_asking(url, ca, client_id, key_file), state, since, limit)
    emit({"exchanges": found, "more": more}, render_list(found, more), as_json)


@exchange.command()
@_ID
@at_gateway
@click.option("--wait", "wait_s", type=click.IntRange(1, 60), help="Seconds to wait for its end.")
@json_option
@reports_errors
def show(
    id_: str, url: str, ca: Path | None, client_id: str, key_file: Path, wait_s: int | None, as_json: bool
) -> None:
    """State, times and records of one command."""
    from console.exchanges import render

    prefer = "" if wait_s is None else f"wait={wait_s}"
    told = _asking(url, ca, client_id, key_file).told(_place(id_), prefer=prefer)
    emit(told, render(told), as_json)


@exchange.command()
@_ID
@at_gateway
@click.option("-i", "--include", is_flag=True, help="Print status and headers too.")
@reports_errors
def result(id_: str, url: str, ca: Path | None, client_id: str, key_file: Path, include: bool) -> None:
    """The result as the provider's back end gave it, as often as you like. Exit code 1 for HTTP errors."""
    answer = _asking(url, ca, client_id, key_file).ask(f"{_place(id_)}/result")
    answer.show(include)
    if answer.status >= 400:
        sys.exit(1)


@exchange.command()
@_ID
@at_gateway
@json_option
@reports_errors
def cancel(id_: str, url: str, ca: Path | None, client_id: str, key_file: Path, as_json: bool) -> None:
    """Take one back that is not delivered: at once if it was never sent, else its provider is asked."""
    from console.exchanges import render

    told = _asking(url, ca, client_id, key_file).told(_place(id_), "DELETE")
    emit(told, render(told), as_json)


def _asking(url: str, ca: Path | None, client_id: str, key_file: Path) -> Asking:
    from console.addresses import check_url
    from console.exchanges import Asking

    check_url(url, "--gateway")
    return Asking(url, ca, client_id, key_file)


def _place(id_: str) -> str:
    return f"/exchanges/{quote(id_, safe='')}"
