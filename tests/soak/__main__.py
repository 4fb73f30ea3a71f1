"""The soak from the command line.

    python -m tests.soak --seconds 30 --seed 7 --out FOLDER [--json] [--rate 100] [--careless] [--features a,b]

Prints the schedule, runs it, lifts every fault, waits (bounded) until everything is quiet, and judges from outside. The
last line of standard output is one JSON object. Exit code 0: every invariant holds. FOLDER keeps books, logs and stores.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from tests.soak import asking, features
from tests.soak.evidence_of import look
from tests.soak.faults import Breaker
from tests.soak.judge import CLOSED, FINAL, Books, judge
from tests.soak.schedule import GATEWAYS, plan
from tests.soak.stage import Stage


def run(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """One soak; what was found."""
    began_s = time.monotonic()
    faults = plan(options.seed, options.seconds)
    merged = features.of(options.features)
    _say(options, f"seed {options.seed}, {options.seconds:g} s, {len(faults)} faults, everything in {out}")
    for fault in faults:
        _say(options, str(fault))
    with Stage(out, careless=options.careless) as stage:
        stage.start_client(options.rate, options.seed, merged)
        if "dead" in merged:
            stage.start_operator()
        breaker = Breaker(stage)
        breaker.run(faults, options.seconds)
        stage.whole()
        stage.stop_client()
        _say(options, f"faults are over: {dict(breaker.done)}; waiting until it is quiet")
        facts = json.loads((out / "client.json").read_bytes())
        accepted = list(Books.of(out, {}).accepted)
        drained_s = time.monotonic()
        ends = CLOSED if "dead" in merged else FINAL  # the operator sees to it that nothing stays dead
        told = asking.settled(facts, accepted, ends, options.drain)
        stage.stop_operator()
        quiet = _quiet(stage, options.drain - (time.monotonic() - drained_s))
        drained_s = time.monotonic() - drained_s
        verdict = judge(Books.of(out, told), merged, careless=options.careless)
        evidence = look(stage.world, told)
    unquiet = [] if quiet else [f"not quiet {options.drain:g} s after the last fault"]
    problems = unquiet + verdict.problems + evidence.problems + [f"ended by itself: {one}" for one in breaker.ended]
    rest = {name: value for name, value in asdict(verdict).items() if name not in ("states", "problems")}
    return {
        "ok": not problems,
        "seed": options.seed,
        "seconds": round(time.monotonic() - began_s, 1),
        "load_seconds": options.seconds,
        "drain_seconds": round(drained_s, 1),
        **verdict.states,
        **rest,
        "order_checked": "order" in merged,
        "unmatched": evidence.unmatched,
        "records": evidence.records,
        "quiet": quiet,
        "kills": dict(breaker.kills),
        "faults": dict(breaker.done),
        "ended_by_themselves": breaker.ended,
        "features": sorted(merged),
        "problems": problems,
    }


def _quiet(stage: Stage, deadline_s: float) -> bool:
    """Waits until no record waits for a receipt; only then the evidence is whole on both sides."""
    until_s = time.monotonic() + max(deadline_s, 5.0)
    while time.monotonic() < until_s:
        if not any(_count(stage, code, table) for code in GATEWAYS for table in ("outbox", "task")):
            return True
        time.sleep(0.2)
    return False


def _count(stage: Stage, code: str, table: str) -> int:
    path = stage.world.members[code].log_db
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, flush=True)


def main() -> int:
    """The process."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the load with faults")
    parser.add_argument("--seed", type=int, default=None, help="of schedule and load; default: from the clock, printed")
    parser.add_argument("--out", type=Path, default=None, help="a new folder; default: a temporary one")
    parser.add_argument("--rate", type=float, default=100.0, help="commands a second")
    parser.add_argument("--drain", type=float, default=60.0, help="longest wait for quiet after the faults, seconds")
    parser.add_argument("--careless", action="store_true", help="a backend that does not know what it did")
    parser.add_argument("--features", default=None, help="comma list; default: what this version has")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # a line for each connection that a fault cuts
    if options.seed is None:
        options.seed = int(time.time())
    out = options.out or Path(tempfile.mkdtemp(prefix="soak-"))
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        parser.error(f"{out} is not empty")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started it in the background
    try:
        found = run(options, out.resolve())
    except KeyboardInterrupt:
        return 130
    (out / "verdict.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    print(json.dumps(found))
    return 0 if found["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
