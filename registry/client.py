"""The command line's client of a registry.

Translates problems and network failures into this room's errors. Trusts the registry for nothing that matters: the
anchor is checked against a genesis learnt out of band; everything else is verified by followers.

HTTPS has no other root than the genesis. First contact fetches the anchors without trusting the server's certificate,
for they prove themselves; the server authority in the newest anchor is what every further request is verified against.
An address that is used after joining therefore carries the genesis: `https://host:port#sha256:<64 hex digits>` (a
fragment is never sent, RFC 3986 section 3.5). Redirects are refused.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from io import BytesIO
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from evidence.leaf import DIRECTORY, wrap
from registry.documents import Anchor, AnyDocument, decode
from registry.errors import NotFound, RegistryError, RegistryUnavailable, WrongGenesis
from registry.fold import Directory, Skipped
from registry.requests import MemberRequest

MAX_ANSWER_BYTES = 8 << 20
_GENESIS = re.compile(r"sha256:([0-9a-f]{64})")
T = TypeVar("T")


class RegistryRefused(RegistryError):
    """The registry refused what was sent.

    Attributes:
        code: The registry's own code.
        status: HTTP status.
    """

    code = "registry-refused"

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class RegistryNotProven(RegistryError):
    """Who answers at the registry's address is not certified by the instance's own authority; nothing was sent."""

    code = "registry-not-proven"
    disposition = "halt"


class Submitted(msgspec.Struct, frozen=True):
    """A document that is in the directory's log."""

    index: int
    digest: str
    leaf_hash: str


class NewestDocument(msgspec.Struct, frozen=True):
    """The newest document of a chain.

    Attributes:
        index: In the directory's log.
        digest: What the next document of the chain names as `prev`.
        payload: The document.
        jws: The same as it was signed; empty from a registry that does not give it. Whoever signs again what stands
            in it verifies this first.
    """

    index: int
    digest: str
    payload: str
    jws: str = ""

    @property
    def document(self) -> AnyDocument:
        """The document; the registry's word until a follower has verified it.

        Raises:
            DocumentMalformed: The registry answered something else.
        """
        return decode(self.payload.encode())


class Broker(msgspec.Struct, frozen=True):
    """Where the broker is."""

    urls: tuple[str, ...]
    ca: str


class Credentials(msgspec.Struct, frozen=True):
    """What a node needs to connect to the broker, besides its own key."""

    jwt: str
    broker: Broker


class _Anchors(msgspec.Struct, frozen=True):
    genesis: str
    anchors: list[str]


class _Requests(msgspec.Struct, frozen=True):
    requests: list[MemberRequest]


class RequestDetail(msgspec.Struct, frozen=True):
    """A request with its signed bytes and, once it is decided, with what was decided.

    Attributes:
        request: As the registry keeps it.
        jws: The signed request.
        decision: The operator's signed member document or refusal; empty while it is pending.
        certificate: The certificate (PEM) that the instance's authority gave; empty unless it was approved with one.
    """

    request: MemberRequest
    jws: str
    decision: str = ""
    certificate: str = ""


class _Problem(msgspec.Struct, frozen=True):
    code: str = "registry-error"
    detail: str = ""


