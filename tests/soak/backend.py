"""The agency's own system behind the provider's gateway: a process of its own that keeps a book of its effects.

    python -m tests.soak.backend --port PORT --out FOLDER [--careless]

`effects.jsonl` has one line for each effect, on disk before the answer: exchange id, key and sequence. `asked.jsonl` has
one line for each request, `answered.jsonl` one for what became of it: the status, or `broken`, and the poison if that was
the reason. A careful backend knows the ids of its effects, also after a kill, and does none twice; a careless one does
what it is asked. `FOLDER/slow` holds how many seconds each answer takes, `FOLDER/busy` the status that everybody gets
instead of an effect.

Poison, as the body of a command names it. Answers that are results: `error` is 500, `nonsense` what the contract does not
allow. What passes: `close` breaks the connection before the effect, twice; `vanish` after it, once; `late` does it and
answers when nobody waits any more, once; `away` says 429, 502, 503 and 504 in turn, twice. What does not: `dead` says 503
until `FOLDER/cured` has a file of the exchange id.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

from .lines import LineFile, read

LATE_S = 3.6
"""Longer than the gateway waits (`stage.py`)."""
_AWAY = (429, 502, 503, 504)
_TWICE, _ONCE = 2, 1


class Book:
    """What was asked, done and answered."""

    def __init__(self, folder: Path, *, careless: bool) -> None:
        self._careless = careless
        self._done = {line["id"] for line in read(folder / "effects.jsonl")}
        self._times = Counter(line["id"] for line in read(folder / "asked.jsonl"))
        self._effects = LineFile(folder / "effects.jsonl")
        self._asked = LineFile(folder / "asked.jsonl", sync=False)
        self._answered = LineFile(folder / "answered.jsonl", sync=False)

    def asked(self, record_id: str, at: float) -> int:
        """A request came; which one of this id it is, from 1."""
        self._asked.add(id=record_id, at=at)
        self._times[record_id] += 1
        return self._times[record_id]

    def effect(self, record_id: str, told: dict[str, Any]) -> bool:
        """Does it, unless it was done; whether it was done now."""
        if record_id in self._done and not self._careless:
            return False
        self._done.add(record_id)
        self._effects.add(id=record_id, key=told["key"], sequence=told["sequence"], at=time.time())
        return True

    def answered(self, record_id: str, what: int | str, asked_at: float, poison: str) -> None:
        """What became of the request that came then."""
        self._answered.add(id=record_id, what=what, asked=asked_at, at=time.time(), poison=poison)


class Desk:
    """Serves the requests."""

    def __init__(self, folder: Path, *, careless: bool) -> None:
        self._book = Book(folder, careless=careless)
        self._slow, self._busy, self._cured = folder / "slow", folder / "busy", folder / "cured"

    async def do(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        record_id, asked_at = request.headers.get("X-Road-Request-Id", ""), time.time()
        told = await request.json()
        poison = told.get("poison", "")
        times = self._book.asked(record_id, asked_at)
        await asyncio.sleep(_number(self._slow))
        answer = await self._answer(record_id, told, poison, times)
        self._book.answered(record_id, "broken" if answer is None else answer.status, asked_at, poison)
        if answer is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        return answer

    async def _answer(self, record_id: str, told: dict[str, Any], poison: str, times: int) -> web.StreamResponse | None:
        """None for a connection that breaks."""
        if busy := int(_number(self._busy)):
            return web.json_response({"why": "busy"}, status=busy)
        if poison == "dead" and not (self._cured / record_id).exists():
            return web.json_response({"why": "poison"}, status=503)
        if poison == "error":
            return web.json_response({"why": "poison"}, status=500)
        if poison == "away" and times <= _TWICE:
            return web.json_response({"why": "poison"}, status=_AWAY[(told["sequence"] + times) % len(_AWAY)])
        if poison == "close" and times <= _TWICE:
            return None
        fresh = self._book.effect(record_id, told)
        if poison == "vanish" and times <= _ONCE:
            return None
        if poison == "late" and times <= _ONCE:
            await asyncio.sleep(LATE_S)
        if poison == "nonsense":
            return web.Response(body=b"\x00\xff", content_type="application/json")
        return web.json_response({"done": fresh})


def _number(path: Path) -> float:
    try:
        return float(path.read_text() or 0)
    except FileNotFoundError:
        return 0.0


def application(folder: Path, *, careless: bool) -> web.Application:
    """The HTTP application."""
    (folder / "cured").mkdir(exist_ok=True)
    made = web.Application()
    made.router.add_post("/effects", Desk(folder, careless=careless).do)
    return made


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--careless", action="store_true")
    options = parser.parse_args()
    made = application(options.out, careless=options.careless)
    print(json.dumps({"listening": options.port}), flush=True)
    web.run_app(made, host="127.0.0.1", port=options.port, print=None, access_log=None, reuse_address=True)


if __name__ == "__main__":
    main()
