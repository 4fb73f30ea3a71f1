"""The provider's operator: a process of its own that looks after dead letters with `lienthong commands …`, and keeps a book.

    python -m tests.soak.operating --out FOLDER --home HOME --key-file FILE

What died of a fault that is over is brought back. Of what the backend will never do, one half is cured (`FOLDER/cured`) and
brought back, and the other is discarded. `acts.jsonl` has a line `trying` before each act, on disk, and then its fate as the
gateway told it; an act that was not answered has no fate. Ends in order at SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from console.cli import main as lienthong

from .lines import LineFile, read

_EVERY_S = 1.5
_AT_ONCE = 100


class Operator:
    """See the module."""

    def __init__(self, out: Path, home: Path, key_file: Path) -> None:
        self._out = out
        self._options = ["--home", str(home), "--key-file", str(key_file), "--json"]
        self._book = LineFile(out / "acts.jsonl")

    def look(self) -> int:
        """One look at the dead letters, and what is to be done; how many there were."""
        found = self._run("list", "--incoming", "--state", "dead", "--limit", str(_AT_ONCE))
        dead = [str(one["id"]) for one in (found or {}).get("commands", ())]
        hopeless = (
            {line["id"] for line in read(self._out / "answered.jsonl") if line["poison"] == "dead"} if dead else ()
        )
        ended = [one for one in dead if one in hopeless and int(one[-1], 16) % 2]
        cured = [one for one in dead if one in hopeless and one not in ended]
        for one in cured:
            (self._out / "cured" / one).touch()
        self._act("redrive", [one for one in dead if one not in ended])
        self._act("discard", ended)
        return len(dead)

    def _act(self, act: str, ids: Sequence[str]) -> None:
        if not ids:
            return
        for one in ids:
            self._book.add(act=act, id=one, fate="trying", at=time.time())
        found = self._run(act, *ids, "--reason", "looked after by the soak")
        for one in (found or {}).get("commands", ()):
            self._book.add(act=act, id=one["id"], fate=one["fate"], at=time.time())

    def _run(self, *arguments: str) -> dict[str, Any] | None:
        """What the command says; None when the gateway did not answer, as while it is broken."""
        got = CliRunner().invoke(lienthong, ["commands", *arguments, *self._options])
        if got.exception is not None and not isinstance(got.exception, SystemExit):
            raise got.exception
        if got.exit_code:
            self._book.add(act=arguments[0], id="", fate="unanswered", told=got.output[-300:], at=time.time())
            return None
        found: dict[str, Any] = json.loads(got.stdout)
        return found


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    options = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    working = Operator(options.out, options.home, options.key_file)
    while not stopping.wait(_EVERY_S):
        working.look()


if __name__ == "__main__":
    main()
