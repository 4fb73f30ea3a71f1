"""What came back from the provider's side, or did not."""

from __future__ import annotations

from bus.errors.root import BusError


class AnswerUnverifiable(BusError):
    """What came back is not a proven answer to this request."""

    code = "answer-unverifiable"
    status = 502
    title = "The answer could not be verified"
    fault = "Server.ClientProxy.InvalidResponse"
    acted = "unknown"


class ProviderDropped(BusError):
    """The provider's gateway dropped the request and hinted why (not evidence)."""

    code = "provider-dropped"
    status = 502
    title = "The provider's gateway did not accept the request"
    fault = "Server.ServerProxy.InvalidRequest"
    acted = "unknown"


class AnswerInvalid(BusError):
    """The back end's answer breaks the contract."""

    code = "answer-invalid"
    status = 502
    title = "The provider's answer does not match its contract"
    fault = "Server.ServerProxy.InvalidResponse"
    disposition = "reject"
    acted = "unknown"


class BackendFailed(BusError):
    """The provider's back end failed, is down or is too slow."""

    code = "backend-failed"
    status = 502
    title = "The provider's back end failed"
    fault = "Server.ServerProxy.ServiceFailed"
    acted = "unknown"
    retry_after_s = 2


class BackendUnavailable(BusError):
    """The provider's back end could not be reached at all."""

    code = "backend-unavailable"
    status = 503
    title = "The provider's back end cannot be reached"
    fault = "Server.ServerProxy.NetworkError"
    acted = "no"
    retry_after_s = 2


class BackendTimeout(BusError):
    """The provider's back end did not answer within the deadline."""

    code = "backend-timeout"
    status = 504
    title = "The provider's back end did not answer in time"
    fault = "Server.ServerProxy.ServiceFailed"
    acted = "unknown"
    retry_after_s = 2
