"""A small NATS client written by hand, which sends whatever it is told and shows what the broker says.

The client of the bus keeps to its rights; this one does not. It speaks the text protocol of the NATS documentation over
TLS and nothing else: no reconnection, no queue, no checks. For showing and testing what the broker refuses.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

_DEADLINE_S = 5.0


class HandRefused(Exception):
    """The broker did not let this client in; the text is the broker's."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One message that the broker delivered; headers as they came."""

    subject: str
    reply: str
    headers: bytes
    data: bytes


class HandClient:
    """See the module; use `connect`.

    Attributes:
        heard: messages so far.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._errors: list[str] = []
        self._pongs: asyncio.Queue[str] = asyncio.Queue()
        self._news = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self.heard: list[Heard] = []

    @classmethod
    async def connect(cls, url: str, ca: str, jwt: str, sign: Callable[[bytes], bytes]) -> Self:
        """Connects as the user of a JWT.

        Args:
            url: `tls://host:port`.
            ca: file with the authority behind the broker's certificate.
            jwt: of the user.
            sign: signs the broker's challenge.

        Raises:
            HandRefused: the broker does not let it in.
        """
        where = urlsplit(url)
        tls = ssl.create_default_context(cafile=ca)
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(where.hostname, where.port, ssl=tls, limit=16 * 1024 * 1024), _DEADLINE_S
            )
        except (TimeoutError, OSError) as error:
            raise HandRefused(f"no connection ({type(error).__name__})") from error
        client = cls(reader, writer)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await client._hello(jwt, sign)
        except (TimeoutError, OSError) as error:
            await client.close()
            raise HandRefused(f"no answer ({type(error).__name__})") from error
        except BaseException:
            await client.close()
            raise
        return client

    async def _hello(self, jwt: str, sign: Callable[[bytes], bytes]) -> None:
        info: dict[str, Any] = json.loads((await self._reader.readline()).partition(b" ")[2])
        signature = base64.urlsafe_b64encode(sign(info["nonce"].encode())).rstrip(b"=").decode()
        hello = {
            "verbose": False,
            "pedantic": False,
            "lang": "by-hand",
            "version": "1",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "jwt": jwt,
            "sig": signature,
        }
        self._writer.write(b"CONNECT " + json.dumps(hello).encode() + b"\r\nPING\r\n")
        while (line := await self._reader.readline()) != b"PONG\r\n":
            if line.startswith(b"-ERR") or not line:
                raise HandRefused(line.decode().strip() or "the connection was closed")
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := (await self._reader.readline()).decode().rstrip("\r\n"):
                word, *rest = line.split(" ")
                if word in ("MSG", "HMSG"):
                    await self._take(word == "HMSG", rest)
                elif word == "PING":
                    self._writer.write(b"PONG\r\n")
                elif word == "PONG":
                    self._pongs.put_nowait(word)
                elif word == "-ERR":
                    self._errors.append(line.removeprefix("-ERR ").strip("'"))
        self._errors.append("the connection was closed")
        self._pongs.put_nowait("")

    async def _take(self, with_headers: bool, rest: list[str]) -> None:
        sizes = [int(size) for size in rest[-2 if with_headers else -1 :]]
        subject, reply = rest[0], rest[2] if len(rest) == len(sizes) + 3 else ""
        body = (await self._reader.readexactly(sizes[-1] + 2))[:-2]
        split = sizes[0] if with_headers else 0
        self.heard.append(Heard(subject, reply, body[:split], body[split:]))
        self._news.set()

    def subscribe(self, subject: str, queue: str = "") -> None:
        """Sends SUB."""
        self._writer.write(f"SUB {subject} {queue + ' ' if queue else ''}{next(self._ids)}\r\n".encode())

    def publish(self, subject: str, data: bytes = b"", reply: str = "") -> None:
        """Sends PUB."""
        self._writer.write(f"PUB {subject} {reply + ' ' if reply else ''}{len(data)}\r\n".encode() + data + b"\r\n")

    async def refusals(self) -> list[str]:
        """What the broker has objected to since the last time, once it has read everything that was sent."""
        self._writer.write(b"PING\r\n")
        async with asyncio.timeout(_DEADLINE_S):
            await self._writer.drain()
            await self._pongs.get()
        found, self._errors = self._errors, []
        return found

    async def request(self, subject: str, data: bytes, inbox: str) -> Heard | None:
        """The first message that comes to `inbox`, which must be subscribed; None when none comes in two seconds."""
        self.publish(subject, data, inbox)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                while True:
                    for heard in self.heard:
                        if heard.subject == inbox or (heard.reply.startswith("$JS.ACK") and not heard.headers):
                            self.heard.remove(heard)
                            return heard
                    self._news.clear()
                    await self._news.wait()
        return None

    async def close(self) -> None:
        """Ends the connection at once."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.transport.abort()
