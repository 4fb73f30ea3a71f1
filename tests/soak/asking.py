"""What the consumer's gateway tells of each accepted command, asked over its front as any client system may."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

_AT_ONCE = 24


def states(facts: Mapping[str, Any], ids: Iterable[str]) -> dict[str, str]:
    """State by id; empty for one that the gateway does not know."""
    return asyncio.run(_states(facts, list(ids)))


def settled(facts: Mapping[str, Any], ids: Iterable[str], final: Iterable[str], deadline_s: float) -> dict[str, str]:
    """The same, asked until all are final or the deadline has passed."""
    found: dict[str, str] = {}
    until_s = time.monotonic() + deadline_s
    left, ends = list(ids), frozenset(final)
    while True:
        found |= states(facts, left)
        left = [one for one in left if found[one] not in ends]
        if not left or time.monotonic() > until_s:
            return found
        time.sleep(0.5)


async def _states(facts: Mapping[str, Any], ids: list[str]) -> dict[str, str]:
    front = json.loads(Path(facts["listening"]).read_bytes())["front"]
    headers = {"X-Road-Client": facts["client"], "X-LienThong-Key": facts["key"]}
    context = ssl.create_default_context(cafile=facts["ca"])
    timeout = aiohttp.ClientTimeout(total=20)
    turn = asyncio.Semaphore(_AT_ONCE)
    found: dict[str, str] = {}
    connector = aiohttp.TCPConnector(ssl=context, limit=_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:

        async def one(record_id: str) -> None:
            async with turn, session.get(f"{front}/exchanges/{record_id}") as answer:
                told = await answer.json(content_type=None)
                found[record_id] = str(told["state"]) if answer.status == 200 else ""

        await asyncio.gather(*(one(record_id) for record_id in ids))
    return found
