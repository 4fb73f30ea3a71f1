"""`lienthong member rotate|confirm|recover`: a member's own key is exchanged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.commands.signing import operator_homes_option
from console.output import emit, json_option, reports_errors

if TYPE_CHECKING:
    from evidence.signer import KeyKind

_INSTANCE = click.option(
    "--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the instance."
)


@click.command()
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option(
    "--key",
    "kind",
    type=click.Choice(["p256", "p384", "rsa2048", "rsa3072"]),
    default="p256",
    show_default=True,
    help="Kind of the new key.",
)
@json_option
@reports_errors
def rotate(home: Path, kind: KeyKind, as_json: bool) -> None:
    """Exchange the member's key, one step each time it is called: make it, sign the change, take it into use."""
    from console.homes import MemberHome
    from console.memberkeys import NextKey, compose_change, make_next_key, take_next_key

    member_home = MemberHome(home)
    files = NextKey(member_home)
    if not files.certificate.exists():
        make_next_key(member_home, kind)
        step, following = "made", f"have {files.public} certified as {files.certificate}, then the same command again"
    elif (files.change.exists() or not files.private.exists()) and take_next_key(member_home):
        step, following = "taken", "nodes, rights and evidence of the earlier key go on counting"
    else:
        compose_change(member_home)
        step = "signed"
        following = f"the operator: lienthong member confirm {files.change} --home INSTANCE; then this command again"
    emit(
        {"step": step, "public_key": files.public, "change": files.change},
        f"{step:<9} the next key of {member_home.facts.member}\nnext      {following}",
        as_json,
    )


@click.command()
@click.argument("change", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_INSTANCE
@operator_homes_option
@json_option
@reports_errors
def confirm(change: Path, home: Path, folders: tuple[Path, ...], as_json: bool) -> None:
    """Confirm the CHANGE of keys that a member signed with its present key. Make sure of who brought it."""
    from console.homes import InstanceHome
    from console.memberkeys import confirm_change

    made = confirm_change(InstanceHome(home), change, folders)
    emit(made, f"confirmed {made['member']}\nkeys      {' '.join(made['keys'])}", as_json)


@click.command()
@click.argument("identifier")
@click.option("--public-key", type=click.Path(path_type=Path, exists=True), required=True, help="The new key (PEM).")
@click.option("--confirm", "confirms", is_flag=True, help="Confirm what was announced, after the delay.")
@_INSTANCE
@operator_homes_option
@json_option
@reports_errors
def recover(
    identifier: str, public_key: Path, confirms: bool, home: Path, folders: tuple[Path, ...], as_json: bool
) -> None:
    """Replace the keys of a member that lost them all, recovery key too: announced in public, confirmed after a delay.

    Until then the member can object with any key that it has left: `lienthong key revoke` on the announced key.
    """
    from console.homes import InstanceHome
    from console.memberkeys import replace_lost_keys

    made = replace_lost_keys(InstanceHome(home), identifier, public_key, confirm=confirms, folders=folders)
    days = made["delay_s"] / 86_400
    text = (
        f"confirmed {identifier} has the key {made['key']}"
        if confirms
        else f"announced {made['key']} for {identifier}\nnext      the same with --confirm, in {days:g} days"
    )
    emit(made, text, as_json)
