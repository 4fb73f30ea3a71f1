"""Requests for the tests of sources."""

from collections.abc import Mapping

from adapters.port import AdapterRequest


def asked(
    operation: str = "op",
    *,
    method: str = "GET",
    path: str = "",
    query: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    content_type: str = "",
    body: bytes = b"",
    parameters: Mapping[str, object] | None = None,
    json_body: object = None,
    official: str = "official-1",
    issue: str = "",
    deadline_s: float = 5.0,
) -> AdapterRequest:
    return AdapterRequest(
        exchange_id="0198c0de-0000-7000-8000-000000000001",
        client="VN/GOV/H37/onedoor",
        service="VN/GOV/G01/population/citizens",
        operation=operation,
        method=method,
        path=path,
        query=query,
        headers=headers,
        content_type=content_type,
        body=body,
        parameters=parameters or {},
        json_body=json_body,
        official=official,
        issue=issue,
        represented_party="",
        purpose="residence",
        legal_basis="ND-107",
        deadline_s=deadline_s,
    )
