"""Which headers travel, and which never do (protocol.md, HTTP surface; X-Road pr-rest, headers). Pure."""

from __future__ import annotations

from collections.abc import Iterable

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


def travelling(raw_headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """The user's own headers of a request, in order, names in lower case.

    Headers that `Connection` names are dropped too (RFC 9110 section 7.6.1).
    """
    named: frozenset[str] = frozenset()
    kept: list[tuple[str, str]] = []
    for raw_name, raw_value in raw_headers:
        name = raw_name.decode("ascii", "replace").lower()
        if name == "connection":
            named = frozenset(token.strip().lower() for token in raw_value.decode("latin-1").split(","))
        if name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES):
            kept.append((name, raw_value.decode("utf-8", "replace")))
    return tuple(item for item in kept if item[0] not in named) if named else tuple(kept)


def answer_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The back end's headers that go to the client."""
    return [
        (name, value)
        for name, value in headers
        if name.lower() not in _ANSWER_DROPPED and not name.lower().startswith(_DROPPED_PREFIXES)
    ]
