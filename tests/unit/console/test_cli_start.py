"""Every command explains itself, quickly."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from console.cli import _COMMANDS, main

HEAVY = ("nats", "aiohttp", "cryptography", "msgspec", "uvloop", "structlog", "bus", "registry", "adapters", "evidence")


def every_command() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]

    def walk(command: click.Command, path: tuple[str, ...]) -> None:
        found.append(path)
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                walk(inner, (*path, name))

    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        walk(command, (name,))
    return found


PASSED_ON = {("audit", "verify"), ("audit", "proof"), ("audit", "reconcile")}


@pytest.mark.parametrize("path", every_command(), ids=" ".join)
def test_a_command_explains_itself(path):
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.lower().startswith("usage:")
    if path not in PASSED_ON:
        assert CliRunner().invoke(main, [*path, "-h"]).output == result.output


@pytest.mark.parametrize("path", [path for path in every_command() if path and path not in PASSED_ON], ids=" ".join)
def test_a_command_and_each_of_its_options_has_a_sentence(path):
    command: click.Command = main
    for name in path:
        command = command.get_command(click.Context(command), name)
    assert command.help
    assert command.get_short_help_str(200).endswith((".", "?", ")", ":"))
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in {"method", "content_type", "database"}:
            assert parameter.help or parameter.type.name in {"integer range", "float range"}, parameter.name


def test_the_help_lists_every_command():
    listed = CliRunner().invoke(main, ["--help"]).output
    assert all(f"  {name} " in listed for name in _COMMANDS)


def test_an_unknown_command_is_wrong_usage():
    result = CliRunner().invoke(main, ["fly"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_the_version_is_told():
    assert "0.1.0" in CliRunner().invoke(main, ["--version"]).output


def test_the_command_line_starts_quickly_and_imports_nothing_heavy():
    program = f"""
import sys, time
started = time.process_time()
import console.cli
print((time.process_time() - started) * 1000)
try:
    console.cli.main(["--help"])
except SystemExit:
    pass
print(",".join(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    fastest_ms = float("inf")
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        assert done.stderr.strip() == ""
        fastest_ms = min(fastest_ms, float(done.stdout.splitlines()[0]))
        if fastest_ms < 80:
            break
    assert fastest_ms < 80
