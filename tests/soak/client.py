"""The client system: a process of its own that sends commands and keeps a book of what it was told.

    python -m tests.soak.client --facts FILE --out FOLDER --rate N --seed S [--features a,b]

One lane for each key: the next command of a key is sent when the one before was accepted or refused. Keys of `dossier-…`
are order keys, too, if the gateway knows them; `loose-…` are not. `sent.jsonl` has, on
disk before the lane goes on: a line `trying` before each attempt, then `accepted` with the id, `refused` (a final answer),
`not` (surely not accepted: tried again) or `unknown` (the call broke off). An unknown one is repeated with the same
idempotency key if the gateway knows such keys; otherwise it stays unknown, and the lane goes on with the next sequence.

Ends in order at SIGTERM: no new commands, attempts under way are finished.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import ssl
import time
from pathlib import Path
from typing import Any

import aiohttp

from .lines import LineFile

POISONS = ("error", "nonsense", "close", "vanish", "late", "away", "dead")
POISONED = 0.03
CANCELLED = 0.03
ATTEMPT_S = 6.0
ORDERED = "dossier-"
LANES = 160
"""Of one order key a command waits for the round trip of the one before: few keys would measure nothing but that."""
_PAUSE_S = 0.1


class Lane:
    """Commands of one key, one after the other."""

    def __init__(self, client: Client, key: str, chance: random.Random) -> None:
        self._client, self._key, self._chance = client, key, chance
        self._sequence = 0

    async def run(self) -> None:
        """Until the client stops."""
        while not self._client.stopping.is_set():
            await self._client.turn()
            self._sequence += 1
            poison = self._chance.choice(POISONS) if self._chance.random() < POISONED else ""
            body = {"key": self._key, "sequence": self._sequence, **({"poison": poison} if poison else {})}
            accepted = await self._client.send(self._key, self._sequence, body)
            if accepted and "cancel" in self._client.features and self._chance.random() < CANCELLED:
                await self._client.cancel(accepted)


class Client:
    """See the module."""

    def __init__(self, facts: dict[str, Any], out: Path, rate: float, features: frozenset[str]) -> None:
        self.features = features
        self.stopping = asyncio.Event()
        self._facts = facts
        self._book = LineFile(out / "sent.jsonl")
        self._gap_s = 1.0 / rate
        self._next_s = time.monotonic()
        self._session: aiohttp.ClientSession | None = None

    async def run(self, seed: int, lanes: int) -> None:
        """Sends until it is told to stop."""
        context = ssl.create_default_context(cafile=self._facts["ca"])
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_S)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            keys = [f"{ORDERED if number % 2 else 'loose-'}{number}" for number in range(lanes)]
            await asyncio.gather(*(Lane(self, key, random.Random(f"{seed}/{key}")).run() for key in keys))

    async def turn(self) -> None:
        """Waits for this lane's turn: all lanes together send `rate` commands a second."""
        self._next_s = max(self._next_s + self._gap_s, time.monotonic() - 0.5)
        await asyncio.sleep(max(0.0, self._next_s - time.monotonic()))

    async def send(self, key: str, sequence: int, body: dict[str, Any]) -> str:
        """One command until its fate at the gateway is known, as far as it can be; its id when it was accepted."""
        name = f"{key}/{sequence}"
        known = {"key": key, "sequence": sequence, "idempotency_key": name, "poison": body.get("poison", "")}
        unsure = False
        while True:
            self._book.add(what="trying", at=time.time(), **known)
            what, status, told = await self._attempt(key, name, body)
            self._book.add(what=what, at=time.time(), status=status, told=told, **known)
            if what in ("accepted", "refused"):
                return told if what == "accepted" else ""
            if what == "unknown" and "idempotency" not in self.features:
                return ""
            unsure |= what == "unknown"
            if self.stopping.is_set() and what == "not" and not unsure:
                return ""
            await asyncio.sleep(_PAUSE_S)

    async def _attempt(self, key: str, name: str, body: dict[str, Any]) -> tuple[str, int, str]:
        headers = {"Prefer": "respond-async", "Content-Type": "application/json"}
        if "idempotency" in self.features:
            headers["Idempotency-Key"] = name
        if "order" in self.features and key.startswith(ORDERED):
            headers["X-LienThong-Order-Key"] = key
        try:
            status, answer = await self._request("POST", f"/r1/{self._facts['service']}/effects", headers, body)
        except aiohttp.ClientConnectorError:
            return "not", 0, "no connection"
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            return "unknown", 0, type(error).__name__
        if status == 202:
            return "accepted", status, str(answer["id"])
        code = str(answer.get("code", ""))
        if answer.get("acted") == "unknown":
            return "unknown", status, code
        return ("not" if status in (409, 429, 503) else "refused"), status, code

    async def cancel(self, record_id: str) -> None:
        """Asks for it to be cancelled; the answer is noted, whatever it is."""
        try:
            status, answer = await self._request("DELETE", f"/exchanges/{record_id}", {}, None)
            told = str(answer.get("code", answer.get("state", "")))
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            status, told = 0, type(error).__name__
        self._book.add(what="cancel", at=time.time(), id=record_id, status=status, told=told)

    async def _request(
        self, method: str, target: str, headers: dict[str, str], body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        assert self._session is not None
        named = {"X-Road-Client": self._facts["client"], "X-LienThong-Key": self._facts["key"], **headers}
        async with self._session.request(method, self._front() + target, headers=named, json=body) as answer:
            data = await answer.read()
            return answer.status, json.loads(data) if data else {}

    def _front(self) -> str:
        """Where the gateway listens now; it changes at each start."""
        try:
            return str(json.loads(Path(self._facts["listening"]).read_bytes())["front"])
        except (FileNotFoundError, ValueError):
            return "https://127.0.0.1:1"


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--lanes", type=int, default=LANES)
    parser.add_argument("--features", default="")
    options = parser.parse_args()
    features = frozenset(filter(None, options.features.split(",")))

    async def work() -> None:
        client = Client(json.loads(options.facts.read_bytes()), options.out, options.rate, features)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, client.stopping.set)
        await client.run(options.seed, options.lanes)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work())


if __name__ == "__main__":
    main()
