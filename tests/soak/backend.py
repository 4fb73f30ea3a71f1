"""The agency's own system behind the provider's gateway: a process of its own that keeps a book of its effects.

    python -m tests.soak.backend --port PORT --out FOLDER [--careless]

`effects.jsonl` has one line for each effect, on disk before the answer: exchange id, key and sequence. `asked.jsonl` has
one line for each request. A careful backend knows the ids of its effects, also after a kill, and does none twice; a
careless one does what it is asked. `FOLDER/slow` holds how many seconds each answer takes.

Poison, as the body of a command names it: `error` answers 500, `nonsense` what the contract does not allow, `close`
breaks the connection before the effect, `vanish` after it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from .lines import LineFile, read


class Book:
    """What was done."""

    def __init__(self, folder: Path, *, careless: bool) -> None:
        self._careless = careless
        self._done = {line["id"] for line in read(folder / "effects.jsonl")}
        self._effects = LineFile(folder / "effects.jsonl")
        self._asked = LineFile(folder / "asked.jsonl", sync=False)

    def asked(self, record_id: str) -> None:
        """A request came."""
        self._asked.add(id=record_id, at=time.time())

    def effect(self, record_id: str, told: dict[str, Any]) -> bool:
        """Does it, unless it was done; whether it was done now."""
        if record_id in self._done and not self._careless:
            return False
        self._done.add(record_id)
        self._effects.add(id=record_id, key=told["key"], sequence=told["sequence"], at=time.time())
        return True


def application(folder: Path, *, careless: bool) -> web.Application:
    """The HTTP application."""
    book = Book(folder, careless=careless)
    slow = folder / "slow"

    async def do(request: web.Request) -> web.StreamResponse:
        record_id = request.headers.get("X-Road-Request-Id", "")
        told = await request.json()
        book.asked(record_id)
        if slow.exists():
            await asyncio.sleep(float(slow.read_text() or 0))
        poison = told.get("poison", "")
        if poison == "error":
            return web.json_response({"why": "poison"}, status=500)
        if poison == "close":
            return _broken(request)
        fresh = book.effect(record_id, told)
        if poison == "vanish":
            return _broken(request)
        if poison == "nonsense":
            return web.Response(body=b"\x00\xff", content_type="application/json")
        return web.json_response({"done": fresh})

    made = web.Application()
    made.router.add_post("/effects", do)
    return made


def _broken(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


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
