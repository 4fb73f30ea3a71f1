"""Putting messages into streams of other members, and pulling from one's own.

A pull names a private inbox; the messages come there with the subject under which they were stored, the broker's own
words with the inbox as their subject. A message comes again after some seconds until it is acknowledged; the
acknowledgement is a question with an answer, so that it is known to have arrived. What a message means, and whether
it may be acknowledged, is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog

from bus.errors import BrokerUnavailable, BusError
from bus.transport import subjects
from bus.transport.connection import Connection

_log = structlog.get_logger("lienthong.transport")
_PUT_S = 5.0
_ACK_S = 2.0
_PULL_S = 2.0
_MARGIN_S = 0.5


class _PutError(msgspec.Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _PutAnswer(msgspec.Struct, frozen=True):
    stream: str = ""
    duplicate: bool = False
    error: _PutError | None = None


_answer = msgspec.json.Decoder(_PutAnswer).decode


class QueueRefused(BusError):
    """The broker did not store a message: the sender's share of the stream is full, or it has no such stream."""

    code = "queue-refused"
    title = "The broker did not store the message"


class MemberQueues:
    """Implements `bus.ports.Queues` over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._connection.connected

    async def put(self, subject: str, payload: bytes, message_id: str) -> bool:
        """Stores one message; False when the broker says that it has one under this id already.

        Raises:
            QueueRefused: it was not stored.
            BrokerUnavailable, ProviderUnavailable, Timeout: it is not known to be stored.
        """
        subject = subjects.sized(subject, large=len(payload) > subjects.SMALL_BYTES)
        reply = await self._connection.exchange(subject, payload, _PUT_S, {"Nats-Msg-Id": message_id})
        try:
            answer = _answer(reply.data)
        except msgspec.MsgspecError as error:
            raise QueueRefused("the broker's answer cannot be read") from error
        if answer.error is not None or not answer.stream:
            number = answer.error.err_code if answer.error is not None else 0
            raise QueueRefused(f"the broker did not store the message ({number}); it is tried again")
        return not answer.duplicate


class PulledMessage:
    """Implements `bus.ports.Pulled`."""

    def __init__(self, connection: Connection, subject: str, acknowledge: str, data: bytes) -> None:
        self._connection = connection
        self._acknowledge = acknowledge
        self.subject = subject
        self.data = data

    async def done(self) -> None:
        """See `bus.ports.Pulled`."""
        with contextlib.suppress(BusError):
            await self._connection.exchange(self._acknowledge, b"+ACK", _ACK_S)

    async def later(self, after_s: float) -> None:
        """See `bus.ports.Pulled`."""
        with contextlib.suppress(BrokerUnavailable):
            nanoseconds = int(after_s * 1e9)
            await self._connection.send(self._acknowledge, b'-NAK {"delay": %d}' % nanoseconds)


class Puller:
    """Pulls from one stream of one's own, and hands each message to a task; never more than it may.

    Args:
        connection: of the node.
        stream: name.
        consumer: name of the durable one that is pulled from.
        inbox: a private subject of the node that nobody can guess.
        take: what is done with a message.
        at_once: most messages at once, at least one; asked before each pull.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        consumer: str,
        inbox: str,
        take: Callable[[PulledMessage], Coroutine[Any, Any, None]],
        at_once: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = inbox
        self._take = take
        self._at_once = at_once
        self._tasks: set[asyncio.Task[None]] = set()
        self._expected = 0
        self._ended = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Pulls until it is stopped."""
        await self._connection.serve(self._inbox, self._on_message)
        while not self._stopping:
            most = self._at_once()
            if len(self._tasks) >= most:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                continue
            await self._pull(most - len(self._tasks))

    async def _pull(self, count: int) -> None:
        self._ended.clear()
        self._expected = count
        wanted = msgspec.json.encode({"batch": count, "expires": int(_PULL_S * 1e9)})
        try:
            await self._connection.send(self._next, wanted, self._inbox)
            await asyncio.wait_for(self._ended.wait(), _PULL_S + _MARGIN_S)
        except BrokerUnavailable:
            await asyncio.sleep(_MARGIN_S)
        except TimeoutError:
            return

    async def _on_message(self, subject: str, reply: str, data: bytes) -> None:
        if subject == self._inbox or not reply:
            self._ended.set()
            return
        task = asyncio.create_task(self._take(PulledMessage(self._connection, subject, reply, data)))
        self._tasks.add(task)
        task.add_done_callback(self._taken)
        self._expected -= 1
        if self._expected <= 0:
            self._ended.set()

    def _taken(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("queue.failed", error=type(error).__name__, exc_info=error)

    async def stop(self, grace_s: float) -> None:
        """Takes nothing more; what was taken may end, at most `grace_s` seconds."""
        self._stopping = True
        self._ended.set()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=max(0.0, grace_s))
            for task in late:
                task.cancel()
