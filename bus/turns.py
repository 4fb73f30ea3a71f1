"""How many go on in one turn of the event loop.

A burst of messages that is worked off in one turn makes the next process wait for all of it, and its answer comes back
as a burst again: two gateways then take turns at being idle. In small portions, records of the first ones are committed
and sent while the rest is still being worked on. bench/README.md has the figures. It bounds nothing and drops nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque

PORTION = 4


class Turnstile:
    """Lets `portion` callers through in each turn of the event loop; the others wait, first come, first served."""

    __slots__ = ("_left", "_portion", "_turning", "_waiting")

    def __init__(self, portion: int = PORTION) -> None:
        self._portion = portion
        self._left = portion
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False

    async def enter(self) -> None:
        """Returns at once, or in a later turn."""
        loop = asyncio.get_running_loop()
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn, loop)
        if self._left:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        left = self._portion
        while left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # a caller that was cancelled takes nobody's place
                turn.set_result(None)
                left -= 1
        self._turning = left < self._portion
        self._left = left
        if self._turning:
            loop.call_soon(self._turn, loop)
