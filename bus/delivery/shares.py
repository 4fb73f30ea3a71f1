"""Room that several holders share: what one may hold of it depends on what is still free. Pure.

The rule of shared buffers in switches (dynamic thresholds, Choudhury and Hahne 1998): a holder may take more while it
holds less than a multiple of what is free. Who is alone gets most of the room, a second one still finds some, and as
long as anything is free, who holds nothing may come in. Nothing is kept apart for anybody, and nothing is taken away.
"""

from __future__ import annotations

import sys
from collections import Counter

TIMES_FREE = 3
"""A holder alone gets three quarters; two that want everything three sevenths each."""


class Shares:
    """Counts what is held, by holder.

    Args:
        most: that all may hold together.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: Counter[str] = Counter()
        self._used = 0

    @property
    def full(self) -> bool:
        """Whether all together hold as much as there may be."""
        return self._used >= self.most

    def held(self, holder: str) -> int:
        """What a holder has."""
        return self._held.get(holder, 0)

    def exhausted(self, holder: str) -> bool:
        """Whether a holder may take no more now."""
        return self._held.get(holder, 0) >= TIMES_FREE * (self.most - self._used)

    def add(self, holder: str) -> str:
        """The holder has one more; its name, the same object each time."""
        holder = sys.intern(holder)
        self._held[holder] += 1
        self._used += 1
        return holder

    def remove(self, holder: str) -> None:
        """The holder has one less."""
        self._used -= 1
        left = self._held[holder] - 1
        if left:
            self._held[holder] = left
        else:
            del self._held[holder]
