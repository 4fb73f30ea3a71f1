"""`ANY /r1/…`: a client system calls a service. X-Road's REST protocol at the edge (pr-rest)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bus import errors
from bus.delivery.accepting import CommandDesk, Wish
from bus.delivery.idempotency import read_key
from bus.delivery.orders import check_order_key
from bus.delivery.statuses import FINAL, Statuses
from bus.exchange.asking import Asker
from bus.exchange.calls import ClientAnswer, ClientCall
from bus.front.clientlimits import ClientLimits
from bus.front.credentials import Credentials
from bus.front.deprecations import Deprecations
from bus.front.headers import answer_headers, travelling
from bus.front.prefer import preferences, wait_s
from bus.front.target import Target, client_of, parse_target
from registry.contract.model import SAFE_METHODS

_OCTETS = "application/octet-stream"
_MAX_HEADER_VALUE = 1024
_BODY_DEADLINE_S = 30.0
_LONGEST_WAIT_S = 60
_COMMAND_ONLY = ("Idempotency-Key", "X-LienThong-Order-Key")


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """Sizes of requests, bytes."""

    max_body_bytes: int = 4 * 1024 * 1024
    max_header_bytes: int = 16 * 1024


class CallFront:
    """Turns HTTP requests into `ClientCall`s and answers into HTTP."""

    def __init__(
        self,
        asker: Asker,
        credentials: Credentials,
        limits: FrontLimits,
        resolve: Callable[[str], str],
        monotonic: Callable[[], float] = time.monotonic,
        commands: CommandDesk | None = None,
        statuses: Statuses | None = None,
        deprecations: Deprecations | None = None,
    ) -> None:
        self._asker = asker
        self._deprecations = deprecations
        self._statuses = statuses
        self._commands = commands
        self._credentials = credentials
        self._limits = limits
        self._resolve = resolve
        self._client_limits = ClientLimits(monotonic)

    async def handle(self, request: web.BaseRequest, raw_target: str) -> web.StreamResponse:
        """One call.

        Raises:
            BusError: every failure; the server makes a problem of it.
        """
        target = parse_target(raw_target)
        client = stated_client(request)
        system = await self._credentials.authenticate(request)  # 1
        if client not in system.subsystems:
            raise errors.ClientForbidden(f"this client system may not act as {client}")
        if system.max_in_flight is None and system.per_second is None:
            return await self._forward(request, client, target, raw_target, system.name)
        self._client_limits.enter(system)
        try:
            return await self._forward(request, client, target, raw_target, system.name)
        finally:
            self._client_limits.leave(system)

    async def _forward(
        self, request: web.BaseRequest, client: str, target: Target, raw_target: str, system: str
    ) -> web.StreamResponse:
        call = await self._call(request, client, target, raw_target)
        desk = self._commands
        if desk is not None and "Prefer" in request.headers and await _wants_command(request, call, desk):
            wish = _wish(request, system)
            record_id = await desk.accept(call, wish)
            # it is on disk: who waits for the end holds no memory for it
            call, request._read_bytes = msgspec.structs.replace(call, body=b""), None
            return await self._accepted(request, call, wish, record_id)
        if any(name in request.headers for name in _COMMAND_ONLY):
            raise errors.RequestMalformed(
                f"{' and '.join(_COMMAND_ONLY)} go with commands only: send Prefer: respond-async, or leave them out"
            )
        answer = await self._asker.ask(call)
        return _response(request, call, answer)

    async def _accepted(
        self, request: web.BaseRequest, call: ClientCall, wish: Wish, record_id: str
    ) -> web.StreamResponse:
        """`202`; or the result itself, when it comes within the time that the client prefers to wait."""
        response = await self._awaited(request, call, wish, record_id)
        if self._deprecations is not None and self._statuses is not None and self._deprecations.has(call.service):
            self._deprecations.tell(response, (await self._statuses.known(record_id)).header)
        return response

    async def _awaited(
        self, request: web.BaseRequest, call: ClientCall, wish: Wish, record_id: str
    ) -> web.StreamResponse:
        wanted_s = wait_s(request.headers.getall("Prefer"), _LONGEST_WAIT_S)
        if self._statuses is None or not (wanted_s or wish.idempotency_key):
            return _accepted(request, call, record_id)
        command = await self._statuses.known(record_id)
        if wanted_s:
            command = await self._statuses.wait(command, wanted_s)
        if not wanted_s or command.state not in FINAL:
            return _accepted(request, call, record_id, str(self._statuses.told(command)["state"]), wanted_s)
        place = f"/exchanges/{record_id}"
        try:
            answer = await self._statuses.result(command)
        except errors.BusError as error:
            error.headers += (("Content-Location", place),)
            raise
        response = _response(request, call, answer)
        response.headers["Content-Location"] = place
        response.headers["Preference-Applied"] = f"wait={wanted_s}"
        return response

    async def _call(self, request: web.BaseRequest, client: str, target: Target, raw_target: str) -> ClientCall:
        raw_headers = request.raw_headers
        if sum([len(name) + len(value) for name, value in raw_headers]) > self._limits.max_header_bytes:
            raise errors.HeaderTooLarge(f"all headers together may have {self._limits.max_header_bytes} bytes")
        get = request.headers.get
        body = await self._body(request)
        digest = hashlib.sha512(f"{request.method} {raw_target}\n".encode("utf-8", "surrogateescape") + body)
        return ClientCall(
            client=client,
            service=self._resolve(target.service),
            method=request.method,
            path=target.path,
            query=target.query,
            headers=travelling(raw_headers),
            content_type=_content_type(get("Content-Type", _OCTETS if body else "")),
            body=body,
            official=_told(get("X-Road-UserId", "")),
            issue=_told(get("X-Road-Issue", "")),
            represented_party=_told(get("X-Road-Represented-Party", "")),
            purpose=_told(get("X-LienThong-Purpose", "")),
            legal_basis=_told(get("X-LienThong-Legal-Basis", "")),
            trace=_told(get("traceparent", "")),
            request_hash=base64.b64encode(digest.digest()).decode(),
        )

    async def _body(self, request: web.BaseRequest) -> bytes:
        limit = self._limits.max_body_bytes
        if not request.can_read_body:
            return b""
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise errors.ContentEncodingUnsupported("send the body as it is or with gzip")
        length = request.content_length
        if length is not None and length > limit:
            raise errors.BodyTooLarge(f"the body may have {limit} bytes")
        try:
            async with asyncio.timeout(_BODY_DEADLINE_S):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise errors.BodyTooLarge(f"the body may have {limit} bytes") from error
        except TimeoutError as error:
            raise errors.RequestMalformed(f"the body did not come within {_BODY_DEADLINE_S:g} s") from error
        except (web.RequestPayloadError, HttpProcessingError, ConnectionError) as error:
            raise errors.RequestMalformed("the body ended early, or is not framed as its headers say") from error
        return body if encoding == "identity" else _gunzip(body, limit)


async def _wants_command(request: web.BaseRequest, call: ClientCall, desk: CommandDesk) -> bool:
    if "respond-async" not in preferences(request.headers.getall("Prefer")):
        return False
    return request.method not in SAFE_METHODS or await desk.offers(call)


def _wish(request: web.BaseRequest, system: str) -> Wish:
    """What the request says of its command.

    Raises:
        RequestMalformed: a key that is none.
    """
    headers = request.headers
    orders = headers.getall("X-LienThong-Order-Key", [])
    if len(orders) > 1:
        raise errors.RequestMalformed("send one X-LienThong-Order-Key")
    order_key = check_order_key(orders[0]) if orders else ""
    return Wish(system, order_key, read_key(headers.getall("Idempotency-Key", [])))


def stated_client(request: web.BaseRequest) -> str:
    """The subsystem that the request says it comes from.

    Raises:
        ClientHeaderMissing, ClientHeaderConflict, RequestMalformed: by name.
    """
    stated = request.headers.getall("X-Road-Client", []) + request.headers.getall("X-GovStack-Client", [])
    if not stated:
        raise errors.ClientHeaderMissing("say who calls: X-Road-Client: INSTANCE/CLASS/MEMBER/SUBSYSTEM")
    clients = {client_of(text) for text in stated}
    if len(clients) > 1:
        raise errors.ClientHeaderConflict
    return clients.pop()


def _gunzip(body: bytes, limit: int) -> bytes:
    reader = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = reader.decompress(body, limit + 1)
    except zlib.error as error:
        raise errors.RequestMalformed("the gzip body is damaged") from error
    if len(plain) > limit:
        raise errors.BodyTooLarge(f"the decoded body may have {limit} bytes")
    if not reader.eof or reader.unused_data:
        raise errors.RequestMalformed("the gzip body is incomplete or has trailing bytes")
    return plain


def _content_type(value: str) -> str:
    if len(value) > _MAX_HEADER_VALUE or not value.isascii():
        raise errors.RequestMalformed("Content-Type is too long or not ASCII")
    return value


def _told(value: str) -> str:
    if len(value) > _MAX_HEADER_VALUE:
        raise errors.HeaderTooLarge(f"a header value may have {_MAX_HEADER_VALUE} characters")
    if value.isascii():
        return value
    # aiohttp decodes with surrogateescape: bytes that are not UTF-8 would not travel
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def plain_response(answer: ClientAnswer) -> web.Response:
    """Status, headers and body as the provider's back end answered."""
    response = web.Response(status=answer.status, body=answer.body)
    headers = response.headers
    if answer.content_type:
        headers["Content-Type"] = answer.content_type
    elif "Content-Type" in headers:
        del headers["Content-Type"]
    for name, value in answer_headers(answer.headers):
        headers.add(name, value)
    return response


def _response(request: web.BaseRequest, call: ClientCall, answer: ClientAnswer) -> web.Response:
    return _named(request, call, answer.record_id, plain_response(answer))


def _accepted(
    request: web.BaseRequest, call: ClientCall, record_id: str, state: str = "accepted", waited_s: int | None = None
) -> web.Response:
    """`202`: from here on the command is safe (RFC 7240 section 4.1)."""
    location = f"/exchanges/{record_id}"
    body = msgspec.json.encode({"id": record_id, "state": state, "exchange": location})
    response = web.Response(status=202, body=body, content_type="application/json")
    response.headers["Location"] = location
    response.headers["Preference-Applied"] = f"respond-async, wait={waited_s}" if waited_s else "respond-async"
    return _named(request, call, record_id, response)


def _named(request: web.BaseRequest, call: ClientCall, record_id: str, response: web.Response) -> web.Response:
    headers = response.headers
    headers["x-road-id"] = request.headers.get("X-Road-Id", record_id)
    headers["x-road-client"] = call.client
    headers["x-road-service"] = call.service
    headers["x-road-request-id"] = record_id
    headers["x-road-request-hash"] = call.request_hash
    return response
