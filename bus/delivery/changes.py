"""Changes of a command's state on the asking side: what goes into their commit, and who hears of them afterwards.

Waiting calls are woken, the next command under the order key goes out, a webhook is sent. Decides no state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bus.delivery.outbox import Outbox
from bus.delivery.store import Command
from bus.delivery.watching import Watchers
from bus.delivery.webhookrows import TOLD, Event, hook_row
from bus.exchange.keeping import Row

CLOSED = frozenset({"completed", "failed", "cancelled", "expired"})
"""States after which an order key's next command goes out; `expired` only may turn out to be wrong."""


class Teller(Protocol):
    """Tells client systems."""

    def wanted(self, system: str) -> bool:
        """Whether that client system has a webhook."""

    def put(self, event: Event) -> None:
        """The event's row is in the store."""

    def rows(self) -> list[Row]:
        """What of earlier events goes into the next commit."""


class Changes:
    """Changes of one node's commands.

    Args:
        outbox: of the node.
        watchers: who waits.
        teller: of webhooks.
        now_s: seconds since 1970.
    """

    def __init__(self, outbox: Outbox, watchers: Watchers, teller: Teller, now_s: Callable[[], float]) -> None:
        self._outbox = outbox
        self._watchers = watchers
        self._teller = teller
        self._now_s = now_s

    def rows(self, position: int, command: Command, state: str, code: str = "") -> list[Row]:
        """What goes with the record at `position`, which changes the command's state."""
        rows = self._teller.rows()
        if self._tells(command, state):
            rows.append(hook_row(position, command.idx, command.system, state, code, int(self._now_s())))
        return rows

    def happened(self, idx: int, command: Command, state: str, code: str = "") -> None:
        """The record at log index `idx` is committed: the command has that state."""
        self._watchers.notify(command.header.id)
        if state in CLOSED:
            self._outbox.freed(command.idx)
        if self._tells(command, state):
            self._teller.put(Event(idx, command.idx, command.system, state, code, int(self._now_s())))

    def _tells(self, command: Command, state: str) -> bool:
        return state in TOLD and state != command.state and self._teller.wanted(command.system)
