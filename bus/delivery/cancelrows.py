"""The wish to cancel a command: its contents on the wire, and its rows on both sides. Decides nothing.

The reserved operation has a colon, so no contract can have it. Contents: JSON with the leaf hash (`command`) and the
record id (`id`) of the command.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from bus.exchange.composing import Draft
from bus.exchange.keeping import Row
from evidence.merkle import leaf_hash

CANCEL = "lienthong:cancel"
TABLES = (
    (
        "CREATE TABLE IF NOT EXISTS cancel (idx INTEGER PRIMARY KEY, leaf_hash BLOB NOT NULL UNIQUE, target_idx INTEGER"
        " NOT NULL UNIQUE, at TEXT NOT NULL, answer TEXT)"
    ),
    (
        "CREATE TABLE IF NOT EXISTS cancelled (sender TEXT NOT NULL, leaf_hash BLOB NOT NULL, until_s INTEGER NOT NULL,"
        " PRIMARY KEY (sender, leaf_hash)) WITHOUT ROWID"
    ),
)
OF_HASH = "SELECT cancel.idx, target_idx, leaf.data FROM cancel JOIN leaf USING (idx) WHERE cancel.leaf_hash = ?"
MARKS = "SELECT sender, leaf_hash, until_s FROM cancelled ORDER BY until_s"
_WISH = "INSERT INTO cancel (idx, leaf_hash, target_idx, at) VALUES (?, ?, ?, ?)"
_ANSWER = "UPDATE cancel SET answer = ? WHERE idx = ?"
_CANCELLED = (
    "UPDATE command SET outcome_idx = ?, state = 'cancelled', closed_at = ? WHERE idx = ? AND receipt_idx IS NULL"
    " AND closing_idx IS NULL AND state IN ('accepted', 'expired')"
)
_MARK = "INSERT OR IGNORE INTO cancelled (sender, leaf_hash, until_s) VALUES (?, ?, ?)"
FORGET = "DELETE FROM cancelled WHERE until_s < ?"


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """Which command is to be cancelled.

    Attributes:
        command: leaf hash of its record, 64 hex digits.
        id: its record id.
    """

    command: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    id: Annotated[str, msgspec.Meta(max_length=36)]


def cancel_row(position: int, draft: Draft, target_idx: int) -> Row:
    """The record at `position` asks the provider to cancel the command at log index `target_idx`."""
    return position, _WISH, (leaf_hash(draft.leaf), target_idx, draft.header.time)


def answer_row(idx: int, code: str) -> Row:
    """The wish at log index `idx` was refused with that code."""
    return None, _ANSWER, (code, idx)


def cancelled_row(position: int, idx: int, at: str) -> Row:
    """The record at `position` says that the command at log index `idx` has no effect any more."""
    return position, _CANCELLED, (at, idx)


def mark_row(sender: str, hashed: bytes, until_s: int) -> Row:
    """At the provider: that command of the sender is refused if it comes."""
    return None, _MARK, (sender, hashed, until_s)
