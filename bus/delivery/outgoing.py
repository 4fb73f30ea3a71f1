"""Commands of the own client systems that have no end yet, for the operator who asks. Reads only.

A question of a person: it opens the database for itself, so that nothing of the running exchange waits for it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec

from bus.delivery.tasks import Wanted
from evidence import header, leaf
from evidence.errors import SourceUnreadable
from evidence.header import Header

_CLOSED = ("completed", "failed", "expired", "cancelled")
_READ = (
    "SELECT command.idx, state, sent_at, delivered_at, code, leaf.data FROM command JOIN leaf USING (idx)"
    " WHERE command.idx > ? AND (state = ? OR (? = '' AND state NOT IN (?, ?, ?, ?))) ORDER BY command.idx"
)


class OutgoingCommand(msgspec.Struct, frozen=True):
    """A command of an own client system; times are header texts, `waits_for` is the id of another one's record."""

    idx: int
    state: str
    sent_at: str | None
    delivered_at: str | None
    code: str
    header: Header
    waits_for: str = ""


def find_outgoing(path: Path, wanted: Wanted) -> list[OutgoingCommand]:
    """What is wanted, the oldest first; without a wanted state, what has no end yet.

    Args:
        path: of the log's database.
        wanted: which.

    Raises:
        SourceUnreadable: the database cannot be read.
    """
    found: list[OutgoingCommand] = []
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            for idx, state, sent, taken, code, data in db.execute(
                _READ, (wanted.after_idx, wanted.state, wanted.state, *_CLOSED)
            ):
                one = OutgoingCommand(idx, state, sent, taken, code, header.decode(leaf.unwrap(data)[1]))
                if _is_wanted(one, wanted):
                    found.append(one)
                if len(found) >= wanted.limit:
                    break
    except sqlite3.Error as error:
        raise SourceUnreadable(f"the exchange log {path} cannot be read ({error})") from error
    return found


def _is_wanted(one: OutgoingCommand, wanted: Wanted) -> bool:
    head = one.header
    if wanted.ids and head.id not in wanted.ids:
        return False
    if wanted.service and head.to != wanted.service and not head.to.endswith(f"/{wanted.service}"):
        return False
    if wanted.code and one.code != wanted.code:
        return False
    before_s = wanted.taken_before_s
    return before_s is None or header.decode_time(head.time).timestamp() < before_s
