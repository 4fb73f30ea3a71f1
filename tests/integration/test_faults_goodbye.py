"""The end of a connection to the broker: what the broker has sent already is handled, a broker that hangs is left.

The broker is played here, because the messages must cross on the wire each time and not only now and then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from bus.transport import connection as transport
from bus.transport.connection import BrokerIdentity, Connection

INFO = b'INFO {"server_id":"X","version":"2.11.0","proto":1,"host":"127.0.0.1","port":0,"headers":true,"max_payload":1048576}\r\n'
LAST = b"sent before the broker read the goodbye"


class LateBroker:
    """Speaks just enough of the NATS protocol. At an UNSUB it delivers one more message, as the real one may."""

    def __init__(self) -> None:
        self.silent = False
        self.sids: dict[bytes, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        while line := await reader.readline():
            verb, *words = line.split()
            if verb == b"SUB":
                self.sids[words[-1]] = words[0]
            elif verb == b"UNSUB" and words[0] in self.sids:
                subject = self.sids.pop(words[0]).replace(b"*", b"H37")
                writer.write(b"MSG %b %b _I.reply %d\r\n%b\r\n" % (subject, words[0], len(LAST), LAST))
            elif verb == b"PING" and not self.silent:
                writer.write(b"PONG\r\n")
        writer.close()


class Heard:
    """Handler and observer."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def on_query(self, _subject: str, _reply: str, data: bytes) -> None:
        await asyncio.sleep(0)  # a handler that is under way when the gateway stops
        self.messages.append(data)

    def connected(self, up: bool) -> None:
        """Of no interest here."""

    def denied(self) -> None:
        """Of no interest here."""

    def overloaded(self) -> None:
        """Of no interest here."""


@pytest.fixture
async def broker() -> AsyncIterator[tuple[LateBroker, int]]:
    late = LateBroker()
    server = await asyncio.start_server(late.serve, "127.0.0.1", 0)
    yield late, server.sockets[0].getsockname()[1]
    server.close()


async def connected(port: int, heard: Heard) -> Connection:
    identity = BrokerIdentity("VN-TEST/GOV/G01/@n1", lambda: "jwt", lambda _nonce: b"signature")
    made = Connection([f"nats://127.0.0.1:{port}"], None, identity, "_I.G01.", heard)
    made.subscribe("lt.q.G01.*", heard.on_query, "gateways")
    await made.start()
    assert await made.wait_connected(5)
    return made


async def test_a_message_that_crosses_the_goodbye_on_the_wire_is_handled(broker: tuple[LateBroker, int]) -> None:
    heard = Heard()
    made = await connected(broker[1], heard)
    await made.stop_serving(5)
    assert heard.messages == [LAST]
    await made.close()


async def test_a_broker_that_hangs_does_not_keep_a_gateway_that_stops(
    broker: tuple[LateBroker, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_GOODBYE_S", 0.3)
    heard = Heard()
    made = await connected(broker[1], heard)
    broker[0].silent = True
    began_s = time.monotonic()
    await made.stop_serving(5)
    await made.close()
    assert time.monotonic() - began_s < 2
    assert heard.messages == [LAST], "what came is handled all the same"
