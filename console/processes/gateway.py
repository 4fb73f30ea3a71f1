"""`lienthong gateway`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from bus.clock import SystemClock
from bus.errors import SettingsInvalid
from bus.gateway.runtime import Gateway
from console.homes import MemberHome
from console.processes.running import announce, configure_logging, run_process

_log = structlog.get_logger("lienthong.gateway")
LISTENING = "listening.json"


def run(home_path: Path) -> None:
    """Runs a gateway until SIGTERM.

    Raises:
        BusError: it must not run; nothing was sent.
    """
    home = MemberHome(home_path)
    gateway = Gateway(home.settings, SystemClock())
    configure_logging(gateway.settings.logging.format, gateway.settings.logging.level)
    listening = gateway.settings.data / LISTENING
    listening.unlink(missing_ok=True)

    def ready(running: Gateway) -> None:
        facts = {"front": running.front_server.url, "admin": running.admin_server.url, "node": running.node}
        announce(listening, facts)
        _log.info("gateway.listening", **facts)

    async def main(stop: asyncio.Event) -> None:
        await gateway.run(stop, ready)

    async def reload() -> None:
        try:
            await gateway.reload()
        except SettingsInvalid as error:
            _log.error("settings.refused", problems=error.problems)

    try:
        run_process(main, reload)
    finally:
        listening.unlink(missing_ok=True)
