"""JSON pointers (RFC 6901): escape, split, resolve. It follows no references."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from registry.contract.model import Json


def escape(token: str | int) -> str:
    """Returns one reference token escaped for a pointer."""
    return str(token).replace("~", "~0").replace("/", "~1")


def join(base: str, *tokens: str | int) -> str:
    """Returns `base` extended by tokens that are not escaped yet."""
    return base + "".join("/" + escape(token) for token in tokens)


def split(pointer: str) -> list[str]:
    """Returns the unescaped tokens of a pointer that is empty or begins with ``/``."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def render(path: Iterable[str | int]) -> str:
    """Returns the pointer of a path of keys and indices."""
    return "".join("/" + escape(token) for token in path)


def from_fragment(fragment: str) -> str | None:
    """Returns the pointer that a URI fragment (without ``#``) spells, or None when it is not one (RFC 6901 §6)."""
    try:
        pointer = unquote_to_bytes(fragment).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return pointer if pointer == "" or pointer.startswith("/") else None


def to_fragment(pointer: str) -> str:
    """Returns `pointer` as a URI fragment (without ``#``), percent-encoded (RFC 6901 §6)."""
    return quote(pointer, safe="/~!$&'()*+,;=:@")


def resolve(document: Json, pointer: str) -> tuple[bool, Json]:
    """Returns (found, value) for `pointer` in `document`."""
    value = document
    for token in split(pointer):
        if isinstance(value, dict):
            if token not in value:
                return False, None
            value = value[token]
        elif isinstance(value, list):
            if not token.isascii() or not token.isdigit() or (len(token) > 1 and token[0] == "0"):
                return False, None
            if len(token) > 9 or int(token) >= len(value):
                return False, None
            value = value[int(token)]
        else:
            return False, None
    return True, value
