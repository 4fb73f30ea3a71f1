"""An upper bound on what validation can cost, from the graph alone. It runs no validator.

For every schema the bound counts evaluations along the most expensive path from a value down to its deepest
descendant, over at most `depth` levels. It saturates: doubled references, branching recursion and everything else
that multiplies exceed any budget after a few levels, plain recursion does not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from registry.contract.budget import Budget
from registry.contract.errors import ContractOverBudget, Fault
from registry.contract.graph import Graph, Node


@dataclass(frozen=True, slots=True)
class _Step:
    """A schema with everything that sees the same value: its cost, and per kind of child who sees that child."""

    weight: int
    children: tuple[tuple[tuple[int, int], ...], ...]


class CostModel:
    """Computes the bound for one graph.

    Raises (from every method):
        ContractOverBudget: The bound or the analysis itself exceeds the budget, or a schema contains itself in place.
    """

    def __init__(self, graph: Graph, budget: Budget) -> None:
        self._nodes = graph.nodes
        self._budget = budget
        self._cap = budget.evaluations + 1
        self._closures: dict[int, Counter[int]] = {}
        self._steps: dict[int, _Step] = {}
        self._spent = 0

    def check(self, root: int, at: str) -> int:
        """Returns the bound for the schema `root`; `at` names it in a refusal."""
        bound = self._bound(root, at)
        if bound > self._budget.evaluations:
            message = "references and combinations multiply: one value could cost too many evaluations"
            raise ContractOverBudget([Fault(at, "over-budget-expansion", message)])
        return bound

    def _bound(self, root: int, at: str) -> int:
        reached = self._reach(root, at)
        bounds = dict.fromkeys(reached, 0)
        for _ in range(self._budget.depth + 1):
            fresh = {entry: self._deepen(entry, bounds, at) for entry in reached}
            if fresh == bounds:
                break
            bounds = fresh
            if bounds[root] >= self._cap:
                break
        return bounds[root]

    def _deepen(self, entry: int, below: dict[int, int], at: str) -> int:
        step = self._steps[entry]
        worst = 0
        for group in step.children:
            self._spend(len(group) + 1, at)
            worst = max(worst, sum(times * below[child] for child, times in group))
        return min(self._cap, step.weight + worst)

    def _reach(self, root: int, at: str) -> list[int]:
        seen, stack = {root}, [root]
        while stack:
            entry = stack.pop()
            if entry not in self._steps:
                self._steps[entry] = self._step(entry, at)
            for group in self._steps[entry].children:
                for child, _ in group:
                    if child not in seen:
                        seen.add(child)
                        stack.append(child)
        return list(seen)

    def _step(self, entry: int, at: str) -> _Step:
        closure = self._closure(entry, at)
        weight = min(self._cap, sum(self._nodes[member].weight * times for member, times in closure.items()))
        members = [(self._nodes[member], times) for member, times in closure.items()]
        groups = {tuple(sorted(group.items())) for group in (*self._properties(members, at), *self._items(members, at))}
        return _Step(weight, tuple(group for group in groups if group))

    def _properties(self, members: list[tuple[Node, int]], at: str) -> list[Counter[int]]:
        always: Counter[int] = Counter()
        other: Counter[int] = Counter()
        names: dict[str, Counter[int]] = {}
        for node, times in members:
            for child in node.any_property:
                always[child] += times
            if node.other is not None:
                other[node.other] += times
            for name, child in node.named.items():
                names.setdefault(name, Counter())[child] += times
        result = [always + other]
        for name, own in names.items():
            self._spend(len(always) + len(members), at)
            rest = Counter[int]()
            for node, times in members:
                if node.other is not None and name not in node.named:
                    rest[node.other] += times
            result.append(own + rest + always)
        return result

    def _items(self, members: list[tuple[Node, int]], at: str) -> list[Counter[int]]:
        longest = max((len(node.prefix) for node, _ in members), default=0)
        result = []
        for place in range(longest + 1):
            self._spend(len(members), at)
            group: Counter[int] = Counter()
            for node, times in members:
                if place < len(node.prefix):
                    group[node.prefix[place]] += times
                elif node.items is not None:
                    group[node.items] += times
                for child in node.any_item:
                    group[child] += times
            result.append(group)
        return result

    def _closure(self, entry: int, at: str) -> Counter[int]:
        """Returns who sees the same value as `entry`, with multiplicity (saturating); iterative post-order."""
        stack: list[tuple[int, bool]] = [(entry, False)]
        open_: set[int] = set()
        while stack:
            current, done = stack.pop()
            if done:
                open_.discard(current)
                self._closures[current] = self._merge(current, at)
            elif current not in self._closures:
                if current in open_:
                    message = "a schema refers to itself without going down into the value"
                    raise ContractOverBudget([Fault(at, "reference-loop", message)])
                open_.add(current)
                stack.append((current, True))
                stack.extend((child, False) for child in self._nodes[current].inplace)
        return self._closures[entry]

    def _merge(self, current: int, at: str) -> Counter[int]:
        merged = Counter({current: 1})
        for child in self._nodes[current].inplace:
            inner = self._closures[child]
            self._spend(len(inner), at)
            for member, times in inner.items():
                merged[member] = min(self._cap, merged[member] + times)
        return merged

    def _spend(self, steps: int, at: str) -> None:
        self._spent += steps
        if self._spent > self._budget.analysis_steps:
            raise ContractOverBudget([Fault(at, "over-budget-analysis", "the schemas are too entangled to be bounded")])
