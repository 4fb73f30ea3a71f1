"""The schedule of faults: a pure function of seed and length, so that a failure can be repeated. Breaks nothing itself."""

from __future__ import annotations

import random
from dataclasses import dataclass

CONSUMER, PROVIDER = "H37", "G01"
FIRST_S, CALM_S = 2.0, 1.0
"""Nothing breaks before `FIRST_S`; what breaks is whole again `CALM_S` before the end."""

GATEWAYS = (CONSUMER, PROVIDER)
STEPS = ("begin", "write_leaves", "write_note", "write_caller_rows", "commit")
ACTIONS = ("kill", "kill-after", "fail", "fail-after")
SKEWS_S = (-40.0, -8.0, 8.0, 40.0, 90.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at_s: when it begins, seconds from the start of the load.
        for_s: how long it lasts.
        kind: see `KINDS`.
        target: what it hits: `broker`, `backend` or a member's code.
        detail: what the kind needs to know beyond that, as text.
    """

    at_s: float
    for_s: float
    kind: str
    target: str
    detail: str = ""

    @property
    def until_s(self) -> float:
        """When it is over."""
        return round(self.at_s + self.for_s, 3)

    def __str__(self) -> str:
        return f"{self.at_s:8.2f} s  {self.kind:<15} {self.target:<8} for {self.for_s:.2f} s  {self.detail}".rstrip()


KINDS: dict[str, tuple[int, tuple[str, ...], float, float]] = {
    # kind: (weight, targets, shortest, longest)
    "kill": (6, ("broker", *GATEWAYS, "backend"), 0.1, 2.0),
    "kill-in-commit": (3, GATEWAYS, 0.5, 1.5),
    "cut": (3, GATEWAYS, 0.3, 3.0),
    "blackhole": (3, ("broker", *GATEWAYS, "backend"), 0.3, 3.0),
    "disk-full": (2, GATEWAYS, 0.2, 2.0),
    "broker-full": (2, ("broker",), 0.5, 2.0),
    "skew": (1, GATEWAYS, 1.0, 3.0),
    "slow": (2, ("backend",), 1.0, 4.0),
    "busy": (2, ("backend",), 0.5, 2.5),
    "duplicate": (3, ("broker",), 0.5, 1.0),
    "preempt": (2, (CONSUMER,), 0.8, 1.5),
    "garbage": (1, ("broker",), 0.1, 0.1),
}
"""How often a kind is chosen, what it may hit and how long it lasts."""


def plan(seed: int, seconds: float) -> list[Fault]:
    """The faults of a run, in the order in which they begin.

    Faults overlap, but never two on the same target. The first round brings each kind once, if there is time for it.
    """
    chance = random.Random(seed)
    found: list[Fault] = []
    free_at = dict.fromkeys(("broker", "backend", *GATEWAYS), FIRST_S)
    at_s, end_s = FIRST_S, seconds - CALM_S
    fresh = sorted(KINDS)
    chance.shuffle(fresh)
    while True:
        kind = fresh.pop() if fresh else chance.choices(sorted(KINDS), [KINDS[one][0] for one in sorted(KINDS)])[0]
        _, targets, shortest, longest = KINDS[kind]
        target = chance.choice(targets)
        for_s = round(chance.uniform(shortest, longest), 2)
        begin_s = round(max(at_s, free_at[target]), 2)
        if begin_s + for_s > end_s:
            return sorted(found, key=lambda one: (one.at_s, one.kind, one.target))
        found.append(Fault(begin_s, for_s, kind, target, _detail(chance, kind)))
        free_at[target] = begin_s + for_s + 0.4
        at_s = round(begin_s + chance.uniform(0.1, 2.2), 2)


def _detail(chance: random.Random, kind: str) -> str:
    if kind == "kill-in-commit":
        return f"{chance.choice(STEPS)} {chance.choice(ACTIONS)} {chance.randint(1, 6)}"
    if kind == "skew":
        return f"{chance.choice(SKEWS_S):g}"
    if kind == "slow":
        return f"{chance.uniform(0.1, 0.8):.2f}"
    if kind == "busy":
        return chance.choice(("429", "502", "503", "504"))
    if kind in ("duplicate", "garbage", "preempt"):
        return str(chance.randint(3, 12))
    return ""
