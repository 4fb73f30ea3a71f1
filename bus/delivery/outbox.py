"""The outbox: what must arrive is published until the receiver's signed receipt for it is in the log.

One rule for commands on the asking side and for results on the answering side. The broker's word is only a reason to
wait longer before the next attempt: it can lose its store, and its `duplicate` may be about a stranger's message. What
is in the outbox is decided by the store; here are only the times of the next attempts, and they start anew with the
process. Of commands with an order key only the first of each key goes out. Writes no record and removes no row: who
logs the receipt says `arrived`, who logs the end of a command `freed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from bus import envelope as wire
from bus import errors
from bus.delivery.depths import UNREAD, Depth, bounded
from bus.delivery.due import DueTimes
from bus.delivery.gates import Gates
from bus.delivery.messages import Message, envelope_of
from bus.delivery.orders import OPEN, OrderBook
from bus.delivery.pace import Pace
from bus.delivery.shares import Shares
from bus.delivery.store import DeliveryReader
from bus.exchange.versions import Versions
from bus.ports import Clock, Queues
from evidence.errors import EvidenceError
from evidence.log import ExchangeLog

_log = structlog.get_logger("lienthong.delivery")
_AT_ONCE = 64
_HELD_BYTES = 16 * 1024 * 1024
_LONGEST_SLEEP_S = 0.5
_FIRST_FAILURE_S, _LONGEST_FAILURE_S = 0.2, 5.0
_RECEIVER_TAKES_NOTHING = frozenset({"queue-refused", "provider-unavailable", "version-unshared"})


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """How often and how much.

    Attributes:
        retry_s: wait for the receipt after the broker took it the first time; doubled each time.
        retry_max_s: longest wait.
        waiting: most commands in the outbox; wishes to cancel stand beside their commands and are not counted.
        replies: for one member; while more of them wait, no further commands of that member are taken.
    """

    retry_s: float = 30.0
    retry_max_s: float = 900.0
    waiting: int = 150_000
    replies: int = 37_500


@dataclass(slots=True)
class _Entry:
    since_s: int
    holder: str | None  # client subsystem whose share it takes; None for a reply and for a wish to cancel
    receiver: str = ""  # token of the member that a reply is for
    stored: int = 0
    failed: int = 0
    sent_at: datetime | None = None
    fresh: bool = True  # this process accepted it and has not tried to send it
    never_taken: bool = True  # no attempt that the broker did not refuse for certain
    due_s: float | None = None  # None while it waits for its turn
    subject: str = ""
    to: str = ""  # like the subject, of an earlier run's record known when it is first read
    first: Message | None = None  # kept for the first attempt, while there is room


class Outbox:
    """The outbox of one node.

    Args:
        clock: time and randomness.
        log: gives the proof that travels.
        store: what waits.
        queues: of the broker.
        limits: see there.
        versions: in which version receivers read.
        pace: how many records at once.

    Attributes:
        orders: the open commands with an order key.
    """

    def __init__(
        self,
        clock: Clock,
        log: ExchangeLog,
        store: DeliveryReader,
        queues: Queues,
        limits: OutboxLimits,
        versions: Versions,
        pace: Pace | None = None,
    ) -> None:
        self._clock = clock
        self._log = log
        self._store = store
        self._queues = queues
        self._limits = limits
        self._versions = versions
        self._pace = pace or Pace(clock)
        self._entries: dict[int, _Entry] = {}
        self._due = DueTimes(self._planned)
        self._gates = Gates(self._entries.__contains__)
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._retrying = 0  # of these, to receivers whose gates are shut: they take no places of others
        self._in_doubt = False
        self._withdrawn: set[int] = set()
        self._held_bytes = 0
        self._shares = Shares(limits.waiting)
        self._replies: Counter[str] = Counter()
        self.orders = OrderBook(limits.waiting)

    def __len__(self) -> int:
        return len(self._entries)

    def require_room(self, client: str) -> None:
        """Returns when another command of that client subsystem may be put in.

        Raises:
            OutboxFull, OutboxShareFull: by name.
        """
        if self._shares.full:
            raise errors.OutboxFull(
                f"{self._limits.waiting} commands wait for their providers' receipts; try again later"
            )
        if self._shares.exhausted(client):
            raise errors.OutboxShareFull(
                f"{self._shares.held(client)} commands of {client} wait for their providers' receipts, and the room"
                " that is left is for others; go on when some have arrived or are cancelled"
            )

    def owes_much(self, member: str) -> bool:
        """Whether so many replies wait for a member that no further command of it should be taken.

        Who sends and takes no reply would fill the memory of this node. Replies themselves are never held up, or two
        members could wait for each other.

        Args:
            member: token of the member, as in subjects.
        """
        return self._replies[member] >= self._limits.replies

    def oldest_s(self) -> float:
        """Age of the oldest record that waits, seconds."""
        if not self._entries:
            return 0.0
        # in the order of the log, so the first is the oldest
        return max(0.0, self._clock.now().timestamp() - next(iter(self._entries.values())).since_s)

    def by_service(self) -> list[Depth]:
        """Commands that wait, by service, the deepest first; a walk over all, for who looks now and then."""
        found: dict[str, list[int]] = {}
        for entry in self._entries.values():
            if entry.subject.startswith("lt.r."):
                continue
            known = found.get(entry.to)
            if known is None:
                found[entry.to] = [1, entry.since_s]
            else:
                known[0] += 1
        return bounded(Depth(to or UNREAD, "command", *facts) for to, facts in found.items())

    def put(
        self,
        idx: int,
        since_s: int,
        first: Message | None = None,
        *,
        fresh: bool = True,
        client: str | None = None,
        reply: str = "",
    ) -> None:
        """The record at log index `idx` is durable, and its row is in the store: it goes out when it is its turn.

        Args:
            idx: log index.
            since_s: since when it waits.
            first: what goes out at the first attempt; kept while there is room, else it is read from the store.
            fresh: this process has made it, and it was never sent.
            client: subsystem that sent the command; None for all else.
            reply: subject of a reply; empty for all else.
        """
        if idx not in self._entries and idx not in self._withdrawn:
            holder = None if client is None else self._shares.add(client)
            receiver = sys.intern(reply.split(".")[2]) if reply else ""
            entry = self._entries[idx] = _Entry(since_s, holder, receiver, fresh=fresh, never_taken=fresh)
            if receiver:
                self._replies[receiver] += 1
            if first is not None:
                entry.subject, entry.to = first.subject, first.to
                if self._held_bytes + first.held_bytes <= _HELD_BYTES:
                    entry.first = first
                    self._held_bytes += first.held_bytes
            self._unpark(idx)

    def _take_first(self, entry: _Entry) -> Message | None:
        first, entry.first = entry.first, None
        if first is not None:
            self._held_bytes -= first.held_bytes
        return first

    def freed(self, idx: int) -> None:
        """The command at `idx` is closed: the next one under its order key goes out."""
        following = self.orders.closed(idx)
        self._unpark(idx)  # a cancelled one that waited for its turn still needs the provider's refusal
        if following is not None:
            self._unpark(following)

    def withdraw(self, idx: int) -> bool:
        """Takes a record out that was certainly never sent; False when it may have been, or is not here.

        Its row is still there: `arrived` once it is gone, or `returned`.
        """
        entry = self._entries.get(idx)
        if entry is None or not entry.fresh:
            return False
        self._drop(idx)
        self._withdrawn.add(idx)
        return True

    def returned(self, idx: int) -> None:
        """It is not known whether the row of what was withdrawn is gone: the store is asked."""
        self._withdrawn.discard(idx)
        self.doubt()

    def arrived(self, idx: int) -> None:
        """Its row is gone from the store."""
        self._drop(idx)
        self._withdrawn.discard(idx)

    def _drop(self, idx: int) -> None:
        entry = self._entries.pop(idx, None)
        if entry is not None:
            self._take_first(entry)
            if entry.holder is not None:
                self._shares.remove(entry.holder)
            if entry.receiver:
                self._replies[entry.receiver] -= 1
                if not self._replies[entry.receiver]:
                    del self._replies[entry.receiver]

    def doubt(self) -> None:
        """A commit's outcome is unknown: what it may have put into the store is looked for."""
        self._in_doubt = True
        self._wake.set()

    def sent_at(self, idx: int) -> datetime | None:
        """When the broker first had it, as far as this process knows."""
        entry = self._entries.get(idx)
        return None if entry is None else entry.sent_at

    def never_taken(self, idx: int) -> bool:
        """Whether the broker certainly never had it: what an earlier process may have sent, it may have."""
        entry = self._entries.get(idx)
        return entry is not None and entry.never_taken

    async def load(self) -> None:
        """Takes up what waits in the store."""
        known = self.orders.begin_reading()
        turns = self.orders.take(known, await self._store.rows(OPEN))
        for one in await self._store.waiting():
            self.put(one.idx, one.since_s, fresh=False, client=one.client, reply=one.reply)
        for idx in turns:
            self._unpark(idx)

    async def run(self) -> None:
        """Sends what is due, for ever."""
        try:
            while True:
                try:
                    if self._in_doubt and self._log.writable:
                        self._in_doubt = False
                        await self.load()
                    begun = self._begin_due()
                except EvidenceError as error:  # the log cannot be read or written now
                    begun = 0
                    _log.warning("outbox.waits", error=error.code)
                if not begun:
                    await self._pause()
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def _pause(self) -> None:
        if stepping_back_s := self._pace.pause_s():
            await asyncio.sleep(stepping_back_s)
            return
        left_s = self._next_s() - self._clock.monotonic() if self._queues.connected else _LONGEST_SLEEP_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), min(max(left_s, 0.01), _LONGEST_SLEEP_S))
        self._wake.clear()

    def _next_s(self) -> float:
        gate_s, due_s = self._gates.next_s(), self._due.next_s()
        return due_s if gate_s is None else min(due_s, gate_s)

    async def send_due(self) -> int:
        """Sends what is due now, a bounded number at once, and waits for it; how many were tried."""
        begun = self._begin_due()
        await asyncio.gather(*self._sending)
        return begun

    def _begin_due(self) -> int:
        """Begins attempts, as many as may be under way; how many. Whoever ends makes room for the next one."""
        if not self._queues.connected or not self._log.writable:
            return 0
        if self._pace.pause_s():
            return 0
        now_s, most = self._clock.monotonic(), self._pace.at_once(_AT_ONCE) - len(self._sending) + self._retrying
        released = sorted(set(self._gates.release(now_s, _AT_ONCE - self._retrying)))
        for one in released:
            self._begin(one, released=True)
        begun = 0
        while begun < most and (idx := self._due.take(now_s)) is not None:
            entry = self._entries[idx]
            if not self.orders.may_go(idx):
                entry.due_s = None
            elif not self._waits(entry, idx):
                self._begin(idx, released=False)
                begun += 1
        if begun or released:
            self._pace.sent()
        return begun + len(released)

    def _begin(self, idx: int, *, released: bool) -> None:
        task = asyncio.create_task(self._send(idx, released=released))
        self._sending.add(task)
        self._retrying += released
        task.add_done_callback(partial(self._ended, idx, released))

    def _ended(self, idx: int, released: bool, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._retrying -= released
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("outbox.failed", index=idx, error=type(error).__name__, exc_info=error)
            self._plan(idx, _LONGEST_FAILURE_S)

    async def _send(self, idx: int, *, released: bool = False) -> None:
        """One attempt; it always plans the next one or stands in line, unless the record has arrived."""
        entry = self._entries.get(idx)
        if entry is None:  # it arrived since it was taken from the plan
            return
        never_taken = entry.never_taken
        try:
            message = self._take_first(entry) or await self._read(idx, entry, released=released)
            if message is None:
                return
            entry.fresh = False
            envelope = wire.in_version(message.envelope, self._versions.of(message.subject, message.to))
            data = wire.encode(envelope)
            entry.never_taken = False
            stored = await self._queues.put(message.subject, data, self._message_id(message, entry))
        except (errors.BusError, EvidenceError) as error:
            if error.code in _RECEIVER_TAKES_NOTHING:
                entry.never_taken = never_taken
                self._gates.refused(entry.subject, idx, self._clock.monotonic(), again=entry.stored > 0)
                return
            entry.failed += 1
            wait_s = min(_FIRST_FAILURE_S * 2 ** min(entry.failed, 10), _LONGEST_FAILURE_S)
            _log.debug("outbox.unsent", code=error.code)
        else:
            self._gates.taken(message.subject)
            entry.stored, entry.failed = entry.stored + 1, 0
            if stored and entry.sent_at is None:
                entry.sent_at = self._clock.now()
            wait_s = min(self._limits.retry_s * 2 ** min(entry.stored - 1, 20), self._limits.retry_max_s)
        self._plan(idx, wait_s * (0.75 + self._clock.random(1)[0] / 512))

    def _waits(self, entry: _Entry, idx: int) -> bool:
        return bool(entry.subject) and self._gates.wait(entry.subject, idx, again=entry.stored > 0)

    async def _read(self, idx: int, entry: _Entry, *, released: bool) -> Message | None:
        """From the store, with a proof of now; None when it has arrived, stands in line or was withdrawn meanwhile."""
        row = await self._store.outgoing(idx)
        if row is None:
            self.arrived(idx)
            return None
        entry.subject, entry.to = row.subject, row.header.to
        if idx not in self._entries or (not released and self._waits(entry, idx)):
            return None
        entry.fresh = False
        return Message(row.subject, row.header.id, row.header.to, await envelope_of(self._log, row))

    def _message_id(self, message: Message, entry: _Entry) -> str:
        """The record's id at first: an attempt whose answer was lost is not stored twice. Then an id that nobody used.

        A repeat is for a copy that may be lost, or whose receipt is. The broker knows ids for minutes, also of messages
        that are gone and of strangers': under the same id it would swallow the repeat.
        """
        return f"{message.record_id}/{self._clock.random(6).hex()}" if entry.stored else message.record_id

    def _unpark(self, idx: int) -> None:
        entry = self._entries.get(idx)
        if entry is not None and entry.due_s is None and self.orders.may_go(idx):
            self._plan(idx, 0.0)

    def _planned(self, idx: int) -> float | None:
        entry = self._entries.get(idx)
        return None if entry is None else entry.due_s

    def _plan(self, idx: int, after_s: float) -> None:
        entry = self._entries.get(idx)
        if entry is not None:
            entry.due_s = self._clock.monotonic() + after_s
            self._due.put(idx, entry.due_s)
            self._wake.set()
