"""Which nodes of the own member work: each says so again and again at the broker, by whose clock the others judge.

A node may trust in what it holds for as long as nobody can take it for dead; it counts that from before it spoke, by
its own monotonic clock, so that no pause of the process can mislead it. Another node is dead when the broker heard
nothing from it for the whole time in which this node was heard without a gap: after an outage of the broker everybody
is given time to come back. Holds no command.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bus import errors
from bus.ports import Clock, WorkBoard
from bus.transport import subjects
from registry.view import DirectoryView

_TRUSTED = 0.8
_RENEWALS = 5
_SKEW_S = 120.0
_SEEN_S = 5.0


_DEAD = b"dead"


class Word(msgspec.Struct, frozen=True):
    """What a node says: which process it is."""

    run: str


@dataclass(slots=True)
class _Heard:
    """Own renewals without a gap, by the broker's clock and by the own one."""

    first_s: float
    last_s: float


class Leases:
    """The sign of life of one node, and those of the others.

    Args:
        node: identifier.
        member: identifier.
        clock: time and randomness.
        board: shared by the nodes.
        directory: as it is known.
        dead_s: how long nothing is heard of a node before another one takes its work over.
    """

    def __init__(
        self,
        node: str,
        member: str,
        clock: Clock,
        board: WorkBoard,
        directory: Callable[[], DirectoryView],
        dead_s: float = 10.0,
    ) -> None:
        self._node = node
        self._member = member
        self._clock = clock
        self._board = board
        self._directory = directory
        self._dead_s = dead_s
        self._run = clock.random(8).hex()
        self._number = 0
        self._size = -1
        self._seen_s = float("-inf")
        self._others: frozenset[str] = frozenset()
        self._present: set[str] = set()
        self._heard: _Heard | None = None
        self._spoken_s = float("-inf")
        self._trusted_until_s = float("-inf")
        self._began_s = float("inf")

    @property
    def renew_s(self) -> float:
        """How often the sign of life is given."""
        return self._dead_s / _RENEWALS

    @property
    def trusted(self) -> bool:
        """Whether no other node can take this one for dead now."""
        return self._clock.monotonic() < self._trusted_until_s

    def others(self) -> frozenset[str]:
        """The other nodes of the member that may work now."""
        view, now_s = self._directory(), self._clock.monotonic()
        if view.size != self._size or now_s > self._seen_s + _SEEN_S:
            now, self._seen_s = self._clock.now(), now_s
            nodes = (one for one in view.nodes_of(self._member) if one.node != self._node and one.usable(now))
            self._others, self._size = frozenset(one.node for one in nodes), view.size
        return self._others

    def all_present(self) -> bool:
        """Whether each other node has spoken since the work stream began: all that it did is known there."""
        return self.others() <= self._present

    def began_before(self, at_s: float) -> bool:
        """Whether the work stream is there since well before that time of any clock: no node did such a thing alone."""
        return at_s > self._began_s + _SKEW_S

    @property
    def began_s(self) -> float:
        """When the work stream began, by the broker's clock."""
        return self._began_s

    async def begin(self) -> bool:
        """Looks since when the work stream is there; True when it is another one than before.

        Raises:
            BusError: it cannot be told.
        """
        subject = subjects.beginning(self._member)
        first = await self._board.last(subject)
        if first is None:
            await self._board.put(subject, b"", 0)
            first = await self._board.last(subject)
        began_s = self._began_s if first is None else first.at_s
        changed, self._began_s = began_s != self._began_s, began_s
        if changed:
            self._present.clear()
        return changed

    async def renew(self) -> bool:
        """Gives the sign of life; False when somebody else spoke in this node's name, or the broker has forgotten it.

        Raises:
            BusError: it is not known to have been given.
        """
        before_s = self._clock.monotonic()
        subject, data = subjects.lease(self._node), msgspec.msgpack.encode(Word(self._run))
        number = await self._board.put(subject, data, self._number)
        told = await self._board.last(subject)
        if number is None and told is not None and told.data == data:  # an earlier one, whose answer was lost
            number = told.number
        if number is None or told is None:
            self._number = 0 if told is None else told.number
            self._heard, self._trusted_until_s = None, float("-inf")
            return False
        self._number = number
        if self._heard is None or before_s - self._spoken_s > self._dead_s:
            self._heard = _Heard(told.at_s, told.at_s)
        self._heard.last_s = told.at_s
        self._spoken_s = before_s
        self._trusted_until_s = before_s + _TRUSTED * self._dead_s
        return True

    async def keep(self) -> None:
        """Gives the sign of life when it is time to, in the middle of something long.

        Raises:
            ClaimUncertain: this node may have been taken for dead.
            BusError: it is not known to have been given.
        """
        if self._clock.monotonic() - self._spoken_s > self.renew_s and not (self.trusted and await self.renew()):
            raise errors.ClaimUncertain("another node of this member may have taken this one for dead")

    async def look(self) -> list[str]:
        """Reads the others' signs of life; those that are dead.

        Raises:
            BusError: they cannot be read.
        """
        return [node for node in self.others() if await self._is_dead(node)]

    async def _is_dead(self, node: str) -> bool:
        """Dead is whose sign of life could be replaced: a read alone may come from a server that is behind."""
        subject = subjects.lease(node)
        entry = await self._board.last(subject)
        if entry is None:
            return False
        self._present.add(node)
        if entry.data == _DEAD:
            return True
        return self.is_old(entry.at_s) and await self._board.put(subject, _DEAD, entry.number) is not None

    @property
    def settled_s(self) -> float:
        """By when (broker's clock, seconds since 1970) whatever this node has begun by now is old, if it was left."""
        return (self._heard.last_s if self._heard is not None else 0.0) + self._dead_s

    def is_old(self, at_s: float) -> bool:
        """Whether what the broker heard then (seconds since 1970) is too old for a node that works."""
        heard = self._heard
        return heard is not None and heard.last_s - max(at_s, heard.first_s) > self._dead_s