class RegistryClient:
    """An async context manager over one registry.

    Args:
        base_url: `http://…`, or `https://…` with the genesis as fragment, see the module. Without it an HTTPS address
            is good for `anchor` only, and after that for everything.
        timeout_s: Of each request.
    """

    def __init__(self, base_url: str, *, timeout_s: float = 10.0) -> None:
        base, _, pinned = base_url.partition("#")
        self._base = base.rstrip("/")
        self._genesis = found[1] if (found := _GENESIS.fullmatch(pinned)) else ""
        self._tls: ssl.SSLContext | bool = not base.startswith("https:")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def anchor(self, genesis: str) -> tuple[Anchor, list[bytes]]:
        """First contact: the newest anchor of the instance that was named out of band.

        Args:
            genesis: 64 hex digits.

        Returns:
            The newest anchor, and all anchor documents, oldest first.

        Raises:
            WrongGenesis: The registry is of another instance, or its anchors do not follow from the genesis.
            RegistryUnavailable: No answer.
        """
        # Whoever serves it, an anchor that follows from the genesis is the operator's: TLS has nothing to add here.
        answer = _decode(await self._send("GET", "/anchor", None, self._tls), _Anchors)
        documents = [text.encode() for text in answer.anchors]
        anchor = verify_anchors(genesis, documents).anchor
        assert anchor is not None
        self._tls = self._tls or _server_context(anchor)
        return anchor, documents

    async def submit(self, jws: bytes) -> Submitted:
        """Submit a signed document; the same bytes again are harmless.

        Raises:
            RegistryRefused: With the registry's code.
            RegistryUnavailable: No answer; it may be in the log.
        """
        return _decode(await self._ask("POST", "/documents", jws), Submitted)

    async def newest(self, type: str, subject: str) -> NewestDocument | None:  # noqa: A002
        """The newest document of a chain, or None where the chain begins."""
        query = f"?type={quote(type, safe='')}&subject={quote(subject, safe='')}"
        try:
            return _decode(await self._ask("GET", f"/documents{query}"), NewestDocument)
        except NotFound:
            return None

    async def put_contract(self, sha256: str, data: bytes) -> None:
        """Store a contract under its digest."""
        await self._ask("PUT", f"/contracts/{sha256}", data)

    async def contract(self, sha256: str) -> bytes:
        """A contract's bytes; the caller checks the digest."""
        return await self._ask("GET", f"/contracts/{sha256}")

    async def request(self, jws: bytes) -> MemberRequest:
        """Ask to become a member."""
        return _decode(await self._ask("POST", "/requests", jws), MemberRequest)

    async def requests(self) -> list[MemberRequest]:
        """All requests, pending ones first."""
        return _decode(await self._ask("GET", "/requests"), _Requests).requests

    async def request_detail(self, request_id: str) -> RequestDetail:
        """One request with its signed bytes."""
        return _decode(await self._ask("GET", f"/requests/{quote(request_id, safe='')}"), RequestDetail)

    async def decide(self, request_id: str, jws: bytes) -> MemberRequest:
        """Send the operator's signed decision."""
        path = f"/requests/{quote(request_id, safe='')}/decision"
        return _decode(await self._ask("POST", path, jws), MemberRequest)

    async def put_certificate(self, request_id: str, pem: bytes) -> None:
        """Leave a certificate for the key of a request; the registry checks that the anchor's authorities gave it."""
        await self._ask("PUT", f"/requests/{quote(request_id, safe='')}/certificate", pem)

    async def credentials(self, node: str) -> Credentials:
        """Broker credentials of a node."""
        return _decode(await self._ask("GET", f"/credentials/{quote(node, safe='/@')}"), Credentials)

    async def checkpoint(self) -> bytes:
        """The directory's newest cosigned checkpoint."""
        return await self._ask("GET", "/checkpoint")

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        if not self._tls:
            if not self._genesis:
                raise RegistryNotProven(f"{self._base} has to be known with its genesis: {self._base}#sha256:…")
            await self.anchor(self._genesis)
        return await self._send(method, path, body, self._tls)

    async def _send(self, method: str, path: str, body: bytes | None, tls: ssl.SSLContext | bool) -> bytes:
        if self._session is None:
            raise RuntimeError("use the client as an async context manager")
        url = URL(self._base + path, encoded=True)
        data = None if body is None else BytesIO(body)
        try:
            async with self._session.request(method, url, data=data, allow_redirects=False, ssl=tls) as answer:
                body = await _read(answer)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise RegistryNotProven(
                f"who answers at {self._base} does not prove to be this instance's registry: look whether the address "
                "is right and the registry's certificate is current; otherwise somebody is in between"
            ) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise RegistryUnavailable(
                f"the registry at {self._base} does not answer ({type(error).__name__})"
            ) from error
        if answer.status >= 300:
            raise _refusal(answer.status, body)
        return body


def verify_anchors(genesis: str, documents: Sequence[bytes]) -> Directory:
    """A directory that has nothing but an instance's anchors yet.

    Args:
        genesis: 64 hex digits, learnt out of band.
        documents: Signed anchor documents, oldest first.

    Raises:
        WrongGenesis: There are none, or they do not follow from the genesis.
    """
    directory = Directory(genesis)
    for index, jws in enumerate(documents):
        outcome = directory.apply(index, wrap(DIRECTORY, jws))
        if isinstance(outcome, Skipped):
            raise WrongGenesis(f"the registry's anchor {index} does not follow from the genesis: {outcome.message}")
    if directory.anchor is None:
        raise WrongGenesis("the registry has no anchor")
    return directory


def _server_context(anchor: Anchor) -> ssl.SSLContext:
    """TLS 1.3 that trusts the authority behind the instance's own servers, and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.hostname_checks_common_name = False  # members' certificates are of the same authority and have one
    try:
        context.load_verify_locations(cadata=anchor.broker.ca)
    except (ssl.SSLError, ValueError):
        raise RegistryNotProven("the anchor names no usable authority for the instance's servers") from None
    return context


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_chunked(65_536):
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise RegistryUnavailable(f"the registry's answer is larger than {MAX_ANSWER_BYTES} bytes")
    return bytes(data)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RegistryUnavailable("the registry's answer is not what a registry answers: check its address") from None


def _refusal(status: int, data: bytes) -> RegistryError:
    try:
        problem = msgspec.json.decode(data, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = _Problem(detail=f"HTTP {status}")
    if status == 404:
        return NotFound(problem.detail)
    if status >= 500:
        return RegistryUnavailable(f"{problem.code}: {problem.detail}")
    return RegistryRefused(problem.code, status, problem.detail)
