"""Who calls, as whom, and what for: unknown names, missing rights, used-up quotas."""

from __future__ import annotations

from bus.errors.root import Rejected


class CredentialsMissing(Rejected):
    """No credentials of a client system came with the call."""

    code = "credentials-missing"
    status = 401
    title = "Credentials are missing"
    fault = "Client.SslAuthenticationFailed"


class CredentialsInvalid(Rejected):
    """The credentials are not those of a known client system."""

    code = "credentials-invalid"
    status = 401
    title = "The credentials are not valid"
    fault = "Client.SslAuthenticationFailed"


class GuessingLocked(Rejected):
    """Too many wrong keys came from this address for this name."""

    code = "guessing-locked"
    status = 429
    title = "Too many wrong keys"
    fault = "Client.SslAuthenticationFailed"
    disposition = "retry"
    retry_after_s = 1


class ClientLimitReached(Rejected):
    """The client system's own limit, set by its gateway's operator, is reached."""

    code = "client-limit-reached"
    status = 429
    title = "The client system's limit is reached"
    fault = "Server.ClientProxy.ServiceFailed"
    disposition = "retry"
    retry_after_s = 1


class LookupLimitReached(Rejected):
    """The client system asks too often, or too much at once, about the commands that it has sent."""

    code = "lookup-limit-reached"
    status = 429
    title = "Too many look-ups of commands"
    fault = "Server.ClientProxy.ServiceFailed"
    disposition = "retry"
    retry_after_s = 1


class ClientForbidden(Rejected):
    """The client system may not speak as this subsystem."""

    code = "client-forbidden"
    status = 403
    title = "The client system may not act as this subsystem"
    fault = "Client.AccessDenied"


class ClientUnknown(Rejected):
    """The named client subsystem is not in the directory."""

    code = "client-unknown"
    status = 403
    title = "The client subsystem is not registered"
    fault = "Server.ClientProxy.UnknownMember"


class InstanceUnknown(Rejected):
    """The path names another instance."""

    code = "instance-unknown"
    status = 404
    title = "This gateway does not belong to that instance"
    fault = "Server.ClientProxy.UnknownMember"


class MemberUnknown(Rejected):
    """The provider is not a member."""

    code = "member-unknown"
    status = 404
    title = "The member is not known"
    fault = "Server.ClientProxy.UnknownMember"


class ServiceUnknown(Rejected):
    """The service is not registered."""

    code = "service-unknown"
    status = 404
    title = "The service is not known"
    fault = "Server.ServerProxy.UnknownService"


class ServiceTypeInvalid(Rejected):
    """A WSDL was asked for, and the service is described by OpenAPI."""

    code = "service-type-invalid"
    title = "Service is a REST service and does not have a WSDL"
    fault = "Server.ServerProxy.InvalidServiceType"


class OperationUnknown(Rejected):
    """The contract has no such path."""

    code = "operation-unknown"
    status = 404
    title = "The contract has no such operation"
    fault = "Client.NotFound"


class NotFound(Rejected):
    """The gateway has no such resource of its own."""

    code = "not-found"
    status = 404
    title = "There is nothing at this address"
    fault = "Client.NotFound"


class ServiceDisabled(Rejected):
    """The provider has switched the service off."""

    code = "service-disabled"
    status = 503
    title = "The service is disabled"
    fault = "Server.ServerProxy.ServiceDisabled"
    disposition = "retry"
    retry_after_s = 300


class ProviderRevoked(Rejected):
    """Trust in the provider, in all its nodes or in its certificate was withdrawn."""

    code = "provider-revoked"
    status = 503
    title = "Trust in the provider was withdrawn"
    fault = "Server.ServerProxy.ServiceDisabled"


class OwnNodeRevoked(Rejected):
    """Trust in this gateway's own node was withdrawn: nobody would accept what it sends."""

    code = "own-node-revoked"
    status = 503
    title = "Trust in this gateway was withdrawn"
    fault = "Server.ClientProxy.NetworkError"


class AccessDenied(Rejected):
    """The provider refused: no access right covers the call."""

    code = "access-denied"
    status = 403
    title = "Access is denied by the provider"
    fault = "Server.ServerProxy.AccessDenied"


class QuotaExceeded(Rejected):
    """The quota of the access right is used up."""

    code = "quota-exceeded"
    status = 429
    title = "The quota is exceeded"
    fault = "Server.ServerProxy.AccessDenied"
    disposition = "retry"
    retry_after_s = 1


class RoleMissing(Rejected):
    """The admin key does not have a role that this act asks for."""

    code = "role-missing"
    status = 403
    title = "The admin key does not have the role"
    fault = "Client.AccessDenied"
