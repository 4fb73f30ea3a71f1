"""A small broker on loopback that speaks enough of the NATS client protocol for the connection's tests.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager

NONCE = "Vp9ZzS2xYtY0i1A"


def matches(pattern: str, subject: str) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    for at, token in enumerate(wanted):
        if token == ">":
            return len(given) > at
        if at >= len(given) or token not in ("*", given[at]):
            return False
    return len(wanted) == len(given)


class _Peer:
    def __init__(self, broker: FakeBroker, reader, writer) -> None:
        self.broker, self.reader, self.writer = broker, reader, writer
        self.subscriptions: dict[str, tuple[str, str]] = {}
        self.hello: dict = {}

    async def run(self) -> None:
        broker = self.broker
        info = {"server_id": "x", "version": "2.12.0", "max_payload": 8 << 20, "headers": True, "nonce": broker.nonce}
        info["auth_required"] = True
        self.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := (await self.reader.readline()).rstrip():
            word, *rest = line.decode().split(" ")
            await getattr(self, f"on_{word.lower()}")(*rest)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def on_connect(self, *rest: str) -> None:
        self.hello = json.loads(" ".join(rest))
        self.broker.hellos.append(self.hello)
        if self.broker.refuse_next:
            self.broker.refuse_next -= 1
            self.write(b"-ERR 'Authorization Violation'\r\n")

    async def on_ping(self) -> None:
        self.write(b"PONG\r\n")

    async def on_pong(self) -> None:
        return

    async def on_sub(self, subject: str, *rest: str) -> None:
        self.subscriptions[rest[-1]] = (subject, rest[0] if len(rest) == 2 else "")
        if subject in self.broker.denied:
            self.error(f"Permissions Violation for Subscription to {subject}")
        self.broker.changed.set()

    async def on_unsub(self, sid: str, *_: str) -> None:
        self.subscriptions.pop(sid, None)
        self.broker.changed.set()

    async def on_pub(self, subject: str, *rest: str) -> None:
        data = (await self.reader.readexactly(int(rest[-1]) + 2))[:-2]
        await self.broker.route(self, subject, rest[0] if len(rest) == 2 else "", data)

    def error(self, text: str) -> None:
        self.write(f"-ERR '{text}'\r\n".encode())

    def deliver(self, sid: str, subject: str, reply: str, data: bytes) -> None:
        middle = f" {reply}" if reply else ""
        self.write(f"MSG {subject} {sid}{middle} {len(data)}\r\n".encode() + data + b"\r\n")

    def no_responders(self, sid: str, subject: str) -> None:
        head = b"NATS/1.0 503\r\n\r\n"
        self.write(f"HMSG {subject} {sid} {len(head)} {len(head)}\r\n".encode() + head + b"\r\n")


class FakeBroker:
    """See the module; `url` is where it listens."""

    def __init__(self) -> None:
        self.nonce = NONCE
        self.peers: list[_Peer] = []
        self.hellos: list[dict] = []
        self.denied: set[str] = set()
        self.refuse_next = 0
        self.changed = asyncio.Event()
        self.scheme, self.port = "nats", 0
        self._tasks: set[asyncio.Task] = set()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def serve(self, reader, writer) -> None:
        peer = _Peer(self, reader, writer)
        self.peers.append(peer)
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            await peer.run()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.peers.remove(peer)
            self._tasks.discard(task)
            writer.close()

    async def route(self, sender: _Peer, subject: str, reply: str, data: bytes) -> None:
        if subject in self.denied:
            sender.error(f"Permissions Violation for Publish to {subject}")
            return
        found = [
            (peer, sid, group)
            for peer in self.peers
            for sid, (pattern, group) in peer.subscriptions.items()
            if matches(pattern, subject)
        ]
        groups = set()
        for peer, sid, group in found:
            if group not in groups:
                peer.deliver(sid, subject, reply, data)
            if group:
                groups.add(group)
        if not found and reply:
            await asyncio.sleep(0)
            for sid, (pattern, _) in sender.subscriptions.items():
                if matches(pattern, reply):
                    sender.no_responders(sid, reply)

    def cut(self) -> None:
        """Ends every connection."""
        for peer in list(self.peers):
            peer.writer.transport.abort()

    async def until(self, condition) -> None:
        """Waits until subscriptions are as a test needs them."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def subscribed(self) -> set[tuple[str, str]]:
        return {item for peer in self.peers for item in peer.subscriptions.values()}


@asynccontextmanager
async def fake_broker(tls: ssl.SSLContext | None = None):
    """A running broker; with `tls` the handshake comes before its first word."""
    made = FakeBroker()
    made.scheme = "nats" if tls is None else "tls"
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.cut()
        await asyncio.gather(*made._tasks, return_exceptions=True)
        await server.wait_closed()
