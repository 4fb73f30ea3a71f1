"""Refusals and failures as they travel inside the seal: RFC 9457 problems, without personal data."""

from __future__ import annotations

import re

import msgspec

from bus import errors
from bus.exchange.notices import NAMES
from bus.sealing.contents import Particulars

_METHOD = re.compile(r"[A-Z]{3,10}")
CONTENT_TYPE = "application/problem+json"

# Codes of `registry.decision`. What a stranger writes here becomes a label of a metric: only known words do.
_REASONS = frozenset(
    {
        "client-suspended",
        "client-unknown",
        "ground-not-granted",
        "no-access-right",
        "official-required",
        "operation-not-granted",
        "operation-unknown",
        "provider-revoked",
        "purpose-not-granted",
        "quota-exceeded",
        "right-expired",
        "service-disabled",
        "service-unknown",
    }
)


class SealedProblem(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=False):
    """Body of a refusal or a failed answer.

    Attributes:
        code: error code; the asking side finds the class by it.
        detail: for a person.
        reason: code of the access decision, when that refused.
        rule: the access right that decided.
        acted: no or unknown.
        retry_after_s: when a retry may help.
        violations: where, pointer, rule, message.
        allowed: methods, where another one was refused.
    """

    code: str
    detail: str
    reason: str = ""
    rule: str = ""
    acted: str = ""
    retry_after_s: int | None = None
    violations: list[dict[str, str]] = []
    allowed: tuple[str, ...] = ()


_decode = msgspec.json.Decoder(SealedProblem).decode


def seal_problem(error: errors.BusError) -> bytes:
    """Body for `error`."""
    return msgspec.json.encode(
        SealedProblem(
            code=error.code,
            detail=error.detail,
            reason=error.reason_code,
            rule=error.rule,
            acted=error.acted or "",
            retry_after_s=error.retry_after_s,
            violations=error.violations,
            allowed=error.allowed if isinstance(error, errors.MethodNotAllowed) else (),
        )
    )


def refusal_from_body(particulars: Particulars, body: bytes, record_id: str) -> errors.BusError:
    """The error that the provider's gateway sent, as one of ours.

    An unknown code becomes `backend-failed`; so does one that stops a process: it says nothing of this call.
    """
    try:
        problem = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return errors.AnswerInvalid("the provider's refusal cannot be read", record_id=record_id)
    cls = errors.catalogue().get(problem.code, errors.BackendFailed)
    if cls.disposition == "halt":
        cls = errors.BackendFailed
    error = cls(problem.detail, record_id=record_id)
    error.rule = problem.rule
    error.reason_code = problem.reason if problem.reason in _REASONS else ""
    error.violations = problem.violations
    error.retry_after_s = problem.retry_after_s
    if isinstance(error, errors.MethodNotAllowed):
        error.allowed = tuple(method for method in problem.allowed if _METHOD.fullmatch(method))
    error.headers = tuple(field for field in particulars.headers if field[0].lower() in NAMES)
    if problem.acted in ("no", "unknown"):
        error.acted = "no" if problem.acted == "no" else "unknown"
    return error
