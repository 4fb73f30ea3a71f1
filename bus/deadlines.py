"""Many deadlines, one timer.

A timer of its own for each call costs as much as sealing it. Here all of them are looked at together every few
milliseconds while there are any: a deadline is kept to within one tick, never early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

_TICK_S = 0.02


class Deadlines:
    """Deadlines of one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[float, Callable[[], None]]] = {}
        self._next = 0
        self._ticking = False

    def add(self, after_s: float, expire: Callable[[], None]) -> int:
        """Calls `expire` once `after_s` seconds have passed, unless it is dropped; a token for `drop`."""
        loop = asyncio.get_running_loop()
        self._next += 1
        self._waiting[self._next] = (loop.time() + after_s, expire)
        if not self._ticking:
            self._ticking = True
            loop.call_later(_TICK_S, self._tick, loop)
        return self._next

    def drop(self, token: int) -> None:
        """Forgets a deadline; one that has passed is forgotten already."""
        self._waiting.pop(token, None)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        for token in [token for token, (at_s, _) in self._waiting.items() if at_s <= now_s]:
            self._waiting.pop(token)[1]()
        self._ticking = bool(self._waiting)
        if self._ticking:
            loop.call_later(_TICK_S, self._tick, loop)

    def within(self, seconds: float) -> Within:
        """As `asyncio.timeout`: a block that is cancelled, and left with TimeoutError, when its time is over."""
        return Within(self, seconds)


class Within:
    """A block with a deadline; see `Deadlines.within`."""

    __slots__ = ("_deadlines", "_over", "_seconds", "_task", "_token")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._over = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._token = self._deadlines.add(self._seconds, self._expire)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.drop(self._token)
        # Ours, unless somebody else cancels the task too: then that goes on.
        if self._over and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _expire(self) -> None:
        self._over = True
        self._task.cancel()
