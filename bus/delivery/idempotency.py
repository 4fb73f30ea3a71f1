"""Idempotency keys of commands: the same call again finds the command that the first one made.

A key is scoped to client subsystem, service and operation, and belongs to one request: method, path, query, media type
and body. Only digests are stored. That a key is new is not asked before: the row's own uniqueness refuses the commit of
a second one, whatever process or moment it comes from; calls under way at the same time wait for the first.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bus import errors
from bus.exchange.calls import ClientCall
from bus.exchange.keeping import Row
from evidence.errors import RowRefused

TABLES = (
    (
        "CREATE TABLE IF NOT EXISTS command_key (scope BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, idx INTEGER NOT"
        " NULL) WITHOUT ROWID"
    ),
    "CREATE INDEX IF NOT EXISTS command_key_idx ON command_key (idx)",
)
FIND = "SELECT command.id, fingerprint FROM command_key JOIN command USING (idx) WHERE scope = ?"
_KEY = "INSERT INTO command_key (idx, scope, fingerprint) VALUES (?, ?, ?)"
_REMEMBERED = 4_096
MOST_CHARACTERS = 255


class Use(NamedTuple):
    """A key in use: where it holds, and for which request."""

    scope: bytes
    fingerprint: bytes


def read_key(values: list[str]) -> str:
    """The key of a request's `Idempotency-Key` fields; empty when there is none.

    A string in quotation marks, as draft-ietf-httpapi-idempotency-key-header asks, or without them.

    Raises:
        RequestMalformed: given twice, empty, too long, or with other characters.
    """
    if not values:
        return ""
    text = values[0].strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if len(values) > 1 or not 0 < len(text) <= MOST_CHARACTERS or any(not "!" <= one <= "~" for one in text):
        raise errors.RequestMalformed(
            f"send one Idempotency-Key of 1 to {MOST_CHARACTERS} visible ASCII characters, such as a UUID"
        )
    return text


def use_of(call: ClientCall, operation: str, key: str) -> Use:
    """Scope and fingerprint (SHA-256 each) of a call under a key."""
    scope = hashlib.sha256(f"key\0{call.client}\0{call.service}\0{operation}\0{key}".encode()).digest()
    media_type = call.content_type.partition(";")[0].strip().lower()
    line = f"{call.method}\0{call.path}\0{call.query}\0{media_type}".encode("utf-8", "surrogateescape")
    return Use(scope, hashlib.sha256(line + b"\0" + hashlib.sha256(call.body).digest()).digest())


def key_row(position: int, use: Use) -> Row:
    """The command at `position` was accepted under that key."""
    return position, _KEY, use


class KeyBook:
    """Keys of one node.

    Args:
        rows: asks the store.
    """

    def __init__(self, rows: Callable[..., Awaitable[list[tuple[str, bytes]]]]) -> None:
        self._rows = rows
        self._under_way: dict[bytes, asyncio.Event] = {}
        self._remembered: OrderedDict[bytes, tuple[str, bytes]] = OrderedDict()

    async def once(self, use: Use, make: Callable[[], Awaitable[str]]) -> tuple[str, bool]:
        """Record id of the one command of a key, and whether it was there before.

        Args:
            use: the key.
            make: accepts the command, with `key_row(…)` in its commit.

        Raises:
            IdempotencyKeyReused: the key belongs to another request.
            BusError: whatever `make` raises; then the key is as free as before.
        """
        while (event := self._under_way.get(use.scope)) is not None:
            await event.wait()
        event = self._under_way[use.scope] = asyncio.Event()
        try:
            known = self._remembered.get(use.scope)
            if known is not None and await self._rows(FIND, use.scope):  # else it was forgotten, with its command
                return _same(known, use), True
            record_id = await make()
        except (RowRefused, errors.OutboxFull, errors.OutboxShareFull):  # a repeat needs no room
            found = await self._rows(FIND, use.scope)
            if not found:
                raise
            self._remember(use.scope, found[0])
            return _same(found[0], use), True
        finally:
            del self._under_way[use.scope]
            event.set()
        self._remember(use.scope, (record_id, use.fingerprint))
        return record_id, False

    def _remember(self, scope: bytes, found: tuple[str, bytes]) -> None:
        self._remembered[scope] = found
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)


def _same(known: tuple[str, bytes], use: Use) -> str:
    record_id, fingerprint = known
    if fingerprint != use.fingerprint:
        raise errors.IdempotencyKeyReused(
            "this Idempotency-Key came before, with another request; take a new key for a new request",
            record_id=record_id,
        )
    return record_id
