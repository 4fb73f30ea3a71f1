"""Changes that others proposed and a person decides on: the desk of a register's owner, over the register's database.

It works with the gateway running or not. It knows nothing of the exchange: the sender asks by an operation of the
contract what was decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from adapters.kinds import load_kind
from adapters.kinds.sql import SqlSource
from adapters.kinds.sql.writeback import Review, WriteBack
from adapters.port import SilentObserver
from bus.settings import Service, load_settings
from console.homes import HomeInvalid, MemberHome

Made = TypeVar("Made")


def write_backs(home: MemberHome, code: str | None) -> dict[str, WriteBack]:
    """What takes updates, by service; not open yet.

    Args:
        home: Of the member.
        code: SUBSYSTEM/SERVICE; None for all of them.

    Raises:
        HomeInvalid: There is no such service, or none that takes updates.
        SettingsInvalid, AdapterError: The settings cannot be used.
    """
    services = [one for one in load_settings(home.settings).service if code is None or one.id.endswith(f"/{code}")]
    found = {one.id: desk for one in services if (desk := _write_back(one)) is not None}
    if not found:
        named = "no service of this home" if code is None else f"no service {code} of this home"
        raise HomeInvalid(f"{named} takes updates; declare [updates] in its settings, see docs/write-back.md")
    return found


def _write_back(service: Service) -> WriteBack | None:
    source = load_kind(service.kind).build(service.settings, SilentObserver())
    return source.write_back if isinstance(source, SqlSource) else None


def at(desk: WriteBack, work: Callable[[WriteBack], Awaitable[Made]]) -> Made:
    """Work at one desk, opened for it.

    Raises:
        AdapterError: What the work raises, or the database cannot be used.
    """

    async def opened() -> Made:
        await desk.open()
        try:
            return await work(desk)
        finally:
            await desk.close()

    return asyncio.run(opened())


def waiting(desk: WriteBack) -> tuple[Review, ...]:
    """What waits for a person at one desk, oldest first.

    Raises:
        AdapterError: The database is not there, or its tables are not: the error says how they are made.
    """

    async def look(it: WriteBack) -> tuple[Review, ...]:
        await it.check()
        return await it.reviews()

    return at(desk, look)
