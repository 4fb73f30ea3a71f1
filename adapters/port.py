"""The port between the bus and the systems behind it: what a source is asked, and what it answers.

A *source* answers calls: a national database, an agency's own backend. The bus builds one `AdapterRequest` from a
verified and validated record and gets one `AdapterAnswer`, or one `adapters.errors.AdapterError`.

Nothing here knows of records, proofs, rights or schemas: who may ask was decided before, and whether the answer is fit
to leave is decided after.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AdapterRequest:
    """One call, as it was signed by the client's gateway and validated by ours.

    Attributes:
        exchange_id: Record id (UUIDv7 text); the backend sees it as `X-Road-Request-Id`.
        client: Calling subsystem, slash form (`VN/GOV/H37/onedoor`).
        service: Called service, slash form (`VN/GOV/G01/population/citizens`).
        operation: The contract's `operationId`.
        method: HTTP method in capitals.
        path: Raw path below the service, percent-encodings untouched; begins with `/` or is empty.
        query: Raw query without the `?`; empty when there is none.
        headers: The client's headers that may pass, in order.
        content_type: Content type of the body as given; empty when there is no body.
        body: Exact bytes of the body.
        parameters: Decoded path, query and header parameters by name, typed by the contract.
        json_body: The parsed body when it is JSON, else None.
        official: Acting official (`X-Road-UserId`), empty when not given; so for the next four.
        issue: Dossier code (`X-Road-Issue`).
        represented_party: `X-Road-Represented-Party`.
        purpose: `X-LienThong-Purpose`.
        legal_basis: `X-LienThong-Legal-Basis`.
        deadline_s: Seconds that were left when the call was made.
    """

    exchange_id: str
    client: str
    service: str
    operation: str
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    content_type: str
    body: bytes
    parameters: Mapping[str, object]
    json_body: object | None
    official: str
    issue: str
    represented_party: str
    purpose: str
    legal_basis: str
    deadline_s: float


@dataclass(frozen=True, slots=True)
class AdapterAnswer:
    """What the source answered, before the contract is looked at.

    Attributes:
        status: HTTP status.
        headers: Headers that may pass, without `Content-Type` and `Content-Length`.
        content_type: Content type of the body; empty when there is none.
        body: Exact bytes of the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    content_type: str
    body: bytes


class SourceObserver(Protocol):
    """Hears what a source does, to count it. Never gets a person, a dossier code or an exchange id."""

    def called(self, operation: str, outcome: str, seconds: float) -> None:
        """One call ended.

        Args:
            operation: The contract's `operationId`.
            outcome: `answered`, or the `code` of the `AdapterError` that was raised.
            seconds: How long it took.
        """

    def breaker_changed(self, state: str) -> None:
        """The circuit breaker went to `closed`, `open` or `half-open`. Sources without a breaker never say this."""


class SilentObserver:
    """An observer that forgets everything."""

    def called(self, operation: str, outcome: str, seconds: float) -> None:
        """Forget the call."""

    def breaker_changed(self, state: str) -> None:
        """Forget the change."""


class Source(Protocol):
    """Answers calls. One instance serves many calls at once, on one event loop."""

    async def open(self) -> None:
        """Acquire pools and read secrets. Does not need the backend to be up.

        Raises:
            SettingsInvalid: A file named in the settings cannot be used.
        """

    async def call(self, request: AdapterRequest) -> AdapterAnswer:
        """Answer one call within `request.deadline_s`.

        Raises:
            AdapterError: No usable answer; `acted` tells whether the call may have taken effect.
        """

    async def check(self) -> None:
        """Say whether the backend is there, within a few seconds.

        Raises:
            AdapterError: It is not, and why.
        """

    async def close(self) -> None:
        """Give everything back. Safe to call twice, and without `open`."""


class SourceKind(Protocol):
    """Makes sources of one kind. Found by name through the entry point group `lienthong.sources`."""

    def build(self, settings: Mapping[str, object], observer: SourceObserver) -> Source:
        """Check the settings and make a source that is not open yet. Touches no network.

        Raises:
            SettingsInvalid: With the dotted key that is wrong.
        """
