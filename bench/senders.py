"""Client systems that hand commands over: one separate process (`python -m bench.senders FACTS`).

Closed loop, as the generator of queries: each connection sends its next command when it has its answer. `accept` waits
for the `202` only, `close` for the command's end, by long-poll. Every answer is looked at.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from yarl import URL

from bench.generator import SEED, quantiles
from bench.lines import answer_lines
from bench.plugin.bench_source import item

_ITEMS = 4_096
_WAIT = {"Prefer": "wait=30"}


class Senders:
    """The client systems of one gateway.

    Args:
        url: Address of its front.
        prefix: Path before the item.
        headers: Sent with every call.
        ca: Who issued its certificate.
    """

    def __init__(self, url: str, prefix: str, headers: dict[str, str], ca: str) -> None:
        chosen = random.Random(SEED)
        self._bodies = [item(f"{chosen.randrange(10**12):012d}") for _ in range(_ITEMS)]
        self._url = URL(f"{url}{prefix}/items", encoded=True)
        self._base = url
        self._tls = ssl.create_default_context(cafile=ca)
        self._headers = headers
        self._command = {"Prefer": "respond-async", "Content-Type": "application/json"}
        self._session: aiohttp.ClientSession | None = None
        self._next = 0

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._tls, keepalive_timeout=600)
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                timeout=aiohttp.ClientTimeout(total=120),
            )
        return self._session

    async def _accept(self) -> str:
        """Hands one command over; its place."""
        self._next = (self._next + 1) % _ITEMS
        async with self._open().post(self._url, data=self._bodies[self._next], headers=self._command) as answer:
            body = await answer.read()
            if answer.status != 202:
                raise RuntimeError(f"{answer.status} {body[:300].decode('utf-8', 'replace')}")
            return answer.headers["Location"]

    async def _close(self) -> None:
        place = await self._accept()
        async with self._open().get(URL(self._base + place, encoded=True), headers=_WAIT) as answer:
            told = json.loads(await answer.read())
        if told.get("state") != "completed":
            raise RuntimeError(f"a command was not completed: {told}")

    async def load(self, until_closed: bool, connections: int, seconds: float, calls: int) -> dict[str, Any]:
        """Commands over `connections` connections for `seconds`, or until `calls` were made; counts and latencies."""
        send: Callable[[], Awaitable[Any]] = self._close if until_closed else self._accept
        clock = time.perf_counter
        latencies: list[float] = []
        left = calls or 1 << 60
        started = clock()
        until = started + seconds

        async def one() -> None:
            nonlocal left
            while (before := clock()) < until and left > 0:
                left -= 1
                await send()
                latencies.append(clock() - before)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(connections):
                    tasks.create_task(one())
        except ExceptionGroup as group:
            return {"error": f"{group.exceptions[0]}", "count": len(latencies)}
        return {"count": len(latencies), "seconds": clock() - started, **quantiles(latencies)}

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()


async def main(facts: dict[str, Any]) -> None:
    """Answers until the input ends."""
    senders = Senders(**facts)
    try:
        await answer_lines(
            lambda asked: senders.load(
                asked["until_closed"], asked["connections"], asked["seconds"], asked.get("calls", 0)
            )
        )
    finally:
        await senders.close()


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
