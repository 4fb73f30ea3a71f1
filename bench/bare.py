"""Bare request/reply through the broker: what the relay is held against (`python -m bench.bare FACTS`).

The NATS library on Python's own event loop, a broker user as the relay has; the echo is in the relay's back process.
Asks over standard input and answers over standard output, one line of JSON each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from bench.brokeruser import ECHO_SUBJECT, BrokerUser
from bench.lines import answer_lines
from bus.transport.connection import Connection

_PAYLOAD = b"x" * 200
_DEADLINE_S = 5.0


class Asker:
    """Sends requests in two ways.

    Args:
        connection: The product's class.
        client: The NATS library alone, with its own `request`.
    """

    def __init__(self, connection: Connection, client: Client) -> None:
        self._connection = connection
        self._client = client

    async def load(self, way: str, connections: int, seconds: float) -> dict[str, Any]:
        """`connections` requests under way for `seconds`; `way` is connection or client."""
        send = self._connection.exchange if way == "connection" else self._client.request
        clock = time.perf_counter
        started = clock()
        until = started + seconds
        count = 0

        async def one() -> None:
            nonlocal count
            while clock() < until:
                await send(ECHO_SUBJECT, _PAYLOAD, _DEADLINE_S)
                count += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(one())
        return {"count": count, "seconds": clock() - started}


async def main(facts: dict[str, Any]) -> None:
    """Answers until the input ends."""
    user = BrokerUser(Path(facts["users"]), "front")
    broker = facts["broker"], Path(facts["ca"])
    connection = user.connection(*broker)
    await connection.start()
    if not await connection.wait_connected(_DEADLINE_S):
        raise RuntimeError("the broker cannot be reached")
    client = await user.client(*broker)
    asker = Asker(connection, client)
    try:
        await answer_lines(lambda asked: asker.load(asked["way"], asked["connections"], asked["seconds"]))
    finally:
        await client.close()
        await connection.close()


if __name__ == "__main__":
    # The library as it comes, on Python's own event loop: what a reader of its documentation would measure.
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
