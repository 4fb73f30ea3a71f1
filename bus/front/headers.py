"""Which headers travel, and which never do (protocol.md, HTTP surface; X-Road pr-rest, headers). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_DROPPED = _HOP_BY_HOP | frozenset(
    {
        "host",
        "user-agent",
        "content-length",
        "content-type",
        "content-encoding",
        "accept-encoding",
        "server",
        "expect",
        "date",
        "cookie",
        "forwarded",
        "prefer",
        "x-lienthong-key",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-original-uri",
        "x-rewrite-url",
        "x-govstack-client",
        "traceparent",
        "tracestate",
    }
)
_DROPPED_PREFIXES = ("x-forwarded-", "x-road-", "x-lienthong-")
_ANSWER_DROPPED = _HOP_BY_HOP | frozenset(
    {"server", "content-length", "content-type", "content-encoding", "set-cookie", "date", "x-powered-by"}
)


_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE_REFUSED = re.compile("[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110 section 5.5


@lru_cache(maxsize=4096)
def _travelling_name(raw_name: bytes) -> str | None:
    """Lower-case name of a header that travels, None of one that does not; `connection` is the caller's affair."""
    name = raw_name.decode("ascii", "replace").lower()
    return None if name in _DROPPED or name.startswith(_DROPPED_PREFIXES) else name


def travelling(raw_headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The user's own headers of a request, in order, names in lower case.

    Headers that `Connection` names are dropped too (RFC 9110 section 7.6.1).
    """
    kept: list[tuple[str, str]] = []
    named: set[str] = set()
    for raw_name, raw_value in raw_headers:
        name = _travelling_name(raw_name)
        if name is not None:
            kept.append((name, raw_value.decode("utf-8", "replace")))
        elif raw_name.lower() == b"connection":
            named.update(token.strip().lower() for token in raw_value.decode("latin-1").split(","))
    return tuple(item for item in kept if item[0] not in named) if named else tuple(kept)


def answer_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The back end's headers that go to the client.

    They come from another agency's gateway: what cannot stand in a header is left out, or it could split the answer.
    """
    kept = []
    for name, value in headers:
        plain = name.lower().replace("_", "-")
        dropped = plain in _ANSWER_DROPPED or plain.startswith(_DROPPED_PREFIXES)
        if not dropped and _NAME.fullmatch(name) and not _VALUE_REFUSED.search(value):
            kept.append((name, value))
    return kept
