"""Notices: what the provider's gateway tells of a command between its receipt and its result.

A notice is a `receipt` with contents: JSON `{"state": "processing" | "dead", "code", "detail", "attempts", "next"}`, of
class ok or failed. A receipt without contents is the plain one. This module reads them for the asking side and makes
the rows of a command that follow from them; it takes no message.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from bus.delivery.store import Command
from bus.exchange.keeping import Row
from bus.exchange.verification import VerifiedRecord
from evidence import header
from evidence.errors import EvidenceError

_UNLESS_NEWER = (
    " closed_at = NULL WHERE idx = ? AND closing_idx IS NULL AND state NOT IN ('completed', 'failed', 'cancelled')"
    " AND (notice_pos IS NULL OR notice_node <> ? OR notice_pos < ?)"
)
_PROCESSING = (
    "UPDATE command SET processing_idx = ?, state = 'processing', processing_at = ?, code = '', notice = ?,"  # noqa: S608
    " notice_node = ?, notice_pos = ?," + _UNLESS_NEWER
)
_DEAD = (
    "UPDATE command SET dead_idx = ?, state = 'dead', dead_at = ?, code = ?, notice = ?, notice_node = ?,"  # noqa: S608
    " notice_pos = ?," + _UNLESS_NEWER
)
_CODE = re.compile(r"[a-z0-9-]{1,64}")
_MOST_CHARACTERS = 500


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Contents of a notice.

    Attributes:
        state: processing, or dead: the provider has given up until a person acts.
        code: error code of the last attempt.
        detail: for a person.
        attempts: how often the back end was asked.
        next: header time of the next attempt.
    """

    state: Literal["processing", "dead"]
    code: str = ""
    detail: str = ""
    attempts: int = 0
    next: str = ""


_decode = msgspec.json.Decoder(Notice).decode
_encode = msgspec.json.Encoder().encode


def read_notice(body: bytes) -> Notice | None:
    """The notice in a receipt's contents, cut to what may be shown; None when there is none that can be read."""
    try:
        told = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return Notice(
        told.state,
        told.code if _CODE.fullmatch(told.code) else "",
        "".join(one for one in told.detail if one.isprintable())[:_MOST_CHARACTERS],
        min(max(told.attempts, 0), 1_000_000),
        told.next if _is_time(told.next) else "",
    )


def is_news(command: Command, record: VerifiedRecord) -> bool:
    """Whether a notice says something of a command that is open, and not older than what is known."""
    if command.closing_idx is not None or command.state in ("completed", "failed", "cancelled"):
        return False
    if command.notice_pos is None or command.notice_node != record.header.node:
        return True
    return record.envelope.index > command.notice_pos


def notice_row(position: int, command: Command, record: VerifiedRecord, notice: Notice, at: str) -> Row:
    """The notice at `position` sets the command's state, unless something newer has."""
    node, index = record.header.node, record.envelope.index
    told = (_encode(notice).decode(), node, index, command.idx, node, index)
    if notice.state == "dead":
        return position, _DEAD, (at, notice.code, *told)
    return position, _PROCESSING, (at, *told)


def shown(stored: str) -> dict[str, object]:
    """What a client system is told of a stored notice."""
    told = msgspec.json.decode(stored)
    return {name: told[name] for name in ("code", "detail", "attempts", "next") if name in told}


def _is_time(text: str) -> bool:
    try:
        header.decode_time(text)
    except (EvidenceError, ValueError):
        return False
    return True
