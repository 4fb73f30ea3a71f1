"""Checking a request against its contract: the same on both sides, with our error codes.

Translates the contract's errors where they enter the exchange. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from bus import errors
from registry import contract as rules
from registry.contract import CompiledContract, Match, Parameters


def check_request(
    compiled: CompiledContract,
    method: str,
    path: str,
    query: str,
    headers: Sequence[tuple[str, str]],
    content_type: str,
    body: bytes,
) -> tuple[Match, Parameters]:
    """Operation and decoded parameters of a request.

    Raises:
        PathRefused, OperationUnknown, MethodNotAllowed, MediaTypeUnsupported, RequestInvalid: of bus.errors.
    """
    try:
        match = compiled.route(method, path)
        return match, compiled.validate_request(match, query, headers, content_type, body)
    except rules.CallError as error:
        raise translated(error) from error


def require_delivery(match: Match, command: bool) -> None:
    """Returns when the contract lets the operation be called that way (`x-lienthong-delivery`).

    Raises:
        QueryRequired, CommandRequired: by name.
    """
    operation = match.operation
    if command and (match.head or not operation.offers("command")):
        raise errors.QueryRequired(f"{operation.id} is answered at once: leave out Prefer: respond-async")
    if not command and not operation.offers("query"):
        raise errors.CommandRequired(f"{operation.id} is taken as a command only: send Prefer: respond-async")


def translated(error: rules.CallError) -> errors.BusError:
    """The bus error of a contract error."""
    made: errors.BusError
    if isinstance(error, rules.RequestInvalid):
        made = errors.RequestInvalid(str(error))
        made.violations = [item._asdict() for item in error.violations[:20]]
        return made
    if isinstance(error, rules.PathRefused):
        return errors.PathRefused(str(error))
    if isinstance(error, rules.MethodNotAllowed):
        refused = errors.MethodNotAllowed(str(error))
        refused.allowed = tuple(error.allowed)
        return refused
    if isinstance(error, rules.MediaTypeUnsupported):
        return errors.MediaTypeUnsupported(str(error))
    if isinstance(error, rules.OperationUnknown):
        return errors.OperationUnknown(str(error))
    return errors.RequestInvalid(str(error))
