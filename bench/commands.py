"""Commands: accepted per second, to their end per second, and what a backlog costs; plain JetStream publish beside it.

The sides take turns. A round of commands has ended only when every command of it is closed, so that the next round of
the other side does not share the machine with what is left.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import brokeruser, instance
from bench.audit import match_logs
from bench.instance import PLUGIN_PATH, Product
from bench.meters import Meter
from bench.processes import LIENTHONG, BenchFailed, Child, Children

_DRAIN_S = 120.0
_LOOK_S = 0.02
_BACKLOG_DRAIN_S = 1_800.0


@dataclass(slots=True)
class Rounds:
    """All rounds, in the order of their turns.

    Attributes:
        stored_rps: Plain JetStream publishes per second, 128 connections.
        accepted_rps: Commands with a `202` per second, 128 connections.
        ended_rps: The same commands per second from the first call to the last one's end.
        accepted_rps_1: Over one connection.
        closed_p50_ms: Over one connection, from the call to the end; median.
    """

    stored_rps: list[float] = field(default_factory=list)
    accepted_rps: list[float] = field(default_factory=list)
    ended_rps: list[float] = field(default_factory=list)
    accepted_rps_1: list[float] = field(default_factory=list)
    closed_p50_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        """By name; medians, the ratio a median over neighbouring rounds."""
        pairs = zip(self.accepted_rps, self.stored_rps, strict=True)
        return {
            "stored_rps_128": round(statistics.median(self.stored_rps), 1),
            "commands_accepted_rps_1": round(statistics.median(self.accepted_rps_1), 1),
            "commands_accepted_rps_128": round(statistics.median(self.accepted_rps), 1),
            "commands_ended_rps_128": round(statistics.median(self.ended_rps), 1),
            "commands_p50_ms_1": round(statistics.median(self.closed_p50_ms), 3),
            "commands_ratio_128": round(statistics.median(a / s for a, s in pairs), 3),
        }


class CommandStand:
    """A running product, client systems that hand commands over, and plain JetStream publish.

    Args:
        children: Owner of the processes.
        product: Running.
    """

    def __init__(self, children: Children, product: Product) -> None:
        self._logs = [product.folder / name / "data" / "log.db" for name in ("consumer", "provider")]
        self.accepted = 0
        folder = children.folder
        users = folder / "storing"
        users.mkdir(mode=0o700)
        brokeruser.mint(product.instance_home, users, "store", stores=True)
        ca = str(folder / "consumer" / "ca.pem")
        storing = _facts(folder / "storing.json", {"users": str(users), "broker": product.broker_url, "ca": ca})
        sending = _facts(
            folder / "sending.json",
            {
                "url": product.url,
                "prefix": product.prefix,
                "headers": instance.headers(product),
                "ca": str(product.front_ca),
            },
        )
        python = [sys.executable, "-m"]
        self._storer: Child = children.start("storer", [*python, "bench.stored", str(storing)], pipes=True)
        self._senders: Child = children.start("senders", [*python, "bench.senders", str(sending)], pipes=True)

    def store(self, connections: int, seconds: float) -> float:
        """Plain JetStream publishes per second."""
        answer = self._storer.ask({"connections": connections, "seconds": seconds})
        return float(answer["count"] / answer["seconds"])

    def send(self, connections: int, seconds: float, *, until_closed: bool = False, calls: int = 0) -> dict[str, Any]:
        """One round of commands; counts and latencies.

        Raises:
            BenchFailed: An answer was wrong.
        """
        asked = {"until_closed": until_closed, "connections": connections, "seconds": seconds, "calls": calls}
        answer = self._senders.ask(asked)
        if "error" in answer or not answer["count"]:
            raise BenchFailed(f"a command was not accepted or not closed: {answer}")
        self.accepted += answer["count"]
        return answer

    def wait_closed(self, deadline_s: float = _DRAIN_S) -> None:
        """Until every command is closed.

        Raises:
            BenchFailed: They are not in time.
        """
        _wait_none(self._logs[:1], "command WHERE closed_at IS NULL", deadline_s)

    def wait_receipted(self) -> None:
        """Until every record has its receipt, on both sides.

        Raises:
            BenchFailed: They have not in time.
        """
        _wait_none(self._logs, "outbox", _DRAIN_S)

    def take_turns(self, rounds: int, wide_s: float, single_s: float) -> Rounds:
        """One warm-up of each side, then storing, commands, storing, commands …

        Raises:
            BenchFailed: An answer was wrong, or commands stay open.
        """
        taken = Rounds()
        self.store(128, wide_s / 4)
        self.send(128, wide_s / 4)
        self.wait_closed()
        for _ in range(rounds):
            taken.stored_rps.append(self.store(128, wide_s))
            started = time.perf_counter()
            answer = self.send(128, wide_s)
            self.wait_closed()
            taken.accepted_rps.append(answer["count"] / answer["seconds"])
            taken.ended_rps.append(answer["count"] / (time.perf_counter() - started))
            answer = self.send(1, single_s)
            taken.accepted_rps_1.append(answer["count"] / answer["seconds"])
            self.wait_closed()
            taken.closed_p50_ms.append(self.send(1, single_s, until_closed=True)["p50_ms"])
        return taken


def _count(log: Path, what: str) -> int:
    with contextlib.closing(sqlite3.connect(f"{log.as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        found: int = db.execute(f"SELECT count(*) FROM {what}").fetchone()[0]
    return found


def _wait_none(logs: list[Path], what: str, deadline_s: float) -> None:
    until = time.monotonic() + deadline_s
    while left := sum(_count(log, what) for log in logs):
        if time.monotonic() > until:
            raise BenchFailed(f"{left} left after {deadline_s:.0f} s: {what}")
        time.sleep(_LOOK_S)


def _facts(path: Path, facts: dict[str, Any]) -> Path:
    path.touch(mode=0o600)
    path.write_text(json.dumps(facts), encoding="utf-8")
    return path


def check_evidence(product: Product, stand: CommandStand) -> None:
    """Every accepted command is completed, and nothing is in one log only. The gateways have ended.

    Raises:
        BenchFailed: It is not so.
    """
    completed = _count(product.folder / "consumer" / "data" / "log.db", "command WHERE state = 'completed'")
    if completed != stand.accepted:
        raise BenchFailed(f"{stand.accepted} commands were accepted, {completed} were completed")
    match_logs([product.folder / name / "data" / "log.db" for name in ("consumer", "provider")])


def backlog(folder: Path, commands: int) -> dict[str, Any]:
    """What a provider that was away costs: a backlog, a restart in the middle of it, and the time until it is gone.

    Raises:
        BenchFailed: A command was lost, or the backlog stays.
    """
    with Children(folder) as children:
        product = instance.bring_up(children)
        stand = CommandStand(children, product)
        children.stop(product.provider)
        started = time.perf_counter()
        stand.send(128, _BACKLOG_DRAIN_S, calls=commands)
        accepted_s = time.perf_counter() - started
        waiting_mb = Meter((product.consumer.pid,)).read().resident_bytes / 2**20
        children.stop(product.consumer)
        started = time.perf_counter()
        consumer = children.start("consumer", [*LIENTHONG, "gateway", "--home", str(folder / "consumer")])
        instance.wait_ready(children, folder, ("consumer",))
        ready_s = time.perf_counter() - started
        started = time.perf_counter()
        provider = children.start("provider", [*LIENTHONG, "gateway", "--home", str(folder / "provider")], PLUGIN_PATH)
        stand.wait_closed(_BACKLOG_DRAIN_S)
        drained_s = time.perf_counter() - started
        stand.wait_receipted()
        settled_s = time.perf_counter() - started
        for gateway in (consumer, provider):
            children.stop(gateway)
        check_evidence(product, stand)
    return {
        "commands": commands,
        "accepted_per_s": round(commands / accepted_s, 1),
        "consumer_mb": round(waiting_mb, 1),
        "ready_after_restart_s": round(ready_s, 2),
        "drained_s": round(drained_s, 1),
        "drained_per_s": round(commands / drained_s, 1),
        "settled_s": round(settled_s, 1),
    }
