"""Every failure of an exchange, with the answer that a client system gets for it.

One class per failure. `code` is stable and documented in docs/errors.md; `status` is the HTTP status; `fault` is the
string that X-Road clients know (the `type` of the answer and the header `X-Road-Error`); `acted` says whether the call
may have taken effect at the provider (`no` or `unknown`). This module does not write HTTP: see bus/front/problem.py.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Disposition = Literal["retry", "reject", "halt"]
Acted = Literal["no", "unknown"]


class BusError(Exception):
    """Root of all failures of the bus.

    Attributes:
        detail: what happened, why and what to do; never payload or personal data.
        rule: the access right that decided, for who may see it.
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
        self.reason_code = ""
        self.violations: list[dict[str, str]] = []
        self.headers: tuple[tuple[str, str], ...] = ()
        if acted is not None:
            self.acted = acted


class InternalError(BusError):
    """A defect or an unexpected condition inside the gateway."""


class _Rejected(BusError):
    status = 400
    fault = "Client.BadRequest"
    disposition: ClassVar[Disposition] = "reject"
    acted = "no"


class RequestMalformed(_Rejected):
    """The HTTP request cannot be understood (header, identifier, encoding)."""

    code = "request-malformed"
    title = "The request is malformed"


class ClientHeaderMissing(_Rejected):
    """`X-Road-Client` is missing."""

    code = "client-header-missing"
    title = "The header X-Road-Client is missing"
    fault = "Client.MissingHeader"


class ClientHeaderConflict(_Rejected):
    """`X-Road-Client` and `X-GovStack-Client` name two different clients."""

    code = "client-header-conflict"
    title = "X-Road-Client and X-GovStack-Client differ"
    fault = "Client.InconsistentHeaders"


class PathRefused(_Rejected):
    """The path holds something that back ends read in different ways."""

    code = "path-refused"
    title = "The path is refused"
    fault = "Client.InvalidRequest"


class RequestInvalid(_Rejected):
    """The request breaks the service's contract."""

    code = "request-invalid"
    title = "The request does not match the contract"
    fault = "Client.InvalidRequest"


class CommandRequired(_Rejected):
    """The contract offers this operation as a command only."""

    code = "command-required"
    title = "This operation is a command"
    fault = "Client.InvalidRequest"


class QueryRequired(_Rejected):
    """The contract offers this operation as a query only."""

    code = "query-required"
    title = "This operation is no command"
    fault = "Client.InvalidRequest"


class IdempotencyKeyReused(_Rejected):
    """The same idempotency key came before, with another request."""

    code = "idempotency-key-reused"
    status = 422
    title = "The idempotency key belongs to another request"
    fault = "Client.InvalidRequest"


class AlreadyDelivered(_Rejected):
    """A command that the provider has taken cannot be cancelled."""

    code = "already-delivered"
    status = 409
    title = "The command was delivered already"
    fault = "Client.InvalidRequest"


class CommandCancelled(_Rejected):
    """The command was cancelled before it was delivered."""

    code = "command-cancelled"
    status = 409
    title = "The command was cancelled"
    fault = "Client.InvalidRequest"


class MediaTypeUnsupported(_Rejected):
    """The contract does not declare this media type for the operation."""

    code = "media-type-unsupported"
    status = 415
    title = "The media type is not supported by this operation"
    fault = "Client.InvalidContentType"


class ContentEncodingUnsupported(_Rejected):
    """A content encoding other than gzip or identity."""

    code = "content-encoding-unsupported"
    status = 415
    title = "The content encoding is not supported"
    fault = "Client.InvalidContentType"


class MethodNotAllowed(_Rejected):
    """The contract has the path but not the method."""

    code = "method-not-allowed"
    status = 405
    title = "The method is not allowed for this path"
    fault = "Client.InvalidHttpMethod"
    allowed: tuple[str, ...] = ()


