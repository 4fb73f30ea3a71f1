"""`lienthong node rotate log|sealing|broker|tls` and `node pin`: keys exchanged without a gap."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from console.homes import MemberHome

_HOME = click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")


def _told(reloaded: bool) -> str:
    return "the running gateway was told" if reloaded else "no gateway runs here: it takes the key at its start"


@click.group()
def rotate() -> None:
    """Exchange a key of the node. Nothing that is under way is lost."""


@rotate.command()
@_HOME
@click.option("--prepare", "phase", flag_value="prepare", help="Only make the next key and publish it.")
@click.option("--activate", "phase", flag_value="activate", help="Only let the prepared key sign.")
@click.option("--wait", "phase", flag_value="wait", help="Both, with the delay in between.")
@click.option(
    "--delay-s",
    default=900.0,
    show_default=True,
    type=click.FloatRange(0),
    help="How long everybody gets to learn of the next key: the longest directory.max_age_s of the instance.",
)
@click.option(
    "--overlap-s",
    default=86_400.0,
    show_default=True,
    type=click.FloatRange(0),
    help="How long the old key is still accepted after the new one signs.",
)
@json_option
@reports_errors
def log(home: Path, phase: str | None, delay_s: float, overlap_s: float, as_json: bool) -> None:
    """The key that signs the log's checkpoints. Without a phase: the next step, wherever a command broke off."""
    import time
    from datetime import UTC, datetime

    from console.homes import MemberHome
    from console.rotation import activate_log_key, log_key_step, prepare_log_key

    member_home = MemberHome(home)
    if member_home.facts.node:
        _further_log(member_home, phase, as_json)
        return
    step = log_key_step(member_home) if phase in {None, "wait"} else phase
    if step == "prepare" or (phase == "wait" and step == "activate"):
        made = prepare_log_key(member_home, delay_s)
        if phase != "wait":
            emit(
                made,
                f"prepared  the next log key of {made['node']}\nusable    from {made['usable_from']}\n"
                f"next      then: lienthong node rotate log --activate --home {home}",
                as_json,
            )
            return
        time.sleep(max(0.0, (made["usable_from"] - datetime.now(UTC)).total_seconds()))
    done = activate_log_key(member_home, overlap_s)
    emit(done, f"activated the new log key of {done['node']}; {_told(done['reloaded'])}", as_json)


def _further_log(home: MemberHome, phase: str | None, as_json: bool) -> None:
    """At a further node only the last step is made: what comes before is asked for, and signed elsewhere."""
    from console.noderequests import exchange_log_key

    if phase == "prepare":
        raise click.UsageError(
            "at a further node the next log key is made with lienthong node request --days 30 --log-key, and published "
            "by the member's home"
        )
    done = exchange_log_key(home, wait=phase == "wait")
    ends = "\nnext      the next lienthong node request --days … ends the earlier key, once it is endorsed"
    emit(done, f"activated the new log key of {done['node']}; {_told(done['reloaded'])}{ends}", as_json)


@rotate.command()
@_HOME
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 400), help="How many days ahead.")
@click.option("--every-s", default=86_400.0, show_default=True, type=click.FloatRange(1), help="Length of a day.")
@click.option(
    "--lead-s",
    type=click.FloatRange(0),
    help="Start of the first key. Five minutes from now; a day where further nodes need a bundle first.",
)
@json_option
@reports_errors
def sealing(home: Path, days: int, every_s: float, lead_s: float | None, as_json: bool) -> None:
    """Sealing keys of the coming days. Publish a month ahead, and the member key stays in its safe meanwhile."""
    from console.homes import MemberHome
    from console.rotation import rotate_sealing_keys

    made = rotate_sealing_keys(MemberHome(home), days, every_s=every_s, lead_s=lead_s)
    emit(
        made,
        f"published {made['keys']} sealing keys of {made['node']}\nlast      until {made['last_until']['query']}\n"
        + "".join(
            f"carry     {one} to its node, before the first key begins: lienthong node join\n"
            for one in made["bundles"]
        )
        + "next      again before lienthong_sealing_days_left runs out",
        as_json,
    )


@rotate.command()
@_HOME
@json_option
@reports_errors
def broker(home: Path, as_json: bool) -> None:
    """The key that proves the node to the broker, and credentials for it."""
    from console.homes import MemberHome
    from console.rotation import rotate_broker_key

    done = rotate_broker_key(MemberHome(home))
    emit(done, f"exchanged the broker key of {done['node']}; used from the next connection on", as_json)


@rotate.command()
@_HOME
@click.option("--host", "hosts", multiple=True, help="Further names or addresses for the certificate.")
@json_option
@reports_errors
def tls(home: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Key and certificate of the front, under the agency's own small authority."""
    from console.frontcertificates import rotate_front
    from console.homes import MemberHome
    from console.rotation import reload_gateway

    member_home = MemberHome(home)
    made = rotate_front(member_home.path / "tls", ("127.0.0.1", "localhost", *hosts))
    made["reloaded"] = reload_gateway(member_home)
    note = "client systems have to trust tls/ca.crt anew" if made["new_authority"] else "under the same authority"
    emit(made, f"exchanged the front's certificate, {note}; {_told(bool(made['reloaded']))}", as_json)


@click.command()
@_HOME
@json_option
@reports_errors
def pin(home: Path, as_json: bool) -> None:
    """Have the directory name the newest tree of the node's log, so that everything in it is dated from now on.

    If a key is ever revoked, what was pinned before passes as *before*. Once a day is a good habit.
    """
    from console.homes import MemberHome
    from console.rotation import pin_log

    made = pin_log(MemberHome(home))
    emit(made, f"pinned    {made['size']} leaves of {made['node']}", as_json)
