"""`lienthong writeback prepare|list|show|accept|reject`: changes that others propose to one's own register."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from console.output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from adapters.kinds.sql.writeback import Review

_HOME = click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
_SERVICE = click.option("--service", metavar="SUBSYSTEM/SERVICE", help="Only this service; else all that take updates.")
_BY = click.option("--by", "person", default=getpass.getuser, help="Who decides; kept with the decision.")


@click.group()
def writeback() -> None:
    """Changes that others propose to a register of one's own: what waits for a person, and the decision."""


@writeback.command()
@_HOME
@_SERVICE
@json_option
@reports_errors
def prepare(home: Path, service: str | None, as_json: bool) -> None:
    """Make the tables of effects and reviews in the register's database, where they are not there yet."""
    from console.homes import MemberHome
    from console.writeback import at, write_backs

    done = {
        name: list(at(desk, lambda it: it.prepare())) for name, desk in write_backs(MemberHome(home), service).items()
    }
    lines = [f"{name}\n    " + "\n    ".join(statements) for name, statements in done.items()]
    emit({"services": done}, "\n".join([*lines, "next      start the gateway, or kill -HUP it when it runs"]), as_json)


@writeback.command("list")
@_HOME
@_SERVICE
@json_option
@reports_errors
def list_reviews(home: Path, service: str | None, as_json: bool) -> None:
    """What waits for a person, oldest first."""
    from console.homes import MemberHome
    from console.writeback import waiting, write_backs

    found = [
        (name, review) for name, desk in write_backs(MemberHome(home), service).items() for review in waiting(desk)
    ]
    lines = [f"{review.id}  {review.received_at[:16]}  {review.client}  {_state(review)}" for _, review in found]
    if found:
        lines.append("next      lienthong writeback show ID, then accept or reject it")
    told = [{"service": name, **_told(review)} for name, review in found]
    emit({"waiting": told}, "\n".join(lines) or "nothing waits for a person", as_json)


@writeback.command()
@click.argument("id_", metavar="ID")
@_HOME
@_SERVICE
@json_option
@reports_errors
def show(id_: str, home: Path, service: str | None, as_json: bool) -> None:
    """One change that waits, with its values: personal data, for whoever decides."""
    from adapters.errors import ReviewRefused
    from console.homes import MemberHome
    from console.writeback import waiting, write_backs

    for name, desk in write_backs(MemberHome(home), service).items():
        for review in waiting(desk):
            if review.id == id_:
                told = {"service": name, **_told(review), "changes": review.changes, "record": review.record_key}
                told |= {"official": review.official, "source": review.source, "legalGround": review.legal_ground}
                lines = [f"{key:<16}{value if isinstance(value, str) else _json(value)}" for key, value in told.items()]
                emit(
                    told,
                    "\n".join([*lines, f"next            lienthong writeback accept|reject {id_} --home {home}"]),
                    as_json,
                )
                return
    raise ReviewRefused(f"nothing waits under the id {id_}; lienthong writeback list shows what does")


@writeback.command()
@click.argument("id_", metavar="ID")
@_HOME
@_SERVICE
@_BY
@click.option("--reason", default="", help="Told to the sender.")
@click.option("--onto", type=int, help="Accept although the record was changed since, if it still has this version.")
@json_option
@reports_errors
def accept(
    id_: str, home: Path, service: str | None, person: str, reason: str, onto: int | None, as_json: bool
) -> None:
    """Make the change: checked again, and refused when the record was changed since."""
    _decide(id_, home, service, "accept", person, reason, onto, as_json)


@writeback.command()
@click.argument("id_", metavar="ID")
@_HOME
@_SERVICE
@_BY
@click.option("--reason", required=True, help="Why not; told to the sender.")
@json_option
@reports_errors
def reject(id_: str, home: Path, service: str | None, person: str, reason: str, as_json: bool) -> None:
    """Refuse the change. Nothing is changed, and the sender can see the reason."""
    _decide(id_, home, service, "reject", person, reason, None, as_json)


def _decide(
    id_: str,
    home: Path,
    service: str | None,
    verdict: Literal["accept", "reject"],
    person: str,
    reason: str,
    onto: int | None,
    as_json: bool,
) -> None:
    from adapters.errors import ReviewRefused
    from console.homes import MemberHome
    from console.writeback import at, waiting, write_backs

    for name, desk in write_backs(MemberHome(home), service).items():
        if id_ not in {review.id for review in waiting(desk)}:
            continue
        state, version = at(desk, lambda it: it.decide(id_, verdict, person, reason, onto))
        told = {"id": id_, "service": name, "state": state, "version": version, "by": person, "reason": reason}
        emit(told, f"{state}  {id_}" + ("" if version is None else f", the record has version {version}"), as_json)
        return
    raise ReviewRefused(f"nothing waits under the id {id_}; lienthong writeback list shows what does")


def _state(review: Review) -> str:
    if review.current is None:
        return "the record is gone"
    if review.current != review.based_on:
        return f"stale: based on {review.based_on}, the record has {review.current}"
    return f"waits, version {review.current}"


def _told(review: Review) -> dict[str, Any]:
    return {
        "id": review.id,
        "client": review.client,
        "receivedAt": review.received_at,
        "basedOn": review.based_on,
        "currentVersion": review.current,
        "stale": review.current != review.based_on,
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
