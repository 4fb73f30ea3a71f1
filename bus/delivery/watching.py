"""Who waits for a command's next state: long polls, bounded. Knows no state itself."""

from __future__ import annotations

import asyncio

MOST = 1_000


class Watchers:
    """Futures by record id; belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._count = 0

    def watch(self, record_id: str) -> asyncio.Future[None] | None:
        """Ends at the next change; give it back with `leave`. None when too many wait already."""
        if self._count >= MOST:
            return None
        made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(record_id, set()).add(made)
        self._count += 1
        return made

    def leave(self, record_id: str, future: asyncio.Future[None]) -> None:
        """Nobody waits on it any more."""
        of_id = self._waiting[record_id]
        of_id.discard(future)
        self._count -= 1
        if not of_id:
            del self._waiting[record_id]

    def notify(self, record_id: str) -> None:
        """The command's state changed."""
        for future in self._waiting.get(record_id, ()):
            if not future.done():
                future.set_result(None)
