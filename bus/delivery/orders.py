"""Order per key: of the commands under one key only the oldest that is not closed is sent.

A key is scoped to client subsystem and service. Which commands are open is decided by the store; here is the book in
memory by which the outbox asks at each attempt, without a question to the database. Holds among the commands that one
node accepted. Of a key only a digest is stored in the clear; the key itself is encrypted under the key of the day, as
particulars are.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from bus import errors
from bus.delivery.shares import Shares
from bus.exchange.keeping import DayKeys, Row
from bus.ports import Clock

TABLES = (
    (
        "CREATE TABLE IF NOT EXISTS command_order (idx INTEGER PRIMARY KEY, scope BLOB NOT NULL, day TEXT NOT NULL,"
        " data BLOB NOT NULL)"
    ),
)
OPEN = (
    "SELECT command_order.idx, command.id, scope, client FROM command_order JOIN command USING (idx)"
    " WHERE state NOT IN ('completed', 'failed', 'cancelled', 'expired') ORDER BY command_order.idx"
)
_ORDER = "INSERT INTO command_order (idx, scope, day, data) VALUES (?, ?, ?, ?)"
_NONCE_BYTES = 12
MOST_CHARACTERS = 128


def check_order_key(text: str) -> str:
    """The key, if it may be one.

    Raises:
        RequestMalformed: not 1 to 128 visible ASCII characters.
    """
    if not 0 < len(text) <= MOST_CHARACTERS or any(not "!" <= one <= "~" for one in text):
        raise errors.RequestMalformed(f"X-LienThong-Order-Key has 1 to {MOST_CHARACTERS} visible ASCII characters")
    return text


def order_scope(client: str, service: str, key: str) -> bytes:
    """Digest by which commands of one client to one service under one key are found (SHA-256)."""
    return hashlib.sha256(f"order\0{client}\0{service}\0{key}".encode()).digest()


def order_row(position: int, scope: bytes, key: str, keys: DayKeys, clock: Clock, now: datetime) -> Row:
    """The command at `position` has this key."""
    day, nonce = now.date().isoformat(), clock.random(_NONCE_BYTES)
    return position, _ORDER, (scope, day, nonce + keys.cipher(day).encrypt(nonce, key.encode(), day.encode()))


def open_order_key(keys: DayKeys, day: str, data: bytes) -> str:
    """The key of a stored row, empty when the key of its day was erased."""
    try:
        return keys.kept(day).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], day.encode()).decode()
    except errors.ContentsErased:
        return ""


class _Place(NamedTuple):
    idx: int
    id: str
    client: str


class OrderBook:
    """The open commands that have a key.

    Args:
        most: entries; beyond it no command with a key is accepted. Client subsystems share them as they share the
            outbox.
    """

    def __init__(self, most: int = 100_000) -> None:
        self._shares = Shares(most)
        self._lines: dict[bytes, list[_Place]] = {}
        self._scopes: dict[int, bytes] = {}
        self._closed_meanwhile: set[int] | None = None

    def __len__(self) -> int:
        return len(self._scopes)

    def require_room(self, client: str) -> None:
        """Returns when another command with a key of that client subsystem may come.

        Raises:
            OutboxFull, OutboxShareFull: by name.
        """
        if self._shares.full:
            raise errors.OutboxFull(f"{self._shares.most} commands with order keys are open; try again later")
        if self._shares.exhausted(client):
            raise errors.OutboxShareFull(
                f"{self._shares.held(client)} commands of {client} with order keys are open, and the room that is left"
                " is for others; go on when some are closed, or send without order keys"
            )

    def add(self, idx: int, record_id: str, scope: bytes, client: str) -> None:
        """The command at log index `idx` is durable and open."""
        if idx not in self._scopes:
            self._scopes[idx] = scope
            bisect.insort(self._lines.setdefault(scope, []), _Place(idx, record_id, self._shares.add(client)))

    def may_go(self, idx: int) -> bool:
        """Whether no older command of its key is open; so for every command without a key."""
        scope = self._scopes.get(idx)
        return scope is None or self._lines[scope][0].idx == idx

    def waits_for(self, idx: int) -> str:
        """Record id of the command that it waits for, empty when it is its turn."""
        return "" if self.may_go(idx) else self._lines[self._scopes[idx]][0].id

    def closed(self, idx: int) -> int | None:
        """The command at `idx` is closed; log index of the one whose turn begins with that."""
        if self._closed_meanwhile is not None:
            self._closed_meanwhile.add(idx)
        scope = self._scopes.pop(idx, None)
        if scope is None:
            return None
        line = self._lines[scope]
        at = bisect.bisect_left(line, idx, key=lambda place: place.idx)
        was_first = at == 0
        self._shares.remove(line.pop(at).client)
        if not line:
            del self._lines[scope]
            return None
        return line[0].idx if was_first else None

    def begin_reading(self) -> set[int]:
        """To be called before the store is read; what it gives goes to `take`."""
        self._closed_meanwhile = set()
        return set(self._scopes)

    def take(self, known: set[int], rows: Iterable[tuple[int, str, bytes, str]]) -> list[int]:
        """Takes over what the store says is open; log indexes of those whose turn it may be now.

        Args:
            known: what was here before the store was read.
            rows: log index, record id, scope and client subsystem of the open ones.
        """
        closed, self._closed_meanwhile = self._closed_meanwhile or set(), None
        stored = {idx: (record_id, scope, client) for idx, record_id, scope, client in rows if idx not in closed}
        for idx, (record_id, scope, client) in stored.items():
            self.add(idx, record_id, scope, client)
        for idx in known - stored.keys():
            self.closed(idx)
        return [line[0].idx for line in self._lines.values()]
