"""What is logged about a task: each change that is told, and the row that changes with it, in one commit.

| change | record | told to the sender |
|---|---|---|
| processing | `receipt` with contents, class ok | the first attempt brought no result at once; it goes on |
| dead | `receipt` with contents, class failed | an operator has to decide |
| re-driven | the operator's act, `receipt` with contents, class ok | it is tried again, with the same id |
| result | `result` | its end |
| resumed | `receipt` with contents, as the task is | another node of the member had it meanwhile |
| discarded | the operator's act, `result` of class failed | its end |

A receipt with contents is a notice. Like a result it goes through the outbox until its receiver's receipt comes; the
contents are JSON: state, code, detail, attempts, next. Decides nothing about when what is said.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from bus import errors
from bus.delivery.claims import Claims
from bus.delivery.messages import first_message
from bus.delivery.outbox import Outbox
from bus.delivery.replying import Replier
from bus.delivery.store import outbox_row
from bus.delivery.tasks import (
    DETAIL_CHARS,
    Task,
    TaskReader,
    task_dead_row,
    task_done_row,
    task_redriven_row,
    task_resumed_row,
    task_told_row,
)
from bus.exchange.composing import Composer, Draft
from bus.exchange.keeping import Keeper, Row
from bus.exchange.problems import seal_problem
from bus.exchange.sourcing import Attempt, defect, problem_particulars
from bus.ports import Clock
from bus.sealing.contents import Particulars
from evidence import header
from evidence.errors import LogUnwritable
from evidence.header import AnswerClass, Header, OutcomeClass, Type
from evidence.log import ExchangeLog
from registry.view import SealingKeyEntry


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Contents of a notice.

    Attributes:
        state: processing or dead.
        code: why there is no result yet.
        detail: the same for a person.
        attempts: made so far.
        next: when the next one is.
    """

    state: Literal["processing", "dead"]
    code: str = ""
    detail: str = ""
    attempts: int = 0
    next: str = ""


class Origin(msgspec.Struct, frozen=True):
    """The command that a task is about: log index, header, leaf hash of the received record."""

    idx: int
    header: Header
    leaf_hash: bytes

    @property
    def member(self) -> str:
        """Who sent it."""
        return self.header.node.rpartition("/@")[0]


