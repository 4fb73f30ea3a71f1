"""Trees of members' logs that documents of the directory name: such a tree existed when the document came in.

Pure, and bounded per log.
"""

from __future__ import annotations

from typing import NamedTuple

from registry.documents import ClosedLog, LogHead

MOST_DATED = 1024
"""Dated trees of one log that are remembered: of nearly three years, if a node is pinned daily.

Beyond that the one goes whose neighbours are closest in time: so many in a short time displace none of another time.
"""


class DatedTree(NamedTuple):
    """A tree of a node's log.

    Attributes:
        size: Leaves.
        root: 32 bytes.
        at: Index of the document in the directory's log.
        issued_s: When that document was issued, Unix seconds: its author's claim, between those before and after it.
    """

    size: int
    root: bytes
    at: int
    issued_s: float


class DatedTrees:
    """All of them, by the origin of the log."""

    def __init__(self) -> None:
        self._by_origin: dict[str, list[DatedTree]] = {}

    def of(self, origin: str) -> tuple[DatedTree, ...]:
        """Trees of one log, oldest first."""
        return tuple(self._by_origin.get(origin, ()))

    def add(self, origin: str, tree: LogHead | ClosedLog | None, at: int, issued_s: float) -> None:
        """Remembers a tree that a document named; an empty one says nothing."""
        if tree is None or not tree.size:
            return
        trees = self._by_origin.setdefault(origin, [])
        trees.append(DatedTree(tree.size, bytes.fromhex(tree.root), at, issued_s))
        if len(trees) > MOST_DATED:
            inner = range(1, len(trees) - 1)
            del trees[min(inner, key=lambda at: trees[at + 1].issued_s - trees[at - 1].issued_s)]
