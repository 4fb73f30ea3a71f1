"""What a provider's gateway tells beside an answer: what is left of a quota, and that an operation is deprecated.

As HTTP fields inside the seal, so that the asking side hands them to its client as they are; of a command the asking
side tells its client itself what the directory says (`bus.front`): `RateLimit-Policy` and
`RateLimit` (draft-ietf-httpapi-ratelimit-headers), `Deprecation` (RFC 9745), `Sunset` (RFC 8594). Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import format_datetime

from bus.ports import ExchangeObserver
from evidence.header import Header
from registry.quota import Left, QuotaBook
from registry.view import DecisionView, DeprecatedOperation

NAMES = frozenset({"ratelimit-policy", "ratelimit", "deprecation", "sunset"})
"""Fields that may stand beside a refusal, too."""

Fields = tuple[tuple[str, str], ...]


class Notices:
    """Makes the fields of each answer.

    Args:
        rights: the services as this provider published them.
        quotas: as they are counted.
        observer: hears of each call of a deprecated operation.
    """

    def __init__(self, rights: Callable[[], DecisionView], quotas: QuotaBook, observer: ExchangeObserver) -> None:
        self._rights = rights
        self._quotas = quotas
        self._observer = observer

    def of(self, request: Header, counted: str = "") -> Fields:
        """The fields for the answer to a request; counts calls of deprecated operations.

        Args:
            request: what is answered.
            counted: the right from whose own quota it took, beside the service's: the tightest is told.
        """
        left = self._quotas.left(request.source, request.to, counted)
        told = quota_fields(left) if left else ()
        deprecated = self.called(request)
        return told if deprecated is None else told + deprecation_fields(deprecated)

    def called(self, request: Header) -> DeprecatedOperation | None:
        """Counts a call of an operation that is deprecated: what is said of it; None of any other."""
        rights, operation = self._rights(), request.operation or ""
        service = rights.service(request.to)
        deprecated = None if service is None else service.deprecated.get(operation)
        if deprecated is not None and rights.subsystem(request.source) is not None:
            # a label of a metric: never a stranger's invention
            self._observer.deprecated(request.to, operation, request.source)
        return deprecated


def quota_fields(left: list[Left]) -> Fields:
    """`RateLimit-Policy` and `RateLimit`, one item for each window; `t`: until one more than `r` may be made."""
    policy = ", ".join(f'"{one.name}";q={one.calls};w={one.window_s}' for one in left)
    now = ", ".join(f'"{one.name}";r={one.left};t={one.more_s}' for one in left)
    return (("RateLimit-Policy", policy), ("RateLimit", now))


def deprecation_fields(deprecated: DeprecatedOperation) -> Fields:
    """`Deprecation` and, where the end is known, `Sunset`."""
    since = ("Deprecation", f"@{int(deprecated.since_at.timestamp())}")
    if deprecated.sunset_at is None:
        return (since,)
    return (since, ("Sunset", format_datetime(deprecated.sunset_at, usegmt=True)))
