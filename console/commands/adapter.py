"""`lienthong adapter onedoor`: fronts that speak an agency's own form."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors


@click.group()
def adapter() -> None:
    """Fronts that speak an agency's own form, beside its gateway."""


@adapter.command()
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Settings, TOML.")
@click.option("--listening-file", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the port.")
@click.option("--check", is_flag=True, help="Only check the settings.")
@json_option
@reports_errors
def onedoor(config: Path, listening_file: Path | None, check: bool, as_json: bool) -> None:
    """Take dossiers, progress and states from one-door systems. SIGTERM finishes what is under way."""
    if check:
        from adapters.agency.onedoorsettings import load

        read = load(config)
        desks = [desk.name for desk in read.desk]
        told = {"ok": True, "gateway": read.gateway, "service": read.service, "desks": desks}
        emit(told, f"ok  {read.service} by {read.gateway}, desk systems: {', '.join(desks)}", as_json)
        return
    from console.processes.onedoor import run

    run(config, listening_file)
