"""What a check finds, and how checks are run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from bus.errors import BusError, SettingsInvalid
from evidence.errors import EvidenceError
from registry.errors import RegistryError

T = TypeVar("T")
State = Literal["ok", "warn", "fail"]
WORST: tuple[State, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: Stable name of the check.
        state: `ok`, `warn` (works, but not for long), or `fail`.
        seen: What was seen.
        do: What to do about it; empty when it is well.
    """

    check: str
    state: State
    seen: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """A check of a home.

    Attributes:
        name: Stable, kebab-case.
        look: Looks; may raise what the rooms raise.
        do: What to do when it cannot even be made.
    """

    name: str
    look: Callable[[T], Iterable[Finding]]
    do: str


def examine(checks: Sequence[Check[T]], context: T) -> list[Finding]:
    """Makes all checks, in order; a failure ends only its own."""
    found: list[Finding] = []
    for check in checks:
        try:
            found += check.look(context)
        except SettingsInvalid as error:
            where = "; ".join(f"{error.path}:{line}: {key}: {message}" for line, key, message in error.problems)
            found.append(Finding(check.name, "fail", where, check.do))
        except (BusError, RegistryError, EvidenceError) as error:
            found.append(Finding(check.name, "fail", f"{error.code}: {error}", check.do))
        except OSError as error:
            found.append(Finding(check.name, "fail", f"{error.filename or ''}: {error.strerror or error}", check.do))
    return found


def worst(found: Iterable[Finding]) -> State:
    """The worst state of all."""
    return max((finding.state for finding in found), key=WORST.index, default="ok")
