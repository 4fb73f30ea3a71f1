"""Requests that cannot be taken as they are: the client system has to change them."""

from __future__ import annotations

from bus.errors.root import Rejected


class RequestMalformed(Rejected):
    """The HTTP request cannot be understood (header, identifier, encoding)."""

    code = "request-malformed"
    title = "The request is malformed"


class ClientHeaderMissing(Rejected):
    """`X-Road-Client` is missing."""

    code = "client-header-missing"
    title = "The header X-Road-Client is missing"
    fault = "Client.MissingHeader"


class ClientHeaderConflict(Rejected):
    """`X-Road-Client` and `X-GovStack-Client` name two different clients."""

    code = "client-header-conflict"
    title = "X-Road-Client and X-GovStack-Client differ"
    fault = "Client.InconsistentHeaders"


class PathRefused(Rejected):
    """The path holds something that back ends read in different ways."""

    code = "path-refused"
    title = "The path is refused"
    fault = "Client.InvalidRequest"


class RequestInvalid(Rejected):
    """The request breaks the service's contract."""

    code = "request-invalid"
    title = "The request does not match the contract"
    fault = "Client.InvalidRequest"


class CommandRequired(Rejected):
    """The contract offers this operation as a command only."""

    code = "command-required"
    title = "This operation is a command"
    fault = "Client.InvalidRequest"


class QueryRequired(Rejected):
    """The contract offers this operation as a query only."""

    code = "query-required"
    title = "This operation is no command"
    fault = "Client.InvalidRequest"


class MediaTypeUnsupported(Rejected):
    """The contract does not declare this media type for the operation."""

    code = "media-type-unsupported"
    status = 415
    title = "The media type is not supported by this operation"
    fault = "Client.InvalidContentType"


class ContentEncodingUnsupported(Rejected):
    """A content encoding other than gzip or identity."""

    code = "content-encoding-unsupported"
    status = 415
    title = "The content encoding is not supported"
    fault = "Client.InvalidContentType"


class MethodNotAllowed(Rejected):
    """The contract has the path but not the method."""

    code = "method-not-allowed"
    status = 405
    title = "The method is not allowed for this path"
    fault = "Client.InvalidHttpMethod"
    allowed: tuple[str, ...] = ()


class BodyTooLarge(Rejected):
    """The request body is over the limit."""

    code = "body-too-large"
    status = 413
    title = "The body is too large"
    fault = "Client.InvalidBody"


class HeaderTooLarge(Rejected):
    """The request headers are over the limit."""

    code = "header-too-large"
    status = 431
    title = "The headers are too large"
    fault = "Client.InvalidRequest"
