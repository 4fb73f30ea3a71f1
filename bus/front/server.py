"""The HTTP server of the fronts: raw targets, one place where errors become answers.

aiohttp's low-level server is used because a router would normalise paths: what was decided on is forwarded byte for
byte.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from bus import errors
from bus.front.problem import problem_response
from bus.turns import Turnstile

_log = structlog.get_logger("lienthong.front")

_SERVER = "lienthong"
FIRST_HEAD_S, IDLE_S = 15.0, 75.0
"""By when the head of a connection's first request has to be there, and that of each further one."""
_HIDDEN = "the gateway failed; its operator finds the reason in the log"

_RAW_TARGET = web.RequestKey("raw_target", str)

Dispatch = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


class _Connection(web.RequestHandler):
    """What is not HTTP is refused in the same form as all else, and its bytes reach no log line."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(FIRST_HEAD_S, self._end_unless_asked)

    def _end_unless_asked(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        failure: errors.BusError
        if status >= 500:
            _log.error("front.failed", error=type(exc).__name__)
            failure = errors.InternalError(_HIDDEN)
        elif isinstance(exc, LineTooLong) or message == "Too many headers received":
            failure = errors.HeaderTooLarge("the request line, one header, or all headers together are too long")
        else:
            failure = errors.RequestMalformed("this is not an HTTP/1.1 request in a form that all servers read alike")
        response = problem_response(failure)
        response.headers["Server"] = _SERVER
        response.force_close()
        return response

    def log_exception(self, *args: object, **kw: object) -> None:
        del args
        _log.error("front.failed", error=type(kw.get("exc_info")).__name__)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class HttpServer:
    """One listening port.

    Args:
        listen: `host:port`; port 0 takes a free one.
        dispatch: called with request and raw target; may raise BusError.
        tls: server context, None for plain HTTP.
        max_body_bytes: larger bodies are refused while they are read.
    """

    def __init__(self, listen: str, dispatch: Dispatch, tls: ssl.SSLContext | None, max_body_bytes: int) -> None:
        self._listen = listen
        self._dispatch = dispatch
        self._tls = tls
        self._max_body_bytes = max_body_bytes
        self._runner: web.ServerRunner | None = None
        self._turnstile = Turnstile()
        self.port = 0

    async def start(self) -> None:
        """Listens."""
        server = _Server(
            self._handle,
            request_factory=self._make_request,
            auto_decompress=False,
            max_line_size=16_384,
            max_field_size=16_384,
            max_headers=128,
            access_log=None,
            keepalive_timeout=IDLE_S,
        )
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=5)
        await self._runner.setup()
        host, _, port = self._listen.rpartition(":")
        site = web.TCPSite(self._runner, host.strip("[]"), int(port), ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    @property
    def url(self) -> str:
        """Address for people."""
        host = self._listen.rpartition(":")[0]
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def _make_request(self, message, payload, protocol, writer, task):  # type: ignore[no-untyped-def]
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._max_body_bytes,
            state={_RAW_TARGET: message.path},
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await self._turnstile.enter()
        try:
            response = await self._dispatch(request, request[_RAW_TARGET])
        except errors.BusError as error:
            response = problem_response(error, request.headers.get("Accept", ""))
        except Exception as error:  # the boundary of the process: never a traceback to a client
            _log.error("front.failed", error=type(error).__name__, exc_info=error)
            response = problem_response(errors.InternalError(_HIDDEN))
        response.headers["Server"] = _SERVER
        return response

    async def stop(self) -> None:
        """Stops listening; calls under way end first, within the shutdown timeout."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


def server_tls(certificate: str, key: str, client_ca: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer on the front; client certificates are asked for when `client_ca` names who issues them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_tls(ca: str) -> ssl.SSLContext:
    """TLS 1.3 towards the broker, trusting only the instance's authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    return context
