"""The command line, in the order in which people need it. A command is imported when it is used."""

from __future__ import annotations

import importlib

import click

_SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Try it": {
        "demo": ("console.commands.demo", "demo"),
    },
    "An instance, and its members (operators)": {
        "init": ("console.commands.init", "init"),
        "member": ("console.commands.member", "member"),
        "operator": ("console.commands.operator", "operator"),
        "certificate": ("console.commands.certificate", "certificate"),
        "purposes": ("console.commands.purposes", "purposes"),
    },
    "Being a member": {
        "join": ("console.commands.join", "join"),
        "node": ("console.commands.node", "node"),
        "key": ("console.commands.revoke", "key"),
    },
    "Offering and asking": {
        "subsystem": ("console.commands.subsystem", "subsystem"),
        "service": ("console.commands.service", "service"),
        "access": ("console.commands.access", "access"),
        "group": ("console.commands.group", "group"),
        "client": ("console.commands.client", "client"),
        "catalogue": ("console.commands.catalogue", "catalogue"),
        "call": ("console.commands.call", "call"),
        "exchange": ("console.commands.exchange", "exchange"),
        "writeback": ("console.commands.writeback", "writeback"),
    },
    "Running": {
        "broker": ("console.commands.processes", "broker"),
        "registry": ("console.commands.processes", "registry"),
        "gateway": ("console.commands.processes", "gateway"),
        "adapter": ("console.commands.adapter", "adapter"),
        "wait": ("console.commands.wait", "wait"),
        "config": ("console.commands.config", "config"),
        "doctor": ("console.commands.doctor", "doctor"),
        "admin": ("console.commands.admin", "admin"),
        "commands": ("console.commands.commands", "commands"),
    },
    "Evidence": {
        "audit": ("console.commands.audit", "audit"),
    },
}
_COMMANDS = {name: place for section in _SECTIONS.values() for name, place in section.items()}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        _tell_whole_sentences(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in _SECTIONS.items():
            with formatter.section(title):
                found = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl([(name, one.get_short_help_str()) for name, one in found if one is not None])


def _tell_whole_sentences(command: click.Command) -> None:
    """Lists of commands show the first sentence of each, wrapped; click would cut it off in the middle."""
    if command.short_help is None and command.help:
        command.short_help = command.get_short_help_str(1000)
    if isinstance(command, click.Group):
        for one in command.commands.values():
            _tell_whole_sentences(one)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lienthong")
def main() -> None:
    """Liên Thông: government data exchange, signed, sealed and provable."""


if __name__ == "__main__":
    main()
