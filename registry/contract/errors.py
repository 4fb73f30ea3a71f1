"""Errors of the contract package. It raises none of them: the modules beside it do.

No message carries a value from a request or an answer; texts from the contract itself (keyword names, parameter
names) are allowed, because a contract is a published document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from registry.errors import RegistryError


class Fault(NamedTuple):
    """One reason why a contract or a schema is refused.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the document as it was handed in; empty for the whole document.
        code: Stable, kebab-case; ``over-budget-…`` when a budget is exceeded.
        message: For the author of the contract.
    """

    pointer: str
    code: str
    message: str


class Violation(NamedTuple):
    """One place where data does not fit its contract.

    Attributes:
        where: ``path``, ``query``, ``header`` or ``body``; empty from a bare :class:`SchemaValidator`.
        pointer: JSON pointer into the body, or the parameter's name. Property names that the schema does not
            declare are replaced by ``*``: they could be personal data.
        rule: The keyword or rule that failed.
        message: Says the rule, never the value.
    """

    where: str
    pointer: str
    rule: str
    message: str


class ContractError(RegistryError):
    """Root of this package's errors."""

    code = "contract-error"


class ContractRejected(ContractError):
    """The document is not a contract that this bus can enforce; nothing of it may be used."""

    code = "contract-rejected"

    def __init__(self, errors: Sequence[Fault]) -> None:
        self.errors: tuple[Fault, ...] = tuple(errors)
        shown = "; ".join(f"{fault.pointer or '/'}: {fault.message} [{fault.code}]" for fault in self.errors[:3])
        more = f" (and {len(self.errors) - 3} more)" if len(self.errors) > 3 else ""
        super().__init__(f"contract refused: {shown}{more}; correct the document and publish it again")


class ContractOverBudget(ContractRejected):
    """Checking, compiling or trying the contract would cost more than is allowed for a stranger's document."""

    code = "contract-over-budget"


class TrialUnfinished(ContractOverBudget):
    """The trial gave no verdict: it was stopped, or the machine had no time or memory for it now."""


class SchemaRefused(ContractRejected):
    """A JSON Schema is invalid, unsupported or over budget; it is never half enforced."""

    code = "schema-refused"


class FieldGrantUnderivable(ContractError):
    """An ungranted field is marked where it cannot be removed with certainty; the access right is refused."""

    code = "field-grant-underivable"

    def __init__(self, pointer: str, reason: str) -> None:
        self.pointer = pointer
        self.reason = reason
        super().__init__(f"{pointer}: {reason}; grant the field, or restructure the schema around it")


class CallError(ContractError):
    """Root of what a single call can be refused for."""

    code = "call-error"


class PathRefused(CallError):
    """The raw path is refused, not repaired.

    Attributes:
        reason: Stable, kebab-case: ``dot-segment``, ``empty-segment``, ``forbidden-character``, ``bad-percent``,
            ``double-encoding``, ``encoded-slash``, ``encoded-control``, ``encoded-forbidden``, ``encoded-unreserved``,
            ``encoded-literal``, ``not-ascii``, ``not-utf8``, ``too-long``, ``not-absolute``.
    """

    code = "path-refused"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the path is refused ({reason}); send it in its plain RFC 3986 form")


class OperationUnknown(CallError):
    """No path template of the contract matches."""

    code = "operation-unknown"

    def __init__(self) -> None:
        super().__init__("the service's contract has no operation at this path; see its OpenAPI document")


class MethodNotAllowed(CallError):
    """The path exists in the contract, but not with this method.

    Attributes:
        allowed: Methods declared there, sorted, for the ``Allow`` header.
    """

    code = "method-not-allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self.allowed = allowed
        super().__init__(f"the contract allows {', '.join(allowed)} at this path")


class MediaTypeUnsupported(CallError):
    """The request's ``Content-Type`` is not one that the operation declares.

    Attributes:
        declared: Media types that the operation takes.
    """

    code = "media-type-unsupported"

    def __init__(self, declared: tuple[str, ...]) -> None:
        self.declared = declared
        super().__init__(f"the operation takes {', '.join(declared) or 'no body'}; send one of these, charset utf-8")


class _Violated(CallError):
    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations: tuple[Violation, ...] = tuple(violations)
        shown = "; ".join(f"{item.where} {item.pointer}: {item.message}" for item in self.violations[:3])
        super().__init__(f"{self._what}: {shown}")

    _what = "data does not fit the contract"


class RequestInvalid(_Violated):
    """The request does not fit the operation's contract."""

    code = "request-invalid"
    _what = "the request does not fit the service's contract"


class AnswerInvalid(_Violated):
    """The provider's answer does not fit the contract; it must not be passed on."""

    code = "answer-invalid"
    _what = "the answer does not fit the service's contract"


class AnswerUndeclared(AnswerInvalid):
    """The contract declares no such answer (status, or media type in an answer that may be cut)."""

    code = "answer-undeclared"
