"""Not now: something between client system and provider is away, full, too old or stopping."""

from __future__ import annotations

from bus.errors.root import BusError, Rejected, Unavailable


class TooManyInFlight(Rejected):
    """Too many calls of this client or to this service are under way."""

    code = "too-many-in-flight"
    status = 429
    title = "Too many calls are under way"
    fault = "Server.ClientProxy.ServiceFailed"
    disposition = "retry"
    retry_after_s = 1


class DirectoryStale(Unavailable):
    """The gateway's directory is too old to decide on."""

    code = "directory-stale"
    title = "The directory is too old"
    fault = "Server.ClientProxy.OutdatedGlobalConf"
    retry_after_s = 10


class ContractUnavailable(Unavailable):
    """The contract is not here yet, or it was refused by this gateway."""

    code = "contract-unavailable"
    title = "The service's contract is not available"
    fault = "Server.ClientProxy.ServiceFailed"


class ProviderUnavailable(Unavailable):
    """No gateway of the provider is connected."""

    code = "provider-unavailable"
    title = "No gateway of the provider is connected"
    fault = "Server.ClientProxy.NetworkError"


class RevocationUnknown(Unavailable):
    """The revocation lists are too old, and the settings say to refuse then."""

    code = "revocation-unknown"
    title = "Revocation lists are too old to go on"
    fault = "Server.ClientProxy.NetworkError"


class BrokerUnavailable(Unavailable):
    """The gateway is not connected to the broker."""

    code = "broker-unavailable"
    title = "The broker cannot be reached"
    fault = "Server.ClientProxy.NetworkError"


class LogUnwritable(Unavailable):
    """The exchange log cannot be written; nothing may be sent."""

    code = "log-unwritable"
    title = "The exchange log cannot be written"
    fault = "Server.ClientProxy.LoggingFailed"
    retry_after_s = 5


class Starting(Unavailable):
    """The gateway is starting: log, broker and own head come first."""

    code = "starting"
    title = "The gateway is starting"
    fault = "Server.ClientProxy.ServiceFailed"


class Maintenance(Unavailable):
    """The gateway's operator has put it into maintenance."""

    code = "maintenance"
    title = "The gateway is in maintenance"
    fault = "Server.ClientProxy.ServiceFailed"
    retry_after_s = 300


class Draining(Unavailable):
    """The gateway is stopping."""

    code = "draining"
    title = "The gateway is stopping"
    fault = "Server.ClientProxy.ServiceFailed"


class Timeout(BusError):
    """No answer came within the deadline."""

    code = "timeout"
    status = 504
    title = "No answer came in time"
    fault = "Server.ClientProxy.NetworkError"
    disposition = "retry"
    acted = "unknown"
    retry_after_s = 2
