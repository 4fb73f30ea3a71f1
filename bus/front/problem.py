"""Errors as HTTP answers: one body for X-Road's and for RFC 9457's readers (protocol.md, Errors)."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape

import msgspec
from aiohttp import web

from bus.errors import BusError, MethodNotAllowed
from bus.front.headers import answer_headers

_PROBLEM = "application/problem+json"
# characters that XML 1.0 (section 2.2) cannot write; a provider's detail may hold any
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENT = "\ufffd"


def problem_body(error: BusError) -> dict[str, object]:
    """The members of the problem, empty ones left out."""
    body: dict[str, object] = {
        "type": error.fault,
        "code": error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "message": error.detail,
        "help": f"docs/errors.md#{error.code}",
    }
    if error.record_id:
        body["instance"] = error.record_id
    if error.acted:
        body["acted"] = error.acted
    if error.reason_code:
        body["reason"] = error.reason_code
    if error.rule:
        body["rule"] = error.rule
    if error.violations:
        body["violations"] = error.violations
    return body


def problem_response(error: BusError, accept: str = "") -> web.Response:
    """The HTTP answer for an error; JSON, or XML when the client asks for XML and not for JSON."""
    headers = {"X-Road-Error": error.fault, "Cache-Control": "no-store", **dict(answer_headers(error.headers))}
    if error.record_id:
        headers["x-road-request-id"] = error.record_id
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'LienThong-Key realm="lienthong"'
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    body = problem_body(error)
    if "xml" in accept and "json" not in accept:
        headers["Content-Type"] = "application/problem+xml"
        return web.Response(status=error.status, headers=headers, body=_xml(body))
    headers["Content-Type"] = "application/json" if "application/json" in accept else _PROBLEM
    return web.Response(status=error.status, headers=headers, body=msgspec.json.encode(body))


def _xml(body: dict[str, object]) -> bytes:
    parts = [
        f"<{name}>{escape(_NOT_XML.sub(_REPLACEMENT, str(value)))}</{name}>"
        for name, value in body.items()
        if name != "violations"
    ]
    return ('<problem xmlns="urn:ietf:rfc:7807">' + "".join(parts) + "</problem>").encode()
