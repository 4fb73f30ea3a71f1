"""Beginning and end of a connection to the broker: no subscription is forgotten, nothing on its way is thrown away.

The broker is played here, because what crosses on the wire must do so each time and not only now and then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from world import eventually

from bus.transport import connection as transport
from bus.transport.connection import BrokerIdentity, Connection

INFO = b'INFO {"server_id":"X","version":"2.11.0","proto":1,"host":"127.0.0.1","port":0,"headers":true,"max_payload":1048576}\r\n'
LAST = b"sent before the broker read the goodbye"


class LateBroker:
    """Speaks just enough of the NATS protocol. At an UNSUB it delivers one more message, as the real one may."""

    def __init__(self) -> None:
        self.silent = False
        self.asked = asyncio.Event()
        self.sids: dict[bytes, bytes] = {}
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(INFO)
        while line := await reader.readline():
            verb, *words = line.split()
            if verb == b"SUB":
                self.sids[words[-1]] = words[0]
                if len(self.sids) == 2:  # inbox and queries
                    self.asked.set()
            elif verb == b"UNSUB" and words[0] in self.sids:
                subject = self.sids.pop(words[0]).replace(b"*", b"H37")
                writer.write(b"MSG %b %b _I.reply %d\r\n%b\r\n" % (subject, words[0], len(LAST), LAST))
            elif verb == b"PING" and not self.silent:
                writer.write(b"PONG\r\n")
            elif verb == b"CONNECT":
                writer.write(b"PONG\r\n" if self.silent else b"")  # to the PING that follows it
        writer.close()

    def subjects(self) -> set[bytes]:
        return set(self.sids.values())

    def answer(self) -> None:
        """Answers again, first of all what was asked meanwhile."""
        self.silent = False
        self.writers[-1].write(b"PONG\r\n")

    def drop(self) -> None:
        """Ends all connections."""
        self.sids.clear()
        for writer in self.writers:
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


def connection(port: int, heard: Heard) -> Connection:
    identity = BrokerIdentity("VN-TEST/GOV/G01/@n1", lambda: "jwt", lambda _nonce: b"signature")
    made = Connection([f"nats://127.0.0.1:{port}"], None, identity, "_I.G01.", heard)
    made.subscribe("lt.q.G01.*", heard.on_query, "gateways")
    return made


async def connected(port: int, heard: Heard) -> Connection:
    made = connection(port, heard)
    await made.start()
    assert await made.wait_connected(5)
    return made


async def test_what_is_to_be_served_while_the_connection_is_being_made_is_not_forgotten(
    broker: tuple[LateBroker, int],
) -> None:
    late, port = broker
    late.silent = True
    heard = Heard()
    made = connection(port, heard)
    await made.start()
    await asyncio.wait_for(late.asked.wait(), 5)  # all is subscribed, and the broker's word is waited for
    await made.serve("lt.k.G01.*", heard.on_query)
    late.answer()
    assert await made.wait_connected(5)
    assert b"lt.k.G01.*" in late.subjects()
    await made.close()


async def test_what_is_to_be_served_while_the_broker_is_away_is_served_when_it_is_back(
    broker: tuple[LateBroker, int],
) -> None:
    late, port = broker
    heard = Heard()
    made = await connected(port, heard)
    late.drop()
    await eventually(lambda: not made.connected, "the loss")
    await made.serve("lt.k.G01.*", heard.on_query)
    await eventually(lambda: made.connected and b"lt.k.G01.*" in late.subjects(), "the subscription", 5)
    await made.close()


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
