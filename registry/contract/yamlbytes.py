"""YAML to JSON values for contract documents, within a budget. It makes no Python objects other than JSON's.

Scalars follow the YAML 1.2 core schema, so ``no`` and ``2024-01-01`` are strings. Refused: tags, merge keys, several
documents, recursive aliases, duplicate keys, keys that are not scalars, and integers with a leading zero (which YAML
1.1 and 1.2 read differently).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from registry.contract.budget import Budget
from registry.contract.errors import ContractOverBudget, ContractRejected, Fault
from registry.contract.model import Json

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,400})")
_AMBIGUOUS = re.compile(r"[-+]?0[0-9_]+|0[xob][0-9a-fA-F_]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


@dataclass(slots=True)
class _Frame:
    """An open collection: its value, its anchor, its size in nodes, and the key that waits for a value."""

    value: dict[str, Json] | list[Json]
    anchor: str | None
    nodes: int = 1
    key: str | None = None


@dataclass(slots=True)
class _Composer:
    budget: Budget
    frames: list[_Frame] = field(default_factory=list)
    anchors: dict[str, tuple[Json, int, int]] = field(default_factory=dict)
    total: int = 0
    result: list[Json] = field(default_factory=list)

    def open(self, event: yaml.events.CollectionStartEvent) -> None:
        _untagged(event)
        if len(self.frames) >= self.budget.depth:
            raise _over(event, "over-budget-depth", f"nests deeper than {self.budget.depth} levels")
        value: dict[str, Json] | list[Json] = {} if isinstance(event, yaml.MappingStartEvent) else []
        if self.frames and isinstance(self.frames[-1].value, dict) and self.frames[-1].key is None:
            raise _refuse(event, "yaml-key", "a mapping key must be a scalar")
        self.frames.append(_Frame(value, event.anchor))

    def close(self, event: yaml.events.Event) -> None:
        frame = self.frames.pop()
        self.put(event, frame.value, frame.nodes, _height(frame.value, self.anchors, frame.anchor), frame.anchor)

    def scalar(self, event: yaml.events.ScalarEvent) -> None:
        _untagged(event)
        plain = event.style in {None, ""}
        frame = self.frames[-1] if self.frames else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            if event.anchor is not None or (plain and event.value == "<<"):
                raise _refuse(event, "yaml-key", "merge keys and anchored keys are not supported")
            if event.value in frame.value:
                raise _refuse(event, "duplicate-name", "a mapping names a key twice")
            frame.key = event.value
            return
        self.put(event, _plain(event) if plain else event.value, 1, 0, event.anchor)

    def alias(self, event: yaml.events.AliasEvent) -> None:
        if event.anchor not in self.anchors:
            raise _refuse(event, "yaml-alias", "an alias names an anchor that is not complete before it")
        value, nodes, height = self.anchors[event.anchor]
        if self.frames and isinstance(self.frames[-1].value, dict) and self.frames[-1].key is None:
            raise _refuse(event, "yaml-key", "a mapping key must be a scalar")
        if len(self.frames) + height > self.budget.depth:
            raise _over(event, "over-budget-depth", f"nests deeper than {self.budget.depth} levels")
        self.put(event, value, nodes, height, None)

    def put(self, event: yaml.events.Event, value: Json, nodes: int, height: int, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = (value, nodes, height)
        if not self.frames:
            self.result.append(value)
            return
        frame = self.frames[-1]
        frame.nodes += nodes
        if frame.nodes > self.budget.nodes:
            raise _over(event, "over-budget-nodes", f"more than {self.budget.nodes} values with aliases expanded")
        if isinstance(frame.value, list):
            frame.value.append(value)
        else:
            frame.value[str(frame.key)] = value
            frame.key = None


def load_yaml(document: bytes, budget: Budget) -> Json:
    """Returns the one YAML document in `document` as JSON values; aliased values are shared objects.

    Raises:
        ContractRejected: Not YAML, or a construct that is not supported.
        ContractOverBudget: Too deep, or too large with aliases expanded.
    """
    composer = _Composer(budget)
    for event in _events(document):
        if isinstance(event, yaml.ScalarEvent):
            composer.scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            composer.open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            composer.close(event)
        elif isinstance(event, yaml.AliasEvent):
            composer.alias(event)
    if len(composer.result) != 1:
        raise ContractRejected([Fault("", "yaml", "the file must hold exactly one YAML document")])
    return composer.result[0]


def _events(document: bytes) -> Iterator[yaml.events.Event]:
    try:
        yield from yaml.parse(document.decode("utf-8"), Loader=_LOADER)
    except UnicodeDecodeError:
        raise ContractRejected([Fault("", "yaml", "the file is not UTF-8")]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark is not None else ""
        raise ContractRejected([Fault("", "yaml", f"not valid YAML{place}")]) from None


def _height(value: dict[str, Json] | list[Json], anchors: dict[str, tuple[Json, int, int]], anchor: str | None) -> int:
    # Only an anchored collection can be put elsewhere, so only its height is ever asked for.
    if anchor is None:
        return 0
    height, level = 0, [value]
    while level:
        height += 1
        inner: list[dict[str, Json] | list[Json]] = []
        for item in level:
            inner.extend(v for v in (item.values() if isinstance(item, dict) else item) if isinstance(v, dict | list))
        level = list({id(item): item for item in inner}.values())
    return height


def _plain(event: yaml.events.ScalarEvent) -> Json:
    text: str = event.value
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _AMBIGUOUS.fullmatch(text):
        raise _refuse(
            event, "yaml-number", "this number is read differently by YAML versions; quote it or write it plainly"
        )
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise _refuse(event, "yaml-number", "a number is out of range")
        return number
    return text


def _untagged(event: yaml.events.ScalarEvent | yaml.events.CollectionStartEvent) -> None:
    if event.tag is not None and event.tag != "!":
        raise _refuse(event, "yaml-tag", "tags are not supported")


def _place(event: yaml.events.Event) -> str:
    return f" (line {event.start_mark.line + 1})" if event.start_mark is not None else ""


def _refuse(event: yaml.events.Event, code: str, message: str) -> ContractRejected:
    return ContractRejected([Fault("", code, message + _place(event))])


def _over(event: yaml.events.Event, code: str, message: str) -> ContractOverBudget:
    return ContractOverBudget([Fault("", code, message + _place(event))])
