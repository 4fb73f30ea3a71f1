"""The source of kind `http`: forwards one call to the backend and brings the answer back.

The raw path and query are forwarded byte for byte: what was decided on is what the backend gets. Redirects are not
followed, nothing is retried by this module, nothing is cached. Whether a path is fit to be forwarded, and whether the
answer is fit to leave, is decided by the bus.
"""

import re
import time

import aiohttp
from yarl import URL

from adapters.errors import (
    AdapterError,
    BackendAnswerInvalid,
    BackendBusy,
    BackendTimeout,
    BackendUnreachable,
    BreakerOpen,
    RequestUnusable,
    SourceNotOpen,
)
from adapters.kinds.http.breaker import Breaker
from adapters.kinds.http.connection import credential_header, open_session
from adapters.kinds.http.headers import answer_headers, request_headers
from adapters.kinds.http.settings import Counted, HttpSettings
from adapters.port import AdapterAnswer, AdapterRequest, SourceObserver

# RFC 3986 §3.3/§3.4, and what clients send raw all the same; never a space, a control character, "#" or non-ASCII.
_FORWARDABLE = re.compile(r"(?:/[!\"$-~]*)?")
_QUERY = re.compile(r"[!\"$-~]*")
_CHECK_S = 5.0
_SHARE_FOR_CONNECTING = 0.9


