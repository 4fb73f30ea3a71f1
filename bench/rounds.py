"""Rounds of load in which the sides take turns, and what comes out of them: medians, and ratios of neighbours."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench import brokeruser, instance
from bench.instance import Product
from bench.meters import Meter
from bench.processes import ROOT, BenchFailed, Child, Children, read_json

SLOWEST_RELAY = 0.3
"""A relay below this part of bare request/reply is no yardstick."""


@dataclass(frozen=True, slots=True)
class Round:
    """One side, once.

    Attributes:
        rps: Exchanges per second.
        p50_ms: Median latency.
        p99_ms: Latency that one in a hundred exceeds.
        cpu_us: User and system time of all processes but the generator, broker included, per exchange.
        resident_mb: Resident memory of the same processes at the end.
        count: Exchanges.
    """

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    resident_mb: float
    count: int


@dataclass(slots=True)
class Taken:
    """All rounds of one degree of concurrency, in the order of their turns."""

    connections: int
    relay: list[Round] = field(default_factory=list)
    product: list[Round] = field(default_factory=list)
    nats_rps: list[float] = field(default_factory=list)
    http_rps: list[float] = field(default_factory=list)

    def of(self, side: str) -> list[Round]:
        """Rounds of a side."""
        return self.relay if side == "relay" else self.product

    def median(self, side: str, what: str) -> float:
        """Median over the rounds of a side."""
        return float(statistics.median(getattr(one, what) for one in self.of(side)))

    def ratio(self) -> float:
        """Throughput, product to relay: median over the pairs of neighbouring rounds."""
        return statistics.median(p.rps / r.rps for p, r in zip(self.product, self.relay, strict=True))

    def cpu_ratio(self) -> float:
        """CPU per exchange, relay to product: median over the pairs of neighbouring rounds."""
        return statistics.median(r.cpu_us / p.cpu_us for p, r in zip(self.product, self.relay, strict=True))


class Stand:
    """Product, relay, bare request/reply and generator, all running.

    Args:
        children: Owner of the processes.
        product: Running.
    """

    def __init__(self, children: Children, product: Product) -> None:
        self.product = product
        self.product_count = 0
        folder = children.folder
        facts = _relay_facts(product, folder)
        python = [sys.executable, "-m"]
        front = children.start("relay-front", [*python, "bench.relay", "front", str(facts)])
        back = children.start("relay-back", [*python, "bench.relay", "back", str(facts)])
        for side in ("front", "back"):
            children.wait_for(f"the relay's {side}", partial(read_json, folder / f"{side}.json"))
        urls = read_json(folder / "front.json") or {}
        self.meters = {
            "relay": Meter((front.pid, back.pid, *product.broker_pids)),
            "product": Meter(product.pids),
            "http": Meter((front.pid,)),
        }
        self._bare: Child = children.start("bare", [*python, "bench.bare", str(facts)], pipes=True)
        self._generator: Child = children.start(
            "generator", [*python, "bench.generator", str(_load_facts(product, urls, folder))], pipes=True
        )

    def bare(self, connections: int, seconds: float) -> float:
        """Bare requests per second."""
        answer = self._bare.ask({"connections": connections, "seconds": seconds})
        return float(answer["count"] / answer["seconds"])

    def load(self, side: str, connections: int, seconds: float, calls: int = 0) -> Round:
        """One round.

        Raises:
            BenchFailed: An answer was wrong.
        """
        meter = self.meters[side]
        before = meter.read()
        answer = self._generator.ask({"side": side, "connections": connections, "seconds": seconds, "calls": calls})
        after = meter.read()
        count: int = answer["count"]
        if answer["errors"] or not count:
            raise BenchFailed(f"wrong answers from the {side}: {answer['errors']}")
        if side == "product":
            self.product_count += count
        return Round(
            rps=count / answer["seconds"],
            p50_ms=answer["p50_ms"],
            p99_ms=answer["p99_ms"],
            cpu_us=1e6 * (after.cpu_s - before.cpu_s) / count,
            resident_mb=after.resident_bytes / 2**20,
            count=count,
        )

    def take_turns(self, connections: int, rounds: int, seconds: float, bare_seconds: float = 0.0) -> Taken:
        """One warm-up of each side, then A B A B …; bare request/reply and the bare
        HTTP hop take their turns when they have a duration.

        Raises:
            BenchFailed: An answer was wrong.
        """
        taken = Taken(connections)
        for side in ("relay", "product"):
            self.load(side, connections, seconds)
        if bare_seconds:
            self.bare(connections, 0.1)
        for _ in range(rounds):
            if bare_seconds:
                taken.nats_rps.append(self.bare(connections, bare_seconds))
                taken.http_rps.append(self.load("http", connections, bare_seconds).rps)
            taken.relay.append(self.load("relay", connections, seconds))
            taken.product.append(self.load("product", connections, seconds))
        return taken


def check_yardstick(taken: Taken) -> None:
    """Refuses to measure against a slow relay: it would flatter the product.

    Bare request/reply is the NATS library's own `request` over as many connections as the relay's clients have.

    Raises:
        BenchFailed: The relay reaches less than 0.3 of it.
    """
    nats_rps, relay_rps = statistics.median(taken.nats_rps), taken.median("relay", "rps")
    if relay_rps < SLOWEST_RELAY * nats_rps:
        raise BenchFailed(
            f"the relay is no yardstick: {relay_rps:.0f}/s is less than {SLOWEST_RELAY} of the {nats_rps:.0f}/s of"
            " bare request/reply"
        )


def _relay_facts(product: Product, folder: Path) -> Path:
    users = folder / "users"
    users.mkdir(mode=0o700)
    for name in ("front", "back"):
        brokeruser.mint(product.instance_home, users, name)
    tls = folder / "consumer" / "tls"
    facts: dict[str, Any] = {
        "users": str(users),
        "broker": product.broker_url,
        "ca": str(folder / "consumer" / "ca.pem"),
        "contract": str(ROOT / "bench" / "items.yaml"),
        "prefix": product.prefix,
        "certificate": str(tls / "front.crt"),
        "key": str(tls / "front.pem"),
    }
    path = folder / "relay.json"
    path.write_text(json.dumps(facts), encoding="utf-8")
    return path


def _load_facts(product: Product, urls: dict[str, Any], folder: Path) -> Path:
    common = {"prefix": product.prefix, "headers": instance.headers(product), "ca": str(product.front_ca)}
    facts = {side: {"url": url, **common} for side, url in (*urls.items(), ("product", product.url)) if side != "pid"}
    path = folder / "load.json"
    path.write_text(json.dumps(facts), encoding="utf-8")
    path.chmod(0o600)
    return path


def rows(taken: Sequence[Taken]) -> list[dict[str, Any]]:
    """Medians of each side at each concurrency, for the table and the results."""
    found = []
    for one in taken:
        for side in ("relay", "product"):
            names = ("rps", "p50_ms", "p99_ms", "cpu_us", "resident_mb")
            medians = {name: round(one.median(side, name), 3) for name in names}
            found.append({"side": side, "connections": one.connections, **medians})
    return found
