"""`lienthong member rotate|recovery-key|confirm|recover`: a member's own key is exchanged."""

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

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


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
@click.option(
    "--recovery-key", type=_FILE, help="The old key is lost or stolen: sign the change with this one instead."
)
@click.option("--recovery-certificate", type=_FILE, help="Certificate of the recovery key (PEM).")
@click.option("--recovery-passphrase-file", type=_FILE, help="Passphrase of the recovery key.")
@json_option
@reports_errors
def rotate(
    home: Path,
    kind: KeyKind,
    recovery_key: Path | None,
    recovery_certificate: Path | None,
    recovery_passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Exchange the member's key, one step each time it is called: make it, sign the change, take it into use."""
    from console.homes import MemberHome
    from console.memberkeys import NextKey, compose_change, make_next_key, take_next_key
    from console.recoverykeys import recovery_speaker

    if (recovery_key is None) != (recovery_certificate is None):
        raise click.UsageError("--recovery-key and --recovery-certificate belong together")

    member_home = MemberHome(home)
    files = NextKey(member_home)
    if not files.certificate.exists():
        make_next_key(member_home, kind)
        step, following = "made", f"have {files.public} certified as {files.certificate}, then the same command again"
    elif (files.change.exists() or not files.private.exists()) and take_next_key(member_home):
        step, following = "taken", "nodes, rights and evidence of the earlier key go on counting"
    else:
        speaker = None
        if recovery_key is not None and recovery_certificate is not None:
            speaker = recovery_speaker(member_home, recovery_key, recovery_certificate, recovery_passphrase_file)
        compose_change(member_home, speaker)
        step = "signed"
        following = f"the operator: lienthong member confirm {files.change} --home INSTANCE; then this command again"
    emit(
        {"step": step, "public_key": files.public, "change": files.change},
        f"{step:<9} the next key of {member_home.facts.member}\nnext      {following}",
        as_json,
    )


@click.command(name="recovery-key")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File for the private key.")
@click.option("--passphrase-file", type=_FILE, help="Encrypt it under the passphrase in this file (mode 0600).")
@click.option(
    "--key",
    "kind",
    type=click.Choice(["p256", "p384", "rsa2048", "rsa3072"]),
    default="p256",
    show_default=True,
    help="Kind of the key.",
)
@json_option
@reports_errors
def recovery_key(home: Path, out: Path, passphrase_file: Path | None, kind: KeyKind, as_json: bool) -> None:
    """Make a recovery key and have it pinned: it replaces the member's key when that is lost or stolen.

    OUT belongs on a medium that is locked away; the home keeps the public half only.
    """
    from console.homes import MemberHome
    from console.recoverykeys import pin_recovery_key

    made = pin_recovery_key(MemberHome(home), out, kind, passphrase_file)
    following = (
        f"lock {out} away with its certificate for {made['public_key']}"
        if made["pinned"]
        else f"have {made['public_key']} certified, keep the certificate with the key; "
        f"the operator: lienthong member confirm {made['change']} --home INSTANCE; then this command again"
    )
    emit(made, f"{'pinned' if made['pinned'] else 'signed'}    the recovery key {out}\nnext      {following}", as_json)


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
