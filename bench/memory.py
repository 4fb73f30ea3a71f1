"""Does a gateway's memory grow with the exchanges that it has served?"""

from __future__ import annotations

from typing import Any

from bench.meters import Meter
from bench.rounds import Stand

ALLOWED_MB = 16.0
FIRST = 10_000
_CHUNK_S = 600.0
_CONNECTIONS = 128


def grow(stand: Stand, exchanges: int) -> dict[str, Any]:
    """Calls `exchanges` times in ten parts; growth of each gateway after the first 10,000.

    Args:
        stand: Freshly started: what was served before is not looked at.
        exchanges: More than 10,000.
    """
    meters = {
        name: Meter((child.pid,))
        for name, child in (("consumer", stand.product.consumer), ("provider", stand.product.provider))
    }
    steps = [_look(meters, 0)]
    done = 0
    parts = [FIRST, *[(exchanges - FIRST) // 9] * 9]
    for part in parts:
        done += stand.load("product", _CONNECTIONS, _CHUNK_S, part).count
        steps.append(_look(meters, done))
    first, last = steps[1], steps[-1]
    growth = {name: round(last[name] - first[name], 1) for name in meters}
    return {
        "exchanges": done,
        "steps_mb": steps,
        "growth_mb": growth,
        "allowed_mb": ALLOWED_MB,
        "ok": max(growth.values()) < ALLOWED_MB,
    }


def _look(meters: dict[str, Meter], done: int) -> dict[str, float]:
    return {
        "exchanges": done,
        **{name: round(meter.read().resident_bytes / 2**20, 1) for name, meter in meters.items()},
    }
