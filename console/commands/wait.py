"""`lienthong wait`: until processes of homes are ready, for scripts and units."""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors


@click.command()
@click.argument("homes", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, help="Seconds to wait at most.")
@json_option
@reports_errors
def wait(homes: tuple[Path, ...], timeout_s: float, as_json: bool) -> None:
    """Wait until the broker and registry of an instance home, or the gateway of a member home, are ready."""
    from console.readiness import wait_ready

    seconds = wait_ready(list(homes), timeout_s)
    result = {"ready": [str(home) for home in homes], "seconds": round(seconds, 3)}
    emit(result, f"ready after {seconds:.1f} s", as_json)
