"""One gateway's directory, in a process of its own so that memory means something (`-m bench.directory_copy FACTS`).

FACTS: `{"folder", "genesis", "task"}`. The folder holds a feed as files, as `bench.directory` wrote it. Tasks:

* `first`: nothing is there yet: fetch, verify every signature and certificate, fold, keep
* `restart`: open the local copy, fold it; then look things up
* `update`: the feed's next checkpoints: one more document, then 64 more
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from registry.decision import authorise
from registry.feed import decode_bundle
from registry.fold import Directory
from registry.follower import Follower
from registry.settings import FollowerSettings

INSTANCE, MEMBERS = "VN-BENCH", 500
AT = datetime(2026, 6, 1, tzinfo=UTC)
LATER = (1, 64)
"""Documents of the later checkpoints, one after the other."""
_SEED = 11
_LOOKUPS = 20_000


class FileFeed:
    """A feed in a folder: `checkpoint.<n>` and `<checkpoint>/<bundle>`.

    Attributes:
        step: Which checkpoint is the newest now.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.step = 0

    async def latest_checkpoint(self) -> bytes:
        """See `registry.ports.FeedReader`."""
        return (self._folder / f"checkpoint.{self.step}").read_bytes()

    async def entries(self, bundle_index: int) -> list[bytes]:
        """See `registry.ports.FeedReader`: the newest version of a bundle up to this step."""
        for step in range(self.step, -1, -1):
            path = self._folder / str(step) / str(bundle_index)
            if path.exists():
                return decode_bundle(path.read_bytes())
        raise FileNotFoundError(bundle_index)

    async def blob(self, sha256: str) -> bytes:
        """See `registry.ports.FeedReader`; nobody asks here."""
        raise FileNotFoundError(sha256)

    async def wait_changed(self, timeout_s: float) -> None:
        """See `registry.ports.FeedReader`; nobody waits here."""
        await asyncio.sleep(timeout_s)


def _timed(calls: int, work: Callable[[int], object]) -> float:
    """Microseconds of one call."""
    started = time.perf_counter()
    for number in range(calls):
        work(number)
    return round(1e6 * (time.perf_counter() - started) / calls, 3)


def _lookups(directory: Directory) -> dict[str, float]:
    chosen = random.Random(_SEED)
    members = [f"{INSTANCE}/GOV/M{number:03d}" for number in range(MEMBERS)]
    picked = [(chosen.choice(members), chosen.choice(members)) for _ in range(_LOOKUPS)]
    at, genesis = AT, directory.genesis
    return {
        "service_us": _timed(_LOOKUPS, lambda n: directory.service(f"{picked[n][0]}/desk/items")),
        "node_by_origin_us": _timed(_LOOKUPS, lambda n: directory.node_by_origin(f"{genesis}/{picked[n][0]}/@n1/1")),
        "sealing_key_us": _timed(_LOOKUPS, lambda n: directory.sealing_key(picked[n][0], "query", at)),
        "rights_us": _timed(_LOOKUPS, lambda n: directory.rights(f"{picked[n][1]}/desk", f"{picked[n][0]}/desk/items")),
        "authorise_us": _timed(
            _LOOKUPS,
            lambda n: authorise(
                directory,
                client=f"{picked[n][1]}/desk",
                service=f"{picked[n][0]}/desk/items",
                operation="readItem",
                purpose="benchmark",
                ground="measuring",
                official="",
                at=at,
            ),
        ),
    }


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _open(folder: Path, genesis: str, feed: FileFeed) -> Follower:
    settings = FollowerSettings(max_age_s=86_400.0, fetch_timeout_s=60.0)
    return Follower(feed, folder / "directory.db", genesis, now=lambda: datetime.now(UTC), settings=settings)


async def _update(follower: Follower) -> float:
    started = time.perf_counter()
    changed = await follower.update()
    if not changed or follower.directory.skipped_count:
        raise RuntimeError(f"no update, or {follower.directory.skipped_count} documents were skipped")
    return time.perf_counter() - started


async def _measure(folder: Path, genesis: str, task: str) -> dict[str, Any]:
    feed = FileFeed(folder)
    imported_mb = _peak_mb()
    started = time.perf_counter()
    follower = _open(folder, genesis, feed)
    opened_s = time.perf_counter() - started
    try:
        if task == "first":
            took_s = await _update(follower)
            return {"s": round(took_s, 2), "size": follower.directory.size, "peak_mb": _peak_mb()}
        if task == "update":
            took = {}
            for step, count in enumerate(LATER, 1):
                feed.step = step
                took[f"plus_{count}_ms"] = round(1e3 * await _update(follower), 2)
            return took
        found = {"s": round(opened_s, 3), "size": follower.directory.size, "peak_mb": _peak_mb()}
        return {**found, "program_mb": imported_mb, "lookup": _lookups(follower.directory)}
    finally:
        follower.close()


if __name__ == "__main__":
    _facts = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(_measure(Path(_facts["folder"]), _facts["genesis"], _facts["task"]))))
