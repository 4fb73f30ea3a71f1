"""One long-lived thread for the blocking steps of a log.

Only commits, checkpoints and reopening run here. A thread of its own, because the default executor is shared: a slow
file read elsewhere must never stand before a commit.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class WriterThread:
    """Runs jobs one after another and reports each in the event loop that made the thread."""

    __slots__ = ("_jobs", "_loop", "_thread")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # unbounded, but its owner has at most one job under way
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="exchange-log-writer", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], _Result], done: Callable[[_Result | None, BaseException | None], None]) -> None:
        """Run `job` in the thread, then `done(result, error)` in the event loop."""
        self._jobs.put((job, done))

    async def run(self, job: Callable[[], _Result]) -> _Result:
        """Run `job` in the thread and wait for it; cancelling the wait does not stop the job."""
        future: asyncio.Future[_Result] = self._loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.submit(job, done)
        return await future

    def stop(self, deadline_s: float) -> bool:
        """End the thread after the jobs that were submitted; whether it has ended within the deadline."""
        self._jobs.put(None)
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            result, error = None, None
            try:
                result = job()
            except BaseException as caught:
                error = caught
            try:
                self._loop.call_soon_threadsafe(done, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody is left to tell
