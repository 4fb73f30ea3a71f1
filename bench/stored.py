"""Plain JetStream publish: what accepted commands are held against (`python -m bench.stored FACTS`).

The NATS library as it comes, over as many connections as the product has clients, each with one message under way; the
broker is the instance's own and syncs each write before it acknowledges. Asks over standard input and answers over
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
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig

from bench.brokeruser import BrokerUser
from bench.lines import answer_lines
from bench.plugin.bench_source import item

_STREAM, _SUBJECT = "BENCH", "bench.s.items"
_PAYLOAD = item("0" * 12)
_DEADLINE_S = 20.0
_MAX_BYTES = 1 << 28


class Storer:
    """Publishes into a stream of its own, and waits for each acknowledgement.

    Args:
        user: Of the streams' account.
        broker: Address and authority of the broker.
    """

    def __init__(self, user: BrokerUser, broker: tuple[str, Path]) -> None:
        self._user = user
        self._broker = broker
        self._clients: list[Client] = []
        self._streams: list[JetStreamContext] = []

    async def load(self, connections: int, seconds: float) -> dict[str, Any]:
        """Messages over `connections` connections for `seconds`; the stream is empty afterwards."""
        while len(self._clients) < connections:
            client = await self._user.client(*self._broker)
            self._clients.append(client)
            self._streams.append(client.jetstream(timeout=_DEADLINE_S))
        first = self._streams[0]
        await first.add_stream(
            StreamConfig(name=_STREAM, subjects=[_SUBJECT], storage=StorageType.FILE, max_bytes=_MAX_BYTES)
        )
        clock = time.perf_counter
        started = clock()
        until = started + seconds
        count = 0

        async def one(stream: JetStreamContext) -> None:
            nonlocal count
            while clock() < until:
                await stream.publish(_SUBJECT, _PAYLOAD)
                count += 1

        async with asyncio.TaskGroup() as tasks:
            for stream in self._streams[:connections]:
                tasks.create_task(one(stream))
        taken_s = clock() - started
        await first.purge_stream(_STREAM)
        return {"count": count, "seconds": taken_s}

    async def close(self) -> None:
        """Ends all connections."""
        for client in self._clients:
            await client.close()


async def main(facts: dict[str, Any]) -> None:
    """Answers until the input ends."""
    storer = Storer(BrokerUser(Path(facts["users"]), "store"), (facts["broker"], Path(facts["ca"])))
    try:
        await answer_lines(lambda asked: storer.load(asked["connections"], asked["seconds"]))
    finally:
        await storer.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
