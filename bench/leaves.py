"""Records for the measurements of the log alone: real headers in shape and size, each with an id of its own."""

from __future__ import annotations

from collections.abc import Iterator

from evidence import header, leaf
from evidence.header import Header

_ID = "01890000-0000-7000-8000-{:012x}"
GENESIS = "5e" * 32
NODE = "VN-BENCH/GOV/C01/@n1"


def records(start: int, count: int) -> Iterator[bytes]:
    """Leaves of queries, numbered from `start`."""
    before, after = _around()
    for number in range(start, start + count):
        yield before + _ID.format(number).encode() + after


def _around() -> tuple[bytes, bytes]:
    first = _ID.format(0)
    made = leaf.wrap(
        leaf.EXCHANGE,
        header.encode(
            Header(
                specversion="1.0",
                id=first,
                time="2026-01-31T08:00:00.000000Z",
                type="query",
                source="VN-BENCH/GOV/C01/asker",
                node=NODE,
                to="VN-BENCH/GOV/P01/store/items",
                operation="readItem",
                expires="2026-01-31T08:00:10.000000Z",
                keyid="ab" * 32,
                sealdigest="cd" * 32,
                partdigest="ef" * 32,
                bodydigest="01" * 32,
                dir=f"12 {'23' * 32}",
            )
        ),
    )
    before, _, after = made.partition(first.encode())
    return before, after