class HttpSource:
    """A backend behind `base_url`. See `adapters.port.Source`."""

    def __init__(self, settings: HttpSettings, observer: SourceObserver) -> None:
        self._settings = settings
        self._observer = observer
        self._base = settings.base_url.rstrip("/")
        self._breaker = Breaker(settings.breaker.rules()) if settings.breaker.enabled else None
        self._counts = frozenset(settings.breaker.counts)
        self._session: aiohttp.ClientSession | None = None
        self._credential: tuple[str, str] | None = None
        self._under_way = 0

    async def open(self) -> None:
        """Read the secret and make the pool; the backend need not be there.

        Raises:
            SettingsInvalid: A secret or certificate file cannot be used.
        """
        if self._session is None:
            self._credential = credential_header(self._settings.credentials)
            self._session = open_session(self._settings)

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, request: AdapterRequest) -> AdapterAnswer:
        """Forward one call.

        Raises:
            AdapterError: No usable answer; `acted` is `no` as long as no connection was made.
        """
        began_s = time.monotonic()
        outcome = "answered"
        try:
            return await self._guarded(request, began_s)
        except AdapterError as error:
            outcome = error.code
            raise
        finally:
            self._observer.called(request.operation, outcome, time.monotonic() - began_s)

    async def check(self) -> None:
        """Ask for `check_path`, or the root; any answer below 500 is good, and any at all when no path is set.

        Raises:
            AdapterError: The backend is not there or says that it is ill.
        """
        url = URL(self._base + (self._settings.check_path or "/"), encoded=True)
        headers = [("Accept-Encoding", "identity"), *([self._credential] if self._credential else [])]
        answer = await self._exchanged("GET", url, headers, None, min(_CHECK_S, self._settings.timeout_s))
        if self._settings.check_path and answer.status >= 500:
            raise BackendUnreachable(f"the backend answers {answer.status} to its check path", acted="no")

    async def _guarded(self, request: AdapterRequest, began_s: float) -> AdapterAnswer:
        """The call between the two doors of the breaker."""
        url, headers = self._prepared(request)
        deadline_s = min(request.deadline_s, self._settings.timeout_s)
        if deadline_s <= 0:
            raise BackendTimeout("no time was left for the backend; it was not asked", acted="no")
        if self._under_way >= self._settings.connections + self._settings.waiting:
            raise BackendBusy("too many calls wait for this backend; not sent, try again later", acted="no")
        ticket = self._enter(began_s)
        good: bool | None = None
        self._under_way += 1
        try:
            answer = await self._exchanged(request.method, url, headers, request.body or None, deadline_s)
            good = answer.status < 500 or "5xx" not in self._counts
        except AdapterError as error:
            good = self._judged(error, time.monotonic() - began_s)
            raise
        else:
            return answer
        finally:
            self._under_way -= 1
            self._leave(ticket, good)

    def _prepared(self, request: AdapterRequest) -> tuple[URL, list[tuple[str, str]]]:
        if _FORWARDABLE.fullmatch(request.path) is None or _QUERY.fullmatch(request.query) is None:
            raise RequestUnusable("path", "has characters that cannot be forwarded byte for byte; not sent")
        query = "?" + request.query if request.query else ""
        headers = request_headers(request)
        if self._credential is not None:
            own = self._credential[0].lower()
            headers = [pair for pair in headers if pair[0].lower() != own]
            headers.append(self._credential)
        return URL(self._base + request.path + query, encoded=True), headers

    async def _exchanged(
        self, method: str, url: URL, headers: list[tuple[str, str]], body: bytes | None, deadline_s: float
    ) -> AdapterAnswer:
        """Send and receive; foreign exceptions are translated here."""
        if self._session is None:
            raise SourceNotOpen("this source is not open", acted="no")
        # Waiting for a connection ends first: so any other timeout means that a connection was there, and bytes on it.
        connect_s = min(self._settings.connect_timeout_s, deadline_s * _SHARE_FOR_CONNECTING)
        try:
            async with self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=deadline_s, connect=connect_s),
                server_hostname=self._settings.tls.server_name or None,
            ) as response:
                return await self._received(response)
        except aiohttp.ConnectionTimeoutError as error:
            raise BackendTimeout("no connection to the backend in time; nothing was sent", acted="no") from error
        except TimeoutError as error:
            raise BackendTimeout("the backend did not answer in time", acted="unknown") from error
        except aiohttp.ClientConnectorError as error:
            raise BackendUnreachable(f"no connection to the backend: {_reason(error)}", acted="no") from error
        except aiohttp.ClientResponseError as error:
            raise BackendAnswerInvalid("the backend's answer is not HTTP", acted="unknown") from error
        except (aiohttp.ClientError, OSError) as error:
            message = f"the connection broke before a whole answer came ({type(error).__name__})"
            raise BackendUnreachable(message, acted="unknown") from error
        except ValueError as error:
            raise RequestUnusable("request", "cannot be written as HTTP; not sent") from error

    async def _received(self, response: aiohttp.ClientResponse) -> AdapterAnswer:
        largest = self._settings.max_answer_bytes
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in {"identity", ""}:
            response.close()
            raise BackendAnswerInvalid("the backend answered in a content coding that was not asked for")
        if (response.content_length or 0) > largest and response.method != "HEAD":
            response.close()
            raise BackendAnswerInvalid(f"the backend's answer is larger than {largest} bytes")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > largest:
                response.close()
                raise BackendAnswerInvalid(f"the backend's answer is larger than {largest} bytes")
        headers = answer_headers(response.headers.items())
        return AdapterAnswer(response.status, headers, response.headers.get("Content-Type", ""), bytes(body))

    def _enter(self, now_s: float) -> int:
        if self._breaker is None:
            return 0
        before = self._breaker.state
        ticket = self._breaker.enter(now_s)
        self._tell(before)
        if ticket is None:
            wait_s = self._breaker.retry_after_s(now_s)
            raise BreakerOpen("the backend failed too often and is left alone for a while", retry_after_s=wait_s)
        return ticket

    def _leave(self, ticket: int, good: bool | None) -> None:
        if self._breaker is not None:
            before = self._breaker.state
            self._breaker.leave(ticket, time.monotonic(), good)
            self._tell(before)

    def _tell(self, before: object) -> None:
        if self._breaker is not None and self._breaker.state is not before:
            self._observer.breaker_changed(self._breaker.state.value)

    def _judged(self, error: AdapterError, took_s: float) -> bool | None:
        """What an error says about the backend: False bad, True good, None nothing."""
        counted: Counted = "transport"
        if isinstance(error, BackendTimeout):
            counted = "timeout"
            patience_s = min(self._settings.breaker.patience_s, self._settings.connect_timeout_s)
            if took_s < patience_s:
                return None
        elif not isinstance(error, BackendUnreachable | BackendAnswerInvalid):
            return None
        return counted not in self._counts


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Why no connection came about, without addresses that callers need not know."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its TLS certificate or handshake was not accepted"
    return error.os_error.strerror or "its name or address was not found"
