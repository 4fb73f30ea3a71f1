"""Writes the parts of the documentation that follow from the code: `python docs/generate.py`.

A part stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`; in docs/errors.md it is the line of facts below
each heading. tests/unit/test_docs.py fails when what is written differs from what would be written now.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

import bus
import console
from adapters.agency.onedoorsettings import DeskSettings, OneDoorSettings
from adapters.kinds.http.settings import BreakerSettings, CredentialSettings, HttpSettings, TlsSettings
from adapters.kinds.sql.binding import ParameterSettings
from adapters.kinds.sql.settings import NoneSettings, OperationSettings, SqlSettings
from adapters.kinds.sql.updates import FieldSettings, UpdateSettings
from adapters.national.population import PopulationSettings
from adapters.national.population_changes import COLUMNS as CHANGES_COLUMNS
from adapters.national.population_changes import PopulationChangesSettings
from adapters.national.population_mapping import COLUMNS as POPULATION_COLUMNS
from bus import errors
from bus.metrics import GatewayMetrics
from bus.settings import locate
from bus.transport import permissions
from console.data import data_folder
from console.processes.registry import RegistryMetrics
from evidence.errors import EvidenceError

DOCS = Path(__file__).resolve().parent
_FACTS = re.compile(r"^(### `(?P<code>[a-z0-9-]+)`\n\n)\*.*\*$", re.MULTILINE)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


# --- settings -------------------------------------------------------------------------------------------------------


def settings_tables() -> str:
    """Every key of config/gateway.toml with the comment above it, a table for each section."""
    text = (data_folder("config") / "gateway.toml").read_text(encoding="utf-8")
    lines = text.splitlines()
    sections: dict[str, list[tuple[str, ...]]] = {}
    for key, number in locate(text).items():
        section, _, name = key.rpartition(".")
        comment = _comment(lines, number)
        said = re.search(r"^(?P<meaning>.*?) ?(?:(?P<required>Required)|Default: (?P<default>.+))\.$", comment)
        if said is not None:
            default = "required" if said["required"] else f"`{said['default']}`"
            sections.setdefault(section, []).append((f"`{name}`", default, said["meaning"]))
    parts = []
    for section, rows in sections.items():
        title = (
            "The file itself" if not section else f"`[[{section[:-3]}]]`" if section.endswith("]") else f"`[{section}]`"
        )
        parts.append(f"## {title}\n\n" + table(("key", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _comment(lines: list[str], number: int) -> str:
    above: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.startswith("#"):
            break
        above.insert(0, line.lstrip("# ").rstrip())
    return " ".join(above)


def struct_table(cls: type[msgspec.Struct]) -> str:
    """Keys of a settings struct with type, default and the line of its docstring."""
    meanings = _attributes(inspect.getdoc(cls) or "")
    rows = [
        (f"`{field.encode_name}`", _type(field.type), _default(field), meanings[field.name])
        for field in msgspec.structs.fields(cls)
    ]
    return table(("key", "type", "default", "meaning"), rows)


def _attributes(docstring: str) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Attributes:")[2].splitlines():
        if entry := re.match(r"    (\w+): (.*)", line):
            name = entry[1]
            found[name] = entry[2]
        elif line.startswith("        "):
            found[name] += " " + line.strip()
    return found


_NAMES = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "object": "any"}


def _type(type_: Any) -> str:
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return "table"
    text = type_.__name__ if isinstance(type_, type) and not hasattr(type_, "__args__") else str(type_)
    if "Literal" in text:
        choices = re.findall(r"'([^']+)'", text)
        return ("list of " if text.startswith("tuple") else "") + ", ".join(f"`{choice}`" for choice in choices)
    if text.startswith("dict") or "Settings" in text:
        return "table"
    parts = [_NAMES[part] for part in text.split(" | ") if part in _NAMES]
    return " or ".join(parts) or text


def _default(field: Any) -> str:
    if field.required:
        return "required"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if default is None:
        return "none"
    if isinstance(default, msgspec.Struct):
        return "see below"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        default = list(default)
    return f"`{msgspec.json.encode(default).decode()}`"


# --- metrics --------------------------------------------------------------------------------------------------------


def metrics_table(registry: CollectorRegistry) -> str:
    """Every metric with kind, labels and help text."""
    rows = []
    for collector in registry._collector_to_names:
        name = collector._name + ("_total" if collector._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in collector._labelnames)
        rows.append((f"`{name}`", collector._type, labels, collector._documentation))
    return table(("metric", "kind", "labels", "meaning"), sorted(rows))


# --- errors ---------------------------------------------------------------------------------------------------------


def all_errors() -> dict[str, type[errors.BusError]]:
    """Error classes of the bus and of the command line, by code."""
    for package in (bus, console):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = ("bus.", "console.")
    return {code: cls for code, cls in errors.catalogue().items() if cls.__module__.startswith(ours)}


def evidence_errors() -> dict[str, type[EvidenceError]]:
    """Errors of evidence that only the command line raises, by code."""
    all_errors()  # imports everything
    return {cls.code: cls for cls in EvidenceError.__subclasses__() if cls.__module__.startswith("console.")}


DECISIONS = (
    "client-unknown",
    "client-suspended",
    "service-unknown",
    "service-disabled",
    "own-node-revoked",
    "provider-revoked",
    "no-access-right",
    "right-expired",
    "operation-unknown",
    "operation-not-granted",
    "purpose-not-granted",
    "ground-not-granted",
    "official-required",
    "quota-exceeded",
)
"""Codes of `registry.decision`; the test compares them with its source."""

OUTCOMES = ("undelivered", "timedout", "rejected", "unknown")


def facts(code: str) -> str:
    """The line below the heading of a code: everything that a program can rely on."""
    parts = []
    cls = all_errors().get(code)
    if cls is not None:
        command = cls.__module__.startswith(("console.", "bus.transport.", "bus.gateway.")) or cls.disposition == "halt"
        if not command:
            parts += [f"HTTP {cls.status}", cls.title, f"acted: {cls.acted or 'not stated'}"]
            parts += [f"Retry-After: {cls.retry_after_s}"] if cls.retry_after_s is not None else []
            parts += [f"X-Road: {cls.fault}"]
        else:
            parts += [f"command line and log, {cls.title.lower()}"]
        parts += [cls.disposition]
    if code in evidence_errors():
        parts += ["command line", evidence_errors()[code].disposition]
    if code in DECISIONS:
        parts.append("`reason` of an access decision")
    if code in errors.DROP_CODES:
        parts.append("drop code")
    return " · ".join(parts)


# --- broker ---------------------------------------------------------------------------------------------------------


def permissions_table() -> str:
    """What the credentials of a node allow at the broker."""
    member, node = "VN/GOV/H37", "VN/GOV/H37/@n1"
    rows = [("publish", f"`{subject}`") for subject in permissions.node_publish(member, node)]
    rows += [("subscribe", f"`{subject}`") for subject in permissions.node_subscribe(member, node)]
    return table(("right", "subject"), rows)


def named(names: Iterable[str]) -> str:
    """Names, one behind the other, in lines of a bearable length."""
    return textwrap.fill(", ".join(f"`{name}`" for name in names), 120, break_on_hyphens=False)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_tables,
    "metrics-gateway": lambda: metrics_table(GatewayMetrics().registry),
    "metrics-registry": lambda: metrics_table(RegistryMetrics().registry),
    "permissions": permissions_table,
    "kind-http": lambda: struct_table(HttpSettings),
    "kind-http-breaker": lambda: struct_table(BreakerSettings),
    "kind-http-tls": lambda: struct_table(TlsSettings),
    "kind-http-credentials": lambda: struct_table(CredentialSettings),
    "kind-sql": lambda: struct_table(SqlSettings),
    "kind-sql-operation": lambda: struct_table(OperationSettings),
    "kind-sql-parameter": lambda: struct_table(ParameterSettings),
    "kind-sql-none": lambda: struct_table(NoneSettings),
    "onedoor": lambda: struct_table(OneDoorSettings),
    "onedoor-desk": lambda: struct_table(DeskSettings),
    "kind-sql-update": lambda: struct_table(UpdateSettings),
    "kind-sql-update-field": lambda: struct_table(FieldSettings),
    "kind-population-changes": lambda: struct_table(PopulationChangesSettings),
    "kind-population": lambda: struct_table(PopulationSettings),
    "columns-population-changes": lambda: named(CHANGES_COLUMNS),
    "columns-population": lambda: named(POPULATION_COLUMNS),
}


def render(text: str) -> str:
    """The text of a page with its generated parts as they are now."""
    for name, make in PARTS.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        if begin in text:
            before, _, rest = text.partition(begin)
            after = rest.partition(end)[2]
            text = f"{before}{begin}\n{make()}\n{end}{after}"
    return _FACTS.sub(lambda found: f"{found[1]}*{facts(found['code'])}*", text)


def main() -> None:
    """Rewrites every page."""
    for page in sorted(DOCS.glob("*.md")):
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
