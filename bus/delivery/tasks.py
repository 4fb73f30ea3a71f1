"""Commands that have this node's receipt and no result yet: their table, its rows, its reader.

A task waits for its (next) attempt or is dead: a letter that only an operator brings to life or to an end. Its state
changes only in the commit of the record that tells it. When the next attempt is, is not kept here but in
`bus.delivery.attempts`: that is told to nobody.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from bus.delivery.store import DeliveryReader
from bus.exchange.keeping import Row
from evidence import header, leaf
from evidence.header import Header
from evidence.merkle import leaf_hash

State = Literal["waiting", "dead"]

DETAIL_CHARS = 400

_TASK = (
    "INSERT INTO task (idx, id, service, taken_s, begun_s, state, attempts, code, detail, told, changed_s, envelope)"
    " VALUES (?, ?, ?, ?, ?, 'waiting', 0, '', '', '', ?, ?)"
)
_INHERITED = (
    "INSERT INTO task (idx, id, service, taken_s, begun_s, state, attempts, code, detail, told, changed_s, envelope)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'processing', ?, ?)"
)
_DONE = "DELETE FROM task WHERE idx = ?"
_TOLD = "UPDATE task SET told = 'processing', attempts = ?, code = ?, detail = ?, changed_s = ? WHERE idx = ?"
_DEAD = "UPDATE task SET state = 'dead', told = 'dead', attempts = ?, code = ?, detail = ?, changed_s = ? WHERE idx = ?"
_REDRIVEN = (
    "UPDATE task SET state = 'waiting', told = 'processing', attempts = 0, begun_s = ?, changed_s = ? WHERE idx = ?"
)
_READ = (
    "SELECT idx, id, service, taken_s, begun_s, state, attempts, code, detail, told, changed_s, envelope"
    " FROM task WHERE idx = ?"
)
_FIND = (
    "SELECT leaf.data, idx, id, service, taken_s, begun_s, state, attempts, code, detail, told, changed_s"
    " FROM task JOIN leaf USING (idx)"
)


class Task(msgspec.Struct, frozen=True):
    """A command that is to be done.

    Attributes:
        idx: log index of the received command record.
        id: its record id.
        taken_s: when it got its receipt; times are seconds since 1970.
        begun_s: since when it is tried: taken, or the last time re-driven.
        attempts: as of the last record about it.
        code: why it is not done, as of the last record about it; empty while nothing failed.
        detail: the same for a person.
        told: the newest notice to its sender: none, processing or dead.
        envelope: as it came, still sealed; empty where it was not asked for.
    """

    idx: int
    id: str
    service: str
    taken_s: int
    begun_s: int
    state: State
    attempts: int
    code: str
    detail: str
    told: str
    changed_s: int
    envelope: bytes = b""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are looked for; empty fields leave all. The end of a service's identifier is enough."""

    ids: tuple[str, ...] = ()
    service: str = ""
    state: str = ""
    code: str = ""
    taken_before_s: int | None = None
    after_idx: int = -1
    limit: int = 100


class Crowd(msgspec.Struct, frozen=True):
    """Tasks of one service in one state: how many, and since when the oldest is here."""

    service: str
    state: State
    count: int
    oldest_s: int


def task_row(position: int, record_id: str, service: str, now_s: int, envelope: bytes) -> Row:
    """The command at `position` is to be done; its envelope, still sealed."""
    return position, _TASK, (record_id, service, now_s, now_s, now_s, envelope)


def task_inherited_row(position: int, task: Task) -> Row:
    """The command at `position` was taken over from another node, as it was there."""
    return position, _INHERITED, _facts(task)


def task_resumed_row(idx: int, task: Task) -> Row:
    """The command at log index `idx`, which was let go, was taken over from another node, as it was there."""
    return None, _INHERITED, (idx, *_facts(task))


def _facts(task: Task) -> tuple[object, ...]:
    facts = (task.state, task.attempts, task.code, task.detail[:DETAIL_CHARS], task.changed_s, task.envelope)
    return task.id, task.service, task.taken_s, task.begun_s, *facts


def task_done_row(idx: int) -> Row:
    """The command at log index `idx` has its result."""
    return None, _DONE, (idx,)


def task_told_row(idx: int, attempts: int, code: str, detail: str, now_s: int) -> Row:
    """The sender is told that the command at log index `idx` is being worked at."""
    return None, _TOLD, (attempts, code, detail[:DETAIL_CHARS], now_s, idx)


def task_dead_row(idx: int, attempts: int, code: str, detail: str, now_s: int) -> Row:
    """The command at log index `idx` waits for an operator."""
    return None, _DEAD, (attempts, code, detail[:DETAIL_CHARS], now_s, idx)


def task_redriven_row(idx: int, now_s: int) -> Row:
    """An operator brought the command at log index `idx` back."""
    return None, _REDRIVEN, (now_s, now_s, idx)


class TaskReader:
    """Reads tasks; every method may raise SourceUnreadable."""

    def __init__(self, store: DeliveryReader) -> None:
        self._store = store

    async def read(self, idx: int) -> Task | None:
        """The task at that log index with its envelope, while it has no result."""
        rows = await self._store.rows(_READ, idx)
        return Task(*rows[0]) if rows else None

    async def open(self, idx: int) -> bool:
        """Whether the command at that log index has no result."""
        return bool(await self._store.rows("SELECT 1 FROM task WHERE idx = ?", idx))

    async def waiting(self) -> list[tuple[int, str]]:
        """Log index and service of all that are not dead, in the order of the log."""
        return [
            (row[0], row[1])
            for row in await self._store.rows("SELECT idx, service FROM task WHERE state = 'waiting' ORDER BY idx")
        ]

    async def crowds(self) -> list[Crowd]:
        """How many there are, by service and state."""
        return [
            Crowd(*row)
            for row in await self._store.rows(
                "SELECT service, state, count(*), min(taken_s) FROM task GROUP BY state, service"
            )
        ]

    async def find(self, wanted: Wanted) -> list[tuple[Task, Header]]:
        """Tasks without their envelopes, with the headers of their commands, in the order of the log."""
        sql, params = _where(wanted)
        rows = await self._store.rows(
            f"{_FIND} WHERE {sql} ORDER BY idx LIMIT ?",  # the parts of it are constants
            *params,
            wanted.limit,
        )
        return [(Task(*facts), header.decode(leaf.unwrap(data)[1])) for data, *facts in rows]

    async def origin(self, idx: int) -> tuple[Header, bytes] | None:
        """Header and leaf hash of the received record at that log index."""
        rows = await self._store.rows("SELECT data FROM leaf WHERE idx = ?", idx)
        return (header.decode(leaf.unwrap(rows[0][0])[1]), leaf_hash(rows[0][0])) if rows else None


def _where(wanted: Wanted) -> tuple[str, list[Any]]:
    parts, params = ["task.idx > ?"], [wanted.after_idx]
    made: list[Any] = params
    if wanted.ids:
        parts.append(f"task.id IN ({', '.join('?' * len(wanted.ids))})")
        made += wanted.ids
    if wanted.service:
        parts.append("(task.service = ? OR substr(task.service, -length(?) - 1) = '/' || ?)")
        made += [wanted.service] * 3
    for column, value in (("state", wanted.state), ("code", wanted.code)):
        if value:
            parts.append(f"task.{column} = ?")
            made.append(value)
    if wanted.taken_before_s is not None:
        parts.append("task.taken_s < ?")
        made.append(wanted.taken_before_s)
    return " AND ".join(parts), made
