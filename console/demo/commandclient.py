"""`python -m console.demo.commandclient PLAN`: client systems that hand work over, a program of its own.

Knows nothing of the bus but its HTTP surface. An attempt that breaks off is made again under the same idempotency key;
each command that was accepted is followed to its end. What it is told goes into the file of notes: `accepted` with the
id, before the next command of the lane; `again` for each attempt that is repeated; `ended` with the state. Its one line
on stdout is a `Handed` as JSON.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import aiohttp
import msgspec
import uvloop

from console.demo.handing import Command, Fate, Handed, HandingPlan

_CALL_S, _PAUSE_S, _WAIT_S = 40.0, 0.1, 10
_FATE_S = 100.0
_ENDS = frozenset({"completed", "failed", "cancelled", "expired", "dead"})
_COME_AGAIN = frozenset({409, 429, 500, 502, 503, 504})


class Notes:
    """The file of notes: one JSON object a line.

    Args:
        file: Open for appending.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, what: str, command: Command, **told: object) -> None:
        """Write one line."""
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        line = {
            "what": what,
            "at": at,
            "client": command.client,
            "service": command.service,
            "operation": command.operation,
            "order_key": command.order_key,
            "number": command.number,
            **told,
        }
        self._file.write(msgspec.json.encode(line).decode() + "\n")


