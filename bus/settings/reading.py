"""From a TOML text to settings, with every problem and the line that it stands on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_origin

import msgspec

from bus.errors import SettingsInvalid
from bus.settings.meaning import problems_of
from bus.settings.tables import GatewayPart, GatewaySettings, Section

T = TypeVar("T", "GatewaySettings", "GatewayPart")
_TABLE = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\- ]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_-]+)\s*=")


def locate(text: str) -> dict[str, int]:
    """Line (from 1) of every table and key of a TOML text, by dotted path; `service[0].kind` in arrays of tables."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    prefix = ""
    for number, line in enumerate(text.splitlines(), 1):
        if table := _TABLE.match(line):
            prefix = _table_path(table[2].replace(" ", ""), table[1] == "[[", counts)
            lines.setdefault(prefix, number)
        elif key := _KEY.match(line):
            lines.setdefault(f"{prefix}.{key[1]}" if prefix else key[1], number)
    return lines


def _table_path(name: str, is_array: bool, counts: dict[str, int]) -> str:
    parts = name.split(".")
    head = parts[0]
    if is_array and len(parts) == 1:
        counts[head] = counts.get(head, -1) + 1
    if head in counts:
        head = f"{head}[{counts[head]}]"
    return ".".join([head, *parts[1:]])


def _find_problems(cls: type[Section], data: Mapping[str, Any], at: str, problems: list[tuple[str, str]]) -> None:
    """Converts each field alone, so that every error is found."""
    fields = {field.name: field for field in msgspec.structs.fields(cls)}
    prefix = f"{at}." if at else ""
    problems.extend((f"{prefix}{name}", "unknown key") for name in data if name not in fields)
    for name, field in fields.items():
        if name not in data:
            if field.required:
                problems.append((f"{prefix}{name}", "required key is missing"))
            continue
        value, type_ = data[name], field.type
        if _is_section(type_) and isinstance(value, dict):
            _find_problems(type_, value, f"{prefix}{name}", problems)
        elif get_origin(type_) is tuple and isinstance(value, list) and _is_section(type_.__args__[0]):
            for position, item in enumerate(value):
                if isinstance(item, dict):
                    _find_problems(type_.__args__[0], item, f"{prefix}{name}[{position}]", problems)
                else:
                    problems.append((f"{prefix}{name}[{position}]", "must be a table"))
        else:
            try:
                msgspec.convert(value, type_, dec_hook=_path)
            except msgspec.ValidationError as error:
                problems.append((f"{prefix}{name}", str(error)))


def _is_section(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, Section)


def _path(type_: type, value: Any) -> Any:
    if type_ is Path and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"Expected a path, got {type(value).__name__}")


def parse_settings(text: str, path: str = "") -> GatewaySettings:
    """Settings from a TOML text.

    Raises:
        SettingsInvalid: with every problem and its line.
    """
    return read(GatewaySettings, text, path)


def read(cls: type[T], text: str, path: str) -> T:
    """The whole file or a part, each table and key checked, then what they mean together.

    Raises:
        SettingsInvalid: with every problem and its line.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise SettingsInvalid([(int(line[1]) if line else 0, "", str(error))], path) from error
    problems: list[tuple[str, str]] = []
    _find_problems(cls, data, "", problems)
    settings: T | None = None
    if not problems:
        settings = msgspec.convert(data, cls, dec_hook=_path)
        problems.extend(problems_of(settings))
    if problems or settings is None:
        lines = locate(text)
        raise SettingsInvalid([(line_of(lines, key), key, message) for key, message in problems], path)
    return settings


def line_of(lines: Mapping[str, int], key: str) -> int:
    """Line of a key or of the nearest table around it; 1 when the text has neither."""
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return 1
