"""`python -m bench`: everything that measuring.md asks for and that exists, as a table and a file of results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import memory, report
from bench.audit import audit
from bench.commands import CommandStand, backlog, check_evidence
from bench.instance import bring_up
from bench.parts import measure
from bench.processes import BenchFailed, Children
from bench.quick import figures
from bench.rounds import Stand, Taken, check_yardstick, rows
from bench.scrape import commits
from bench.stages import measure_stages

_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        seconds: Of one round.
        logs: Records in the logs that are measured alone.
        documents: In the directory.
        exchanges: For the memory of a gateway.
        backlog: Commands that wait for a provider that was away.
    """

    seconds: float = 3.0
    logs: tuple[int, ...] = (10**4, 10**6)
    documents: int = 10**5
    exchanges: int = 10**6
    backlog: int = 10**5


LONG = Sizes(logs=(10**4, 10**6, 10**7))


def run(folder: Path, sizes: Sizes) -> int:
    """Measures everything; 1 when a bound is broken."""
    results: dict[str, Any] = {}
    parts: list[tuple[str, Callable[[Path, Sizes], dict[str, Any]]]] = [
        ("exchange", _exchange),
        ("commands", _commands),
        ("backlog", _backlog),
        ("stages", _stages),
        ("memory", _memory),
        ("logs", _logs),
        ("directory", _directory),
    ]
    started = time.monotonic()
    for name, part in parts:
        place = folder / name
        place.mkdir()
        results[name] = part(place, sizes)
        print(f"{name}: done after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(report.write("full", results))
    grown = results["memory"]
    if not grown["ok"]:
        raise BenchFailed(
            f"a gateway grew by {grown['growth_mb']} MB between {memory.FIRST} and {memory.BOUNDED} exchanges;"
            f" {grown['allowed_mb']} MB are allowed"
        )
    return 0


def _exchange(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Relay and product at 1, 32 and 128 connections; evidence of it."""
    with Children(folder) as children:
        product = bring_up(children)
        stand = Stand(children, product)
        taken: dict[int, Taken] = {}
        batches: list[dict[str, Any]] = []
        for connections in (128, 32, 1):
            before = commits(product)
            taken[connections] = stand.take_turns(connections, _ROUNDS, sizes.seconds, bare_s(connections))
            after = commits(product)
            batches += [
                {"connections": connections, "gateway": name, **after[name].since(before[name]).report()}
                for name in after
            ]
        for gateway in (product.consumer, product.provider):
            children.stop(gateway)
        audited = audit(product, stand.product_count)
    check_yardstick(taken[128])
    return {
        "figures": figures(taken[128], taken[1]),
        "sides": rows([taken[at] for at in (1, 32, 128)]),
        "ratios": [
            {"connections": at, "throughput": round(taken[at].ratio(), 3), "cpu": round(taken[at].cpu_ratio(), 3)}
            for at in (1, 32, 128)
        ],
        "commits": batches,
        "evidence": audited.report(),
    }


def _commands(folder: Path, sizes: Sizes) -> dict[str, Any]:
    with Children(folder) as children:
        product = bring_up(children)
        stand = CommandStand(children, product)
        taken = stand.take_turns(_ROUNDS, sizes.seconds, sizes.seconds)
        stand.wait_receipted()
        for gateway in (product.consumer, product.provider):
            children.stop(gateway)
        check_evidence(product, stand)
    return taken.figures()


def _backlog(folder: Path, sizes: Sizes) -> dict[str, Any]:
    return backlog(folder, sizes.backlog)


def _stages(folder: Path, sizes: Sizes) -> dict[str, Any]:
    del sizes
    with Children(folder) as children:
        return {"stages": measure_stages(children)}


def bare_s(connections: int) -> float:
    """Bare request/reply takes its turns at 128 connections only."""
    return 1.0 if connections == 128 else 0.0


def _memory(folder: Path, sizes: Sizes) -> dict[str, Any]:
    with Children(folder) as children:
        product = bring_up(children)
        return memory.grow(Stand(children, product), sizes.exchanges)


def _logs(folder: Path, sizes: Sizes) -> dict[str, Any]:
    found = []
    for size in sizes.logs:
        place = folder / str(size)
        place.mkdir()
        with Children(place) as children:
            found.append(
                measure(children, "bench.log_growth", {"folder": str(place), "size": size, "seconds": sizes.seconds})
            )
        (place / "log.db").unlink()
    return {"sizes": found}


def _directory(folder: Path, sizes: Sizes) -> dict[str, Any]:
    with Children(folder) as children:
        return measure(children, "bench.directory", {"documents": sizes.documents, "folder": str(folder)})
