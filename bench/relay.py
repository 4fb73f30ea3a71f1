"""The yardstick: the same stack without trust (`python -m bench.relay front|back FACTS`).

HTTP in (aiohttp's low-level server, the same TLS) → NATS request/reply (the product's own connection class, the same
kind of user, the same broker) → handler in the back process → back. JSON is parsed and validated against the contract
on both sides, for request and answer. Nothing is signed, sealed, logged, authenticated or authorised. It is what this
machine and these libraries can do.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from bench.brokeruser import ECHO_SUBJECT, GROUP, QUERY_SUBJECT, BrokerUser
from bench.plugin.bench_source import item
from bus.front.server import server_tls
from bus.transport.connection import Connection
from console.processes.running import announce, run_process
from registry.contract import CompiledContract, compile_contract, parse_contract

_DEADLINE_S = 10.0
_CONNECT_DEADLINE_S = 10.0


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A request on its way."""

    method: str
    path: str
    query: str
    content_type: str
    body: str


class Answered(msgspec.Struct, frozen=True, gc=False):
    """An answer on its way."""

    status: int
    content_type: str
    body: msgspec.Raw


_encode = msgspec.json.Encoder().encode
_read_asked = msgspec.json.Decoder(Asked).decode
_read_answered = msgspec.json.Decoder(Answered).decode


def load_contract(path: Path) -> CompiledContract:
    """The contract as both sides use it."""
    return compile_contract(parse_contract(path.read_bytes()))


class Front:
    """The side that clients call."""

    def __init__(self, connection: Connection, contract: CompiledContract, prefix: str) -> None:
        self._connection = connection
        self._contract = contract
        self._cut = len(prefix)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One call."""
        path, _, query = request.message.path[self._cut :].partition("?")
        body = await request.read() if request.can_read_body else b""
        content_type = request.headers.get("Content-Type", "")
        contract = self._contract
        match = contract.route(request.method, path)
        contract.validate_request(match, query, (), content_type, body)
        asked = Asked(request.method, path, query, content_type, body.decode())
        reply = await self._connection.exchange(QUERY_SUBJECT, _encode(asked), _DEADLINE_S)
        answer = _read_answered(reply.data)
        data = bytes(answer.body)
        contract.validate_answer(match.operation.id, answer.status, answer.content_type, data)
        return web.Response(status=answer.status, body=data, headers={"Content-Type": answer.content_type})


class Back:
    """The side that answers."""

    def __init__(self, connection: Connection, contract: CompiledContract) -> None:
        self._connection = connection
        self._contract = contract

    async def on_query(self, subject: str, reply: str, data: bytes) -> None:
        """One request."""
        del subject
        asked = _read_asked(data)
        contract = self._contract
        match = contract.route(asked.method, asked.path)
        contract.validate_request(match, asked.query, (), asked.content_type, asked.body.encode())
        body = item(match.raw["id"])
        contract.validate_answer(match.operation.id, 200, "application/json", body)
        await self._connection.send(reply, _encode(Answered(200, "application/json", msgspec.Raw(body))))

    async def on_echo(self, subject: str, reply: str, data: bytes) -> None:
        """Bare request/reply."""
        del subject
        await self._connection.send(reply, data)


async def hop(request: web.BaseRequest) -> web.StreamResponse:
    """The HTTP hop alone: what an answer costs before anything is done for it."""
    body = item(request.message.path[-12:])
    return web.Response(status=200, body=body, headers={"Content-Type": "application/json"})


async def serve_front(facts: dict[str, Any], listening: Path, stop: asyncio.Event) -> None:
    """Runs the front until `stop`."""
    connection = BrokerUser(Path(facts["users"]), "front").connection(facts["broker"], Path(facts["ca"]))
    await connection.start()
    front = Front(connection, load_contract(Path(facts["contract"])), facts["prefix"])
    tls = server_tls(facts["certificate"], facts["key"])
    runners = {
        name: web.ServerRunner(web.Server(handler, access_log=None), handle_signals=False)
        for name, handler in (("relay", front.handle), ("http", hop))
    }
    try:
        if not await connection.wait_connected(_CONNECT_DEADLINE_S):
            raise RuntimeError("the broker cannot be reached")
        for runner in runners.values():
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        announce(listening, {name: f"https://127.0.0.1:{one.addresses[0][1]}" for name, one in runners.items()})
        await stop.wait()
    finally:
        for runner in runners.values():
            await runner.cleanup()
        await connection.close()


async def serve_back(facts: dict[str, Any], listening: Path, stop: asyncio.Event) -> None:
    """Runs the back until `stop`."""
    connection = BrokerUser(Path(facts["users"]), "back").connection(facts["broker"], Path(facts["ca"]))
    back = Back(connection, load_contract(Path(facts["contract"])))
    connection.subscribe(QUERY_SUBJECT, back.on_query, GROUP)
    connection.subscribe(ECHO_SUBJECT, back.on_echo)
    await connection.start()
    try:
        if not await connection.wait_connected(_CONNECT_DEADLINE_S):
            raise RuntimeError("the broker cannot be reached")
        announce(listening, {})
        await stop.wait()
    finally:
        await connection.close()


def main() -> None:
    """`front FACTS` or `back FACTS`; FACTS is a JSON file, `<side>.json` beside it says where it listens."""
    side, path = sys.argv[1], Path(sys.argv[2])
    facts = json.loads(path.read_text(encoding="utf-8"))
    listening = path.with_name(f"{side}.json")
    serve = serve_front if side == "front" else serve_back
    run_process(lambda stop: serve(facts, listening, stop), None)


if __name__ == "__main__":
    main()