class BodyTooLarge(_Rejected):
    """The request body is over the limit."""

    code = "body-too-large"
    status = 413
    title = "The body is too large"
    fault = "Client.InvalidBody"


class HeaderTooLarge(_Rejected):
    """The request headers are over the limit."""

    code = "header-too-large"
    status = 431
    title = "The headers are too large"
    fault = "Client.InvalidRequest"


class CredentialsMissing(_Rejected):
    """No credentials of a client system came with the call."""

    code = "credentials-missing"
    status = 401
    title = "Credentials are missing"
    fault = "Client.SslAuthenticationFailed"


class CredentialsInvalid(_Rejected):
    """The credentials are not those of a known client system."""

    code = "credentials-invalid"
    status = 401
    title = "The credentials are not valid"
    fault = "Client.SslAuthenticationFailed"


class GuessingLocked(_Rejected):
    """Too many wrong keys came from this address for this name."""

    code = "guessing-locked"
    status = 429
    title = "Too many wrong keys"
    fault = "Client.SslAuthenticationFailed"
    disposition = "retry"
    retry_after_s = 1


class ClientLimitReached(_Rejected):
    """The client system's own limit, set by its gateway's operator, is reached."""

    code = "client-limit-reached"
    status = 429
    title = "The client system's limit is reached"
    fault = "Server.ClientProxy.ServiceFailed"
    disposition = "retry"
    retry_after_s = 1


class ClientForbidden(_Rejected):
    """The client system may not speak as this subsystem."""

    code = "client-forbidden"
    status = 403
    title = "The client system may not act as this subsystem"
    fault = "Client.AccessDenied"


class ClientUnknown(_Rejected):
    """The named client subsystem is not in the directory."""

    code = "client-unknown"
    status = 403
    title = "The client subsystem is not registered"
    fault = "Server.ClientProxy.UnknownMember"


class InstanceUnknown(_Rejected):
    """The path names another instance."""

    code = "instance-unknown"
    status = 404
    title = "This gateway does not belong to that instance"
    fault = "Server.ClientProxy.UnknownMember"


class MemberUnknown(_Rejected):
    """The provider is not a member."""

    code = "member-unknown"
    status = 404
    title = "The member is not known"
    fault = "Server.ClientProxy.UnknownMember"


class ServiceUnknown(_Rejected):
    """The service is not registered."""

    code = "service-unknown"
    status = 404
    title = "The service is not known"
    fault = "Server.ServerProxy.UnknownService"


class ServiceTypeInvalid(_Rejected):
    """A WSDL was asked for, and the service is described by OpenAPI."""

    code = "service-type-invalid"
    title = "Service is a REST service and does not have a WSDL"
    fault = "Server.ServerProxy.InvalidServiceType"


class OperationUnknown(_Rejected):
    """The contract has no such path."""

    code = "operation-unknown"
    status = 404
    title = "The contract has no such operation"
    fault = "Client.NotFound"


class NotFound(_Rejected):
    """The gateway has no such resource of its own."""

    code = "not-found"
    status = 404
    title = "There is nothing at this address"
    fault = "Client.NotFound"


class ServiceDisabled(_Rejected):
    """The provider has switched the service off."""

    code = "service-disabled"
    status = 503
    title = "The service is disabled"
    fault = "Server.ServerProxy.ServiceDisabled"
    disposition = "retry"
    retry_after_s = 300


class ProviderRevoked(_Rejected):
    """Trust in the provider, in all its nodes or in its certificate was withdrawn."""

    code = "provider-revoked"
    status = 503
    title = "Trust in the provider was withdrawn"
    fault = "Server.ServerProxy.ServiceDisabled"


class OwnNodeRevoked(_Rejected):
    """Trust in this gateway's own node was withdrawn: nobody would accept what it sends."""

    code = "own-node-revoked"
    status = 503
    title = "Trust in this gateway was withdrawn"
    fault = "Server.ClientProxy.NetworkError"


