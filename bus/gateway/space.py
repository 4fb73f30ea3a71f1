"""A start on a full disk waits for space: what cannot be opened or written is tried again until it can, or the stop.

Only what space or a working disk heals is waited for. A store that is damaged, of another instance or too new ends
the start as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable

import structlog

from bus.exchange.peers import PeersUnwritable
from registry.errors import StoreUnwritable

_log = structlog.get_logger("lienthong.gateway")
_RETRY_S = 1.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


async def until_space(step: Callable[[], None], stop: asyncio.Event, retry_s: float = _RETRY_S) -> bool:
    """Takes a step of the start, again and again while the disk is full.

    Args:
        step: of the start; one that fails leaves nothing behind.
        stop: ends the wait.
        retry_s: between two tries.

    Returns:
        Whether the step was taken; False after the stop.

    Raises:
        OSError, RegistryError: by the step, for another reason than the disk.
    """
    while not stop.is_set():
        try:
            step()
        except (StoreUnwritable, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, PeersUnwritable) and error.errno not in _FULL:
                raise
            _log.error("disk.unwritable", error=type(error).__name__, retry_in_s=retry_s, do="free disk space")
        else:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), retry_s)
    return False
