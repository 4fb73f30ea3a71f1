"""The exchange log alone (`python -m bench.log_growth FACTS`): appends, proofs, memory and offline verification.

FACTS: `{"folder", "size", "seconds"}`. A log of `size` records is filled, then measured as it stands.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import uvloop

from bench.leaves import GENESIS, NODE, records
from evidence.identifiers import NodeId, log_origin
from evidence.log import ExchangeLog
from evidence.signer import FileSigner
from evidence.verify import verify_log

_BATCHES = (1, 16, 64)
_FILL = 1_024
_PROOFS = 300
_SEED = 7


async def _open(path: Path, signer: FileSigner) -> ExchangeLog:
    return await ExchangeLog.open(
        path,
        origin=log_origin(GENESIS, NodeId.parse(NODE), 1),
        signer=signer,
        now=lambda: datetime.now(UTC),
        token=lambda: os.urandom(16).hex(),
    )


async def _fill(log: ExchangeLog, size: int) -> float:
    """Records per second in commits of 1,024."""
    wanted = size - log.size
    source = records(0, wanted)
    started = time.perf_counter()
    while chunk := list(itertools.islice(source, _FILL)):
        await log.append(chunk)
    return wanted / (time.perf_counter() - started)


async def _append(log: ExchangeLog, batch: int, first: int, seconds: float) -> dict[str, float]:
    """`batch` callers with one record each share a commit, as in a gateway."""
    cpu, wall, count = time.process_time(), time.perf_counter(), 0
    until = wall + seconds
    while time.perf_counter() < until:
        leaves = list(records(first + count, batch))
        await asyncio.gather(*(log.append([one]) for one in leaves))
        count += batch
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"per_s": round(count / wall, 1), "cpu_us": round(1e6 * cpu / count, 2)}


async def _prove(log: ExchangeLog) -> dict[str, float]:
    chosen = random.Random(_SEED)
    size, taken = log.size, []
    for _ in range(_PROOFS):
        index = chosen.randrange(size)
        before = time.perf_counter()
        await log.prove(index)
        taken.append(1e3 * (time.perf_counter() - before))
    return {"p50_ms": round(statistics.median(taken), 3), "p99_ms": round(sorted(taken)[int(_PROOFS * 0.99)], 3)}


async def _measure(path: Path, size: int, seconds: float) -> dict[str, Any]:
    signer = FileSigner.generate("ed25519")
    process = psutil.Process()
    before = process.memory_info().rss
    log = await _open(path, signer)
    fill_per_s = await _fill(log, size)
    await log.close()
    started = time.perf_counter()
    log = await _open(path, signer)
    open_s = time.perf_counter() - started
    appended = {}
    first = size
    for batch in _BATCHES:
        appended[str(batch)] = await _append(log, batch, first, seconds)
        first = log.size
    proofs = await _prove(log)
    after = process.memory_info().rss
    key = log.verifier_key
    await log.close()
    report = verify_log(path, [key])
    if not report.verified:
        raise RuntimeError(f"the log does not verify: {report.problems[:3]}")
    return {
        "size": size,
        "fill_per_s": round(fill_per_s, 1),
        "open_ms": round(1e3 * open_s, 1),
        "append": appended,
        "proof": proofs,
        "memory_mb": round((after - before) / 2**20, 1),
        "file_mb": round(path.stat().st_size / 2**20, 1),
        "verified_per_s": round(report.records_verified / report.seconds, 1),
    }


def main() -> None:
    """Prints one line of JSON."""
    facts = json.loads(sys.argv[1])
    sys.setswitchinterval(0.0005)
    path = Path(facts["folder"]) / "log.db"
    print(json.dumps(uvloop.run(_measure(path, facts["size"], facts["seconds"]))))


if __name__ == "__main__":
    main()