class TaskRecords:
    """Logs what becomes of tasks of one node.

    Args:
        clock: time.
        log: the exchange log.
        composer: of outcomes.
        keeper: of particulars.
        replier: composes what is said.
        tasks: what is open.
        outbox: takes what is said.
        claims: tells the member's other nodes.
        life_s: how long it waits there for its receipt.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        log: ExchangeLog,
        composer: Composer,
        keeper: Keeper,
        replier: Replier,
        tasks: TaskReader,
        outbox: Outbox,
        claims: Claims,
        life_s: float,
    ) -> None:
        self._clock = clock
        self._log = log
        self._composer = composer
        self._keeper = keeper
        self._replier = replier
        self._tasks = tasks
        self._outbox = outbox
        self._claims = claims
        self._life_s = life_s

    def _now_s(self) -> int:
        return int(self._clock.now().timestamp())

    async def processing(self, origin: Origin, code: str, detail: str, attempts: int, next_at: datetime | None) -> None:
        """The sender is told that it takes longer.

        Raises:
            EvidenceError: nothing was said.
            Dropped: it cannot be said to this sender now.
        """
        told = Notice("processing", code, detail[:DETAIL_CHARS], attempts, _text(next_at))
        row = task_told_row(origin.idx, attempts, code, detail, self._now_s())
        await self._commit(origin, [], self._notice(origin, told), row)

    async def dead(self, origin: Origin, code: str, detail: str, attempts: int) -> None:
        """It is a dead letter from now on; its sender is told, if it can be told anything.

        Raises:
            EvidenceError: it is as it was.
        """
        row = task_dead_row(origin.idx, attempts, code, detail, self._now_s())
        try:
            notice = self._notice(origin, Notice("dead", code, detail[:DETAIL_CHARS], attempts))
        except errors.Dropped:
            outcome = self._composer.outcome(origin.header, origin.leaf_hash.hex(), "unknown", self._clock.now())
            await self._log.append([outcome], [row])
        else:
            await self._commit(origin, [], notice, row)
        await self._claims.changed(origin.idx)

    async def lost(self, origin: Origin, *, attempted: bool) -> None:
        """Another node of this member has it now: the task is gone, and the log says that its end is not here.

        Raises:
            EvidenceError: it is as it was.
        """
        class_: OutcomeClass = "unknown" if attempted else "undelivered"
        outcome = self._composer.outcome(origin.header, origin.leaf_hash.hex(), class_, self._clock.now())
        rows = [task_done_row(origin.idx), *self._claims.lost_rows(origin.member, origin.leaf_hash)]
        await self._log.append([outcome], rows)

    async def resumed(self, origin: Origin, task: Task, until_s: int) -> None:
        """This node has a command again that it had let go to another one: the task is back, and its sender is told.

        Raises:
            EvidenceError: it is as it was.
        """
        rows = [task_resumed_row(origin.idx, task), *self._claims.back_rows(origin.leaf_hash, until_s)]
        told = Notice("processing", task.code, "another node of this member goes on with it", task.attempts)
        if task.state == "dead":
            told = Notice("dead", task.code, task.detail[:DETAIL_CHARS], task.attempts)
        try:
            notice = self._notice(origin, told)
        except errors.Dropped:
            outcome = self._composer.outcome(origin.header, origin.leaf_hash.hex(), "unknown", self._clock.now())
            await self._log.append([outcome], rows)
        else:
            await self._commit(origin, [], notice, *rows)

    async def redriven(self, origin: Origin, act: bytes) -> None:
        """An operator brings a dead letter back.

        Raises:
            EvidenceError: it is as it was.
        """
        row = task_redriven_row(origin.idx, self._now_s())
        try:
            notice = self._notice(
                origin, Notice("processing", "command-redriven", "an operator lets it be tried again")
            )
        except errors.Dropped:
            await self._log.append([act], [row])
        else:
            await self._commit(origin, [act], notice, row)
        await self._claims.changed(origin.idx)

    async def noted(self, act: bytes) -> None:
        """An operator's act that changes no state.

        Raises:
            EvidenceError: it is not recorded.
        """
        await self._log.append([act])

    async def discarded(self, origin: Origin, act: bytes, reason: str) -> None:
        """An operator ends it; the sender gets the reason as a result.

        Raises:
            EvidenceError: it is as it was.
        """
        row = task_done_row(origin.idx)
        failure = errors.CommandDiscarded(f"the provider's operator discarded the command: {reason}")
        try:
            draft = self._reply(origin, "result", "failed", problem_particulars(failure), seal_problem(failure))
        except errors.Dropped:
            await self._log.append([act], [row])
        else:
            await self._commit(origin, [act], draft, row)
        self._claims.done(origin.leaf_hash)

    async def result(self, origin: Origin, key: SealingKeyEntry, got: Attempt) -> None:
        """The end. It is logged, however long the log cannot be written: the effect is done."""
        try:
            draft = self._reply(origin, "result", got.class_, got.particulars, got.body, key)
        except Exception as error:  # what a source gave may not travel: that is a result too
            failure = defect("composing", origin.header.to, error)
            draft = self._reply(origin, "result", "failed", problem_particulars(failure), seal_problem(failure), key)
        while await self._tasks.open(origin.idx):
            try:
                await self._commit(origin, [], draft, task_done_row(origin.idx))
            except LogUnwritable:
                await self._log.until_writable()
            else:
                break
        self._claims.done(origin.leaf_hash)

    def _notice(self, origin: Origin, told: Notice) -> Draft:
        class_: AnswerClass = "failed" if told.state == "dead" else "ok"
        body = msgspec.json.encode(told)
        return self._reply(origin, "receipt", class_, Particulars(content_type="application/json"), body)

    def _reply(
        self,
        origin: Origin,
        type_: Type,
        class_: AnswerClass,
        particulars: Particulars,
        body: bytes,
        key: SealingKeyEntry | None = None,
    ) -> Draft:
        now = self._clock.now()
        key = key or self._replier.key_of(origin.member, now)
        return self._replier.compose(origin.header, origin.leaf_hash, key, type_, class_, now, particulars, body)

    async def _commit(self, origin: Origin, acts: list[bytes], draft: Draft, *changes: Row) -> None:
        now_s, at = self._now_s(), len(acts)
        subject = self._replier.subject(origin.header.node)
        rows = [
            self._keeper.particulars(at, draft.kept, self._clock.now()),
            outbox_row(at, draft, subject, now_s, now_s + int(self._life_s)),
            *changes,
            *self._claims.ended_rows(),
        ]
        try:
            logged = await self._log.append([*acts, draft.leaf], rows)
        except LogUnwritable:
            self._outbox.doubt()
            raise
        self._outbox.put(logged[at].index, now_s, first_message(draft, logged[at], subject), reply=subject)


def _text(at: datetime | None) -> str:
    return "" if at is None else header.encode_time(at)
