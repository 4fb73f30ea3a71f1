"""`python -m bench --quick`: the speed figures in about a minute."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench.audit import audit
from bench.instance import bring_up
from bench.processes import Children
from bench.rounds import Stand, Taken, check_yardstick

_ROUNDS = 5
_SECONDS_128, _SECONDS_1, _SECONDS_BARE = 2.2, 1.5, 0.8


def run(folder: Path) -> int:
    """Measures at 128 and at 1 connections; prints one JSON object."""
    started = time.monotonic()
    with Children(folder) as children:
        product = bring_up(children)
        _say(f"up after {time.monotonic() - started:.1f} s")
        stand = Stand(children, product)
        wide = stand.take_turns(128, _ROUNDS, _SECONDS_128, _SECONDS_BARE)
        single = stand.take_turns(1, _ROUNDS, _SECONDS_1)
        _say(f"measured after {time.monotonic() - started:.1f} s")
        for gateway in (product.consumer, product.provider):
            children.stop(gateway)
        audited = audit(product, stand.product_count)
    _say(f"{audited.pairs} exchanges are in both logs, {audited.records_per_s:.0f} records/s verified")
    _say(f"done after {time.monotonic() - started:.1f} s")
    found = figures(wide, single)
    print(json.dumps(found), flush=True)
    check_yardstick(wide)
    return 0


def figures(wide: Taken, single: Taken) -> dict[str, Any]:
    """The figures by name; rates to one place, ratios to three."""
    found = {
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
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
