"""What an operator does with commands of others that this node has taken: look, bring back, end.

Every act names its reason and is an admin record, in the commit of the change itself. Bringing back keeps the exchange
id, so that a source that remembers ids does nothing twice. Who may act is decided at the admin port.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from bus import errors
from bus.delivery.attempts import AttemptBook, Made
from bus.delivery.claims import Claims
from bus.delivery.running import TaskRunner
from bus.delivery.taskrecords import Origin, TaskRecords
from bus.delivery.tasks import Task, TaskReader, Wanted
from evidence.errors import EvidenceError
from evidence.header import Header

Act = Literal["redrive", "discard"]
Fate = Literal["redriven", "due-now", "discarded", "busy", "would-redrive", "would-discard", "failed", "not-now"]
WriteAct = Callable[[str], bytes]
"""The admin leaf of an act at the command with that id."""


class Letter(msgspec.Struct, frozen=True):
    """A task as an operator sees it; `doing` while an attempt is under way."""

    task: Task
    header: Header
    made: Made
    doing: bool = False


class DeadLetters:
    """The tasks of one node, for its operators.

    Args:
        tasks: what is open.
        book: attempts.
        runner: works them off.
        records: logs what is done.
        claims: of the node.
    """

    def __init__(
        self, tasks: TaskReader, book: AttemptBook, runner: TaskRunner, records: TaskRecords, claims: Claims
    ) -> None:
        self._tasks = tasks
        self._book = book
        self._runner = runner
        self._records = records
        self._claims = claims

    async def find(self, wanted: Wanted) -> list[Letter]:
        """What is open and wanted, the oldest first."""
        found = await self._tasks.find(wanted)
        made = await self._book.get_all(task.idx for task, _ in found if task.state == "waiting")
        return [
            Letter(task, head, made.get(task.idx) or _told(task), self._runner.is_doing(task.idx))
            for task, head in found
        ]

    async def do(
        self, act: Act, wanted: Wanted, reason: str, write: WriteAct, *, dry: bool
    ) -> list[tuple[Letter, Fate]]:
        """Does it to all that are wanted; what became of each.

        Args:
            act: what is done.
            wanted: to which.
            reason: why; the sender of what is discarded reads it.
            write: makes the admin record.
            dry: only tell what would be done.

        Raises:
            LogUnwritable, ClaimUncertain: it was done to none. After the first, the rest are told as `not-now`.
        """
        letters = await self.find(wanted)
        if dry:
            return [(letter, "would-redrive" if act == "redrive" else "would-discard") for letter in letters]
        done: list[tuple[Letter, Fate]] = []
        for letter in letters:
            try:
                done.append((letter, await self._one(act, letter.task.idx, reason, write)))
            except errors.BusError:  # log or broker is away: the others would fare no better
                if not done:
                    raise
                return [*done, *((one, "not-now") for one in letters[len(done) :])]
        return done

    async def _one(self, act: Act, idx: int, reason: str, write: WriteAct) -> Fate:
        with self._runner.hold(idx) as held:
            if not held:
                return "busy"
            task = await self._tasks.read(idx)  # it may have changed since it was found
            origin = await self._tasks.origin(idx)
            if task is None or origin is None or not self._claims.holds(origin[1]):
                return "failed"
            try:
                fate = await self._change(act, task, Origin(idx, *origin), reason, write(task.id))
            except EvidenceError as error:
                self._runner.doubt()
                raise errors.LogUnwritable("the act cannot be recorded, so it is not done") from error
        if act == "redrive":
            self._runner.put(idx, task.service)
        return fate

    async def _change(self, act: Act, task: Task, origin: Origin, reason: str, leaf: bytes) -> Fate:
        if act == "discard":
            await self._records.discarded(origin, leaf, reason)
            self._runner.forget(task.idx)
            return "discarded"
        if task.state == "dead":
            await self._records.redriven(origin, leaf)
            return "redriven"
        await self._records.noted(leaf)
        return "due-now"


def _told(task: Task) -> Made:
    return Made(task.attempts, 0.0, task.code, task.detail)
