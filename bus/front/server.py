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

from bus import errors
from bus.front.problem import problem_response

_log = structlog.get_logger("lienthong.front")

Dispatch = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]


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
        self.port = 0

    async def start(self) -> None:
        """Listens."""
        server = web.Server(
            self._handle,
            request_factory=self._make_request,
            auto_decompress=False,
            max_line_size=16_384,
            max_field_size=16_384,
            max_headers=128,
            access_log=None,
        )
        self._runner = web.ServerRunner(server, handle_signals=False)
        await self._runner.setup()
        host, _, port = self._listen.rpartition(":")
        site = web.TCPSite(self._runner, host.strip("[]"), int(port), ssl_context=self._tls, shutdown_timeout=5)
        await site.start()
        self.port = self._runner.addresses[0][1]

    @property
    def url(self) -> str:
        """Address for people."""
        host = self._listen.rpartition(":")[0]
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def _make_request(self, message, payload, protocol, writer, task):  # type: ignore[no-untyped-def]
        return web.BaseRequest(
            message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=self._max_body_bytes
        )

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._dispatch(request, request.message.path)
        except errors.BusError as error:
            response = problem_response(error, request.headers.get("Accept", ""))
        except Exception as error:  # the boundary of the process: never a traceback to a client
            _log.error("front.failed", error=type(error).__name__, exc_info=error)
            hidden = errors.InternalError("the gateway failed; its operator finds the reason in the log")
            response = problem_response(hidden)
        response.headers["Server"] = "lienthong"
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
