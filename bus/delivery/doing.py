"""One attempt at a command that has its receipt: the source is asked, and what follows from its answer.

What may pass (the source cannot be reached, is too slow, too busy or says so with 429, 502, 503 or 504) is tried again
with the same exchange id, until the rules of the service say that it is enough: then it is a dead letter. So is what
fails for good on our own side. Every other answer is the result. An attempt that ended in a timeout may have had its
effect: the source can tell by the exchange id.

Promised: the effect at least once while attempts go on; exactly once, unless an attempt ended without an answer, or
this node died or its log failed between the source's answer and the commit of the result. When which task is tried, is
not decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog

from bus import envelope as wire
from bus import errors
from bus.delivery.attempts import AttemptBook, Made, RetryRules
from bus.delivery.claims import Claims
from bus.delivery.replying import Replier
from bus.delivery.taskrecords import Origin, TaskRecords
from bus.delivery.tasks import Task, TaskReader
from bus.exchange.examining import Examined, Examiner
from bus.exchange.problems import seal_problem
from bus.exchange.sourcing import Attempt, Sourcing, defect, problem_particulars
from bus.exchange.verification import RecordVerifier, VerifiedRecord
from bus.ports import Clock, ExchangeObserver, TaskObserver
from evidence import header, leaf
from evidence.errors import EvidenceError
from evidence.merkle import leaf_hash
from registry.view import DirectoryView, SealingKeyEntry

_log = structlog.get_logger("lienthong.delivery")
_LATER_S, _LONGEST_LATER_S = 5.0, 60.0
_SLOW_S = 5.0
_UNCERTAIN_S = 0.2
STRANDED = "command-stranded"


class Ready(msgspec.Struct, frozen=True):
    """A command that was taken this moment: what an attempt needs is at hand."""

    record: VerifiedRecord
    examined: Examined
    key: SealingKeyEntry


class CommandDoer:
    """Attempts of one node. All collaborators are given; see the composition root.

    Args:
        rules: of a service, as the settings are now.
        slow_s: after this time without an answer the sender is told that it takes longer.
        believed: the time by which a command may be too old; None when it is not known.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        observer: ExchangeObserver,
        watcher: TaskObserver,
        directory: Callable[[], DirectoryView],
        examiner: Examiner,
        sourcing: Sourcing,
        verifier: RecordVerifier,
        replier: Replier,
        tasks: TaskReader,
        book: AttemptBook,
        records: TaskRecords,
        claims: Claims,
        rules: Callable[[str], RetryRules],
        max_envelope_bytes: int,
        slow_s: float = _SLOW_S,
        believed: Callable[[], datetime | None] | None = None,
    ) -> None:
        self._believed = believed or clock.now
        self._clock = clock
        self._observer = observer
        self._watcher = watcher
        self._directory = directory
        self._examiner = examiner
        self._sourcing = sourcing
        self._verifier = verifier
        self._replier = replier
        self._tasks = tasks
        self._book = book
        self._records = records
        self._claims = claims
        self._rules = rules
        self._max_envelope_bytes = max_envelope_bytes
        self._slow_s = slow_s

    async def first(self, idx: int, ready: Ready) -> float | None:
        """The first attempt, right after the receipt. Seconds until the next one; None when it is over."""
        record = ready.record
        now_s = int(self._clock.now().timestamp())
        task = Task(idx, record.header.id, record.header.to, now_s, now_s, "waiting", 0, "", "", "", now_s)
        return await self._attempt(task, Origin(idx, record.header, record.leaf_hash), ready, 0)

    async def again(self, idx: int) -> float | None:
        """An attempt at what waits in the store. Seconds until the next one; None when it is over.

        Raises:
            EvidenceError, BusError: it cannot be told now.
        """
        task = await self._tasks.read(idx)
        if task is None or task.state == "dead":
            return None
        made = await self._book.get(idx)
        origin = self._origin(task)
        if not self._claims.holds(origin.leaf_hash):
            await self._let_go(origin, attempted=False)
            return None
        if self._rules(task.service).over(made.attempts, self._age_s(task)):
            code, detail = made.code or task.code or "command-too-old", made.detail or task.detail
            await self._bury(origin, code, detail or "it was not done in time", made.attempts)
            return None
        ready = await self._prepare(task, origin, made)
        if not isinstance(ready, Ready):
            return ready
        return await self._attempt(task, origin, ready, made.attempts)

    def _age_s(self, task: Task) -> float:
        """By no clock that is ahead: a dead letter needs a person."""
        now, believed = self._clock.now(), self._believed()
        return 0.0 if believed is None else min(now, believed).timestamp() - task.begun_s

    async def _prepare(self, task: Task, origin: Origin, made: Made) -> Ready | float | None:
        """The command verified and examined anew; else seconds until it is looked at again, or None when it is over."""
        try:
            return await self._ready(task)
        except errors.Dropped as drop:
            return await self._strand(origin, drop.code, made.attempts)
        except errors.BusError as error:
            if error.disposition == "retry":
                return min(error.retry_after_s or _LATER_S, _LONGEST_LATER_S)
            error.acted = "unknown"  # an earlier attempt, perhaps of an earlier process, may have had its effect
            refused = Attempt("refused", problem_particulars(error), seal_problem(error))
            self._observer.refused("provider", error.reason_code or error.code)
            await self._end(origin, self._replier.key_of(origin.member, self._clock.now()), refused, made)
        except EvidenceError:
            raise
        except Exception as error:  # poison: nothing of it may come back for ever
            failure = defect("examining", task.service, error)
            await self._bury(origin, failure.code, failure.detail, made.attempts)
        return None

    def _origin(self, task: Task) -> Origin:
        # what is in the store was verified before it got there
        encoded = wire.decode_stored(task.envelope, self._max_envelope_bytes).header
        return Origin(task.idx, header.decode(encoded), leaf_hash(leaf.wrap(leaf.EXCHANGE, encoded)))

    async def _ready(self, task: Task) -> Ready:
        decoded = wire.decode_stored(task.envelope, self._max_envelope_bytes)
        head, now = header.decode(decoded.header), self._clock.now()
        member = head.node.rpartition("/@")[0]
        node = next((one for one in self._directory().nodes_of(member) if one.node == head.node), None)
        if node is None:
            raise errors.Dropped("node-unknown")
        record = self._verifier.prove(decoded, head, node, now)
        examined = await self._examiner.examine(record, now, counted=False)
        return Ready(record, examined, self._replier.key_of(member, now))

    async def _strand(self, origin: Origin, code: str, attempts: int) -> float | None:
        """Its sender is not to be proven or answered now: for how long, an operator decides."""
        if code == "answer-key-missing":
            return _LONGEST_LATER_S
        self._observer.alarm(STRANDED, "")
        detail = f"its sender cannot be proven any more ({code})"
        await self._bury(origin, STRANDED, detail, attempts)
        return None

    async def _attempt(self, task: Task, origin: Origin, ready: Ready, before: int) -> float | None:
        attempts = before + 1
        if not self._claims.holds(origin.leaf_hash):
            await self._let_go(origin, attempted=False)
            return None
        got = await self._ask(task, origin, ready, attempts)
        if not await self._still_holds(origin.leaf_hash):
            await self._let_go(origin, attempted=True)
            return None
        now = self._clock.now()
        rules = self._rules(task.service)
        if got.fate == "final":
            await self._end(origin, ready.key, got, Made(before))
            return None
        if got.fate == "ours" or rules.over(attempts, self._age_s(task)):
            await self._bury(origin, got.code, got.detail, attempts)
            return None
        wait_s = rules.wait_s(attempts, self._clock.random(1)[0], got.retry_after_s)
        next_at = now + timedelta(seconds=wait_s)
        self._book.put(task.idx, Made(attempts, next_at.timestamp(), got.code, got.detail))
        self._watcher.retried(task.service, got.code)
        if not task.told:
            try:
                await self._records.processing(origin, got.code, got.detail, attempts, next_at)
            except (EvidenceError, errors.Dropped) as error:  # the next attempt says it
                _log.info("notice.unsaid", code=error.code)
        return wait_s

    async def _still_holds(self, leaf_hash: bytes) -> bool:
        """Whether the end may be told here; it waits until that is known, because the effect is done."""
        while True:
            try:
                return self._claims.holds(leaf_hash)
            except errors.ClaimUncertain:
                await asyncio.sleep(_UNCERTAIN_S)

    async def _let_go(self, origin: Origin, *, attempted: bool) -> None:
        await self._records.lost(origin, attempted=attempted)
        self._book.forget([origin.idx])

    async def _ask(self, task: Task, origin: Origin, ready: Ready, attempts: int) -> Attempt:
        """Asks the source; when it is slow, the sender hears of it meanwhile."""
        slow: list[asyncio.Task[None]] = []
        timer = None
        if not task.told:
            loop = asyncio.get_running_loop()
            said = self._say_slow(origin, attempts)
            timer = loop.call_later(self._slow_s, lambda: slow.append(loop.create_task(said())))
        try:
            left_s = ready.examined.service.limits.deadline_s
            return await self._sourcing.attempt(ready.record, ready.examined, left_s)
        finally:
            if timer is not None:
                timer.cancel()
            if slow:
                await slow[0]

    def _say_slow(self, origin: Origin, attempts: int) -> Callable[[], Coroutine[Any, Any, None]]:
        async def say() -> None:
            try:
                await self._records.processing(origin, "", "the provider's back end is at work", attempts, None)
            except (EvidenceError, errors.Dropped) as error:
                _log.info("notice.unsaid", code=error.code)

        return say

    async def _end(self, origin: Origin, key: SealingKeyEntry, got: Attempt, made: Made) -> None:
        await self._records.result(origin, key, got)
        if made.attempts:
            self._book.forget([origin.idx])

    async def _bury(self, origin: Origin, code: str, detail: str, attempts: int) -> None:
        await self._records.dead(origin, code, detail, attempts)
        self._watcher.buried(origin.header.to, code)
        _log.warning("command.dead", id=origin.header.id, service=origin.header.to, code=code, attempts=attempts)
        self._book.forget([origin.idx])
