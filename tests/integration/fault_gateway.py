"""A gateway that fails on demand: the product's composition root with a store that breaks and a clock that is wrong.

    python fault_gateway.py --home HOME [--clock-offset-s SECONDS] [--nothing-writable]

The product has no hooks for tests; it is put together here with its own ports. While `HOME/data/fault.json` lies there,
the commit that it describes breaks at the step that it names:

    {"step": "write_note", "action": "kill", "nth": 3}

`kill` and `kill-after` end this very process with SIGKILL before or after the step; `fail` raises instead of the step,
`fail-after` raises although the step was done. The file is removed just before, so each fault happens once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import sqlite3
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bus.clock import SystemClock
from bus.errors import BusError, SettingsInvalid
from bus.gateway.runtime import Gateway
from console.homes import MemberHome
from console.processes.running import announce, configure_logging, run_process
from evidence.log import SqliteStore

STEPS = frozenset(
    {
        "begin",
        "guard_head",
        "write_leaves",
        "write_tiles",
        "write_note",
        "write_caller_rows",
        "commit",
        "checkpoint",
    }
)


class OffsetClock(SystemClock):
    """A clock that is wrong by a fixed amount."""

    def __init__(self, offset_s: float) -> None:
        super().__init__()
        self._offset = timedelta(seconds=offset_s)

    def now(self) -> datetime:
        return super().now() + self._offset


class Plan:
    """When to break what; read from the file at each begin, so that it can be armed while the gateway runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = 0
        self._due: dict[str, Any] | None = None

    def begun(self) -> None:
        if self._due is None and self._path.exists():
            wanted = json.loads(self._path.read_text())
            self._begun += 1
            if self._begun >= wanted["nth"]:
                self._due, self._begun = wanted, 0

    def run(self, step: str, work: Callable[..., Any], *args: Any) -> Any:
        due = self._due
        if due is None or due["step"] != step:
            return work(*args)
        self._due = None
        after = due["action"].endswith("-after")
        done = work(*args) if after else None
        self._path.unlink()
        if due["action"].startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == "checkpoint" and after:
            del done
        raise sqlite3.OperationalError("disk I/O error")


class FaultyStore:
    """The real store, each step of a commit behind a `Plan`; everything else passes straight through."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self._inner = SqliteStore(path)
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        work = getattr(self._inner, name)
        if name not in STEPS:
            return work

        def step(*args: Any) -> Any:
            if name == "begin":
                self._plan.begun()
            return self._plan.run(name, work, *args)

        return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--clock-offset-s", type=float, default=0.0)
    parser.add_argument("--nothing-writable", action="store_true")
    parser.add_argument("--nothing-writable-at-all", action="store_true", help="from before the first file is opened")
    options = parser.parse_args()
    if options.nothing_writable_at_all:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    home = MemberHome(options.home)
    plan = Plan(home.data / "fault.json")
    gateway = Gateway(home.settings, OffsetClock(options.clock_offset_s), lambda path: FaultyStore(path, plan))
    configure_logging()
    listening = gateway.settings.data / "listening.json"

    def ready(running: Gateway) -> None:
        facts = {"front": running.front_server.url, "admin": running.admin_server.url, "node": running.node}
        announce(listening, facts)
        if options.nothing_writable:  # from here on, until somebody lifts the limit
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    async def serve(stop: asyncio.Event) -> None:
        await gateway.run(stop, ready)

    async def reload() -> None:
        try:
            await gateway.reload()
        except SettingsInvalid as error:
            print(json.dumps({"event": "settings.refused", "problems": error.problems}), file=sys.stderr)

    try:
        run_process(serve, reload)
    except BusError as error:
        sys.exit(f"error [{error.code}]: {error}")


if __name__ == "__main__":
    main()
