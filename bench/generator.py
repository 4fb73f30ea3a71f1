"""The load: one separate process that calls product and relay alike (`python -m bench.generator FACTS`).

Closed loop: each connection sends its next call when it has its answer. Connections stay open between the rounds of a
run. Every answer is looked at: status, size and that it is about the item asked for.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from yarl import URL

from bench.lines import answer_lines

SEED = 20_260_131
_ITEMS = 4_096
_ANSWER_BYTES = 200
_KEPT_ERRORS = 5
_GRACE_S = 30.0


class Side:
    """One side under load.

    Args:
        url: Address of its front.
        prefix: Path before the item.
        headers: Sent with every call.
        ca: Who issued its certificate.
    """

    def __init__(self, url: str, prefix: str, headers: dict[str, str], ca: str) -> None:
        chosen = random.Random(SEED)
        ids = [f"{chosen.randrange(10**12):012d}" for _ in range(_ITEMS)]
        self._calls = [(URL(f"{url}{prefix}/items/{one}", encoded=True), f'{{"id":"{one}"'.encode()) for one in ids]
        self._tls = ssl.create_default_context(cafile=ca)
        self._headers = headers
        self._sessions: dict[int, aiohttp.ClientSession] = {}
        self._next = 0

    def session(self, connections: int) -> aiohttp.ClientSession:
        """The open connections of one degree of concurrency."""
        found = self._sessions.get(connections)
        if found is None:
            connector = aiohttp.TCPConnector(limit=connections, ssl=self._tls, keepalive_timeout=600)
            found = self._sessions[connections] = aiohttp.ClientSession(
                connector=connector,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return found

    async def load(self, connections: int, seconds: float, calls: int = 0) -> dict[str, Any]:
        """Calls over `connections` connections for `seconds`, or until `calls` were made; counts and latencies."""
        session = self.session(connections)
        all_calls, clock = self._calls, time.perf_counter
        latencies: list[float] = []
        errors: dict[str, int] = {}
        left = calls or 1 << 60
        started = clock()
        until = started + seconds

        async def one() -> None:
            nonlocal left
            before = clock()
            while before < until and left > 0:
                left -= 1
                self._next = at = (self._next + 1) % _ITEMS
                url, expected = all_calls[at]
                async with session.get(url) as answer:
                    body = await answer.read()
                after = clock()
                if answer.status == 200 and len(body) == _ANSWER_BYTES and body.startswith(expected):
                    latencies.append(after - before)
                else:
                    _count(errors, f"{answer.status} {body[:300].decode('utf-8', 'replace')}")
                before = after

        tasks = [asyncio.create_task(one()) for _ in range(connections)]
        done, hanging = await asyncio.wait(tasks, timeout=seconds + _GRACE_S)
        for task in done:
            task.result()
        for task in hanging:
            _count(errors, f"no answer {_GRACE_S:g} s after the round, waiting in {_place(task)}")
            task.cancel()
        return {"count": len(latencies), "errors": errors, "seconds": clock() - started, **quantiles(latencies)}

    async def close(self) -> None:
        """Closes all connections."""
        for session in self._sessions.values():
            await session.close()


def _place(task: asyncio.Task[None]) -> str:
    """The innermost line at which a task waits."""
    awaited: Any = task.get_coro()
    place = "?"
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = awaited.cr_await
    return place


def _count(errors: dict[str, int], text: str) -> None:
    if text in errors or len(errors) < _KEPT_ERRORS:
        errors[text] = errors.get(text, 0) + 1
    else:
        errors["others"] = errors.get("others", 0) + 1


def quantiles(latencies: list[float]) -> dict[str, float]:
    if not latencies:
        return {"p50_ms": 0.0, "p99_ms": 0.0}
    latencies.sort()
    last = len(latencies) - 1
    return {
        "p50_ms": 1e3 * latencies[round(last * 0.5)],
        "p99_ms": 1e3 * latencies[round(last * 0.99)],
    }


async def main(facts: dict[str, Any]) -> None:
    """Answers until the input ends."""
    sides = {name: Side(**one) for name, one in facts.items()}
    try:
        await answer_lines(
            lambda asked: sides[asked["side"]].load(asked["connections"], asked["seconds"], asked.get("calls", 0))
        )
    finally:
        for side in sides.values():
            await side.close()


if __name__ == "__main__":
    uvloop.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
