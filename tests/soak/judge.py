"""The judgement, from outside: what the client was told against what the backend did. Reads no store of a gateway.

accepted = completed + failed + dead + cancelled + expired + pending; an id that the gateway does not know any more, or a
completed command without an effect, is lost. Nothing is done twice. What is cancelled, expired or refused before the
source was asked has no effect. Of one key, effects come in the order of acceptance.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .client import ORDERED
from .lines import read

CLOSED = ("completed", "failed", "cancelled", "expired")
FINAL = (*CLOSED, "dead")
OPEN = ("accepted", "sent", "delivered", "processing")
WITHOUT_EFFECT = ("cancelled", "expired")
SLACK_S = 3.5
"""How long after a fault its consequences may still show: the backend's deadline, and a little."""
EXCUSES = frozenset({"kill", "killed", "kill-in-commit", "skew", "blackhole", "slow", "disk-full", "cut"})
_AT_THE_PROVIDER = frozenset({"G01", "backend"})
_PASSING = frozenset({429, 502, 503, 504, "broken"})
LONG_S = 2.5
"""An answer that took longer may have come after the gateway's deadline for it."""


@dataclass
class Verdict:
    """What was found. `problems` is empty when every invariant holds; each names the ids or keys that it is about."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    unknown_done: int = 0
    states: dict[str, int] = field(default_factory=dict)
    effects: int = 0
    effects_twice: int = 0
    asked_again: int = 0
    asked_again_unexplained: int = 0
    lost: int = 0
    order_violations: int = 0
    redriven: int = 0
    discarded: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, what: str, names: Sequence[object]) -> int:
        """Notes a problem with the first few that it is about; how many there are."""
        if names:
            self.problems.append(f"{what}: {len(names)}, such as {list(names)[:3]}")
        return len(names)


@dataclass
class Books:
    """What was kept outside the gateways.

    Attributes:
        sent: the client's lines.
        effects: the backend's.
        asked: the backend's lines of requests.
        faults: the harness's.
        states: state of each accepted command, as its gateway told in the end; empty for one that it does not know.
        answered: the backend's lines of what became of requests.
        acts: the operator's.
    """

    sent: list[dict[str, Any]]
    effects: list[dict[str, Any]]
    asked: list[dict[str, Any]]
    faults: list[dict[str, Any]]
    states: dict[str, str]
    answered: list[dict[str, Any]] = field(default_factory=list)
    acts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, states: Mapping[str, str]) -> Books:
        """The books in a folder."""
        sent, effects, asked, faults, answered, acts = (
            list(read(folder / f"{name}.jsonl")) for name in ("sent", "effects", "asked", "faults", "answered", "acts")
        )
        return cls(sent, effects, asked, faults, dict(states), answered, acts)

    @property
    def accepted(self) -> dict[str, tuple[str, int]]:
        """Key and sequence of each accepted id, in the order of acceptance."""
        return {line["told"]: (line["key"], line["sequence"]) for line in self.sent if line["what"] == "accepted"}


def judge(books: Books, features: Iterable[str] = (), *, careless: bool = False) -> Verdict:
    """Compares the books."""
    found, merged = Verdict(), frozenset(features)
    accepted = books.accepted
    attempts = Counter(line["what"] for line in books.sent)
    found.sent, found.accepted, found.refused = attempts["trying"], len(accepted), attempts["refused"]
    found.unknown, found.effects = attempts["unknown"], len(books.effects)
    _states(found, books, accepted)
    _effects(found, books, accepted, careless=careless)
    _unknown(found, books, accepted, merged)
    _operated(found, books, accepted)
    ordered = [line for line in books.effects if line["key"].startswith(ORDERED)]
    found.order_violations = len(out_of_order(ordered))
    if "order" in merged:
        found.add("effects of a key out of order", out_of_order(ordered))
    return found


def _states(found: Verdict, books: Books, accepted: Mapping[str, tuple[str, int]]) -> None:
    told = Counter(books.states.get(one, "") or "unheard-of" for one in accepted)
    found.states = {state: told[state] for state in FINAL} | {"pending": sum(told[state] for state in OPEN)}
    unheard = [one for one in accepted if not books.states.get(one)]
    done = {line["id"] for line in books.effects}
    hollow = [one for one in accepted if books.states.get(one) == "completed" and one not in done]
    found.lost = found.add("accepted and not known any more", unheard) + found.add("completed without effect", hollow)
    strange = [one for one in accepted if books.states.get(one, "") not in (*FINAL, *OPEN, "")]
    found.add("in a state that does not exist", strange)
    if sum(found.states.values()) + len(unheard) + len(strange) != found.accepted:
        found.problems.append("the states do not add up to what was accepted")
    early = [one for one in accepted if books.states.get(one) in WITHOUT_EFFECT and one in done]
    found.add("cancelled or expired, and done all the same", early)


def _effects(found: Verdict, books: Books, accepted: Mapping[str, tuple[str, int]], *, careless: bool) -> None:
    by_id = Counter(line["id"] for line in books.effects)
    ids_of = defaultdict(set)
    for line in books.effects:
        ids_of[line["key"], line["sequence"]].add(line["id"])
    again = asked_again(books.asked)
    passing = passed(books.answered)
    unexplained = [
        one
        for one, times in again.items()
        if not all(first in passing.get(one, ()) or excused(books.faults, first, second) for first, second in times)
    ]
    found.asked_again, found.asked_again_unexplained = len(again), found.add("asked again without reason", unexplained)
    twice = [one for one, count in by_id.items() if count > 1 and not (careless and one not in unexplained)]
    several = [what for what, ids in ids_of.items() if len(ids) > 1]
    found.effects_twice = found.add("done twice", twice) + found.add("done under two ids", several)
    other = [line["id"] for line in books.effects if accepted.get(line["id"], (line["key"],))[0] != line["key"]]
    found.add("done for another command than the one with that id", other)


def _operated(found: Verdict, books: Books, accepted: Mapping[str, tuple[str, int]]) -> None:
    """What was discarded has failed, and has no effect if the backend never did it; nothing else was brought to an end."""
    ended = {line["id"] for line in books.acts if line["act"] == "discard" and line["fate"] == "discarded"}
    tried = {line["id"] for line in books.acts if line["act"] == "discard" and line["fate"] == "trying"}
    found.discarded = len(ended)
    found.redriven = len({line["id"] for line in books.acts if line["fate"] == "redriven"})
    told = {one: books.states.get(one, "") for one in ended if one in accepted}
    found.add("discarded, and not failed", [one for one, state in told.items() if state not in ("failed", *OPEN)])
    done = {line["id"] for line in books.effects}
    found.add("discarded before any effect, and done all the same", sorted(tried & done))


def _unknown(found: Verdict, books: Books, accepted: Mapping[str, tuple[str, int]], merged: frozenset[str]) -> None:
    """An effect without a `202` belongs to a call that broke off; with idempotency keys no such call stays open."""
    broke_off = {(line["key"], line["sequence"]) for line in books.sent if line["what"] == "unknown"}
    strangers = [line for line in books.effects if line["id"] not in accepted]
    found.unknown_done = len(strangers)
    nobody = [line["id"] for line in strangers if (line["key"], line["sequence"]) not in broke_off]
    found.add("done and never sent", nobody)
    if "idempotency" in merged:
        ended = {(line["key"], line["sequence"]) for line in books.sent if line["what"] in ("accepted", "refused")}
        found.add("left unknown in spite of an idempotency key", sorted(broke_off - ended))


def passed(answered: Iterable[Mapping[str, Any]]) -> dict[str, set[float]]:
    """By id the times of requests that are made again by design (ADR 14): a passing status, a break, or too slow."""
    found = defaultdict(set)
    for line in answered:
        if line["what"] in _PASSING or line["at"] - line["asked"] > LONG_S:
            found[line["id"]].add(float(line["asked"]))
    return found


def asked_again(asked: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Ids for which the backend was asked more than once, with the times of each two requests that follow."""
    times = defaultdict(list)
    for line in asked:
        times[line["id"]].append(float(line["at"]))
    return {one: list(itertools.pairwise(found)) for one, found in times.items() if len(found) > 1}


def excused(faults: Iterable[Mapping[str, Any]], first_at: float, second_at: float) -> bool:
    """Whether something at the provider's end broke between two requests for the same effect, or while one was served."""
    return any(
        fault["fault"] in EXCUSES
        and fault["target"] in _AT_THE_PROVIDER
        and "began" in fault
        and fault["began"] <= second_at
        and fault["ended"] + SLACK_S >= first_at
        for fault in faults
    )


def out_of_order(effects: Iterable[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Key and sequence of effects that came after a later one of the same key; only the first effect of each counts."""
    highest: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    found = []
    for line in effects:
        what = (line["key"], line["sequence"])
        if what in seen:
            continue
        seen.add(what)
        if line["sequence"] < highest.get(line["key"], 0):
            found.append(what)
        highest[line["key"]] = max(highest.get(line["key"], 0), line["sequence"])
    return found