class CommandClient:
    """Carries out a plan.

    Args:
        plan: What to do.
        session: For HTTP.
        notes: Where it writes what it is told.
    """

    def __init__(self, plan: HandingPlan, session: aiohttp.ClientSession, notes: Notes) -> None:
        self._plan = plan
        self._session = session
        self._notes = notes
        self._keys = {name: Path(path).read_text(encoding="ascii").strip() for name, path in plan.keys.items()}
        self._tls = {code: ssl.create_default_context(cafile=path) for code, path in plan.authorities.items()}
        self._next_s = time.monotonic()
        self.again = 0

    async def run(self) -> list[list[tuple[Command, Fate]]]:
        """All lanes, each command to its end."""
        accepted = await asyncio.gather(*(self._lane(lane) for lane in self._plan.lanes))
        if self._plan.keep:
            if self._plan.in_turn:
                return accepted
            return [[(command, await self._followed(command, fate)) for command, fate in lane] for lane in accepted]
        await asyncio.gather(*(self._followed(*lane[-1]) for lane in accepted if lane))
        states = await self._all_states(self._plan.lanes[0][0])
        return [
            [(command, self._ended(command, states.get(fate.id, fate))) for command, fate in lane] for lane in accepted
        ]

    async def _lane(self, lane: list[Command]) -> list[tuple[Command, Fate]]:
        made = []
        for command in lane:
            await self._turn()
            fate = Fate(id=command.id) if command.id else await self._handed(command)
            made.append((command, await self._followed(command, fate) if self._plan.in_turn else fate))
        return made

    async def _turn(self) -> None:
        self._next_s = max(self._next_s + 1 / self._plan.per_s, time.monotonic())
        await asyncio.sleep(self._next_s - time.monotonic())

    async def _handed(self, command: Command) -> Fate:
        """One command until it is accepted or refused."""
        asked = {"Prefer": "respond-async", "Content-Type": "application/json"}
        asked |= {"Idempotency-Key": command.name} if command.name else {}
        asked |= {"X-LienThong-Order-Key": command.order_key} if command.order_key else {}
        asked |= {"X-LienThong-Purpose": command.purpose} if command.purpose else {}
        until_s = time.monotonic() + _FATE_S
        while True:
            status, text = await self._asked(
                command, "POST", f"/r1/{command.service}{command.path}", asked, command.body
            )
            body = _object(text)
            if status == 202:
                self._notes.add("accepted", command, id=body["id"])
                return Fate(id=body["id"], state="accepted")
            if (status and status not in _COME_AGAIN) or not command.name or time.monotonic() > until_s:
                self._notes.add("refused", command, status=status)
                return Fate(state="refused", status=status, code=str(body.get("code", "")), body=text)
            self.again += 1
            self._notes.add("again", command, status=status)
            await asyncio.sleep(_PAUSE_S)

    async def _followed(self, command: Command, fate: Fate) -> Fate:
        """What became of an accepted command; asked until its state is final or dead."""
        if not fate.id:
            return fate
        target, until_s, told = f"/exchanges/{fate.id}", time.monotonic() + _FATE_S, dict[str, Any]()
        ends = _ENDS - {"dead"} if command.id else _ENDS  # what was dead is followed when it was brought back
        while told.get("state") not in ends and time.monotonic() < until_s:
            status, text = await self._asked(command, "GET", target, {"Prefer": f"wait={_WAIT_S}"})
            told = _object(text) if status == 200 else {}
            if not told:
                await asyncio.sleep(_PAUSE_S)
        ended = fate_of(told) if told else fate
        if not self._plan.keep:
            return ended
        if "result" in told:
            status, text = await self._asked(command, "GET", told["result"], {})
            ended = msgspec.structs.replace(ended, status=status, body=text)
        return self._ended(command, ended)

    def _ended(self, command: Command, fate: Fate) -> Fate:
        if fate.id:
            told = {"id": fate.id, "state": fate.state, "code": fate.code, "status": fate.status}
            self._notes.add("ended", command, **told, times=fate.times, records=fate.records)
        return fate

    async def _all_states(self, one: Command) -> dict[str, Fate]:
        """All commands of the subsystem that sent `one`, as the gateway lists them, page by page."""
        found: dict[str, Fate] = {}
        target, until_s = "/exchanges?limit=200", time.monotonic() + _FATE_S
        while target and time.monotonic() < until_s:
            status, text = await self._asked(one, "GET", target, {})
            if status != 200:
                await asyncio.sleep(_PAUSE_S)
                continue
            page = _object(text)
            found |= {told["id"]: fate_of(told) for told in page["exchanges"]}
            target = page.get("next", "")
        return found

    async def _asked(
        self, command: Command, method: str, target: str, more: dict[str, str], body: str = ""
    ) -> tuple[int, str]:
        """Status and body; status 0 when there was no answer."""
        named = {
            "X-Road-Client": command.client,
            "X-LienThong-Key": self._keys[command.key],
            **self._plan.headers,
            **more,
        }
        try:
            front = json.loads(Path(self._plan.listening[command.gateway]).read_bytes())["front"]  # noqa: ASYNC240
            async with self._session.request(
                method, front + target, headers=named, data=body or None, ssl=self._tls[command.gateway]
            ) as got:
                return got.status, await got.text()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return 0, ""


def fate_of(told: dict[str, Any]) -> Fate:
    """A command as its gateway tells it."""
    return Fate(
        id=told["id"], state=told["state"], code=told.get("code", ""), times=told["times"], records=told["records"]
    )


def _object(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


async def run(plan: HandingPlan) -> Handed:
    """Carry out a plan."""
    timeout = aiohttp.ClientTimeout(total=_CALL_S)
    with Path(plan.notes).open("a", encoding="utf-8", buffering=1) as file:  # noqa: ASYNC230 - lines to a local file
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64), timeout=timeout) as session:
            client, started_s = CommandClient(plan, session, Notes(file)), time.monotonic()
            lanes = await client.run()
            seconds = time.monotonic() - started_s
    fates = [fate for lane in lanes for _, fate in lane]
    return Handed(
        fates=fates if plan.keep else [],
        accepted=sum(bool(fate.id) for fate in fates),
        refused=sum(not fate.id for fate in fates),
        again=client.again,
        states=dict(Counter(fate.state for fate in fates)),
        seconds=seconds,
    )


def main() -> None:
    """Read the plan, run it, tell what it gave."""
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=HandingPlan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run(plan))
    sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main()
