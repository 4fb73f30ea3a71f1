"""`lienthong demo`: the whole scenario on one machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from console.output import json_option, reports_errors


@click.command()
@click.option("--check", is_flag=True, help="No report: one line a part on stderr, for scripts.")
@click.option(
    "--keep-running", is_flag=True, help="Afterwards go on running in the foreground until Ctrl-C or SIGTERM."
)
@click.option(
    "--database",
    type=click.Choice(["sqlite", "postgresql"]),
    default="sqlite",
    show_default=True,
    help="What the citizens are in.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same people, firms and calls.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Leave logs, trust file and notes here.")
@click.option("--cluster", is_flag=True, help="The broker is three servers, which are killed under load.")
@json_option
@reports_errors
def demo(
    check: bool, keep_running: bool, database: str, seed: int, out: Path | None, cluster: bool, as_json: bool
) -> None:
    """Bring up an instance with three members, play the scenario, check the evidence, report, stop everything.

    Needs no container engine, no root and no network. With --json the last line on stdout is one JSON object. The exit
    code is 0 only if everything was as expected.
    """
    import msgspec

    from console.demo.report import Report, report_console
    from console.demo.run import Options, Result, run

    def tell(result: Result) -> None:
        if as_json:
            click.echo(msgspec.json.encode(result).decode())

    report = Report(report_console(to_stderr=check), brief=check)
    options = Options(
        seed=seed,
        database="postgresql" if database == "postgresql" else "sqlite",
        keep_running=keep_running,
        out=out,
        cluster=cluster,
    )
    sys.exit(run(options, report, tell))
