"""What a running gateway does every few seconds beside its calls.

Asks counterparties for this log's head until one answered, joins their logs' newest checkpoints, closes requests whose
calls ended while the log could not be written, destroys keys of days and of sealing whose time is over, tells of what
the directory announces. Nothing here is in a call's way; what fails is tried again in the next round.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

import structlog

from bus import errors
from bus.exchange.recovery import left_behind
from bus.gateway.exchange import Exchange
from bus.gateway.nodekeys import Announcements
from bus.gateway.parts import Parts
from bus.metrics import GatewayMetrics
from bus.settings import GatewaySettings
from evidence.errors import EvidenceError
from evidence.header import Header

_log = structlog.get_logger("lienthong.gateway")
_HEAD_DEADLINE_S = 10.0


class Housekeeping:
    """Of one gateway.

    Args:
        parts: of the gateway.
        metrics: hear of differences and alarms.
        settings: as they are now.

    Attributes:
        exchange: None until the log is open.
        calls_taken: whether requests without a closing record are of calls of this process.
    """

    def __init__(self, parts: Parts, metrics: GatewayMetrics, settings: Callable[[], GatewaySettings]) -> None:
        self._parts = parts
        self._metrics = metrics
        self._settings = settings
        self._announcements = Announcements()
        self._head_unconfirmed = False
        self.exchange: Exchange | None = None
        self.calls_taken = False

    async def run(self) -> None:
        """Rounds until cancelled.

        Raises:
            CloneSuspected: a counterparty knows more of this log than the log itself.
        """
        while True:
            await asyncio.sleep(self._settings().limits.join_every_s)
            for work in (
                self._confirm_head_again,
                self._join_peers,
                self._close_orphans,
                self.erase_old_contents,
                self.destroy_keys,
            ):
                try:
                    await work()
                except (OSError, EvidenceError, errors.BusError) as error:
                    if isinstance(error, errors.CloneSuspected):
                        raise
                    # a full disk, for example: the next round may fare better, and calls go on
                    _log.warning(
                        "housekeeping.failed", work=work.__name__, error=type(error).__name__, detail=str(error)
                    )
            self._parts.own.report_differences(self._metrics)
            self._announcements.look(self._parts.follower.directory, self._metrics.alarm)
            self._parts.versions.look()

    async def confirm_head(self, exchange: Exchange) -> None:
        """Asks counterparties; when there are some and none answers, later rounds ask again until one has.

        Raises:
            CloneSuspected: one of them knows more of this log than the log itself.
        """
        async with asyncio.timeout(_HEAD_DEADLINE_S):
            asked, answered = await exchange.control.confirm_own_head()
        self._head_unconfirmed = bool(asked) and not answered
        _log.info("head.confirmed" if not self._head_unconfirmed else "head.unconfirmed", counterparties=answered)

    async def _confirm_head_again(self) -> None:
        if self._head_unconfirmed and self.exchange is not None and self._parts.connection.connected:
            await self.confirm_head(self.exchange)

    async def _join_peers(self) -> None:
        if self.exchange is not None and self._parts.connection.connected:
            with contextlib.suppress(errors.DirectoryStale):
                await self.exchange.control.join_all()

    async def _close_orphans(self) -> None:
        exchange = self.exchange
        if exchange is not None and self.calls_taken and exchange.log.writable:
            await exchange.asker.close_orphans(self._open_requests)

    async def _open_requests(self) -> list[tuple[int, Header, str]]:
        log, now_s = self._settings().data / "log.db", int(self._parts.clock.now().timestamp())
        return (await asyncio.to_thread(left_behind, log, now_s)).open_requests

    async def erase_old_contents(self) -> None:
        """Erases the keys of days whose contents are kept no longer; not by a clock that nobody confirms."""
        now = self._parts.confirmed_now()
        if now is None:
            return  # what is erased does not come back when the clock is set right
        oldest = now.date() - timedelta(days=self._settings().retention.particulars_days)
        if gone := self._parts.day_keys.erase_before(oldest):
            _log.info("particulars.erased", days=gone)

    async def destroy_keys(self) -> None:
        """Destroys sealing keys that nobody may use any more; not by a clock that nobody confirms."""
        now = self._parts.confirmed_now()
        if now is None:
            return
        kept_s = self._settings().keys.sealing_kept_s
        if gone := self._parts.sealing.destroy_expired(self._parts.follower.directory, now, kept_s):
            _log.info("sealing.keys-destroyed", keys=[keyid[:16] for keyid in gone])
