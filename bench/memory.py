"""Does a gateway's memory grow with the exchanges that it has served?"""

from __future__ import annotations

from typing import Any

from bench.meters import Meter
from bench.rounds import Stand

ALLOWED_MB = 16.0
FIRST, BOUNDED = 10_000, 50_000
"""Between these counts of exchanges a gateway may grow by `ALLOWED_MB`. Later on, what grows is the memory of ids that
have not expired: about 130 bytes for each query of the last hundred seconds."""
_CHUNK_S = 600.0
_CONNECTIONS = 128


def grow(stand: Stand, exchanges: int) -> dict[str, Any]:
    """Calls `exchanges` times in parts; growth of each gateway between the first 10,000 and 50,000, and to the end.

    Args:
        stand: Freshly started: what was served before is not looked at.
        exchanges: At least 50,000.
    """
    meters = {
        name: Meter((child.pid,))
        for name, child in (("consumer", stand.product.consumer), ("provider", stand.product.provider))
    }
    steps = [_look(meters, 0)]
    done = 0
    parts = [FIRST, BOUNDED - FIRST, *[(exchanges - BOUNDED) // 10] * 10]
    for part in filter(None, parts):
        done += stand.load("product", _CONNECTIONS, _CHUNK_S, part).count
        steps.append(_look(meters, done))
    first, bounded, last = steps[1], steps[2], steps[-1]
    growth = {name: round(bounded[name] - first[name], 1) for name in meters}
    return {
        "exchanges": done,
        "steps_mb": steps,
        "growth_mb": growth,
        "growth_to_the_end_mb": {name: round(last[name] - first[name], 1) for name in meters},
        "allowed_mb": ALLOWED_MB,
        "ok": max(growth.values()) < ALLOWED_MB,
    }


def _look(meters: dict[str, Meter], done: int) -> dict[str, float]:
    return {
        "exchanges": done,
        **{name: round(meter.read().resident_bytes / 2**20, 1) for name, meter in meters.items()},
    }
