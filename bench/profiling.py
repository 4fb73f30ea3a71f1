"""`python -m bench --profile consumer|provider`: where one gateway's time goes under load."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

from bench.instance import Product, bring_up
from bench.processes import Children
from bench.profiled_gateway import FILE, KIND, Line, Profile
from bench.rounds import Stand

_WARM_S, _SECONDS = 3.0, 10.0
_SHOWN = 30


def run(folder: Path, gateway: str, connections: int) -> int:
    """Two runs: sampled, which is true to scale, and traced, which counts calls."""
    for kind in ("sampling", "tracing"):
        part = folder / kind
        part.mkdir()
        _watch(part, gateway, kind, connections)
    return 0


def _watch(folder: Path, gateway: str, kind: str, connections: int) -> None:
    target = folder / "profile.json"
    os.environ[FILE], os.environ[KIND] = str(target), kind
    with Children(folder) as children:
        product = bring_up(children, {gateway: [sys.executable, "-m", "bench.profiled_gateway"]})
        stand = Stand(children, product)
        pid = _pid(product, gateway)
        stand.load("product", connections, _WARM_S)
        before = _threads(pid)
        os.kill(pid, signal.SIGUSR1)
        taken = stand.load("product", connections, _SECONDS)
        os.kill(pid, signal.SIGUSR2)
        after = _threads(pid)
        children.wait_for("the profile", target.exists)
    profile = msgspec.json.decode(target.read_bytes(), type=Profile)
    used = {tid: after[tid] - before.get(tid, 0.0) for tid in after}
    main_us = 1e6 * used.pop(pid) / taken.count
    others_us = 1e6 * sum(used.values()) / taken.count
    print(
        f"\n{gateway}, {kind}: {taken.rps:.0f} exchanges/s over {connections} connections;"
        f" event loop {main_us:.0f} us of CPU an exchange, other threads {others_us:.0f} us"
    )
    _show("by function, own time", profile.functions, profile.total, main_us, taken.count)
    if profile.lines:
        _show("by source line, own time", profile.lines, profile.total, main_us, taken.count)
        whole = sorted(profile.functions, key=lambda line: line.whole, reverse=True)
        _show("by function, with what it calls", whole, profile.total, main_us, taken.count)


def _pid(product: Product, gateway: str) -> int:
    return (product.consumer if gateway == "consumer" else product.provider).pid


def _threads(pid: int) -> dict[int, float]:
    """CPU seconds of each thread; the event loop's has the process's number."""
    return {one.id: one.user_time + one.system_time for one in psutil.Process(pid).threads()}


def _show(title: str, lines: list[Line], total: float, scale_us: float, count: int) -> None:
    print(f"\n{title}\n{'own %':>6} {'own us':>7} {'all us':>7} {'calls':>6}  place")
    for line in lines[:_SHOWN]:
        own, whole = line.own / total, line.whole / total
        calls = f"{line.calls / count:6.1f}" if line.calls else "      "
        print(f"{100 * own:6.1f} {scale_us * own:7.1f} {scale_us * whole:7.1f} {calls}  {line.place}")
