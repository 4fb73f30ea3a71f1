"""Every failure of an exchange, with the answer that a client system gets for it.

One class per failure. `code` is stable and documented in docs/errors.md; `status` is the HTTP status; `fault` is the
string that X-Road clients know (the `type` of the answer and the header `X-Road-Error`); `acted` says whether the call
may have taken effect at the provider (`no` or `unknown`). This module does not write HTTP: see bus/front/problem.py.
"""

from __future__ import annotations

from bus.errors.access import (
    AccessDenied,
    ClientForbidden,
    ClientLimitReached,
    ClientUnknown,
    CredentialsInvalid,
    CredentialsMissing,
    GuessingLocked,
    InstanceUnknown,
    LookupLimitReached,
    MemberUnknown,
    NotFound,
    OperationUnknown,
    OwnNodeRevoked,
    ProviderRevoked,
    QuotaExceeded,
    RoleMissing,
    ServiceDisabled,
    ServiceTypeInvalid,
    ServiceUnknown,
)
from bus.errors.availability import (
    BrokerUnavailable,
    ContractUnavailable,
    DirectoryStale,
    Draining,
    LogUnwritable,
    Maintenance,
    ProviderUnavailable,
    RevocationUnknown,
    Starting,
    Timeout,
    TooManyInFlight,
    VersionUnshared,
)
from bus.errors.command import (
    AlreadyDelivered,
    ClaimUncertain,
    CommandCancelled,
    CommandDiscarded,
    CommandExpired,
    IdempotencyKeyReused,
    OutboxFull,
    OutboxShareFull,
    ResultGone,
    ResultPending,
)
from bus.errors.dropped import DROP_CODES, Dropped
from bus.errors.node import CloneSuspected, ContentsErased, SettingsInvalid, SettingsRefused, StoreTooNew
from bus.errors.provider import (
    AnswerInvalid,
    AnswerUnverifiable,
    BackendFailed,
    BackendTimeout,
    BackendUnavailable,
    ProviderDropped,
)
from bus.errors.request import (
    BodyTooLarge,
    ClientHeaderConflict,
    ClientHeaderMissing,
    CommandRequired,
    ContentEncodingUnsupported,
    HeaderTooLarge,
    MediaTypeUnsupported,
    MethodNotAllowed,
    PathRefused,
    QueryRequired,
    RequestInvalid,
    RequestMalformed,
)
from bus.errors.root import Acted, BusError, Disposition, InternalError, Rejected, Unavailable

__all__ = [
    "DROP_CODES",
    "AccessDenied",
    "Acted",
    "AlreadyDelivered",
    "AnswerInvalid",
    "AnswerUnverifiable",
    "BackendFailed",
    "BackendTimeout",
    "BackendUnavailable",
    "BodyTooLarge",
    "BrokerUnavailable",
    "BusError",
    "ClaimUncertain",
    "ClientForbidden",
    "ClientHeaderConflict",
    "ClientHeaderMissing",
    "ClientLimitReached",
    "ClientUnknown",
    "CloneSuspected",
    "CommandCancelled",
    "CommandDiscarded",
    "CommandExpired",
    "CommandRequired",
    "ContentEncodingUnsupported",
    "ContentsErased",
    "ContractUnavailable",
    "CredentialsInvalid",
    "CredentialsMissing",
    "DirectoryStale",
    "Disposition",
    "Draining",
    "Dropped",
    "GuessingLocked",
    "HeaderTooLarge",
    "IdempotencyKeyReused",
    "InstanceUnknown",
    "InternalError",
    "LogUnwritable",
    "LookupLimitReached",
    "Maintenance",
    "MediaTypeUnsupported",
    "MemberUnknown",
    "MethodNotAllowed",
    "NotFound",
    "OperationUnknown",
    "OutboxFull",
    "OutboxShareFull",
    "OwnNodeRevoked",
    "PathRefused",
    "ProviderDropped",
    "ProviderRevoked",
    "ProviderUnavailable",
    "QueryRequired",
    "QuotaExceeded",
    "RequestInvalid",
    "RequestMalformed",
    "ResultGone",
    "ResultPending",
    "RevocationUnknown",
    "RoleMissing",
    "ServiceDisabled",
    "ServiceTypeInvalid",
    "ServiceUnknown",
    "SettingsInvalid",
    "SettingsRefused",
    "Starting",
    "StoreTooNew",
    "Timeout",
    "TooManyInFlight",
    "VersionUnshared",
    "catalogue",
]


def catalogue() -> dict[str, type[BusError]]:
    """All error classes by code, for the documentation and for reading a refusal back."""
    found: dict[str, type[BusError]] = {}
    waiting: list[type[BusError]] = [BusError]
    while waiting:
        cls = waiting.pop()
        waiting.extend(cls.__subclasses__())
        if cls not in (BusError, Rejected, Unavailable):
            found[cls.code] = cls
    return dict(sorted(found.items()))
