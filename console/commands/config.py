"""`lienthong config check`: is a gateway's configuration usable?"""

from __future__ import annotations

from pathlib import Path

import click

from console.output import emit, json_option, reports_errors


@click.group()
def config() -> None:
    """Check settings before a start or a reload."""


@config.command()
@click.option("--home", type=click.Path(path_type=Path, exists=True), required=True, help="Home of the member.")
@json_option
@reports_errors
def check(home: Path, as_json: bool) -> None:
    """Check gateway.toml and gateway.d: every error with its file and line. Nothing is started or changed."""
    from bus.gateway.backends import build_sources
    from bus.gateway.sealingkeys import load_keys
    from bus.metrics import GatewayMetrics
    from bus.settings import load_settings
    from console.homes import MemberHome
    from evidence.signer import FileSigner

    settings = load_settings(MemberHome(home).settings)
    build_sources(settings.service, GatewayMetrics())
    load_keys(settings.keys.sealing)
    for path in (settings.keys.log, settings.keys.broker):
        FileSigner.load(path, passphrase_path=settings.keys.passphrase)
    emit(
        {"ok": True, "node": settings.node, "services": [one.id for one in settings.service]},
        f"ok  {settings.node}: {len(settings.service)} services, {len(settings.client)} client systems",
        as_json,
    )
