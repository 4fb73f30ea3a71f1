"""One call of a client system and its answer, between the front and the asking side. Data only."""

from __future__ import annotations

import msgspec

from bus.sealing.contents import Particulars


class ClientCall(msgspec.Struct, frozen=True, gc=False):
    """One call of an authenticated client system.

    Attributes:
        client: subsystem that speaks.
        service: service identifier in slash form.
        method: HTTP method.
        path: raw path after the service, begins with `/` or is empty.
        query: raw query.
        headers: the user's headers that travel.
        content_type: of the body.
        body: raw bytes.
        official: acting official, and so on: inside the seal.
    """

    client: str
    service: str
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    content_type: str
    body: bytes
    official: str = ""
    issue: str = ""
    represented_party: str = ""
    purpose: str = ""
    legal_basis: str = ""
    trace: str = ""
    request_hash: str = ""


def request_particulars(call: ClientCall) -> Particulars:
    """What of a call travels inside the seal, beside its body."""
    return Particulars(
        method=call.method,
        path=call.path,
        query=call.query,
        content_type=call.content_type,
        headers=call.headers,
        official=call.official,
        issue=call.issue,
        represented_party=call.represented_party,
        purpose=call.purpose,
        legal_basis=call.legal_basis,
        body_bytes=len(call.body),
        trace=call.trace,
        request_hash=call.request_hash,
    )


class ClientAnswer(msgspec.Struct, frozen=True, gc=False):
    """A proven, validated answer of the provider's back end.

    Attributes:
        record_id: of the request.
        status: exact HTTP status.
        content_type: of the body.
        headers: the back end's headers that may pass.
        body: raw bytes.
    """

    record_id: str
    status: int
    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
