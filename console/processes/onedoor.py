"""`lienthong adapter onedoor`: the front for one-door systems as a process of its own, beside a gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from adapters.agency.onedoor import OneDoor
from adapters.agency.onedoorsettings import load
from console.processes.running import announce, configure_logging, run_process

_log = structlog.get_logger("lienthong.onedoor")


class _Journal:
    """Log lines of the front; no person, no dossier code."""

    def handled(self, service: str, code: str, items: int, seconds: float) -> None:
        """One request was answered."""
        _log.info("onedoor.handled", service=service, code=code, items=items, ms=round(seconds * 1000, 1))

    def failed(self, error: str) -> None:
        """A defect."""
        _log.error("onedoor.failed", error=error)


def run(config: Path, listening: Path | None) -> None:
    """Runs until SIGTERM; requests under way are answered first.

    Args:
        config: Settings file.
        listening: File to write the address to once it listens.

    Raises:
        AdapterError: The settings cannot be used.
    """
    front = OneDoor(load(config), _Journal())
    configure_logging()

    async def main(stop: asyncio.Event) -> None:
        await front.start()
        try:
            if listening is not None:
                announce(listening, {"port": front.port})
            _log.info("onedoor.listening", port=front.port)
            await stop.wait()
        finally:
            await front.stop()

    try:
        run_process(main, None)
    finally:
        if listening is not None:
            listening.unlink(missing_ok=True)
