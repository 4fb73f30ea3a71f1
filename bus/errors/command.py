"""What only commands meet: keys used twice, results not there yet or no more, ends without a result."""

from __future__ import annotations

from bus.errors.root import BusError, Rejected, Unavailable


class IdempotencyKeyReused(Rejected):
    """The same idempotency key came before, with another request."""

    code = "idempotency-key-reused"
    status = 422
    title = "The idempotency key belongs to another request"
    fault = "Client.InvalidRequest"


class AlreadyDelivered(Rejected):
    """A command that the provider has taken cannot be cancelled."""

    code = "already-delivered"
    status = 409
    title = "The command was delivered already"
    fault = "Client.InvalidRequest"


class CommandCancelled(Rejected):
    """The command was cancelled before it was delivered."""

    code = "command-cancelled"
    status = 409
    title = "The command was cancelled"
    fault = "Client.InvalidRequest"


class OutboxFull(Unavailable):
    """Too many commands and results wait for their receivers."""

    code = "outbox-full"
    title = "The outbox is full"
    fault = "Server.ClientProxy.ServiceFailed"
    retry_after_s = 60


class OutboxShareFull(Rejected):
    """Too many commands of this client subsystem wait for their receivers; others still have room."""

    code = "outbox-share-full"
    status = 429
    title = "The client subsystem's share of the outbox is full"
    fault = "Server.ClientProxy.ServiceFailed"
    disposition = "retry"
    retry_after_s = 60


class ClaimUncertain(Unavailable):
    """Which node of this member has a command cannot be known now."""

    code = "claim-uncertain"
    title = "Which node has the command is not known now"
    fault = "Server.ServerProxy.ServiceFailed"
    retry_after_s = 5


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
