"""Webhooks: a client system is told of a command's end, so that it need not ask.

One POST an event, signed as Standard Webhooks 1.0 says, without contents of the command: who is told asks for the
result with its own credentials. Addresses and secrets come from the settings only. An event waits in the store from the
commit of the change until a 2xx, or for a day; times of attempts are in memory and start anew with the process. A
receiver may hear of an event twice, with the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import structlog

from bus import errors
from bus.delivery.store import Command, DeliveryReader
from bus.delivery.webhookqueue import HookQueue, Waiting
from bus.delivery.webhookrows import SYSTEMS, WAITING, Event, told_row
from bus.exchange.keeping import Row
from bus.ports import Clock, HookObserver
from evidence import header
from evidence.errors import EvidenceError

_log = structlog.get_logger("lienthong.delivery")
_LONGEST_SLEEP_S, _RELOAD_S = 1.0, 60.0
_ROWS_AT_ONCE = 64
_GONE = 410
_SECRET_PREFIX = "whsec_"  # noqa: S105 (a prefix, not a secret)
_SECRET_BYTES = (24, 64)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a client system is told.

    Attributes:
        url: of its receiver.
        secret: 24 to 64 bytes.
        ca: path of the authority of its certificate; empty: those of the operating system.
    """

    url: str
    secret: bytes
    ca: str = ""


@dataclass(frozen=True, slots=True)
class HookLimits:
    """How often and how much; seconds.

    Attributes:
        first_s: wait after the first failure, doubled each time.
        longest_s: longest wait.
        life_s: after which an event is given up; by the time that passed, whatever the clock was set to.
        at_once: attempts under way; to one client system a quarter of them.
        in_memory: events of one client system that are held in memory; the others are read when there is room.
    """

    first_s: float = 5.0
    longest_s: float = 3_600.0
    life_s: float = 86_400.0
    at_once: int = 32
    in_memory: int = 1_000


class Poster(Protocol):
    """Sends one webhook."""

    async def post(self, target: Target, headers: Mapping[str, str], body: bytes) -> int:
        """The answer's status; no redirect is followed.

        Raises:
            OSError: no answer came in time.
        """


def secret_of(text: str) -> bytes:
    """Secret of a file: `whsec_` and base64 of 24 to 64 bytes.

    Raises:
        ValueError: it is not.
    """
    text = text.strip()
    secret = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    if not text.startswith(_SECRET_PREFIX) or not _SECRET_BYTES[0] <= len(secret) <= _SECRET_BYTES[1]:
        raise ValueError("a webhook secret is whsec_ and base64 of 24 to 64 bytes")
    return secret


