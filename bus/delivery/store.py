"""Tables of delivery in the log's database, the rows that go into them, and a reader.

Every row is written in the same commit as the record that it belongs to (`log.append(…, also_write)`); nothing here
writes by itself. Reading is done by one thread with a read-only connection, and by another one for lists.

| table | holds |
|---|---|
| `command` | each command that this node sent, and what became of it |
| `outbox` | sealed parts of records that are sent until the receiver's signed receipt is in the log |
| `taken` | received records that got a receipt, by sender and leaf hash, with the receipt to be sent again |
| `task` | commands that have a receipt but no result yet (`bus.delivery.tasks`) |
| `command_result` | results until their retention ends, encrypted under the key of the day |
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bus.delivery import cancelrows, claimrows, idempotency, orders, webhookrows
from bus.delivery.readerthread import ReaderThread
from bus.errors import StoreTooNew
from bus.exchange.composing import Draft
from bus.exchange.keeping import Row
from evidence import header, leaf
from evidence.header import Header
from evidence.merkle import leaf_hash

SCHEMA_VERSION = 1
TABLES = (
    "CREATE TABLE IF NOT EXISTS delivery_schema (version INTEGER NOT NULL)",
    "INSERT INTO delivery_schema SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM delivery_schema)",
    (
        "CREATE TABLE IF NOT EXISTS command (idx INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
        " leaf_hash BLOB NOT NULL UNIQUE, client TEXT NOT NULL, system TEXT NOT NULL, state TEXT NOT NULL,"
        " sent_at TEXT, delivered_at TEXT, processing_at TEXT, dead_at TEXT, closed_at TEXT,"
        " code TEXT NOT NULL DEFAULT '',"
        " receipt_idx INTEGER, processing_idx INTEGER, dead_idx INTEGER, closing_idx INTEGER, outcome_idx INTEGER,"
        " notice TEXT, notice_node TEXT, notice_pos INTEGER)"
    ),
    "CREATE INDEX IF NOT EXISTS command_client ON command (client)",
    (
        "CREATE TABLE IF NOT EXISTS outbox (idx INTEGER PRIMARY KEY, leaf_hash BLOB NOT NULL UNIQUE,"
        " subject TEXT NOT NULL, since_s INTEGER NOT NULL, until_s INTEGER NOT NULL, wrapped BLOB NOT NULL,"
        " nonce BLOB NOT NULL, ciphertext BLOB NOT NULL)"
    ),
    "CREATE INDEX IF NOT EXISTS outbox_until ON outbox (until_s)",
    "CREATE INDEX IF NOT EXISTS outbox_subject ON outbox (subject, since_s)",
    (
        "CREATE TABLE IF NOT EXISTS taken (idx INTEGER NOT NULL, sender TEXT NOT NULL, leaf_hash BLOB NOT NULL,"
        " id TEXT NOT NULL, until_s INTEGER NOT NULL, wrapped BLOB, nonce BLOB, ciphertext BLOB,"
        " PRIMARY KEY (sender, leaf_hash), UNIQUE (sender, id)) WITHOUT ROWID"
    ),
    "CREATE INDEX IF NOT EXISTS taken_until ON taken (until_s)",
    (
        "CREATE TABLE IF NOT EXISTS task (idx INTEGER PRIMARY KEY, id TEXT NOT NULL, service TEXT NOT NULL,"
        " taken_s INTEGER NOT NULL, begun_s INTEGER NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,"
        " code TEXT NOT NULL, detail TEXT NOT NULL, told TEXT NOT NULL, changed_s INTEGER NOT NULL,"
        " envelope BLOB NOT NULL)"
    ),
    "CREATE INDEX IF NOT EXISTS task_plan ON task (state, service, taken_s)",
    (
        "CREATE TABLE IF NOT EXISTS command_result (idx INTEGER PRIMARY KEY, until_s INTEGER NOT NULL,"
        " day TEXT NOT NULL, data BLOB NOT NULL)"
    ),
    "CREATE INDEX IF NOT EXISTS command_result_until ON command_result (until_s)",
    *orders.TABLES,
    *idempotency.TABLES,
    *cancelrows.TABLES,
    *webhookrows.TABLES,
    *claimrows.TABLES,
)

_COMMAND = "INSERT INTO command (idx, id, leaf_hash, client, system, state) VALUES (?, ?, ?, ?, ?, 'accepted')"
# Truth before order: a receipt after the expiry reopens the command, one after the result changes no state.
_DELIVERED = (
    "UPDATE command SET receipt_idx = ?, delivered_at = ?, sent_at = coalesce(sent_at, ?),"
    " closed_at = CASE state WHEN 'expired' THEN NULL ELSE closed_at END,"
    " state = CASE WHEN state IN ('accepted', 'expired') THEN 'delivered' ELSE state END WHERE idx = ?"
)
_CLOSED = (
    "UPDATE command SET closing_idx = ?, closed_at = CASE WHEN state = ? AND closed_at IS NOT NULL THEN closed_at"
    " ELSE ? END, state = ?, code = ?, sent_at = coalesce(sent_at, ?) WHERE idx = ?"
)
_EXPIRED = (
    "UPDATE command SET outcome_idx = ?, state = 'expired', closed_at = ?, sent_at = coalesce(sent_at, ?)"
    " WHERE idx = ? AND receipt_idx IS NULL AND closing_idx IS NULL AND state = 'accepted'"
)
_OUTBOX = (
    "INSERT INTO outbox (idx, leaf_hash, subject, since_s, until_s, wrapped, nonce, ciphertext)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_ARRIVED = "DELETE FROM outbox WHERE idx = ?"
_TAKEN = (
    "INSERT INTO taken (idx, sender, leaf_hash, id, until_s, wrapped, nonce, ciphertext)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
# what is still to be done stays known, however long that takes: its row has the leaf hash by which it is claimed
_FORGET_TAKEN = "DELETE FROM taken WHERE until_s < ? AND NOT EXISTS (SELECT 1 FROM task WHERE task.idx = taken.idx)"
_RESULT = "INSERT INTO command_result (idx, until_s, day, data) VALUES (?, ?, ?, ?)"
_FORGET_RESULTS = "DELETE FROM command_result WHERE until_s < ?"

_FORGET_EVERY_S = 5
_LATEST = datetime.max.replace(tzinfo=UTC)

T = TypeVar("T")


class Command(msgspec.Struct, frozen=True):
    """A command that this node sent.

    Attributes:
        idx: log index of the command record.
        header: of the record.
        system: the client system that sent it.
        state: accepted, delivered, processing, dead, completed, failed, cancelled or expired.
        sent_at: when the broker first had it, as far as this is stored; times are header texts.
        code: error code of a failed or dead command.
        receipt_idx: log index of the receipt; the others as well of what their names say.
        outcome_idx: of the record that expired or cancelled it.
        notice: JSON of the newest notice of the provider, see `bus.delivery.notices`.
        notice_node: whose log has that notice, at `notice_pos`.
        cancel_idx: log index of the record that asks the provider to cancel it, of `cancel_at`.
        cancel_answer: code with which the provider refused that.
    """

    idx: int
    header: Header
    system: str
    state: str
    sent_at: str | None
    delivered_at: str | None
    processing_at: str | None
    dead_at: str | None
    closed_at: str | None
    code: str
    receipt_idx: int | None
    processing_idx: int | None
    dead_idx: int | None
    closing_idx: int | None
    outcome_idx: int | None
    notice: str | None
    notice_node: str | None
    notice_pos: int | None
    cancel_idx: int | None
    cancel_at: str | None
    cancel_answer: str | None


class Outgoing(msgspec.Struct, frozen=True):
    """A record in the outbox: its leaf and its sealed part."""

    idx: int
    subject: str
    leaf: bytes
    wrapped: bytes
    nonce: bytes
    ciphertext: bytes

    @property
    def header(self) -> Header:
        """Of the record."""
        return header.decode(leaf.unwrap(self.leaf)[1])


class Taken(msgspec.Struct, frozen=True):
    """A received record; `receipt` is the outgoing receipt for it, None when another record answered it.

    `waiting_for` is the service of a task that is to be done.
    """

    idx: int
    leaf_hash: bytes
    receipt: Outgoing | None
    waiting_for: str | None


class Waiting(msgspec.Struct, frozen=True):
    """What the outbox plans with: log index, since when it waits (seconds), and whose it is.

    `client` is the subsystem of a command, `reply` the subject of a reply; a wish to cancel has neither.
    """

    idx: int
    since_s: int
    client: str | None
    reply: str


# Rows ---------------------------------------------------------------------------------------------------------------


def command_row(position: int, draft: Draft, system: str) -> Row:
    """A command of a client system was accepted."""
    return position, _COMMAND, (draft.header.id, leaf_hash(draft.leaf), draft.header.source, system)


def outbox_row(position: int, draft: Draft, subject: str, since_s: int, until_s: int) -> Row:
    """The record at `position` is sent to `subject` until a receipt for it comes, or `until_s`."""
    sealed = (draft.wrapped, draft.nonce, draft.ciphertext)
    return position, _OUTBOX, (leaf_hash(draft.leaf), subject, since_s, until_s, *sealed)


def arrived_row(idx: int) -> Row:
    """The record at log index `idx` has a receipt, or is given up."""
    return None, _ARRIVED, (idx,)


def delivered_row(position: int, idx: int, at: str, sent_at: str | None) -> Row:
    """The record at `position` is the receipt of the command at log index `idx`."""
    return position, _DELIVERED, (at, sent_at, idx)


def closed_row(position: int, idx: int, state: str, at: str, code: str, sent_at: str | None) -> Row:
    """The record at `position` closes the command at log index `idx`."""
    return position, _CLOSED, (state, at, state, code, sent_at, idx)


def expired_row(position: int, idx: int, at: str, sent_at: str | None) -> Row:
    """The record at `position` gives the command at log index `idx` up."""
    return position, _EXPIRED, (at, sent_at, idx)


def taken_row(position: int, sender: str, record_id: str, hash_: bytes, until_s: int, receipt: Draft | None) -> Row:
    """The received record at `position`; its receipt, if any, is the record after it."""
    sealed = (None, None, None) if receipt is None else (receipt.wrapped, receipt.nonce, receipt.ciphertext)
    return position, _TAKEN, (sender, hash_, record_id, until_s, *sealed)


def result_row(idx: int, until_s: int, day: str, data: bytes) -> Row:
    """The contents of the result of the command at log index `idx`, encrypted."""
    return None, _RESULT, (idx, until_s, day, data)


# Reading ------------------------------------------------------------------------------------------------------------

_COMMANDS = (
    "SELECT command.idx, leaf.data, system, state, sent_at, delivered_at, processing_at, dead_at, closed_at, code,"
    " receipt_idx, processing_idx, dead_idx, closing_idx, outcome_idx, notice, notice_node, notice_pos,"
    " cancel.idx, cancel.at, cancel.answer FROM command JOIN leaf USING (idx)"
    " LEFT JOIN cancel ON cancel.target_idx = command.idx WHERE "
)
_OUTGOING = "SELECT outbox.idx, subject, leaf.data, wrapped, nonce, ciphertext FROM outbox JOIN leaf USING (idx) WHERE "
_WAITING = (
    "SELECT outbox.idx, since_s, client, CASE WHEN subject LIKE 'lt.r.%' THEN subject ELSE '' END"
    " FROM outbox LEFT JOIN command USING (idx) ORDER BY outbox.idx"
)
_TAKEN_OF = (
    "SELECT taken.idx, leaf_hash, leaf.data, wrapped, nonce, ciphertext, (SELECT service FROM task WHERE"
    " task.idx = taken.idx AND state = 'waiting') FROM taken LEFT JOIN leaf ON leaf.idx = taken.idx + 1"
    " WHERE sender = ?"
)


class DeliveryReader:
    """Reads the tables of one log file; every method may raise SourceUnreadable.

    Args:
        path: of the log's database, which is there already.
        believed: the time up to which things are forgotten, beside the one that is told; None when it is not known.
    """

    def __init__(self, path: Path, believed: Callable[[], datetime | None] = lambda: _LATEST) -> None:
        self._path = path
        self._believed = believed
        self._thread = ReaderThread(path)
        self._pages: ReaderThread | None = None
        self._forget_at_s = 0

    async def command(self, record_id: str) -> Command | None:
        """The command with that record id."""
        return await self._one(_command, f"{_COMMANDS} id = ?", record_id)

    async def command_of(self, hash_: bytes) -> Command | None:
        """The command with that leaf hash."""
        return await self._one(_command, f"{_COMMANDS} command.leaf_hash = ?", hash_)

    async def commands(self, where: str, *params: object) -> list[Command]:
        """Commands for which `where` holds, which may end in an order and a limit."""
        return [_command(row) for row in await self._all(_COMMANDS + where, *params)]

    async def page(self, where: str, *params: object) -> list[Command]:
        """As `commands`, for lists: one may look through all of a client's, and nothing else waits for it."""
        if self._pages is None:
            self._pages = ReaderThread(self._path)
        return [_command(row) for row in await self._pages.ask(_COMMANDS + where, params)]

    async def rows(self, sql: str, *params: object) -> list[Any]:
        """Rows of another module's tables."""
        return await self._all(sql, *params)

    async def outgoing(self, idx: int) -> Outgoing | None:
        """What waits in the outbox under that log index."""
        return await self._one(_outgoing, f"{_OUTGOING} outbox.idx = ?", idx)

    async def outgoing_of(self, hash_: bytes) -> Outgoing | None:
        """What waits in the outbox with that leaf hash."""
        return await self._one(_outgoing, f"{_OUTGOING} outbox.leaf_hash = ?", hash_)

    async def overdue(self, now_s: int, limit: int) -> list[Outgoing]:
        """What waited in the outbox until its time was over, the oldest first."""
        rows = await self._all(f"{_OUTGOING} until_s <= ? ORDER BY until_s LIMIT ?", now_s, limit)
        return [_outgoing(row) for row in rows]

    async def waiting(self) -> list[Waiting]:
        """All of the outbox, in the order of the log."""
        return [Waiting(*row) for row in await self._all(_WAITING)]

    async def taken(self, sender: str, hash_: bytes, record_id: str) -> Taken | None:
        """The received record with that leaf hash, or another one of the sender under the same id."""
        row = await self._row(f"{_TAKEN_OF} AND leaf_hash = ?", sender, hash_)
        row = row or await self._row(f"{_TAKEN_OF} AND id = ?", sender, record_id)
        if row is None:
            return None
        idx, found, data, *sealed, waiting = row
        receipt = None if sealed[0] is None else Outgoing(idx + 1, "", data, *sealed)
        return Taken(idx, found, receipt, waiting)

    async def result(self, idx: int, now_s: int) -> tuple[str, bytes] | None:
        """Day and encrypted contents of a command's result, while they are kept."""
        row = await self._row("SELECT day, data FROM command_result WHERE idx = ? AND until_s >= ?", idx, now_s)
        return None if row is None else (row[0], row[1])

    async def particulars(self, idx: int) -> tuple[str, bytes] | None:
        """Day and encrypted particulars of the record at that log index."""
        row = await self._row("SELECT day, data FROM particulars WHERE idx = ?", idx)
        return None if row is None else (row[0], row[1])

    def forget_rows(self, now_s: int) -> list[Row]:
        """What is past its time goes with some commit, every few seconds."""
        believed = self._believed()
        if believed is None:
            return []
        now_s = min(now_s, int(believed.timestamp()))
        if now_s < self._forget_at_s:
            return []
        self._forget_at_s = now_s + _FORGET_EVERY_S
        forgotten = (_FORGET_TAKEN, _FORGET_RESULTS, claimrows.FORGET_LET_GO, cancelrows.FORGET, webhookrows.FORGET)
        return [(None, sql, (now_s,)) for sql in forgotten]

    async def check_version(self) -> None:
        """To be called once before use.

        Raises:
            StoreTooNew: written by a newer version; this one must not go on with it.
        """
        row = await self._row("SELECT version FROM delivery_schema")
        if row is not None and row[0] > SCHEMA_VERSION:
            raise StoreTooNew(f"{self._path} was written by a newer version of lienthong; use that version")

    def close(self) -> None:
        """Ends the threads."""
        self._thread.close()
        if self._pages is not None:
            self._pages.close()

    async def _one(self, make: Callable[[Any], T], sql: str, *params: object) -> T | None:
        row = await self._row(sql, *params)
        return None if row is None else make(row)

    async def _row(self, sql: str, *params: object) -> Any:
        rows = await self._all(sql, *params)
        return rows[0] if rows else None

    async def _all(self, sql: str, *params: object) -> list[Any]:
        return await self._thread.ask(sql, params)


def _command(row: Any) -> Command:
    idx, data, *rest = row
    return Command(idx, header.decode(leaf.unwrap(data)[1]), *rest)


def _outgoing(row: Any) -> Outgoing:
    return Outgoing(*row)
