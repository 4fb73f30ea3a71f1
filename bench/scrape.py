"""What the gateways say about themselves: how many records share a commit, and how long a commit takes."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass

from bench.instance import Product
from bench.processes import read_json

_LINE = re.compile(r"^lienthong_log_(batch_leaves|commit_seconds)_(sum|count) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Commits:
    """Commits of a gateway's log since it started, or between two looks.

    Attributes:
        count: Commits.
        leaves: Records in them.
        seconds: From the first step to visibility, all together.
    """

    count: float
    leaves: float
    seconds: float

    def since(self, earlier: Commits) -> Commits:
        """The difference."""
        return Commits(self.count - earlier.count, self.leaves - earlier.leaves, self.seconds - earlier.seconds)

    def report(self) -> dict[str, float]:
        """Records per commit, and milliseconds of one."""
        count = self.count or 1.0
        return {"leaves_per_commit": round(self.leaves / count, 1), "commit_ms": round(1e3 * self.seconds / count, 3)}


def commits(product: Product) -> dict[str, Commits]:
    """Of both gateways."""
    found = {}
    for name in ("consumer", "provider"):
        facts = read_json(product.folder / name / "data" / "listening.json") or {}
        with urllib.request.urlopen(f"{facts['admin']}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        values = {(what, part): float(value) for what, part, value in _LINE.findall(text)}
        found[name] = Commits(
            values.get(("commit_seconds", "count"), 0.0),
            values.get(("batch_leaves", "sum"), 0.0),
            values.get(("commit_seconds", "sum"), 0.0),
        )
    return found
