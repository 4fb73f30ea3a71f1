"""`python -m bench --quick`: the speed figures in under two minutes."""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import report
from bench.audit import audit
from bench.commands import CommandStand, Rounds, check_evidence
from bench.instance import bring_up
from bench.processes import Children
from bench.rounds import Stand, Taken, check_yardstick, rows


@dataclass(frozen=True, slots=True)
class Pace:
    """How long it measures.

    Attributes:
        rounds: Turns of each side; at least five for figures that mean something.
        wide_s: One round over 128 connections.
        single_s: One round over one connection.
        bare_s: One round of bare request/reply, and of the HTTP hop.
        command_rounds: Turns of commands and of plain JetStream publish.
        command_s: One round of commands over 128 connections; half of it over one connection.
    """

    rounds: int = 5
    wide_s: float = 2.0
    single_s: float = 1.4
    bare_s: float = 0.7
    command_rounds: int = 3
    command_s: float = 0.7


def run(folder: Path) -> int:
    """Prints one JSON object as the last line.

    Raises:
        BenchFailed: The figures mean nothing.
    """
    wide, single, commands = measure(folder, Pace())
    found = figures(wide, single) | commands.figures()
    report.keep("quick", {"figures": found, "sides": rows([single, wide])})
    print(json.dumps(found), flush=True)
    check_yardstick(wide)
    return 0


def measure(folder: Path, pace: Pace) -> tuple[Taken, Taken, Rounds]:
    """Queries at 128 and at 1 connections, and commands; each that was counted is looked up in both logs afterwards.

    Raises:
        BenchFailed: An answer was wrong, or is missing in the logs.
    """
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:5.1f} s  {text}", file=sys.stderr, flush=True)

    with Children(folder) as children:
        product = bring_up(children)
        stand = Stand(children, product)
        say("everything is up")
        wide = stand.take_turns(128, pace.rounds, pace.wide_s, pace.bare_s)
        single = stand.take_turns(1, pace.rounds, pace.single_s)
        say("queries measured")
        handing_over = CommandStand(children, product)
        commands = handing_over.take_turns(pace.command_rounds, pace.command_s, pace.command_s / 2)
        handing_over.wait_receipted()
        say("commands measured")
        for gateway in (product.consumer, product.provider):
            children.stop(gateway)
        audited = audit(product, stand.product_count)
        check_evidence(product, handing_over)
        say(
            f"{audited.counted} queries counted, {audited.pairs} pairs in both logs;"
            f" {handing_over.accepted} commands accepted, all completed; all matched;"
            f" {audited.records_per_s:.0f} records/s verified"
        )
    return wide, single, commands


def figures(wide: Taken, single: Taken) -> dict[str, Any]:
    """The figures by name; rates and times are medians, ratios medians over neighbouring rounds."""
    return {
        "nats_rps_128": round(statistics.median(wide.nats_rps), 1),
        "http_rps_128": round(statistics.median(wide.http_rps), 1),
        "relay_rps_1": round(single.median("relay", "rps"), 1),
        "relay_rps_128": round(wide.median("relay", "rps"), 1),
        "product_rps_1": round(single.median("product", "rps"), 1),
        "product_rps_128": round(wide.median("product", "rps"), 1),
        "ratio_1": round(single.ratio(), 3),
        "ratio_128": round(wide.ratio(), 3),
        "p50_ms_1": round(single.median("product", "p50_ms"), 3),
        "p99_ms_128": round(wide.median("product", "p99_ms"), 3),
        "relay_cpu_us": round(wide.median("relay", "cpu_us"), 1),
        "product_cpu_us": round(wide.median("product", "cpu_us"), 1),
        "cpu_ratio": round(wide.cpu_ratio(), 3),
    }
