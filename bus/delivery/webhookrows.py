"""Rows of webhooks: what a client system is to be told, written in the commit of the change itself.

Which client systems want to be told, the settings say at that moment. Sends nothing; see `bus.delivery.webhooks`.
"""

from __future__ import annotations

import msgspec

from bus.exchange.keeping import Row

TABLES = (
    (
        "CREATE TABLE IF NOT EXISTS webhook (idx INTEGER PRIMARY KEY, command_idx INTEGER NOT NULL,"
        " system TEXT NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL, since_s INTEGER NOT NULL)"
    ),
    "CREATE INDEX IF NOT EXISTS webhook_system ON webhook (system)",
)
TOLD = frozenset({"completed", "failed", "cancelled", "expired", "dead"})
_HOOK = "INSERT OR IGNORE INTO webhook (idx, command_idx, system, state, code, since_s) VALUES (?, ?, ?, ?, ?, ?)"
_DONE = "DELETE FROM webhook WHERE idx = ?"
SYSTEMS = "SELECT DISTINCT system FROM webhook"
WAITING = "SELECT idx, command_idx, system, state, code, since_s FROM webhook WHERE system = ? ORDER BY idx LIMIT ?"
# long after their time, in case that nobody could be found to try them; some of the oldest at once
FORGET = "DELETE FROM webhook WHERE since_s < ? - 172800 AND idx IN (SELECT idx FROM webhook ORDER BY idx LIMIT 64)"


class Event(msgspec.Struct, frozen=True):
    """A change that a client system is told of.

    Attributes:
        idx: log index of the record that backs the change; with it the event has a name.
        command_idx: log index of the command.
        system: name of the client system.
        state: the new one.
        code: error code, or empty.
        since_s: when it happened.
    """

    idx: int
    command_idx: int
    system: str
    state: str
    code: str
    since_s: int


def hook_row(position: int, command_idx: int, system: str, state: str, code: str, since_s: int) -> Row:
    """The record at `position` changed the state of that command."""
    return position, _HOOK, (command_idx, system, state, code, since_s)


def told_row(idx: int) -> Row:
    """The event with that index was told, or is given up."""
    return None, _DONE, (idx,)
