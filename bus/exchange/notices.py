"""What a provider's gateway tells beside an answer: what is left of a quota, and that an operation is deprecated.

As HTTP fields inside the seal, so that the asking side hands them to its client as they are: `RateLimit-Policy` and
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
        client, service_id = request.source, request.to
        left = self._quotas.left(client, service_id, counted)
        told = quota_fields(left) if left else ()
        rights = self._rights()
        service = rights.service(service_id)
        if service is None or not service.deprecated:
            return told
        deprecated = service.deprecated.get(request.operation or "")
        if deprecated is None:
            return told
        if rights.subsystem(client) is not None:  # a label of a metric: never a stranger's invention
            self._observer.deprecated(service_id, request.operation or "", client)
        return told + deprecation_fields(deprecated)


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
