"""Which headers pass to a backend and back, and the identity headers that are made for it. Pure.

The rules are those of X-Road's REST protocol (pr-rest, "HTTP headers"), with the gateway's own added. Underscores count
as hyphens when a name is looked up: many backends cannot tell `X_Road_Client` from `X-Road-Client`.

Does not decide anything about bodies or paths.
"""

import re
from collections.abc import Iterable

from adapters.errors import RequestUnusable
from adapters.port import AdapterRequest

Headers = tuple[tuple[str, str], ...]

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-authentication-info",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
_REQUEST_DROPPED = HOP_BY_HOP | {
    "accept-encoding",  # backends are asked for identity
    "content-length",
    "content-type",  # stands in the request by itself
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "front-end-https",
    "host",
    "server",
    "true-client-ip",
    "user-agent",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
}
_REQUEST_DROPPED_BEGINNINGS = ("x-forwarded-", "x-original-forwarded-", "x-road-", "x-lienthong-", "x-govstack-")
_ANSWER_DROPPED = HOP_BY_HOP | {
    "alt-svc",  # speaks of the backend's own address, as the next two
    "strict-transport-security",
    "set-cookie",
    "set-cookie2",
    "content-encoding",  # only identity gets this far
    "content-length",
    "content-type",
    "server",
    "x-powered-by",
}
_ANSWER_DROPPED_BEGINNINGS = ("x-road-", "x-lienthong-", "x-govstack-")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE_REFUSED = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


def request_headers(request: AdapterRequest) -> list[tuple[str, str]]:
    """Headers for the backend: what may pass of the client's, then the identity.

    Raises:
        RequestUnusable: A name or value cannot stand in a header.
    """
    kept = _passing(request.headers, _REQUEST_DROPPED, _REQUEST_DROPPED_BEGINNINGS)
    if request.content_type:
        kept.append(("Content-Type", request.content_type))
    kept.append(("Accept-Encoding", "identity"))
    kept += identity_headers(request)
    for name, value in kept:
        if _NAME.fullmatch(name) is None or _VALUE_REFUSED.search(value) is not None:
            raise RequestUnusable("headers", "a name or value has characters that no header may hold; not sent")
    return kept


def identity_headers(request: AdapterRequest) -> list[tuple[str, str]]:
    """Who asks, for whom and why, from the verified record. Empty parts are left out."""
    parts = (
        ("X-Road-Client", request.client),
        ("X-Road-Service", request.service),
        ("X-Road-Id", request.exchange_id),
        ("X-Road-Request-Id", request.exchange_id),
        ("X-Road-UserId", request.official),
        ("X-Road-Issue", request.issue),
        ("X-Road-Represented-Party", request.represented_party),
        ("X-LienThong-Purpose", request.purpose),
        ("X-LienThong-Legal-Basis", request.legal_basis),
    )
    return [part for part in parts if part[1]]


def answer_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """Headers of the backend's answer that may pass. One whose value is not text is dropped."""
    kept = _passing(tuple(headers), _ANSWER_DROPPED, _ANSWER_DROPPED_BEGINNINGS)
    # the HTTP client's names are a kind of str of its own, which codecs do not take
    return tuple((str(name), value) for name, value in kept if _is_text(value))


def _passing(headers: Headers, dropped: frozenset[str], beginnings: tuple[str, ...]) -> list[tuple[str, str]]:
    kept = []
    named: set[str] = set()
    for name, value in headers:
        plain = name.lower().replace("_", "-")
        if plain == "connection":
            named.update(part.strip().lower().replace("_", "-") for part in value.split(","))
        if plain not in dropped and not plain.startswith(beginnings):
            kept.append((name, value))
    if named:
        kept = [pair for pair in kept if pair[0].lower().replace("_", "-") not in named]
    return kept


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
