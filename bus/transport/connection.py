"""The gateway's connection to the broker.

Requests go through one subscription on the node's own inbox; nothing is queued while the connection is down (a query
fails at once); a client that NATS closed for good (expired or revoked credentials) is replaced by a new one. With new
credentials a second client takes over before the first one ends (`renew`). Handlers run as bounded tasks. "Consumer" in
JetStream's sense stays inside this package.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus.deadlines import Deadlines
from bus.errors import BrokerUnavailable, ProviderUnavailable, Timeout
from bus.turns import Turnstile

_log = structlog.get_logger("lienthong.transport")
_GOODBYE_S = 3.0
_OVERLAP_S = 5.0
_REFUSALS = ("authorization", "authentication")
_NONCE = re.compile(r"[A-Za-z0-9_-]{8,64}")

Handler = Callable[[str, str, bytes], Coroutine[Any, Any, None]]


class TransportObserver(Protocol):
    """What the transport reports: counters of the composition root."""

    def connected(self, up: bool) -> None:
        """The connection came up or went down."""

    def denied(self) -> None:
        """The broker denied a publish or a subscription."""

    def overloaded(self) -> None:
        """A message was dropped because too many are under way."""


@dataclass(frozen=True, slots=True)
class BrokerIdentity:
    """How a node proves itself to the broker: its user JWT (read anew at each connection) and its signature."""

    name: str
    jwt: Callable[[], str]
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class _Subscription:
    subject: str
    group: str
    handler: Handler


class Connection:
    """A self-healing connection with request/reply and bounded handlers.

    Args:
        urls: `tls://host:port` of the broker's servers.
        tls: client context (TLS 1.3, the instance's authority), None only for tests on plain sockets.
        identity: of the node.
        inbox: reply prefix of the node, ends with a dot.
        observer: metrics.
        max_handlers: how many received messages may be under way at once.
        random: for reply subjects that nobody can guess.
        connect_deadline_s: of one attempt to connect.
        on_connected: called after each connection, also after a short interruption.
        on_refused: called when the broker refuses the credentials, at every attempt.
    """

    def __init__(
        self,
        urls: Sequence[str],
        tls: ssl.SSLContext | None,
        identity: BrokerIdentity,
        inbox: str,
        observer: TransportObserver,
        max_handlers: int = 2_000,
        random: Callable[[int], bytes] = os.urandom,
        connect_deadline_s: float = 10.0,
        on_connected: Callable[[], None] | None = None,
        on_refused: Callable[[], None] | None = None,
    ) -> None:
        self._on_connected = on_connected
        self._on_refused = on_refused
        self._connecting = asyncio.Lock()
        self._retiring: set[Client] = set()
        self._connect_deadline_s = connect_deadline_s
        self._random = random
        self._urls = list(urls)
        self._tls = tls
        self._identity = identity
        self._inbox = f"{inbox}{os.urandom(8).hex()}."
        self._observer = observer
        self.max_handlers = max_handlers
        self._client: Client | None = None
        self._live: list[Subscription] = []
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._deadlines = Deadlines()
        self._subscriptions: list[_Subscription] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._answers = Turnstile()
        self._closing = False
        self._rebuild: asyncio.Task[None] | None = None
        self._up = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._client is not None and self._client.is_connected

    @property
    def client(self) -> Client:
        """The NATS client, for the other modules of this package.

        Raises:
            BrokerUnavailable: not connected.
        """
        if self._client is None or not self._client.is_connected:
            raise BrokerUnavailable
        return self._client

    def subscribe(self, subject: str, handler: Handler, group: str = "") -> None:
        """Registers a handler `(subject, reply, data)`; it is subscribed at each connection. Call before `start`."""
        self._subscriptions.append(_Subscription(subject, group, handler))

    async def serve(self, subject: str, handler: Handler, group: str = "") -> None:
        """Registers a handler at any time; subscribed now if connected, and at each later connection."""
        self.subscribe(subject, handler, group)
        client = self._client
        # While this client reconnects it takes the subscription too: it repeats its own ones, not ours.
        if client is not None and not client.is_closed:
            dispatch = self._dispatcher(handler)
            try:
                self._live.append(await client.subscribe(subject, queue=group, cb=dispatch))
            except nats.errors.Error as error:
                _log.warning("broker.subscribe-failed", error=type(error).__name__)

    async def start(self) -> None:
        """Begins to connect, in the background; `wait_connected` tells when it is done."""
        self._rebuild = asyncio.create_task(self._connect_until_done())

    async def wait_connected(self, deadline_s: float) -> bool:
        """Waits for the connection; False when the deadline passed."""
        try:
            await asyncio.wait_for(self._up.wait(), None if deadline_s == float("inf") else deadline_s)
        except TimeoutError:
            return False
        return True

    async def _connect_until_done(self) -> None:
        pause_s = 0.1
        while not self._closing:
            try:
                async with self._connecting:
                    if not self.connected:
                        await asyncio.wait_for(self._connect(), self._connect_deadline_s)
            except (TimeoutError, OSError, nats.errors.Error, ValueError) as error:
                _log.warning("broker.unreachable", error=type(error).__name__, retry_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 5.0)
            else:
                return

    async def _connect(self) -> None:
        identity = self._identity
        client = Client()
        live: list[Subscription] = []

        async def disconnected() -> None:
            if client is self._client:
                self._went_down()

        async def reconnected() -> None:
            if client is self._client:
                self._came_up()

        async def closed() -> None:
            if client is self._client:
                self._went_down()
                if not self._closing:
                    self._rebuild = asyncio.create_task(self._connect_until_done())

        try:
            await client.connect(
                servers=self._urls,
                name=identity.name,
                tls=self._tls,
                # Before the broker's first word: otherwise that word, unprotected, could say that TLS is not needed.
                tls_handshake_first=self._tls is not None,
                user_jwt_cb=lambda: identity.jwt().encode(),
                signature_cb=lambda nonce: _sign_nonce(nonce, identity.sign),
                error_cb=self._on_error,
                disconnected_cb=disconnected,
                reconnected_cb=reconnected,
                closed_cb=closed,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]  # seconds; a fraction works
                connect_timeout=2,
                ping_interval=5,
                max_outstanding_pings=2,
                pending_size=0,
                skip_subject_validation=True,
            )
            await client.subscribe(
                f"{self._inbox}*", cb=self._on_reply, pending_msgs_limit=65_536, pending_bytes_limit=256 * 1024 * 1024
            )
            while len(live) < len(self._subscriptions):  # `serve` may add one during each of these waits
                for wanted in self._subscriptions[len(live) :]:
                    dispatch = self._dispatcher(wanted.handler)
                    live += [await client.subscribe(wanted.subject, queue=wanted.group, cb=dispatch)]
                await client.flush(2)
        except BaseException:
            await _close(client)
            raise
        # Takes over: from here on whatever happens to a client before this one is its own business.
        self._client = client
        self._live = live
        self._came_up()

    async def renew(self) -> None:
        """Connects with the credentials of now, takes over, then lets the connection before it run dry.

        Nothing is lost: both are subscribed for a moment, and the broker gives a message of a queue group to one of
        them. Does nothing while the connection is down, because the next attempt reads the credentials anew.

        Raises:
            BrokerUnavailable: no new connection came about; the one before is still in use.
        """
        async with self._connecting:
            before, live = self._client, self._live
            if before is None or not before.is_connected or self._closing:
                return
            try:
                await asyncio.wait_for(self._connect(), self._connect_deadline_s)
            except (TimeoutError, OSError, nats.errors.Error, ValueError) as error:
                raise BrokerUnavailable(f"no second connection to the broker ({type(error).__name__})") from error
        self._retiring.add(before)
        await _retire(before, live)
        self._retiring.discard(before)

    def _dispatcher(self, handler: Handler) -> Callable[[Msg], Awaitable[None]]:
        loop = asyncio.get_running_loop()
        tasks, turnstile = self._handlers, Turnstile()

        async def dispatch(message: Msg) -> None:
            await turnstile.enter()
            if len(tasks) >= self.max_handlers:
                self._observer.overloaded()
                return
            task = loop.create_task(handler(message.subject, message.reply, message.data))
            tasks.add(task)
            task.add_done_callback(self._handler_done)

        return dispatch

    def _handler_done(self, task: asyncio.Task[None]) -> None:
        self._handlers.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("handler.failed", error=type(error).__name__, exc_info=error)

    async def _on_reply(self, message: Msg) -> None:
        await self._answers.enter()
        future = self._waiting.get(message.subject)
        if future is not None and not future.done():
            future.set_result(message)

    async def _on_error(self, error: Exception) -> None:
        said = str(error).lower()
        if "permissions violation" in said:
            self._observer.denied()
        elif self._on_refused is not None and any(word in said for word in _REFUSALS):
            self._on_refused()
        _log.warning("broker.error", error=type(error).__name__)

    def _came_up(self) -> None:
        self._up.set()
        self._observer.connected(True)
        if self._on_connected is not None:
            self._on_connected()

    def _went_down(self) -> None:
        self._up.clear()
        self._observer.connected(False)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(Timeout("the connection to the broker was lost while the answer was awaited"))

    async def exchange(
        self, subject: str, payload: bytes, deadline_s: float, headers: Mapping[str, str] | None = None
    ) -> Msg:
        """One request and the first message that comes back; `headers` are for the broker only.

        Raises:
            BrokerUnavailable: not connected; nothing was sent.
            ProviderUnavailable: the broker knows no subscriber; nothing was delivered.
            Timeout: nothing came in time, or the connection was lost.
        """
        client = self.client
        loop = asyncio.get_running_loop()
        reply = self._inbox + self._random(12).hex()
        future: asyncio.Future[Msg] = loop.create_future()
        self._waiting[reply] = future
        deadline = self._deadlines.add(deadline_s, partial(_expire, future))
        try:
            try:
                await client.publish(subject, payload, reply, headers)  # type: ignore[arg-type]  # a dict, it says
            except (nats.errors.Error, OSError) as error:
                raise BrokerUnavailable from error
            message = await future
        finally:
            self._deadlines.drop(deadline)
            del self._waiting[reply]
        if message.headers is not None and message.headers.get("Status") == "503":
            raise ProviderUnavailable
        return message

    async def send(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Publishes an answer; `reply` is where more than one message is to come back.

        Raises:
            BrokerUnavailable: not connected.
        """
        try:
            await self.client.publish(subject, payload, reply)
        except (nats.errors.Error, OSError) as error:
            raise BrokerUnavailable from error

    async def stop_serving(self, grace_s: float) -> None:
        """Takes no more messages; what the broker has sent already is handled, at most `grace_s` seconds."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + grace_s
        if self.connected and self._live:
            # Ending a subscription alone would throw away what is on its way: the senders would wait for nothing.
            drains = [
                asyncio.ensure_future(subscription.drain())  # type: ignore[no-untyped-call]
                for subscription in self._live
            ]
            _, late = await asyncio.wait(drains, timeout=min(grace_s, _GOODBYE_S))
            for drain in late:
                drain.cancel()
            await asyncio.gather(*drains, return_exceptions=True)
        if self._handlers:
            await asyncio.wait(set(self._handlers), timeout=max(0.0, until_s - loop.time()))

    async def close(self) -> None:
        """Closes the connection and ends what is under way."""
        self._closing = True
        if self._rebuild is not None:
            self._rebuild.cancel()
            await asyncio.wait({self._rebuild}, timeout=2 * _GOODBYE_S)
        for task in list(self._handlers):
            task.cancel()
        for client in (*self._retiring, *([self._client] if self._client is not None else [])):
            await _close(client)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(Timeout("no answer came within the deadline"))


_goodbyes: set[asyncio.Future[None]] = set()  # an event loop alone would not keep them


def _ended(closing: asyncio.Future[None]) -> None:
    _goodbyes.discard(closing)
    if not closing.cancelled() and (error := closing.exception()) is not None:
        _log.debug("broker.goodbye-failed", error=type(error).__name__)


async def _close(client: Client) -> None:
    """Closes, whatever the broker does: TLS waits half a minute for its goodbye, also in the middle of its welcome."""
    closing = asyncio.ensure_future(client.close())
    _goodbyes.add(closing)
    closing.add_done_callback(_ended)
    # Not `wait_for`: it would wait for the end of what it cancels, and that waits for the broker again.
    _, late = await asyncio.wait({closing}, timeout=_GOODBYE_S)
    for task in late:
        task.cancel()


async def _retire(client: Client, live: list[Subscription]) -> None:
    """Ends a client once what the broker sent to it is taken; it has no name for the rest of the process any more."""
    with contextlib.suppress(TimeoutError, OSError, nats.errors.Error):
        async with asyncio.timeout(_OVERLAP_S):
            await asyncio.gather(*(subscription.drain() for subscription in live))  # type: ignore[no-untyped-call]
    await _close(client)


def _sign_nonce(nonce: str, sign: Callable[[bytes], bytes]) -> bytes:
    """Signs the broker's challenge, if it is one.

    The broker chooses these bytes: only short base64url is signed, so that no challenge can be a checkpoint or a
    document, whatever key is configured.

    Raises:
        ValueError: the challenge is not a nonce; the connection is not made.
    """
    if not _NONCE.fullmatch(nonce):
        raise ValueError("the broker's challenge is not a nonce")
    return base64.b64encode(sign(nonce.encode()))
