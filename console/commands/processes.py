"""The long-running roles: `gateway`, `registry`, `broker`."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import reports_errors

_HOME = click.option(
    "--home", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Folder of the role."
)


@click.command()
@_HOME
@reports_errors
def gateway(home: Path) -> None:
    """Run a member's gateway: SIGTERM drains, SIGHUP reloads services, limits, clients and certificates."""
    from console.processes.gateway import run

    run(home)


@click.command()
@_HOME
@reports_errors
def registry(home: Path) -> None:
    """Run the operator's registry: the authority, its HTTP interface and the directory's feed."""
    from console.processes.registry import run

    run(home)


@click.command()
@_HOME
@click.option("--binary", default="", help="Your own nats-server; default: the packaged one.")
@click.option("--write-config", is_flag=True, help="Only write nats-server.conf and print its path.")
@reports_errors
def broker(home: Path, binary: str, write_config: bool) -> None:
    """Run the instance's broker: a real nats-server with the configuration that the bus needs."""
    from console.processes.broker import run, write_configuration

    if write_config:
        click.echo(str(write_configuration(home)))
        return
    run(home, binary)
