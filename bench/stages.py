"""Where the microseconds of one exchange go (`python -m bench.stages FACTS`).

Both gateways of a home run in one process and one event loop, from the product's own composition root; the load comes
from outside. Each stage is the product's own function, timed where it is called. The median counts: it is not disturbed
by other processes. A stage below another one, indented, is part of it. Times include about 0.3 us of watching.

FACTS: `{"folder"}`. Prints where the consumer listens, then answers questions of `bench.lines`: `{"do": "reset"}` and
`{"do": "read", "count": N}`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.lines import answer_lines

_READY_DEADLINE_S = 30.0

STAGES: tuple[tuple[str, str, int, str], ...] = (
    ("consumer", "read the target", 0, "bus.front.r1:parse_target"),
    ("consumer", "authenticate the client system", 0, "bus.front.credentials:Credentials.authenticate"),
    ("consumer", "build the call", 0, "bus.front.r1:CallFront._call"),
    ("consumer", "headers that travel", 1, "bus.front.r1:travelling"),
    ("both", "directory fresh", 0, "bus.gateway.runtime:Gateway.directory"),
    ("consumer", "resolve the service", 0, "bus.exchange.asking:resolve"),
    ("consumer", "route and validate the request", 0, "bus.exchange.asking:check_request"),
    ("consumer", "compose the request", 0, "bus.exchange.asking:Asker._seal"),
    ("both", "compose a record", 1, "bus.exchange.composing:Composer.sealed"),
    ("both", "seal", 2, "bus.sealing.epoch:Sealer.seal"),
    ("both", "encode the header", 2, "evidence.header:encode"),
    ("both", "rows: particulars", 0, "bus.exchange.keeping:Keeper.particulars"),
    ("both", "log: begin a commit", 0, "evidence.log.appender:Appender._begin"),
    ("both", "grow the tree and sign", 1, "evidence.log.appender:grow"),
    ("both", "write the rows", 1, "evidence.log.appender:Appender._write"),
    ("both", "log: COMMIT (in the thread)", 0, "evidence.log.store:SqliteStore.commit"),
    ("both", "log: wake the waiters", 0, "evidence.log.appender:Appender._committed"),
    ("both", "encode the envelope", 0, "bus.envelope:encode"),
    ("provider", "admit the message", 0, "bus.exchange.answering:Answerer._admit"),
    ("both", "decode the envelope", 1, "bus.envelope:decode"),
    ("both", "verify the record", 1, "bus.exchange.verification:RecordVerifier.verify"),
    ("both", "decode the header", 2, "evidence.header:decode"),
    ("both", "digest of the seal", 2, "bus.exchange.verification:sealdigest"),
    ("both", "checkpoint, mostly remembered", 2, "bus.exchange.verification:RecordVerifier.checkpoint"),
    ("both", "checkpoint signature, when new", 3, "evidence.note:verify"),
    ("both", "inclusion proof", 2, "evidence.merkle:inclusion_root"),
    ("provider", "reserve the id", 1, "bus.exchange.replay:SeenIds.reserve"),
    ("provider", "authorise, coarse", 0, "bus.exchange.answering:authorise_coarse"),
    ("provider", "quota", 0, "registry.quota:QuotaBook.take"),
    ("provider", "unseal", 0, "bus.exchange.answering:Answerer._unseal"),
    ("provider", "authorise, fine", 0, "bus.exchange.answering:authorise_fine"),
    ("provider", "route and validate the request", 0, "bus.exchange.answering:check_request"),
    ("provider", "rows: received", 0, "bus.exchange.answering:Answerer._received_rows"),
    ("provider", "build the adapter's request", 0, "bus.exchange.answering:adapter_request"),
    ("provider", "the back end", 0, "bench_source:BenchSource.call"),
    ("provider", "validate and cut the answer", 0, "bus.exchange.answering:Answerer._checked"),
    ("provider", "compose the answer", 0, "bus.exchange.answering:Answerer._compose"),
    ("consumer", "verify, match and unseal the answer", 0, "bus.exchange.asking:Asker._verify_answer"),
    ("consumer", "unseal", 1, "bus.exchange.asking:Asker._unseal"),
    ("both", "rows: proof of the peer", 0, "bus.exchange.keeping:Keeper.proof"),
    ("consumer", "measure the peer's clock", 0, "bus.exchange.asking:Asker._measure_clock"),
    ("consumer", "validate the answer", 0, "bus.exchange.asking:Asker._validate_answer"),
    ("both", "metrics: ended", 0, "bus.metrics:GatewayMetrics.ended"),
    ("both", "metrics: in flight", 0, "bus.metrics:GatewayMetrics.in_flight"),
    ("consumer", "build the response", 0, "bus.front.r1:_response"),
)


@dataclass(slots=True)
class Watched:
    """One stage and the times that its calls took, in nanoseconds."""

    side: str
    name: str
    depth: int
    target: str
    found: bool = False
    taken: list[int] = field(default_factory=list)

    def report(self, count: int) -> dict[str, Any]:
        """Median, calls per exchange and their product, microseconds."""
        each_us = statistics.median(self.taken) / 1e3 if self.taken else 0.0
        calls = len(self.taken) / count
        return {
            "side": self.side,
            "stage": self.name,
            "depth": self.depth,
            "target": self.target,
            "found": self.found,
            "calls": round(calls, 2),
            "each_us": round(each_us, 2),
            "exchange_us": round(each_us * calls, 2),
        }


def watch() -> list[Watched]:
    """Puts a watch around every stage; call before the gateways are made."""
    importlib.import_module("bus.gateway.runtime")
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


async def _run(folder: Path, stages: list[Watched]) -> None:
    from bus.clock import SystemClock
    from bus.gateway import Gateway

    stop = asyncio.Event()
    gateways = [Gateway(folder / name / "gateway.toml", SystemClock()) for name in ("consumer", "provider")]
    tasks = [asyncio.create_task(gateway.run(stop)) for gateway in gateways]
    try:
        async with asyncio.timeout(_READY_DEADLINE_S):
            while not all(_ready(gateway) for gateway in gateways):
                for task in tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.05)
        print(json.dumps({"url": gateways[0].front_server.url}), flush=True)

        async def answer(asked: dict[str, Any]) -> dict[str, Any]:
            if asked["do"] == "reset":
                for stage in stages:
                    stage.taken.clear()
                return {}
            return {"stages": [stage.report(asked["count"]) for stage in stages]}

        await answer_lines(answer)
    finally:
        stop.set()
        await asyncio.gather(*tasks)


def _ready(gateway: Any) -> bool:
    try:
        return all(check.ok for check in gateway.checks())
    except AttributeError:
        return False  # its parts are not made yet


def main() -> None:
    """Answers until the input ends."""
    import uvloop

    from console.processes.running import configure_logging

    facts = json.loads(sys.argv[1])
    configure_logging("json", "warning")
    sys.setswitchinterval(0.0005)
    stages = watch()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(Path(facts["folder"]), stages))


if __name__ == "__main__":
    main()
