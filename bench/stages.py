"""Where the microseconds of one exchange go: the product's own functions, timed in the gateways where they are called.

Run as a program it is a gateway with watches (`python -m bench.stages --home HOME`): SIGUSR1 forgets, SIGUSR2 writes
`HOME/stages.json`. The median counts: other processes do not disturb it. A stage below another one, indented, is part
of it. Times include about 0.3 us of watching for the stage and for each part of it.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from bench.instance import bring_up
from bench.processes import Children, read_json
from bench.rounds import Stand

_CONNECTIONS, _WARM_S, _SECONDS = 32, 3.0, 6.0

STAGES: tuple[tuple[str, int, str], ...] = (
    ("read the target", 0, "bus.front.r1:parse_target"),
    ("authenticate the client system", 0, "bus.front.credentials:Credentials.authenticate"),
    ("build the call", 0, "bus.front.r1:CallFront._call"),
    ("headers that travel", 1, "bus.front.r1:travelling"),
    ("directory fresh", 0, "bus.gateway.parts:Parts.directory"),
    ("resolve the service", 0, "bus.exchange.asking:resolve"),
    ("route and validate the request", 0, "bus.exchange.asking:check_request"),
    ("compose the request", 0, "bus.exchange.asking:Asker._seal"),
    ("compose a record", 1, "bus.exchange.composing:Composer.sealed"),
    ("seal", 2, "bus.sealing.epoch:Sealer.seal"),
    ("encode the header", 2, "evidence.header:encode_made"),
    ("rows: particulars", 0, "bus.exchange.keeping:Keeper.particulars"),
    ("log: begin a commit", 0, "evidence.log.appender:Appender._begin"),
    ("grow the tree and sign", 1, "evidence.log.appender:grow"),
    ("write the rows", 1, "evidence.log.appender:Appender._write"),
    ("log: COMMIT (in the thread)", 0, "evidence.log.store:SqliteStore.commit"),
    ("log: wake the waiters", 0, "evidence.log.appender:Appender._committed"),
    ("encode the envelope", 0, "bus.envelope:encode"),
    ("admit the message", 0, "bus.exchange.answering:Answerer._admit"),
    ("decode the envelope", 1, "bus.envelope:decode"),
    ("verify the record", 1, "bus.exchange.verification:RecordVerifier.verify"),
    ("decode the header", 2, "evidence.header:decode"),
    ("digest of the seal", 2, "bus.exchange.verification:sealdigest"),
    ("checkpoint, mostly remembered", 2, "bus.exchange.verification:RecordVerifier.checkpoint"),
    ("checkpoint signature, when new", 3, "evidence.note:verify"),
    ("inclusion proof", 2, "evidence.merkle:inclusion_root"),
    ("reserve the id", 1, "bus.exchange.replay:SeenIds.reserve"),
    ("authorise, coarse", 0, "bus.exchange.examining:authorise_coarse"),
    ("quota", 0, "registry.quota:QuotaBook.take"),
    ("unseal", 0, "bus.exchange.examining:Examiner._unseal"),
    ("authorise, fine", 0, "bus.exchange.examining:authorise_fine"),
    ("route and validate the request", 0, "bus.exchange.examining:check_request"),
    ("rows: received", 0, "bus.exchange.answering:Answerer._received_rows"),
    ("build the adapter's request", 0, "bus.exchange.sourcing:adapter_request"),
    ("the back end", 0, "bench_source:BenchSource.call"),
    ("validate and cut the answer", 0, "bus.exchange.sourcing:Sourcing._checked"),
    ("compose the answer", 0, "bus.exchange.answering:Answerer._compose"),
    ("verify, match and unseal the answer", 0, "bus.exchange.asking:Asker._verify_answer"),
    ("unseal", 1, "bus.exchange.asking:Asker._unseal"),
    ("rows: proof of the peer", 0, "bus.exchange.keeping:Keeper.proof"),
    ("measure the peer's clock", 0, "bus.exchange.asking:Asker._measure_clock"),
    ("validate the answer", 0, "bus.exchange.asking:Asker._validate_answer"),
    ("metrics: ended", 0, "bus.metrics:GatewayMetrics.ended"),
    ("metrics: in flight", 0, "bus.metrics:GatewayMetrics.in_flight"),
    ("build the response", 0, "bus.front.r1:_response"),
)


@dataclass(slots=True)
class Watched:
    """One stage and the times that its calls took, in nanoseconds."""

    name: str
    depth: int
    target: str
    found: bool = False
    taken: list[int] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Number of calls and their median in microseconds."""
        return {
            "stage": self.name,
            "depth": self.depth,
            "target": self.target,
            "found": self.found,
            "calls": len(self.taken),
            "each_us": statistics.median(self.taken) / 1e3 if self.taken else 0.0,
        }


