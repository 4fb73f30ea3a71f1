"""Contracts are fetched, tried and compiled before they are called: the first call should not pay for the trial.

Which ones: those of the own services, and those to which the directory grants a client of this member a right.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from bus.errors import BusError
from bus.exchange.contracts import Contracts
from registry.fold import Directory
from registry.follower import Follower
from registry.view import ServiceEntry

_DEADLINE_S = 60.0
_SETTLE_S = 0.2


def relevant_services(directory: Directory, member: str) -> list[ServiceEntry]:
    """Services that a member provides or may call."""
    found = {service.id: service for service in directory.services_of(member)}
    for right in directory.access_rights():
        if right.client == member or right.client.startswith(f"{member}/"):
            service = directory.service(right.service)
            if service is not None:
                found[service.id] = service
    return list(found.values())


async def keep_warm(
    follower: Follower, contracts: Contracts, member: str, warmed: Callable[[], None] = lambda: None
) -> None:
    """Loads what is relevant, again after each change of the directory; until cancelled.

    Args:
        follower: of the directory.
        contracts: where they are kept.
        member: own member.
        warmed: told each time that everything was tried that a confirmed directory calls for.
    """
    changed = asyncio.Event()
    changed.set()
    end = follower.subscribe(changed.set)
    try:
        while True:
            await changed.wait()
            await asyncio.sleep(_SETTLE_S)  # documents come in groups
            changed.clear()
            confirmed = follower.as_of is not None
            for service in relevant_services(follower.directory, member):
                # A contract that is refused here is said at the call; one that is not there yet is fetched then.
                with contextlib.suppress(BusError):
                    await contracts.load(service, None, _DEADLINE_S)
            if confirmed:
                warmed()
    finally:
        end()
