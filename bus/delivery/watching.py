"""Who waits for a command's next state: long polls, bounded, of each client subsystem too. Knows no state itself."""

from __future__ import annotations

import asyncio
from collections import Counter

MOST = 1_000


class Watchers:
    """Futures by record id; belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._clients: Counter[str] = Counter()

    def watch(self, record_id: str, client: str) -> asyncio.Future[None] | None:
        """Ends at the next change; give it back with `leave`. None when too many wait, of that client or all."""
        if self._clients.total() >= MOST or self._clients[client] >= MOST // 4:
            return None
        made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(record_id, set()).add(made)
        self._clients[client] += 1
        return made

    def leave(self, record_id: str, client: str, future: asyncio.Future[None]) -> None:
        """Nobody waits on it any more."""
        of_id = self._waiting[record_id]
        of_id.discard(future)
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]
        if not of_id:
            del self._waiting[record_id]

    def notify(self, record_id: str) -> None:
        """The command's state changed."""
        for future in self._waiting.get(record_id, ()):
            if not future.done():
                future.set_result(None)
