"""Bare request/reply through the broker, for the claim that the relay is not slow by itself (`python -m bench.bare FACTS`).

The same connection class and users as the relay; the echo is in the relay's back process. Asks over standard input
and answers over standard output, one line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.brokeruser import ECHO_SUBJECT, BrokerUser
from bench.lines import answer_lines
from bus.transport.connection import Connection

_PAYLOAD = b"x" * 200
_DEADLINE_S = 5.0


async def load(connection: Connection, connections: int, seconds: float, own: bool) -> dict[str, Any]:
    """`connections` requests under way for `seconds`: through nats-py's own `request`, or the product's class."""
    started = time.perf_counter()
    until = started + seconds
    count = 0

    async def one() -> None:
        nonlocal count
        client = connection.client
        while time.perf_counter() < until:
            if own:
                await client.request(ECHO_SUBJECT, _PAYLOAD, _DEADLINE_S)
            else:
                await connection.exchange(ECHO_SUBJECT, _PAYLOAD, _DEADLINE_S)
            count += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(one())
    return {"count": count, "seconds": time.perf_counter() - started}


async def main(facts: dict[str, Any]) -> None:
    """Answers until the input ends."""
    connection = BrokerUser(Path(facts["users"]), "front").connection(facts["broker"], Path(facts["ca"]))
    await connection.start()
    if not await connection.wait_connected(_DEADLINE_S):
        raise RuntimeError("the broker cannot be reached")
    try:
        await answer_lines(lambda asked: load(connection, asked["connections"], asked["seconds"], asked["own"]))
    finally:
        await connection.close()


if __name__ == "__main__":
    import uvloop

    sys.setswitchinterval(0.0005)
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
