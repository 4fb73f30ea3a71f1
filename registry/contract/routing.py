"""Raw request paths to path items.

Paths are refused, not repaired; nothing here decodes a parameter's value for use.

A path that another server could read as a different one is refused: dot segments and empty segments in any encoding,
backslash, semicolon, control characters, double encoding, percent-encoded characters that need none, and an encoded
form of a literal segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from registry.contract.errors import MethodNotAllowed, OperationUnknown, PathRefused
from registry.contract.model import Operation
from registry.contract.templates import split_template

MAX_PATH: Final = 8_192
_PLAIN: Final = re.compile(r"(?:/[A-Za-z0-9\-._~!$&'()*+,=:@]*)+")
_ENCODED: Final = re.compile(r"(?:/(?:[A-Za-z0-9\-._~!$&'()*+,=:@]|%[0-9A-Fa-f]{2})*)+")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_OCTET: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~")


@dataclass(slots=True)
class PathItem:
    """The operations of one template, and its parameters in order of appearance.

    Attributes:
        slash: Names of parameters that may carry ``%2F``, per method.
    """

    names: tuple[str, ...]
    operations: dict[str, Operation] = field(default_factory=dict)
    slash: dict[str, frozenset[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    item: PathItem | None = None


class Router:
    """All templates of a contract. Immutable once built."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._root = _Node()
        self._literal: dict[str, PathItem] = {}
        self._any_slash = False
        for operation in operations:
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        segments = split_template(operation.path_template) or ()
        node = self._root
        for literal, _ in segments:
            if literal is not None:
                node = node.literals.setdefault(literal, _Node())
            else:
                node.parameter = node.parameter or _Node()
                node = node.parameter
        names = tuple(name for literal, name in segments if literal is None)
        if node.item is None:
            node.item = PathItem(names)
        slash = frozenset(parameter.name for parameter in operation.parameters if parameter.allow_slash)
        node.item.operations[operation.method] = operation
        node.item.slash[operation.method] = slash
        self._any_slash = self._any_slash or bool(slash)
        if not names:
            self._literal[operation.path_template] = node.item
            if not segments:
                # An absent path and "/" are the same path (RFC 9110 §4.2.3).
                self._literal[""] = node.item

    def route(self, method: str, raw_path: str) -> tuple[Operation, dict[str, str]]:
        """Returns the operation and the raw values of its path parameters.

        Raises:
            PathRefused: See there for the reasons.
            OperationUnknown: No template matches.
            MethodNotAllowed: A template matches, the method does not.
        """
        item = self._literal.get(raw_path)
        if item is not None:
            return _operation(item, method), {}
        if _PLAIN.fullmatch(raw_path) is not None and len(raw_path) <= MAX_PATH:
            segments = raw_path[1:].split("/")
            if "//" in raw_path or ("/." in raw_path and ("." in segments or ".." in segments)):
                raise PathRefused("empty-segment" if "//" in raw_path else "dot-segment")
            decoded = segments
        else:
            segments, decoded = _decode_segments(raw_path, slash=self._any_slash)
        values: list[str] = []
        item = _walk(self._root, segments, decoded, 0, values)
        if item is None:
            raise OperationUnknown
        operation = _operation(item, method)
        raw = dict(zip(item.names, values, strict=True))
        if decoded is not segments:
            _check_slashes(raw, item.slash[operation.method])
        return operation, raw


def _operation(item: PathItem, method: str) -> Operation:
    operation = item.operations.get("GET" if method == "HEAD" else method)
    if operation is None:
        allowed = set(item.operations) | ({"HEAD"} if "GET" in item.operations else set())
        raise MethodNotAllowed(tuple(sorted(allowed)))
    return operation


def _walk(node: _Node, segments: list[str], decoded: list[str], place: int, values: list[str]) -> PathItem | None:
    """Literal segments first, then the parameter; a dead end goes back."""
    if place == len(segments):
        return node.item
    raw = segments[place]
    following = node.literals.get(raw)
    if following is not None:
        item = _walk(following, segments, decoded, place + 1, values)
        if item is not None:
            return item
    if node.parameter is None or raw == "":
        return None
    values.append(raw)
    item = _walk(node.parameter, segments, decoded, place + 1, values)
    if item is None:
        values.pop()
    elif decoded[place] != raw and decoded[place] in node.literals:
        raise PathRefused("encoded-literal")
    return item


def _decode_segments(raw_path: str, *, slash: bool) -> tuple[list[str], list[str]]:
    _refuse_characters(raw_path)
    segments = raw_path[1:].split("/")
    if "" in segments[:-1]:
        raise PathRefused("empty-segment")
    decoded = [_decode_segment(segment, slash=slash) if "%" in segment else segment for segment in segments]
    for segment in decoded:
        parts = segment.split("/")
        if "." in parts or ".." in parts:
            raise PathRefused("dot-segment")
        if len(parts) > 1 and "" in parts:
            raise PathRefused("empty-segment")
    return segments, decoded


def _refuse_characters(raw_path: str) -> None:
    if len(raw_path) > MAX_PATH:
        raise PathRefused("too-long")
    if not raw_path.startswith("/"):
        raise PathRefused("not-absolute")
    if not raw_path.isascii():
        raise PathRefused("not-ascii")
    if _BAD_PERCENT.search(raw_path):
        raise PathRefused("bad-percent")
    if not _ENCODED.fullmatch(raw_path):
        raise PathRefused("forbidden-character")


def _decode_segment(segment: str, *, slash: bool) -> str:
    for match in _OCTET.finditer(segment):
        octet = int(match.group(1), 16)
        if octet == 0x25:
            raise PathRefused("double-encoding")
        if octet == 0x2E:
            raise PathRefused("dot-segment")
        if octet < 0x20 or octet == 0x7F:
            raise PathRefused("encoded-control")
        if octet in b"\\;":
            raise PathRefused("encoded-forbidden")
        if octet == 0x2F and not slash:
            raise PathRefused("encoded-slash")
        if octet in _UNRESERVED:
            raise PathRefused("encoded-unreserved")
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise PathRefused("not-utf8") from None


def _check_slashes(raw: dict[str, str], allowed: frozenset[str]) -> None:
    for name, value in raw.items():
        if "%2f" in value.lower() and name not in allowed:
            raise PathRefused("encoded-slash")
