"""Who called a service, counted from the provider's own exchange log: what others asked is evidence, not a guess."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evidence import header
from evidence.leaf import EXCHANGE, unwrap
from evidence.log.reader import LogReader

_CHUNK = 1024


@dataclass(slots=True)
class Calls:
    """Calls of one operation by one client: how many, and the first and the last of them."""

    count: int
    first: str
    last: str


def callers(log: Path, service: str, since_at: datetime) -> dict[tuple[str, str], Calls]:
    """Calls of a service, by (operation, client).

    Args:
        log: the provider's log.db; the gateway may be running.
        service: its identifier.
        since_at: the log is read backwards down to records of that time.

    Raises:
        EvidenceError: the log cannot be read.
    """
    oldest = header.encode_time(since_at)
    found: dict[tuple[str, str], Calls] = {}
    with LogReader(log) as reader:
        stop = reader.head().size
        while stop > 0:
            start = max(0, stop - _CHUNK)
            reached = False
            for _, _, leaf in reversed(list(reader.leaves(start, stop))):
                kind, data = unwrap(leaf)
                if kind != EXCHANGE:
                    continue
                record = header.decode(data)
                reached = reached or record.time < oldest
                if record.type in ("query", "command") and record.to == service and record.time >= oldest:
                    _count(found, (record.operation or "", record.source), record.time)
            # a sender's clock may be a little off: one more chunk than the first old record
            stop = 0 if reached else start
    return found


def _count(found: dict[tuple[str, str], Calls], key: tuple[str, str], time: str) -> None:
    calls = found.setdefault(key, Calls(0, time, time))
    calls.count += 1
    calls.first, calls.last = min(calls.first, time), max(calls.last, time)
