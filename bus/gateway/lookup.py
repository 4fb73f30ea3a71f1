"""Finding the records of one exchange in a log, by the time in its id (UUIDv7, RFC 9562 section 5.7).

A log has no index by id. Its records stand in the order of their commits, a few minutes at most from the order of their
times: a binary search finds where to begin. Verifies nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evidence import header
from evidence.header import Header
from evidence.leaf import EXCHANGE, unwrap
from evidence.log.reader import LogReader
from evidence.merkle import leaf_hash

_AROUND = timedelta(seconds=600)
_MOST_LEAVES = 1_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """A record: position and leaf."""

    index: int
    leaf: bytes


def find_exchange(log: Path, record_id: str) -> list[Found]:
    """The request with that id, and what replies to it, in the order of the log.

    Args:
        log: database of a log; its writer may be running.
        record_id: a UUIDv7.

    Raises:
        EvidenceError: the log cannot be read.
    """
    sent_at = datetime.fromtimestamp(int(record_id.replace("-", "")[:12], 16) / 1000, UTC)
    first, last = header.encode_time(sent_at - _AROUND), header.encode_time(sent_at + _AROUND)
    found: list[Found] = []
    hashes: set[str] = set()
    with LogReader(log) as reader:
        size = reader.head().size
        start = _first_after(reader, size, first)
        for index, _, leaf in reader.leaves(start, min(size, start + _MOST_LEAVES)):
            record = _header(leaf)
            if record is None:
                continue
            if record.time > last:
                break
            if record.id == record_id or (record.inreplyto or "") in hashes:
                found.append(Found(index, leaf))
                hashes.add(leaf_hash(leaf).hex())
    return found


def _first_after(reader: LogReader, size: int, time: str) -> int:
    """An index before which no record is of that time or later, but for clocks that are off."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        at, record = _next_record(reader, middle, high)
        if record is None or record.time >= time:
            high = middle
        else:
            low = at + 1
    return low


def _next_record(reader: LogReader, index: int, stop: int) -> tuple[int, Header | None]:
    for at, _, leaf in reader.leaves(index, stop):
        record = _header(leaf)
        if record is not None:
            return at, record
    return stop, None


def _header(leaf: bytes) -> Header | None:
    kind, data = unwrap(leaf)
    return header.decode(data) if kind == EXCHANGE else None
