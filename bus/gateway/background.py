"""Background work of a gateway that goes on after a defect: calls must not end because something beside them did.

What is expected to fail is handled where it fails; this is the boundary for what nobody thought of. Whatever a person
must look at first (`disposition` halt) passes through. Not for work that cannot begin anew, like a start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bus.errors import BusError
from evidence.errors import EvidenceError

_log = structlog.get_logger("lienthong.gateway")
_PAUSE_S = 5.0


async def persist(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Does work that ends only by being cancelled, and begins it anew when it ends with a defect.

    Args:
        name: of the work, for the log.
        work: begins it.

    Raises:
        BusError, EvidenceError: one that must halt the node.
    """
    while True:
        try:
            await work()
        except Exception as error:  # the boundary of the work: the process and its calls go on
            if isinstance(error, BusError | EvidenceError) and error.disposition == "halt":
                raise
            _log.error("background.failed", work=name, retry_in_s=_PAUSE_S, exc_info=error)
        else:
            return
        await asyncio.sleep(_PAUSE_S)
