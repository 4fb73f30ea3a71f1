"""The nodes of one member among themselves: signs of life, claims, and what a dead one leaves behind.

A member with a single node does nothing here. Each round: say that this node works; after any time in which it could be
taken for dead, claim anew what it holds and let go what another node has; then look whose work is to be taken over.
Between a claim and its commit a process can die and a commit can fail: such claims of one's own are looked for after a
start, and after a take-over that failed.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from bus.delivery.claims import Claim, Claims, Lost
from bus.delivery.leases import Leases
from bus.delivery.running import TaskRunner
from bus.delivery.takeover import TakeOver
from bus.delivery.taskrecords import Origin, TaskRecords
from bus.delivery.tasks import TaskReader
from bus.errors import BusError, Dropped
from bus.ports import BoardEntry
from evidence.errors import EvidenceError
from evidence.log import ExchangeLog

_log = structlog.get_logger("lienthong.delivery")


class Companions:
    """The rounds of one node. All collaborators are given; see the composition root."""

    def __init__(
        self,
        *,
        node: str,
        log: ExchangeLog,
        leases: Leases,
        claims: Claims,
        takeover: TakeOver,
        tasks: TaskReader,
        records: TaskRecords,
        runner: TaskRunner,
    ) -> None:
        self._node = node
        self._log = log
        self._leases = leases
        self._claims = claims
        self._takeover = takeover
        self._tasks = tasks
        self._records = records
        self._runner = runner
        self._left_s: float | None = 0.0  # until when claims of this node may have been left without a task

    async def run(self) -> None:
        """Goes round for ever."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            try:
                if loop.time() >= next_s:
                    next_s = loop.time() + self._leases.renew_s
                    await self._round()
                elif self._claims.ready:
                    await self._claims.tell()
            except (BusError, EvidenceError) as error:  # no broker or no log now
                _log.info("companions.wait", code=error.code)
            except Exception as error:  # a defect: the node goes on with what it may, and the others take over the rest
                _log.error("companions.failed", error=type(error).__name__, exc_info=error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_s - loop.time())):
                    await self._claims.wake.wait()
            self._claims.wake.clear()

    async def _round(self) -> None:
        if not self._claims.shared:
            self._claims.alone()
            return
        before = self._leases.trusted
        renewed = await self._leases.renew() or await self._leases.renew()  # an earlier process spoke before
        if not before or not renewed:
            self._claims.doubt()
        if not renewed or not self._log.writable:
            return
        if not self._claims.synced:
            for lost in await self._claims.sync():
                await self._let_go(lost)
        await self._claims.tell()
        if dead := await self._leases.look():
            await self._take_over(dead)
        if self._left_s is not None and self._leases.is_old(self._left_s):
            self._left_s = None
            await self._take_over([self._node])

    async def _let_go(self, lost: Lost) -> None:
        with self._runner.hold(lost.idx) as held:
            origin = await self._tasks.origin(lost.idx) if held else None
            if origin is not None and await self._tasks.open(lost.idx):
                await self._records.lost(Origin(lost.idx, *origin), attempted=False)
                self._runner.forget(lost.idx)

    async def _take_over(self, dead: list[str]) -> None:
        first, count = 1, 0
        while first:
            found, first = await self._claims.of_nodes(dead, first)
            for leaf_hash, claim, entry in found:
                await self._leases.keep()
                if self._leases.is_old(entry.at_s) and not self._claims.has(leaf_hash):
                    count += await self._take(leaf_hash, claim, entry)
        if count:
            _log.warning("companions.taken-over", count=count, of=dead)

    async def _take(self, leaf_hash: bytes, claim: Claim, entry: BoardEntry) -> bool:
        try:
            return await self._takeover.take(leaf_hash, claim, entry.number)
        except Dropped as drop:  # its sender cannot be answered now: that holds up nobody else's
            _log.warning("companions.not-taken-over", code=drop.code)
            self._left_s = self._leases.settled_s
            return False
        except BaseException:
            self._left_s = self._leases.settled_s
            raise
