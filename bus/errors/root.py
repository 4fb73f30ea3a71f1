"""What all errors of the bus have in common: code, status, fault, disposition."""

from __future__ import annotations

from typing import ClassVar, Literal

Disposition = Literal["retry", "reject", "halt"]
Acted = Literal["no", "unknown"]


class BusError(Exception):
    """Root of all failures of the bus.

    Attributes:
        detail: what happened, why and what to do; never payload or personal data.
        rule: the access right that decided, for who may see it.
        counted: the access right from whose own quota the call took, beside the service's; told nobody.
        violations: schema violations as (where, pointer, rule, message).
        headers: HTTP fields that go with the answer, as a provider told them.
        record_id: the exchange that failed, when there is one.
    """

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "The gateway failed"
    fault: ClassVar[str] = "Server.ClientProxy.InternalError"
    disposition: ClassVar[Disposition] = "retry"
    acted: Acted | None = None
    retry_after_s: int | None = None

    def __init__(self, detail: str = "", *, record_id: str = "", acted: Acted | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.record_id = record_id
        self.rule = ""
        self.counted = ""
        self.reason_code = ""
        self.violations: list[dict[str, str]] = []
        self.headers: tuple[tuple[str, str], ...] = ()
        if acted is not None:
            self.acted = acted


class InternalError(BusError):
    """A defect or an unexpected condition inside the gateway."""


class Rejected(BusError):
    """The family of what the caller, or who set it up, has to change; nothing happened at the provider."""

    status = 400
    fault = "Client.BadRequest"
    disposition: ClassVar[Disposition] = "reject"
    acted = "no"


class Unavailable(BusError):
    """The family of what may go better a little later; nothing happened at the provider."""

    status = 503
    disposition = "retry"
    acted = "no"
    retry_after_s = 2