def sign(secret: bytes, event_id: str, at_s: int, body: bytes) -> str:
    """Value of `webhook-signature`: HMAC-SHA256 over `<id>.<seconds>.<body>` (Standard Webhooks 1.0)."""
    signed = hmac.digest(secret, f"{event_id}.{at_s}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed).decode()


class Webhooks:
    """Webhooks of one node; implements `bus.delivery.changes.Teller`.

    Args:
        clock: time and randomness.
        store: has the events.
        poster: sends.
        order_key: the order key of the command at a log index, or empty.
        limits: see there.
        observer: told of each attempt.
        believed: the time by which an event of an earlier run may be too old; None when it is not known.
    """

    def __init__(
        self,
        clock: Clock,
        store: DeliveryReader,
        poster: Poster,
        order_key: Callable[[int], Awaitable[str]],
        limits: HookLimits,
        observer: HookObserver,
        believed: Callable[[], datetime | None] | None = None,
    ) -> None:
        self._clock = clock
        self._believed = believed or clock.now
        self._store = store
        self._poster = poster
        self._order_key = order_key
        self._limits = limits
        self._observer = observer
        self._targets: Mapping[str, Target] = {}
        self._queue = HookQueue(limits.in_memory)
        self._busy: Counter[str] = Counter()
        self._told: list[int] = []  # told, and no commit has taken its row away yet
        self._done: dict[int, str] = {}  # told, and its row may still be there; with its client system
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._queue)

    def replace(self, targets: Mapping[str, Target]) -> None:
        """Takes over new settings; by name of client system."""
        self._targets = targets

    def wanted(self, system: str) -> bool:
        """See `bus.delivery.changes.Teller`."""
        return system in self._targets

    def put(self, event: Event) -> None:
        """See `bus.delivery.changes.Teller`."""
        self._queue.put(event, self._clock.monotonic())
        self._wake.set()

    def rows(self) -> list[Row]:
        """See `bus.delivery.changes.Teller`."""
        given, self._told = self._told[:_ROWS_AT_ONCE], self._told[_ROWS_AT_ONCE:]
        return [told_row(idx) for idx in given]

    async def load(self) -> None:
        """Takes up what waits in the store: of an earlier run, or of a commit whose outcome was unknown."""
        there = {system for (system,) in await self._store.rows(SYSTEMS)}
        for system in there | set(self._done.values()):
            await self._load(system)

    async def _load(self, system: str) -> None:
        """The oldest of one client system, as many as there may be in memory."""
        done = [idx for idx, of in self._done.items() if of == system]
        most = self._queue.most_each + len(done)
        stored = [Event(*row) for row in await self._store.rows(WAITING, system, most)]
        there, whole = {event.idx for event in stored}, len(stored) < most
        for idx in done:
            if idx in there and idx not in self._told:
                self._told.append(idx)
            elif idx not in there and (whole or idx < stored[-1].idx):
                del self._done[idx]
        for event in stored:
            if event.idx not in self._done:
                self._queue.put(event, self._clock.monotonic(), stored=True)
        self._wake.set()
        self._queue.read(system, whole=whole)

    async def run(self) -> None:
        """Tells what is due, for ever."""
        loaded_s = self._clock.monotonic()
        try:
            while True:
                self.begin_due()
                since_s = self._clock.monotonic() - loaded_s
                if since_s >= _RELOAD_S or (since_s >= _LONGEST_SLEEP_S and self._queue.hungry()):
                    loaded_s = self._clock.monotonic()
                    with contextlib.suppress(EvidenceError):  # the next time may fare better
                        await self.load()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _LONGEST_SLEEP_S)
                self._wake.clear()
        finally:
            for task in self._tasks:
                task.cancel()

    def begin_due(self) -> list[asyncio.Task[None]]:
        """Begins the attempts that are due; a stuck receiver holds up nobody else's."""
        now_s, each = self._clock.monotonic(), max(1, self._limits.at_once // 4)
        begun = []
        while self._busy.total() < self._limits.at_once:
            one = self._queue.take(now_s, lambda system: self._busy[system] < each)
            if one is None:
                break
            self._busy[one.event.system] += 1
            task = asyncio.create_task(self._tell(one))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            begun.append(task)
        return begun

    async def _tell(self, one: Waiting) -> None:
        """One attempt; an event that is told or given up leaves, any other waits for the next."""
        try:
            over = await self._attempt(one.event)
        except (OSError, EvidenceError, errors.BusError) as error:
            _log.info("webhook.failed", system=one.event.system, error=type(error).__name__)
            over = False
        except Exception as error:  # a defect: the others go on, and this one is tried again
            _log.error("webhook.defect", system=one.event.system, error=type(error).__name__, exc_info=error)
            over = False
        finally:
            self._busy[one.event.system] -= 1
        if not over and self._age_s(one) > self._limits.life_s:
            _log.warning("webhook.given-up", system=one.event.system, state=one.event.state)
            self._observer.hook("given-up")
            over = True
        elif not over:
            self._observer.hook("failed")
        if over:
            self._queue.over(one)
            self._told.append(one.event.idx)
            self._done[one.event.idx] = one.event.system
        else:
            wait_s = min(self._limits.first_s * 2 ** min(one.failed, 20), self._limits.longest_s)
            self._queue.again(one, self._clock.monotonic() + wait_s * (0.75 + self._clock.random(1)[0] / 512))
        self._wake.set()

    def _age_s(self, one: Waiting) -> float:
        """By the monotonic clock; of what an earlier run left, by no clock that is ahead, if that says more."""
        held_s = self._clock.monotonic() - one.held_s
        believed = self._believed() if one.stored else None
        if believed is None:
            return held_s
        return max(held_s, min(self._clock.now(), believed).timestamp() - one.event.since_s)

    async def _attempt(self, event: Event) -> bool:
        target = self._targets.get(event.system)
        found = await self._store.commands("command.idx = ?", event.command_idx)
        if target is None or not found:
            return True  # nobody wants to be told any more
        if event.state == "expired" and found[0].state != "expired":
            return True  # a receipt or a cancellation was faster: it did not expire after all
        body = message(found[0], event, await self._order_key(event.command_idx))
        event_id, at_s = f"{found[0].header.id}_{event.idx}", int(self._clock.now().timestamp())
        headers = {
            "content-type": "application/json",
            "user-agent": "lienthong",
            "webhook-id": event_id,
            "webhook-timestamp": str(at_s),
            "webhook-signature": sign(target.secret, event_id, at_s, body),
        }
        status = await self._poster.post(target, headers, body)
        if status == _GONE:
            _log.warning("webhook.refused", system=event.system, status=status)
            self._observer.hook("gone")
        told = 200 <= status < 300
        if told:
            self._observer.hook("told")
        return told or status == _GONE


def message(command: Command, event: Event, order_key: str) -> bytes:
    """Body of a webhook: what happened to which command, and nothing of its contents."""
    head = command.header
    told: dict[str, object] = {
        "type": f"command.{event.state}",
        "timestamp": header.encode_time(datetime.fromtimestamp(event.since_s, UTC)),
        "id": head.id,
        "state": event.state,
        "client": head.source,
        "service": head.to,
        "operation": head.operation,
        "exchange": f"/exchanges/{head.id}",
    }
    if event.code:
        told["code"] = event.code
    if order_key:
        told["order_key"] = order_key
    return msgspec.json.encode(told)
