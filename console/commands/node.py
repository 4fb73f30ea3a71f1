"""`lienthong node add|request|join|submit|rotate|pin|announce|revoke`: a gateway's identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from console.commands.announce import announce
from console.commands.furthernode import join, request, submit
from console.commands.revoke import revoke_node
from console.commands.rotate import pin, rotate
from console.output import emit, json_option, reports_errors

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUT = click.Path(path_type=Path, dir_okay=False)


@click.group()
def node() -> None:
    """Give a gateway its identity, exchange its keys, withdraw trust from it."""


node.add_command(request)
node.add_command(join)
node.add_command(submit)
node.add_command(revoke_node)
node.add_command(rotate)
node.add_command(pin)
node.add_command(announce)


@node.command()
@click.argument("code")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option("--front", default="127.0.0.1:8443", show_default=True, help="Address for client systems (HTTPS).")
@click.option("--admin", default="127.0.0.1:9443", show_default=True, help="Address for operators.")
@click.option("--host", "hosts", multiple=True, help="Further names or addresses for the front's certificate.")
@click.option(
    "--passphrase-file",
    type=_FILE,
    help="Encrypt log and broker key under the passphrase in this file (mode 0600).",
)
@click.option("--request", "asked", type=_FILE, help="Endorse a node on another machine, by its request.")
@click.option("--bundle", type=_OUT, help="With --request: where the bundle for that machine goes.")
@click.option("--no-services", is_flag=True, help="With --request: leave the settings of back ends out of the bundle.")
@click.option(
    "--log-delay-s",
    default=900.0,
    show_default=True,
    type=click.FloatRange(0),
    help="With --request: how long everybody gets to learn of a next log key: the longest directory.max_age_s.",
)
@click.option(
    "--log-overlap-s",
    default=86_400.0,
    show_default=True,
    type=click.FloatRange(0),
    help="With --request: how long an earlier log key is still accepted once the next one is in its place.",
)
@click.option("--out", type=_OUT, help="Write the signed statements to a file to carry, instead of sending them.")
@click.option("--accept", "answer", type=_FILE, help="Take the registry's answer that was carried back.")
@json_option
@reports_errors
def add(
    code: str,
    home: Path,
    front: str,
    admin: str,
    hosts: tuple[str, ...],
    passphrase_file: Path | None,
    asked: Path | None,
    bundle: Path | None,
    no_services: bool,
    log_delay_s: float,
    log_overlap_s: float,
    out: Path | None,
    answer: Path | None,
    as_json: bool,
) -> None:
    """Make the node CODE (like n1): its keys, their statement in the directory, broker credentials, gateway.toml.

    With --request the node is one on another machine: its keys are there already, and it gets a bundle.
    """
    from console.homes import MemberHome
    from console.nodes import Place

    if out is not None and answer is not None:
        raise click.UsageError("--out and --accept are two steps: first the one, later the other")
    if asked is not None:
        if bundle is None and out is None:
            raise click.UsageError("with --request say where the bundle goes: --bundle FILE")
        timing = (log_delay_s, log_overlap_s)
        made = _endorsed(MemberHome(home), code, (asked, bundle, out, answer), services=not no_services, timing=timing)
        _tell_endorsed(code, made, as_json)
        return
    place = Place(front, admin, ("127.0.0.1", "localhost", *hosts), passphrase_file)
    _tell(home, code, _made(MemberHome(home), code, place, out, answer), as_json)


def _made(home: Any, code: str, place: Any, out: Path | None, answer: Path | None) -> dict[str, Any]:
    from console.nodes import accept_node, add_node, state_node

    if out is not None:
        return state_node(home, code, place, out)
    return add_node(home, code, place) if answer is None else accept_node(home, code, place, answer)


def _endorsed(
    home: Any,
    code: str,
    files: tuple[Path, Path | None, Path | None, Path | None],
    *,
    services: bool,
    timing: tuple[float, float],
) -> dict[str, Any]:
    from console.carriedkeys import Timing
    from console.furthernodes import endorse, endorse_accepted, endorse_carried

    asked, bundle, out, answer = files
    if out is not None:
        return endorse_carried(home, code, asked, out)
    assert bundle is not None
    if answer is not None:
        return endorse_accepted(home, code, asked, answer, bundle, services=services)
    return endorse(home, code, asked, bundle, services=services, timing=Timing(*timing))


def _tell(home: Path, code: str, made: dict[str, Any], as_json: bool) -> None:
    if "out" in made:
        emit(
            made,
            f"node      {made['node']}\n{_carry(made['out'])} node add {code} --accept ANSWER --home {home}",
            as_json,
        )
        return
    emit(
        made,
        f"node      {made['node']}\norigin    {made['origin']}\nsettings  {made['settings']}\n"
        f"next      lienthong gateway --home {home}",
        as_json,
    )


def _tell_endorsed(code: str, made: dict[str, Any], as_json: bool) -> None:
    told = f"node      {made['node']}\nrequest   {made['request'][:16]}\n"
    if "out" in made:
        told += f"{_carry(made['out'])} node add {code} --request … --accept ANSWER --bundle {code}.bundle --home …"
    else:
        told += (
            "compare   the request's id with what the people at the new machine say\n"
            f"next      carry {made['bundle']} there: lienthong node join --bundle {made['bundle'].name} --home …"
        )
    if made.get("log_key_replaced"):
        told += "\nlog key   the present one was revoked, so the next one is in its place already"
    elif made.get("log_key_usable_from"):
        told += f"\nlog key   the next one signs from {made['log_key_usable_from']} on"
    emit(made, told, as_json)


def _carry(out: Path) -> str:
    return (
        f"next      carry {out} to who reaches the registry: lienthong node submit {out.name} --out ANSWER --home …\n"
        "then      lienthong"
    )
