"""`lienthong node add|rotate|pin|revoke`: a gateway's identity."""

from __future__ import annotations

from pathlib import Path

import click

from console.commands.revoke import revoke_node
from console.commands.rotate import pin, rotate
from console.output import emit, json_option, reports_errors


@click.group()
def node() -> None:
    """Give a gateway its identity, exchange its keys, withdraw trust from it."""


node.add_command(revoke_node)
node.add_command(rotate)
node.add_command(pin)


@node.command()
@click.argument("code")
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@click.option("--front", default="127.0.0.1:8443", show_default=True, help="Address for client systems (HTTPS).")
@click.option("--admin", default="127.0.0.1:9443", show_default=True, help="Address for operators.")
@click.option("--host", "hosts", multiple=True, help="Further names or addresses for the front's certificate.")
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Encrypt log and broker key under the passphrase in this file (mode 0600).",
)
@json_option
@reports_errors
def add(
    code: str,
    home: Path,
    front: str,
    admin: str,
    hosts: tuple[str, ...],
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Make the node CODE (like n1): its keys, their statement in the directory, broker credentials, gateway.toml."""
    from console.homes import MemberHome
    from console.nodes import add_node

    made = add_node(MemberHome(home), code, front, admin, ("127.0.0.1", "localhost", *hosts), passphrase_file)
    emit(
        made,
        f"node      {made['node']}\norigin    {made['origin']}\nsettings  {made['settings']}\n"
        f"next      lienthong gateway --home {home}",
        as_json,
    )
