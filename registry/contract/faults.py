"""Collects the reasons for a refusal, each once and not without end. It decides nothing."""

from __future__ import annotations

from registry.contract.budget import Budget
from registry.contract.errors import ContractOverBudget, ContractRejected, Fault


class Faults:
    """An ordered set of faults, bounded by the budget."""

    def __init__(self, budget: Budget) -> None:
        self._limit = budget.faults
        self._found: dict[tuple[str, str], Fault] = {}

    def add(self, at: str, code: str, message: str) -> None:
        """Adds a fault; when there are too many the document is refused at once.

        Raises:
            ContractRejected: The bound on faults is reached.
        """
        self._found.setdefault((at, code), Fault(at, code, message))
        if len(self._found) >= self._limit:
            self.refuse()

    def refuse(self) -> None:
        """Raises :class:`ContractRejected` when there is any fault, :class:`ContractOverBudget` for one about cost."""
        found = tuple(self._found.values())
        if any(fault.code.startswith("over-budget") for fault in found):
            raise ContractOverBudget(found)
        if found:
            raise ContractRejected(found)