def watch() -> list[Watched]:
    """Puts a watch around every stage; call before the gateway is made."""
    importlib.import_module("bus.gateway")
    stages = [Watched(*one) for one in STAGES]
    for stage in stages:
        module_name, _, path = stage.target.partition(":")
        *owners, name = path.split(".")
        try:
            owner: Any = importlib.import_module(module_name)
            for part in owners:
                owner = getattr(owner, part)
            original = getattr(owner, name)
        except (ImportError, AttributeError):
            continue  # the product changed: reported as not found
        stage.found = True
        is_static = isinstance(owner.__dict__.get(name), staticmethod)
        around = _around(original, stage.taken)
        setattr(owner, name, staticmethod(around) if is_static else around)
    return stages


def _around(original: Callable[..., Any], taken: list[int]) -> Callable[..., Any]:
    clock, keep = time.perf_counter_ns, taken.append
    if asyncio.iscoroutinefunction(original):

        async def timed(*args: Any, **kwargs: Any) -> Any:
            before = clock()
            result = await original(*args, **kwargs)
            keep(clock() - before)
            return result

        return timed

    def timed_call(*args: Any, **kwargs: Any) -> Any:
        before = clock()
        result = original(*args, **kwargs)
        keep(clock() - before)
        return result

    return timed_call


def main() -> None:
    """A gateway with watches."""
    from console.processes.gateway import run

    home = Path(sys.argv[sys.argv.index("--home") + 1])
    stages = watch()

    def forget(_number: int, _frame: FrameType | None) -> None:
        for stage in stages:
            stage.taken.clear()

    def write(_number: int, _frame: FrameType | None) -> None:
        part = home / "stages.part"
        part.write_text(json.dumps({"stages": [stage.report() for stage in stages]}), encoding="utf-8")
        part.rename(home / "stages.json")

    signal.signal(signal.SIGUSR1, forget)
    signal.signal(signal.SIGUSR2, write)
    run(home)


def measure_stages(children: Children) -> list[dict[str, Any]]:
    """Loads two watched gateways; stages of both, with calls and microseconds per exchange.

    Raises:
        BenchFailed: They did not come up, or an answer was wrong.
    """
    command = [sys.executable, "-m", "bench.stages"]
    product = bring_up(children, {"consumer": command, "provider": command})
    stand = Stand(children, product)
    gateways = {"consumer": product.consumer.pid, "provider": product.provider.pid}
    stand.load("product", _CONNECTIONS, _WARM_S)
    for pid in gateways.values():
        os.kill(pid, signal.SIGUSR1)
    count = stand.load("product", _CONNECTIONS, _SECONDS).count
    found = []
    for name, pid in gateways.items():
        os.kill(pid, signal.SIGUSR2)
        path = product.folder / name / "stages.json"
        written = children.wait_for(f"the stages of the {name}", partial(read_json, path))
        found += [_row(name, one, count) for one in written["stages"] if one["calls"] or not one["found"]]
    return found


def _row(side: str, one: dict[str, Any], count: int) -> dict[str, Any]:
    calls = one["calls"] / count
    return {
        "side": side,
        **one,
        "calls": round(calls, 2),
        "each_us": round(one["each_us"], 2),
        "exchange_us": round(one["each_us"] * calls, 2),
    }


if __name__ == "__main__":
    main()