class AccessDenied(_Rejected):
    """The provider refused: no access right covers the call."""

    code = "access-denied"
    status = 403
    title = "Access is denied by the provider"
    fault = "Server.ServerProxy.AccessDenied"


class QuotaExceeded(_Rejected):
    """The quota of the access right is used up."""

    code = "quota-exceeded"
    status = 429
    title = "The quota is exceeded"
    fault = "Server.ServerProxy.AccessDenied"
    disposition = "retry"
    retry_after_s = 1


class TooManyInFlight(_Rejected):
    """Too many calls of this client or to this service are under way."""

    code = "too-many-in-flight"
    status = 429
    title = "Too many calls are under way"
    fault = "Server.ClientProxy.ServiceFailed"
    disposition = "retry"
    retry_after_s = 1


class _Unavailable(BusError):
    status = 503
    disposition = "retry"
    acted = "no"
    retry_after_s = 2


class DirectoryStale(_Unavailable):
    """The gateway's directory is too old to decide on."""

    code = "directory-stale"
    title = "The directory is too old"
    fault = "Server.ClientProxy.OutdatedGlobalConf"
    retry_after_s = 10


class ContractUnavailable(_Unavailable):
    """The contract is not here yet, or it was refused by this gateway."""

    code = "contract-unavailable"
    title = "The service's contract is not available"
    fault = "Server.ClientProxy.ServiceFailed"


class ProviderUnavailable(_Unavailable):
    """No gateway of the provider is connected."""

    code = "provider-unavailable"
    title = "No gateway of the provider is connected"
    fault = "Server.ClientProxy.NetworkError"


class VersionUnshared(_Unavailable):
    """This gateway and the provider's have no version of the wire in common; one of them has to be upgraded."""

    code = "version-unshared"
    title = "The gateways have no version of the wire in common"
    fault = "Server.ClientProxy.NetworkError"
    retry_after_s = 60


class RevocationUnknown(_Unavailable):
    """The revocation lists are too old, and the settings say to refuse then."""

    code = "revocation-unknown"
    title = "Revocation lists are too old to go on"
    fault = "Server.ClientProxy.NetworkError"


class BrokerUnavailable(_Unavailable):
    """The gateway is not connected to the broker."""

    code = "broker-unavailable"
    title = "The broker cannot be reached"
    fault = "Server.ClientProxy.NetworkError"


class LogUnwritable(_Unavailable):
    """The exchange log cannot be written; nothing may be sent."""

    code = "log-unwritable"
    title = "The exchange log cannot be written"
    fault = "Server.ClientProxy.LoggingFailed"
    retry_after_s = 5


class OutboxFull(_Unavailable):
    """Too many commands and results wait for their receivers."""

    code = "outbox-full"
    title = "The outbox is full"
    fault = "Server.ClientProxy.ServiceFailed"
    retry_after_s = 60


class ClaimUncertain(_Unavailable):
    """Which node of this member has a command cannot be known now."""

    code = "claim-uncertain"
    title = "Which node has the command is not known now"
    fault = "Server.ServerProxy.ServiceFailed"
    retry_after_s = 5


class Starting(_Unavailable):
    """The gateway is starting: log, broker and own head come first."""

    code = "starting"
    title = "The gateway is starting"
    fault = "Server.ClientProxy.ServiceFailed"


class Maintenance(_Unavailable):
    """The gateway's operator has put it into maintenance."""

    code = "maintenance"
    title = "The gateway is in maintenance"
    fault = "Server.ClientProxy.ServiceFailed"
    retry_after_s = 300


class Draining(_Unavailable):
    """The gateway is stopping."""

    code = "draining"
    title = "The gateway is stopping"
    fault = "Server.ClientProxy.ServiceFailed"


class ResultPending(BusError):
    """The command has no result yet."""

    code = "result-pending"
    status = 404
    title = "There is no result yet"
    fault = "Client.NotFound"
    retry_after_s = 5


class ResultGone(BusError):
    """The result of a command was kept long enough, and erased."""

    code = "result-gone"
    status = 410
    title = "The result is not kept any more"
    fault = "Client.NotFound"
    disposition = "reject"


