"""`lienthong doctor`: what is wrong with a home, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.output import EXIT_FAILED, emit, json_option, reports_errors

if TYPE_CHECKING:
    from console.doctor.findings import Finding

_MARKS = {"ok": "✓", "warn": "!", "fail": "✗"}


@click.command()
@click.option(
    "--home",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Of member or instance.",
)
@click.option("--call", "service", help="Also make a test call: INSTANCE/CLASS/MEMBER/SUBSYSTEM/SERVICE.")
@click.option("--path", default="", help="Path of the test call.")
@click.option("--client", help="Subsystem that makes the test call.")
@click.option("--key-file", type=click.Path(path_type=Path, exists=True), help="File with its API key.")
@click.option("--purpose", default="", help="Purpose of the test call.")
@click.option("--ground", default="", help="Legal ground of the test call.")
@json_option
@reports_errors
def doctor(
    home: Path,
    service: str | None,
    path: str,
    client: str | None,
    key_file: Path | None,
    purpose: str,
    ground: str,
    as_json: bool,
) -> None:
    """Check a member's or an instance's home: files, keys, certificates, clock, ports, broker, directory, log.

    Each line says what was seen and, where it is not well, what to do. Exit code 1 when something fails.
    """
    from console.doctor.findings import examine
    from console.doctor.gateway import TestCall
    from console.doctor.instance import INSTANCE_CHECKS, load_instance
    from console.doctor.member import MEMBER_CHECKS, load_member

    call = None
    if service is not None:
        if client is None or key_file is None:
            raise click.UsageError("a test call needs --client and --key-file")
        call = TestCall(client, service, path, key_file, purpose, ground)
    found: list[Finding]
    with _quiet():
        if not (home / "instance.json").exists():
            found = examine(MEMBER_CHECKS, load_member(home, call))
        elif call is None:
            found = examine(INSTANCE_CHECKS, load_instance(home))
        else:
            raise click.UsageError("a test call is made from a member's home")
    _tell(home, found, as_json)


@contextmanager
def _quiet() -> Iterator[None]:
    """The findings speak; log lines of the parts that are tried out do not."""
    import logging

    import structlog

    before, noisy = structlog.get_config(), logging.getLogger("asyncio")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        yield
    finally:
        structlog.configure(**before)
        noisy.setLevel(level)


def _tell(home: Path, found: list[Finding], as_json: bool) -> None:
    from console.doctor.findings import worst

    state = worst(found)
    rows = [{"check": one.check, "state": one.state, "seen": one.seen, "do": one.do} for one in found]
    lines = []
    for one in found:
        lines.append(f"{_MARKS[one.state]} {one.check:<19} {one.seen}")
        if one.do:
            lines.append(f"  {'':<19} → {one.do}")
    counts = {name: sum(one.state == name for one in found) for name in _MARKS}
    lines.append(f"{counts['ok']} well, {counts['warn']} to watch, {counts['fail']} failing")
    emit({"state": state, "home": home, "checks": rows}, "\n".join(lines), as_json)
    if state == "fail":
        raise SystemExit(EXIT_FAILED)
