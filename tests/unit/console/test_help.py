"""`--help` everywhere: every command in its section, whole sentences, a word about every option."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from console.cli import _COMMANDS, main


def every(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from every(found, (*path, name))


ALL = dict(every(main))


def shown(path: tuple[str, ...]) -> str:
    done = CliRunner().invoke(main, [*path, "--help"])
    assert done.exit_code == 0, done.output
    return done.output


def test_every_command_is_in_a_section_of_the_first_help() -> None:
    text = shown(())
    for name in _COMMANDS:
        assert f"\n  {name} " in text


@pytest.mark.parametrize("path", [path for path, one in ALL.items() if isinstance(one, click.Group)], ids=" ".join)
def test_lists_of_commands_are_not_cut_off_within_a_sentence(path: tuple[str, ...]) -> None:
    assert [line for line in shown(path).splitlines() if line.endswith("...") and not line.endswith("]...")] == []


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_says_something_about_every_command_and_option(path: tuple[str, ...]) -> None:
    assert ALL[path].help
    assert [one.opts[-1] for one in ALL[path].params if isinstance(one, click.Option) and not one.help] == []