class CommandExpired(BusError):
    """The provider gave no receipt for a command before it expired."""

    code = "command-expired"
    status = 504
    title = "The command expired"
    fault = "Server.ClientProxy.NetworkError"
    disposition = "reject"
    acted = "unknown"


class CommandDiscarded(BusError):
    """The provider's operator ended a command that could not be done."""

    code = "command-discarded"
    status = 502
    title = "The provider's operator discarded the command"
    fault = "Server.ServerProxy.ServiceFailed"
    disposition = "reject"
    acted = "unknown"


class Timeout(BusError):
    """No answer came within the deadline."""

    code = "timeout"
    status = 504
    title = "No answer came in time"
    fault = "Server.ClientProxy.NetworkError"
    disposition = "retry"
    acted = "unknown"
    retry_after_s = 2


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


class SettingsRefused(_Rejected):
    """The settings on disk cannot be taken over; the gateway goes on with those that it has."""

    code = "settings-refused"
    status = 409
    title = "The settings are not valid; nothing was changed"


class RoleMissing(_Rejected):
    """The admin key does not have a role that this act asks for."""

    code = "role-missing"
    status = 403
    title = "The admin key does not have the role"
    fault = "Client.AccessDenied"


class SettingsInvalid(BusError):
    """The settings file cannot be used.

    Attributes:
        problems: one (line, key, message) per error; line 0 when unknown.
    """

    code = "settings-invalid"
    disposition = "halt"
    title = "The settings are not valid"

    def __init__(self, problems: list[tuple[int, str, str]], path: str = "") -> None:
        self.problems = problems
        self.path = path
        super().__init__("; ".join(f"{path}:{line}: {key}: {message}" for line, key, message in problems))


class StoreTooNew(BusError):
    """A file was written by a newer version of the program."""

    code = "store-too-new"
    disposition = "halt"
    title = "A store was written by a newer version"


class ContentsErased(BusError):
    """What was kept beside the log was erased; the log's evidence stays."""

    code = "contents-erased"
    disposition = "reject"
    title = "The contents were erased"


class CloneSuspected(BusError):
    """Others know a newer log of this node than this one: an old backup, or a second copy."""

    code = "clone-suspected"
    disposition = "halt"
    title = "This node's log is older than what others have seen of it"


DROP_CODES = frozenset(
    {
        "answer-key-missing",
        "certificate-revoked",
        "checkpoint-invalid",
        "clock-ahead",
        "directory-stale",
        "envelope-malformed",
        "envelope-too-large",
        "expired",
        "expires-missing",
        "expires-too-late",
        "header-malformed",
        "id-reused",
        "instance-foreign",
        "log-unwritable",
        "node-not-in-use",
        "node-revoked",
        "node-unknown",
        "not-addressed-to-us",
        "peer-forked",
        "proof-invalid",
        "proof-of-another-node",
        "question-malformed",
        "question-of-a-stranger",
        "replayed",
        "reply-subject-foreign",
        "reply-unmatched",
        "revocation-unknown",
        "seal-digest-mismatch",
        "seen-ids-full",
        "source-not-of-node",
        "subject-mismatch",
        "type-unexpected",
        "version-unsupported",
    }
)


class Dropped(Exception):
    """A received message that is dropped: counted, never logged, never answered with a signature.

    Attributes:
        code: stable reason, a label of `lienthong_dropped_total`, and the hint that the sender may get.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def catalogue() -> dict[str, type[BusError]]:
    """All error classes by code, for the documentation and for reading a refusal back."""
    found: dict[str, type[BusError]] = {}
    waiting: list[type[BusError]] = [BusError]
    while waiting:
        cls = waiting.pop()
        waiting.extend(cls.__subclasses__())
        if not cls.__name__.startswith("_") and cls is not BusError:
            found[cls.code] = cls
    return dict(sorted(found.items()))
