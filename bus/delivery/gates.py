"""Gates: what is for a receiver whose stream takes nothing now waits in line, and costs no attempts. Pure.

A sender has a bounded share of a receiver's stream. While it is used up each further attempt would be refused, and
thousands of them would stand before what is for others. So the first refusal shuts the gate of that subject; after a
while some of the line, the oldest first, try again: a few while all of them are refused, more once one was taken.
What the broker had before stands in a line of its own, of which a quarter go: a copy may still lie there.

Holds no record, only log indexes. What has arrived, expired or was cancelled meanwhile takes no turn: after a long
outage thousands of those may stand before the first that still waits.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0
_FEW, _MANY = 4, 64
_PASSED_OVER = 1_024


class _Line:
    """Who stands in line, the oldest first; those who wait no more stand there, too, until it is found out."""

    def __init__(self, waits: Callable[[int], bool]) -> None:
        self._waits = waits
        self._heap: list[int] = []
        self._clear_at = _PASSED_OVER

    def __len__(self) -> int:
        return len(self._heap)

    def stand(self, idx: int) -> None:
        heapq.heappush(self._heap, idx)
        if len(self._heap) >= self._clear_at:  # at most half of a long line needs no turn any more
            self._heap = [one for one in self._heap if self._waits(one)]
            heapq.heapify(self._heap)
            self._clear_at = max(_PASSED_OVER, 2 * len(self._heap))

    def take(self, count: int) -> list[int]:
        found: list[int] = []
        for _ in range(_PASSED_OVER):
            if not self._heap or len(found) >= count:
                break
            idx = heapq.heappop(self._heap)
            if self._waits(idx):
                found.append(idx)
        return found


@dataclass(slots=True)
class _Gate:
    until_s: float
    line: _Line
    again: _Line
    wait_s: float = _FIRST_WAIT_S
    taken: bool = False

    def stand(self, idx: int, *, again: bool) -> None:
        (self.again if again else self.line).stand(idx)

    def turn(self, count: int) -> list[int]:
        repeats = self.again.take(max(count // 4, count - len(self.line)))
        return self.line.take(count - len(repeats)) + repeats


class Gates:
    """The gates that are shut; times are of a monotonic clock, seconds.

    Args:
        waits: whether a record still needs a turn.
    """

    def __init__(self, waits: Callable[[int], bool]) -> None:
        self._waits = waits
        self._shut: dict[str, _Gate] = {}

    def __len__(self) -> int:
        return len(self._shut)

    def wait(self, subject: str, idx: int, *, again: bool = False) -> bool:
        """Whether the record, or its repeat, has to wait: then it stands in line now."""
        gate = self._shut.get(subject)
        if gate is None:
            return False
        gate.stand(idx, again=again)
        return True

    def refused(self, subject: str, idx: int, now_s: float, *, again: bool = False) -> None:
        """The receiver's stream did not take a record: it stands in line, and the gate is shut for a while."""
        gate = self._shut.get(subject)
        if gate is None:
            gate = self._shut[subject] = _Gate(now_s + _FIRST_WAIT_S, _Line(self._waits), _Line(self._waits))
        gate.stand(idx, again=again)

    def taken(self, subject: str) -> None:
        """The receiver's stream took a record."""
        gate = self._shut.get(subject)
        if gate is not None:
            gate.taken = True

    def release(self, now_s: float, most: int = sys.maxsize) -> list[int]:
        """Those whose turn it is to try again; a gate without a line is open.

        Args:
            now_s: the clock.
            most: of all gates together; those that are due longest come first, the others stay due.
        """
        found: list[int] = []
        due = [(gate.until_s, subject) for subject, gate in self._shut.items() if now_s >= gate.until_s]
        for _, subject in sorted(due):
            if len(found) >= most:
                break
            gate = self._shut[subject]
            if not gate.line and not gate.again:
                del self._shut[subject]
                continue
            gate.wait_s = _FIRST_WAIT_S if gate.taken else min(2 * gate.wait_s, _LONGEST_WAIT_S)
            turn = gate.turn(min(_MANY if gate.taken else _FEW, most - len(found)))
            found += turn
            # who only passed over those that are gone comes again soon
            gate.until_s, gate.taken = now_s + (gate.wait_s if turn else _FIRST_WAIT_S), False
        return found

    def next_s(self) -> float | None:
        """When the next gate is due; None while all are open."""
        return min((gate.until_s for gate in self._shut.values()), default=None)
