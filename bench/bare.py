"""Bare request/reply through the broker: what the relay is held against (`python -m bench.bare FACTS`).

The NATS library as it comes, over as many connections as the relay has clients, each with one request under way; a
broker user as the relay has; the echo is in the relay's back process. Asks over standard input and answers over
standard output, one line of JSON each.
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

_PAYLOAD = b"x" * 200
_DEADLINE_S = 5.0


class Asker:
    """Sends requests, one after the other over each connection.

    Args:
        user: Of the broker.
        broker: Address and authority of the broker.
    """

    def __init__(self, user: BrokerUser, broker: tuple[str, Path]) -> None:
        self._user = user
        self._broker = broker
        self._clients: list[Client] = []

    async def load(self, connections: int, seconds: float) -> dict[str, Any]:
        """Requests over `connections` connections for `seconds`."""
        while len(self._clients) < connections:
            self._clients.append(await self._user.client(*self._broker))
        clock = time.perf_counter
        started = clock()
        until = started + seconds
        count = 0

        async def one(client: Client) -> None:
            nonlocal count
            while clock() < until:
                await client.request(ECHO_SUBJECT, _PAYLOAD, _DEADLINE_S)
                count += 1

        async with asyncio.TaskGroup() as tasks:
            for client in self._clients[:connections]:
                tasks.create_task(one(client))
        return {"count": count, "seconds": clock() - started}

    async def close(self) -> None:
        """Ends all connections."""
        for client in self._clients:
            await client.close()


async def main(facts: dict[str, Any]) -> None:
    """Answers until the input ends."""
    asker = Asker(BrokerUser(Path(facts["users"]), "front"), (facts["broker"], Path(facts["ca"])))
    try:
        await answer_lines(lambda asked: asker.load(asked["connections"], asked["seconds"]))
    finally:
        await asker.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
