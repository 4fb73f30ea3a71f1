"""The command line. Commands are imported when they are used: `lienthong --help` takes a few milliseconds."""

from __future__ import annotations

import importlib

import click

_COMMANDS = {
    "init": ("console.commands.init", "init"),
    "join": ("console.commands.join", "join"),
    "operator": ("console.commands.operator", "operator"),
    "certificate": ("console.commands.certificate", "certificate"),
    "gateway": ("console.commands.processes", "gateway"),
    "registry": ("console.commands.processes", "registry"),
    "broker": ("console.commands.processes", "broker"),
    "demo": ("console.commands.demo", "demo"),
    "doctor": ("console.commands.doctor", "doctor"),
    "wait": ("console.commands.wait", "wait"),
    "call": ("console.commands.call", "call"),
    "config": ("console.commands.config", "config"),
    "member": ("console.commands.member", "member"),
    "node": ("console.commands.node", "node"),
    "key": ("console.commands.revoke", "key"),
    "subsystem": ("console.commands.subsystem", "subsystem"),
    "client": ("console.commands.client", "client"),
    "service": ("console.commands.service", "service"),
    "group": ("console.commands.group", "group"),
    "purposes": ("console.commands.purposes", "purposes"),
    "access": ("console.commands.access", "access"),
    "catalogue": ("console.commands.catalogue", "catalogue"),
    "admin": ("console.commands.admin", "admin"),
    "audit": ("console.commands.audit", "audit"),
}


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="lienthong")
def main() -> None:
    """Liên Thông: government data exchange, signed, sealed and provable."""


if __name__ == "__main__":
    main()
