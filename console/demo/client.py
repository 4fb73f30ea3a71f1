"""`python -m console.demo.client PLAN`: the client system of the demonstration, a program of its own.

Knows nothing of the bus but its HTTP surface: calls, reads the gateway's public metrics, and notes each call in a file.
Its one line on stdout is a `Told` as JSON.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import aiohttp
import msgspec
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from console.demo.calls import Answer, Call, Plan, Told

_CALL_S = 60.0
_OK = 200
_PATIENCE = 100
"""So many bad answers, and no further calls are made: something is broken, and waiting shows nothing more."""


class Sent:
    """The file of what was sent: one JSON object a line.

    Args:
        file: Open for appending.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def note(self, call: Call, answer: Answer, at: datetime) -> None:
        """Write one line."""
        line = {
            "id": answer.id,
            "service": call.service,
            "operation": call.operation,
            "at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "status": answer.status,
        }
        self._file.write(msgspec.json.encode(line).decode() + "\n")


class Client:
    """Makes the calls of a plan.

    Args:
        plan: What to do.
        session: Trusts the gateway's front.
        sent: Where calls are noted.
    """

    def __init__(self, plan: Plan, session: aiohttp.ClientSession, sent: Sent) -> None:
        self._plan = plan
        self._session = session
        self._sent = sent
        self._keys = {name: Path(path).read_text(encoding="ascii").strip() for name, path in plan.keys.items()}

    async def call(self, call: Call) -> Answer:
        """Make one call and note it; a missing answer has the status 0."""
        headers = {**self._plan.headers, "X-Road-Client": call.client, "X-LienThong-Key": self._keys[call.key]}
        if call.purpose:
            headers["X-LienThong-Purpose"] = call.purpose
        if call.content_type:
            headers["Content-Type"] = call.content_type
        url = URL(f"{self._plan.front}/r1/{call.service}{call.path}", encoded=True)
        at, started_s = datetime.now(UTC), time.perf_counter()
        told: Mapping[str, str] = {}
        try:
            async with self._session.request(call.method, url, headers=headers, data=call.body or None) as got:
                body = await got.text()
                told, status = got.headers, got.status
        except (aiohttp.ClientError, TimeoutError) as error:
            status, body = 0, type(error).__name__
        answer = Answer(
            id=told.get("x-road-request-id", ""),
            status=status,
            ms=(time.perf_counter() - started_s) * 1000,
            retry_after=told.get("Retry-After", ""),
            body=body,
        )
        self._sent.note(call, answer, at)
        return answer

    async def run(self) -> list[tuple[Call, Answer]]:
        """Make all calls, as many at once as the plan says; calls with their answers, in the order of the calls."""
        answers: list[Answer | None] = [None] * len(self._plan.calls)
        waiting, bad = iter(enumerate(self._plan.calls)), 0

        async def work(numbered: Iterator[tuple[int, Call]]) -> None:
            nonlocal bad
            for number, call in numbered:
                answer = answers[number] = await self.call(call)
                bad += not is_good(call, answer)
                if bad > _PATIENCE:
                    break

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._plan.connections):
                tasks.create_task(work(waiting))
        return [(call, answer) for call, answer in zip(self._plan.calls, answers, strict=True) if answer is not None]

    async def exchanges(self) -> int:
        """Successful exchanges so far, from the gateway's /metrics."""
        async with self._session.get(f"{self._plan.admin}/metrics") as got:
            return successful_exchanges(await got.text())


def successful_exchanges(metrics: str) -> int:
    """The counter of exchanges that this gateway asked for and that ended well, over all services."""
    return int(
        sum(
            sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
            if sample.name == "lienthong_exchanges_total"
            and sample.labels["side"] == "client"
            and sample.labels["outcome"] == "ok"
        )
    )


async def run(plan: Plan) -> Told:
    """Carry out a plan."""
    context = ssl.create_default_context(cafile=plan.ca)
    connector = aiohttp.TCPConnector(limit=plan.connections, ssl=context)
    timeout = aiohttp.ClientTimeout(total=_CALL_S)
    with Path(plan.sent).open("a", encoding="utf-8", buffering=1) as file:  # noqa: ASYNC230 - lines to a local file
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            client = Client(plan, session, Sent(file))
            before, started_s = await client.exchanges(), time.perf_counter()
            made = await client.run()
            seconds, after = time.perf_counter() - started_s, await client.exchanges()
    return told(plan, made, seconds, after - before)


def is_good(call: Call, answer: Answer) -> bool:
    """Whether the answer is what was asked for."""
    return answer.status == _OK and call.expect in answer.body


def told(plan: Plan, made: list[tuple[Call, Answer]], seconds: float, exchanges: int) -> Told:
    """Sum up a run."""
    times_ms = sorted(answer.ms for _, answer in made) or [0.0]
    return Told(
        answers=[answer for _, answer in made] if plan.keep else [],
        calls=len(made),
        good=sum(is_good(call, answer) for call, answer in made),
        statuses=dict(Counter(answer.status for _, answer in made)),
        seconds=seconds,
        exchanges=exchanges,
        p50_ms=times_ms[len(times_ms) // 2],
        p99_ms=times_ms[len(times_ms) * 99 // 100],
    )


def main() -> None:
    """Read the plan, run it, tell what it gave."""
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run(plan))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main()
