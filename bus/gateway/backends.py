"""The sources behind a gateway's services: built from settings, opened, exchanged as a whole at a reload."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from adapters.errors import AdapterError
from adapters.kinds import load_kind
from adapters.port import Source
from bus.errors import SettingsInvalid
from bus.metrics import GatewayMetrics, SourceMetrics
from bus.settings import Service


def build_sources(services: tuple[Service, ...], metrics: GatewayMetrics) -> dict[str, Source]:
    """Sources by service id, not yet open.

    Raises:
        SettingsInvalid: unknown kinds and wrong settings, all of them.
    """
    problems: list[tuple[int, str, str]] = []
    built: dict[str, Source] = {}
    for at, service in enumerate(services):
        try:
            built[service.id] = load_kind(service.kind).build(service.settings, SourceMetrics(metrics, service.id))
        except AdapterError as error:
            problems.append((0, f"service[{at}].settings", str(error)))
    if problems:
        raise SettingsInvalid(problems)
    return built


class Backends:
    """The open sources of a running gateway."""

    def __init__(self) -> None:
        self._open: dict[str, Source] = {}
        self._retired: set[asyncio.Task[None]] = set()

    def current(self) -> Mapping[str, Source]:
        """Sources by service id."""
        return self._open

    async def replace(self, sources: dict[str, Source]) -> None:
        """Opens the new sources, then takes them into use; the old ones are closed a little later.

        Raises:
            SettingsInvalid: one of them cannot be opened; the old ones stay in use.
        """
        opened: list[Source] = []
        try:
            for service, source in sources.items():
                try:
                    await source.open()
                except AdapterError as error:
                    raise SettingsInvalid([(0, f"service {service}", str(error))]) from error
                opened.append(source)
        except BaseException:
            for source in opened:
                await source.close()
            raise
        old, self._open = self._open, sources
        if old:
            task = asyncio.create_task(_close_later(list(old.values())))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    async def close(self) -> None:
        """Closes everything."""
        for task in list(self._retired):
            task.cancel()
        for source in self._open.values():
            await source.close()
        self._open = {}


async def _close_later(sources: list[Source]) -> None:
    try:
        await asyncio.sleep(30)
    finally:
        for source in sources:
            await source.close()
