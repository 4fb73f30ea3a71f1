"""What the scenario tells the client process, and what that tells back. Pure data, JSON on both ways."""

from __future__ import annotations

import msgspec


class Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One HTTP call.

    Attributes:
        client: Subsystem that it says it is.
        key: Which of the plan's keys it shows.
        service: Called service.
        operation: Operation of the contract that this is meant to be.
        method: HTTP method.
        path: Raw path after the service, with its query.
        body: Request body.
        content_type: Of the body.
        purpose: Stated purpose.
        expect: Text that the body of a good answer contains.
    """

    client: str
    key: str
    service: str
    operation: str
    path: str
    method: str = "GET"
    body: str = ""
    content_type: str = ""
    purpose: str = ""
    expect: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of the client process does.

    Attributes:
        front: Address of the gateway's front.
        ca: File with the front's authority.
        admin: Address of the gateway's admin port, for its metrics.
        keys: Name to file with an API key.
        headers: Sent with every call.
        sent: File that gets one line per call.
        connections: Calls at once.
        keep: Whether the answers are told, or only counted.
        calls: What to call.
    """

    front: str
    ca: str
    admin: str
    keys: dict[str, str]
    headers: dict[str, str]
    sent: str
    connections: int
    keep: bool
    calls: list[Call]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer.

    Attributes:
        id: x-road-request-id, or empty.
        status: HTTP status; 0 when there was no answer.
        ms: Duration as the client saw it.
        retry_after: Header `Retry-After`, or empty.
        body: Text.
    """

    id: str
    status: int
    ms: float
    retry_after: str
    body: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a run gave.

    Attributes:
        answers: In the order of the calls; empty unless the plan keeps them.
        calls: How many were made.
        good: Those with status 200 and the expected text in the body.
        statuses: Status to number of answers.
        seconds: Between the two looks at the metrics.
        exchanges: Successful exchanges in that time, by the gateway's own counter.
        p50_ms: Median duration.
        p99_ms: 99th percentile.
    """

    answers: list[Answer]
    calls: int
    good: int
    statuses: dict[int, int]
    seconds: float
    exchanges: int
    p50_ms: float
    p99_ms: float
