"""`python -m bench`: the product against the plain relay, and its parts alone."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench import full, profiling, quick
from bench.processes import BenchFailed, raise_on_signals


def main() -> int:
    """Runs what was asked for; 1 when the figures mean nothing."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the speed figures in under two minutes; last line JSON")
    parser.add_argument("--long", action="store_true", help="also 10^7 records")
    parser.add_argument("--profile", choices=("consumer", "provider"), help="where one gateway's time goes")
    parser.add_argument("--connections", type=int, default=128, help="with --profile; default 128")
    asked = parser.parse_args()
    raise_on_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="lienthong-bench-") as folder:
            if asked.profile:
                return profiling.run(Path(folder), asked.profile, asked.connections)
            if asked.quick:
                return quick.run(Path(folder))
            return full.run(Path(folder), full.LONG if asked.long else full.Sizes())
    except BenchFailed as error:
        print(f"bench failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
