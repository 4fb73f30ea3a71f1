"""Works the tasks of a node off: who is tried now, who waits, how many at once.

The tasks stand in the store; in memory are only the times of the next attempts. Of one service only so many are under
way at once, so that a back end that hangs holds up nobody else's tasks. Nothing is begun while the log cannot be
written: the result could not be kept. What an attempt is, is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import structlog

from bus.delivery.attempts import AttemptBook
from bus.delivery.doing import CommandDoer, Ready
from bus.delivery.schedule import Schedule
from bus.delivery.tasks import Crowd, TaskReader
from bus.errors import BusError, TooManyInFlight
from bus.exchange.limits import InFlight
from bus.ports import Clock
from evidence.errors import EvidenceError
from evidence.log import ExchangeLog

_log = structlog.get_logger("lienthong.delivery")
_BUSY_S, _LATER_S, _LONGEST_SLEEP_S = 0.25, 5.0, 0.5


class TaskRunner:
    """The tasks of one node.

    Args:
        clock: time.
        log: whether it can be written.
        tasks: what is open.
        book: when the next attempts are.
        doer: makes them.
        served: calls under way by service, shared with queries.
        limit: most calls of a service at once, as its service document says; None without one.
        at_once: most attempts of one service under way.
        most: most tasks that are taken.
        longest_s: longest wait between attempts of a service: a time that a wrong clock has left is no later.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        log: ExchangeLog,
        tasks: TaskReader,
        book: AttemptBook,
        doer: CommandDoer,
        served: InFlight,
        limit: Callable[[str], int | None],
        at_once: int,
        most: int,
        longest_s: Callable[[str], float],
    ) -> None:
        self._clock = clock
        self._log = log
        self._tasks = tasks
        self._book = book
        self._doer = doer
        self._served = served
        self._limit = limit
        self._at_once = at_once
        self._most = most
        self._longest_s = longest_s
        self._schedule = Schedule()
        self._doing: dict[int, asyncio.Task[None]] = {}
        self._held: set[int] = set()
        self._under_way: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._in_doubt = False
        self._stopping = False
        self.crowds: list[Crowd] = []

    def full(self, service: str) -> bool:
        """Whether no further command of a service can be taken now: it stays with the broker.

        One service has half of the places: a back end that is away for days holds up no other service's commands.
        """
        waiting, own = len(self._schedule), self._schedule.count(service)
        return waiting + len(self._doing) >= self._most or own + self._under_way[service] >= max(1, self._most // 2)

    @property
    def under_way(self) -> dict[str, int]:
        """Attempts under way, by service."""
        return dict(self._under_way)

    def is_doing(self, idx: int) -> bool:
        """Whether an attempt at the task is under way."""
        return idx in self._doing

    def begin(self, idx: int, ready: Ready) -> None:
        """A command was taken: it is done now, or as soon as its service may have more."""
        service = ready.record.header.to
        if self._stopping or idx in self._doing or idx in self._schedule:
            return
        if not self._may(service) or not self._start(idx, service, lambda: self._doer.first(idx, ready)):
            self.put(idx, service)

    def put(self, idx: int, service: str, after_s: float = 0.0) -> None:
        """The task is tried then, unless it is being tried, or waits already for an earlier time."""
        if idx not in self._doing and idx not in self._held:
            self._schedule.put(idx, service, self._clock.monotonic() + after_s)
            self._wake.set()

    def put_if_unknown(self, idx: int, service: str) -> None:
        """The task is tried now if it is neither being tried nor waiting."""
        if idx not in self._schedule:
            self.put(idx, service)

    @contextlib.contextmanager
    def hold(self, idx: int) -> Iterator[bool]:
        """Nobody begins the task within the block. Gives False when an attempt at it is under way."""
        if idx in self._doing or idx in self._held:
            yield False
            return
        self._held.add(idx)
        try:
            yield True
        finally:
            self._held.discard(idx)

    def forget(self, idx: int) -> None:
        """The task has its end."""
        self._schedule.remove(idx)
        self._book.forget([idx])

    def doubt(self) -> None:
        """A commit's outcome is unknown: what it may have put into the store is looked for."""
        self._in_doubt = True
        self._wake.set()

    async def load(self) -> None:
        """Takes up what waits in the store, with the times that an earlier run has left."""
        due, now_s = await self._book.load(), self._clock.now().timestamp()
        waiting = await self._tasks.waiting()
        for idx, service in waiting:
            if idx not in self._schedule:
                self.put(idx, service, min(max(0.0, due.pop(idx, 0.0) - now_s), self._longest_s(service)))
            else:
                due.pop(idx, None)
        if due:
            self._book.forget(due)
        await self.count()

    async def count(self) -> None:
        """Brings `crowds` up to date."""
        self.crowds = await self._tasks.crowds()

    async def run(self) -> None:
        """Works off what is due, for ever."""
        while True:
            try:
                if self._in_doubt and self._log.writable:
                    self._in_doubt = False
                    await self.load()
                self.start_due()
            except EvidenceError as error:  # the log cannot be read now
                self._in_doubt = True
                _log.warning("tasks.wait", error=error.code)
            await self._pause()

    async def _pause(self) -> None:
        first_s = self._schedule.next_s(self._may) if self._log.writable else None
        left_s = _LONGEST_SLEEP_S if first_s is None else first_s - self._clock.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), min(max(left_s, 0.005), _LONGEST_SLEEP_S))
        self._wake.clear()

    def start_due(self) -> int:
        """Begins what is due now and may begin; how many attempts."""
        begun = 0
        while self._log.writable and not self._stopping:
            due = self._schedule.take(self._clock.monotonic(), self._may)
            for idx, service in due:
                if idx in self._held:
                    self._schedule.put(idx, service, self._clock.monotonic() + _BUSY_S)
                elif self._start(idx, service, self._again(idx)):
                    begun += 1
                else:
                    self.put(idx, service, _BUSY_S)
            if not due:
                break
        return begun

    def _again(self, idx: int) -> Callable[[], Awaitable[float | None]]:
        return lambda: self._doer.again(idx)

    def _may(self, service: str) -> bool:
        return self._under_way[service] < self._at_once

    def _start(self, idx: int, service: str, attempt: Callable[[], Awaitable[float | None]]) -> bool:
        try:
            self._served.enter(service, self._limit(service))
        except TooManyInFlight:
            return False
        self._under_way[service] += 1
        self._doing[idx] = asyncio.create_task(self._do(idx, service, attempt))
        return True

    async def _do(self, idx: int, service: str, attempt: Callable[[], Awaitable[float | None]]) -> None:
        after_s: float | None = _LATER_S
        try:
            after_s = await attempt()
        except (EvidenceError, BusError) as error:  # no log or no directory now
            _log.warning("command.not-tried", index=idx, code=error.code)
        except Exception as error:  # a defect: the others go on, and this one is tried again later
            _log.error("command.failed", index=idx, error=type(error).__name__, exc_info=error)
        finally:
            self._served.leave(service)
            self._under_way[service] -= 1
            del self._doing[idx]
            if after_s is not None:
                self.put(idx, service, after_s)
            self._wake.set()

    async def idle(self) -> None:
        """Waits until no attempt is under way."""
        while self._doing:
            await asyncio.wait(set(self._doing.values()))

    async def stop(self, grace_s: float) -> None:
        """Begins nothing more; what is under way may end, at most `grace_s` seconds."""
        self._stopping = True
        if self._doing:
            _, late = await asyncio.wait(set(self._doing.values()), timeout=max(0.0, grace_s))
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
