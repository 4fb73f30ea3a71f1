"""Receipts that a receiver's stream did not take: they stand in line, so that nobody waits for a receiver.

A sender's share of a receiver's stream is used up for moments whenever the receiver is the slower one. Each receipt
that is lost then costs a repeat of what it is for, and its verification. Kept in memory only and bounded: what ends
with the process, or finds no room, is asked for again by whoever misses it. The longest line makes room for shorter
ones, so that receivers that take nothing do not use up that of others; after a quarter of an hour nothing is kept for
them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from bus import errors
from bus.ports import Queues

_MOST, _MOST_BYTES = 1_024, 16 * 1024 * 1024
_BEHIND, _STUCK_S = 256, 5.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0
_GIVEN_UP_S = 900.0
_BATCH = 64


@dataclass(slots=True)
class _Line:
    """Messages with their ids, by receipt, the oldest first; when the receiver's stream last took one."""

    taken_s: float
    waiting: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    held_bytes: int = 0


class Owed:
    """The lines of one node.

    Args:
        queues: of the broker.
        monotonic: clock, seconds.
    """

    def __init__(self, queues: Queues, monotonic: Callable[[], float]) -> None:
        self._queues = queues
        self._monotonic = monotonic
        self._lines: dict[str, _Line] = {}
        self._drains: set[asyncio.Task[None]] = set()
        self._bytes = 0

    def __len__(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    def is_owed(self, subject: str) -> bool:
        """Whether something stands in line for that subject."""
        return subject in self._lines

    def is_behind(self, member: str) -> bool:
        """Whether so much stands in line for a member that goes on taking, that nothing more should be taken from it.

        Args:
            member: token of the member, as in subjects.
        """
        return any(
            len(line.waiting) >= _BEHIND
            and subject.split(".")[2] == member
            and self._monotonic() - line.taken_s < _STUCK_S
            for subject, line in self._lines.items()
        )

    def stand(self, subject: str, receipt_id: str, data: bytes, message_id: str) -> bool:
        """Puts a receipt into the line; False when there is no room."""
        line = self._lines.get(subject)
        if line is not None and receipt_id in line.waiting:
            return True
        if line is not None and len(line.waiting) >= _MOST:
            return False
        if not self._made_room(len(data), 0 if line is None else line.held_bytes):
            return False
        if line is None:
            line = self._lines[subject] = _Line(self._monotonic())
            drain = asyncio.create_task(self._drain(subject, line))
            self._drains.add(drain)
            drain.add_done_callback(self._drains.discard)
        line.waiting[receipt_id] = data, message_id
        self._count(line, len(data))
        return True

    def _made_room(self, size_bytes: int, held_bytes: int) -> bool:
        """Room for so many bytes in a line that holds so many: the newest of the longest line go."""
        while self._bytes + size_bytes > _MOST_BYTES:
            longest = max(self._lines.values(), key=lambda line: line.held_bytes, default=None)
            if longest is None or longest.held_bytes <= held_bytes + size_bytes:
                return False
            _, (data, _) = longest.waiting.popitem()
            self._count(longest, -len(data))
        return True

    def _count(self, line: _Line, size_bytes: int) -> None:
        line.held_bytes += size_bytes
        self._bytes += size_bytes

    async def _drain(self, subject: str, line: _Line) -> None:
        try:
            await self._give(subject, line)
        finally:  # whatever ended it, the next receipt tries anew
            del self._lines[subject]
            self._bytes -= line.held_bytes

    async def _give(self, subject: str, line: _Line) -> None:
        wait_s, refused_s = _FIRST_WAIT_S, 0.0
        while line.waiting and refused_s < _GIVEN_UP_S:
            await asyncio.sleep(wait_s)
            if not self._queues.connected:
                continue
            refused_s += wait_s
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            for receipt_id, (data, message_id) in list(line.waiting.items())[:_BATCH]:
                if receipt_id not in line.waiting:  # it made room
                    continue
                try:
                    await self._queues.put(subject, data, message_id)
                except errors.BusError:
                    break
                if line.waiting.pop(receipt_id, None) is not None:
                    self._count(line, -len(data))
                line.taken_s, wait_s, refused_s = self._monotonic(), _FIRST_WAIT_S, 0.0

    async def close(self) -> None:
        """Lets go of what stands in line."""
        drains = list(self._drains)
        for drain in drains:
            drain.cancel()
        await asyncio.gather(*drains, return_exceptions=True)
