"""What can go wrong behind an adapter. One root, `AdapterError`.

Messages never hold a payload, a person's data, SQL text or a secret: they may be logged and shown to callers.
"""

from typing import ClassVar, Literal

Acted = Literal["no", "unknown"]
Disposition = Literal["retry", "reject", "halt"]


class AdapterError(Exception):
    """Root of everything that a source raises.

    Attributes:
        code: Stable, for machines.
        disposition: `retry` (later may work), `reject` (the same call never will), `halt` (someone must act).
        acted: `no` when the backend surely did nothing; `unknown` when it may have acted.
    """

    code: ClassVar[str] = "adapter-error"
    disposition: ClassVar[Disposition] = "halt"

    def __init__(self, message: str, *, acted: Acted = "unknown") -> None:
        """Keep the message and whether the call may have taken effect."""
        super().__init__(message)
        self.acted: Acted = acted


class SettingsInvalid(AdapterError):
    """The source's settings cannot be used.

    Attributes:
        key: Dotted path of the setting below the source's own table (`operations.confirm.statement`).
    """

    code = "adapter-settings-invalid"
    disposition: ClassVar[Disposition] = "halt"

    def __init__(self, key: str, message: str) -> None:
        """Keep the key; the message is shown after it."""
        super().__init__(f"{key}: {message}" if key else message, acted="no")
        self.key = key


class KindUnknown(SettingsInvalid):
    """No installed package offers this kind of source."""

    code = "adapter-kind-unknown"


class SourceNotOpen(AdapterError):
    """The source was called before `open` or after `close`."""

    code = "adapter-source-not-open"
    disposition: ClassVar[Disposition] = "halt"


class OperationNotMapped(AdapterError):
    """The settings of this source say nothing about the operation that was called."""

    code = "adapter-operation-not-mapped"
    disposition: ClassVar[Disposition] = "reject"


class MappingInvalid(AdapterError):
    """The mapping does not fit the database: a table, column, type or right that it needs is not there."""

    code = "adapter-mapping-invalid"
    disposition: ClassVar[Disposition] = "halt"


class RequestUnusable(AdapterError):
    """The request does not hold what the mapping needs, or in another type. The backend was not asked.

    Attributes:
        place: Where the mapping looked (`body.birth.year`).
    """

    code = "adapter-request-unusable"
    disposition: ClassVar[Disposition] = "reject"

    def __init__(self, place: str, message: str) -> None:
        """Keep the place; the value is never repeated."""
        super().__init__(f"{place}: {message}", acted="no")
        self.place = place


class ReviewRefused(AdapterError):
    """A person's decision on a proposed change is not possible: it does not wait, or the record moved on."""

    code = "adapter-review-refused"
    disposition: ClassVar[Disposition] = "reject"

    def __init__(self, message: str) -> None:
        """Nothing was changed."""
        super().__init__(message, acted="no")


class EffectForgotten(AdapterError):
    """The exchange may have been done, and what became of it is not remembered any more."""

    code = "adapter-effect-forgotten"
    disposition: ClassVar[Disposition] = "reject"


class BackendUnreachable(AdapterError):
    """No connection to the backend, or it broke before a whole answer came."""

    code = "backend-unreachable"
    disposition: ClassVar[Disposition] = "retry"


class BackendTimeout(AdapterError):
    """The backend did not answer in the time that was left."""

    code = "backend-timeout"
    disposition: ClassVar[Disposition] = "retry"


class BackendBusy(AdapterError):
    """As many calls as may be under way at once are under way; this one was not started in time."""

    code = "backend-busy"
    disposition: ClassVar[Disposition] = "retry"


class BreakerOpen(AdapterError):
    """The backend failed too often and is left alone for a while.

    Attributes:
        retry_after_s: Seconds until a try is allowed.
    """

    code = "backend-breaker-open"
    disposition: ClassVar[Disposition] = "retry"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        """Keep how long to wait. Nothing was sent."""
        super().__init__(message, acted="no")
        self.retry_after_s = retry_after_s


class BackendAnswerInvalid(AdapterError):
    """An answer came that cannot be passed on: not HTTP, too large, a redirect, or rows that do not fit the mapping."""

    code = "backend-answer-invalid"
    disposition: ClassVar[Disposition] = "reject"


class BackendRefused(AdapterError):
    """The backend refuses the credentials of this gateway or the rights it needs."""

    code = "backend-refused"
    disposition: ClassVar[Disposition] = "halt"
