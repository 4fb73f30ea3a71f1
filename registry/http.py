"""The registry's HTTP interface, for the operator's and members' command line; the caller binds it, with TLS.

| path | what |
|---|---|
| `GET /anchor` | `{genesis, anchors: [JWS text]}`; the client checks the genesis |
| `POST /documents` | submit a signed document: 201 `{index, digest, leaf_hash}` |
| `GET /documents?type=&subject=` | newest of a chain: `{index, digest, payload}`, for the next `seq` and `prev` |
| `PUT, GET /contracts/{sha256}` | contracts by digest |
| `POST /requests`, `GET /requests`, `GET /requests/{id}` | requests to become a member |
| `POST /requests/{id}/decision` | the operator's signed decision |
| `PUT /requests/{id}/certificate` | a certificate (PEM) for the requested key, handed out with the approval |
| `GET /credentials/{node}` | `{jwt, broker: {urls, ca}}` for a node in the directory |
| `GET /checkpoint`, `GET /tile/…` | the directory's log as C2SP tiles, entry bundles included |
| `GET /livez`, `/readyz`, `/metrics` | health |

Nothing here is authenticated by HTTP: what changes anything is signed, what is read is public within the instance. All
failures are RFC 9457 problems with a stable `code`; no request ends in a traceback or takes longer than its deadline.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import re
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from evidence.errors import EvidenceError, IndexUnknown
from registry.authority import Authority
from registry.credentials import mint_for
from registry.documents import MAX_DOCUMENT_BYTES
from registry.errors import (
    ContractMissing,
    DocumentMalformed,
    NotFound,
    QueueFull,
    RegistryError,
    RequestConflict,
    TooLarge,
)
from registry.ports import CredentialMinter
from registry.quota import QuotaBook
from registry.requests import MemberRequest
from registry.view import QuotaLimit

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Metrics = Callable[[], tuple[str, bytes]]
"""Gives the content type and body of `/metrics`."""

MAX_CONTRACT_BYTES = 1_048_576
MAX_CERTIFICATE_BYTES = 65_536
DEADLINE_S = 60.0
REQUESTS_PER_ADDRESS = QuotaLimit(per_second=10, per_day=400)
"""Anybody may ask for membership; nobody alone may fill the list of pending requests."""
CONTRACTS_PER_ADDRESS = QuotaLimit(per_second=20, per_day=1_000)
"""A contract comes before the service that names it, so it is not signed."""
DOCUMENTS_PER_ADDRESS = QuotaLimit(per_second=100, per_day=50_000)
"""A document costs a verification before it is refused; a member with all its nodes sends far less."""
DECISIONS_PER_ADDRESS = QuotaLimit(per_second=300, per_day=50_000)
"""So do decisions and certificates, which nobody but operators sends: they refuse a whole list one by one."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TILE = re.compile(r"(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NotFound, 404),
    (IndexUnknown, 404),
    (DocumentMalformed, 400),
    (TooLarge, 413),
    (RequestConflict, 409),
    (ContractMissing, 409),
    (QueueFull, 503),
)
_AUTHORITY = web.AppKey("authority", Authority)
_ASKED = web.AppKey("asked", QuotaBook)
_MINTER = web.AppKey("minter", CredentialMinter)


def create_app(
    authority: Authority,
    *,
    minter: CredentialMinter | None = None,
    metrics: Metrics | None = None,
    max_contract_bytes: int = MAX_CONTRACT_BYTES,
) -> web.Application:
    """The application; the caller binds it, with TLS unless to a loopback address, and closes the authority.

    Args:
        authority: An open authority.
        minter: Makes broker credentials; without one `/credentials` answers 404.
        metrics: Answers `/metrics`; without one it answers 404.
        max_contract_bytes: Body limit of contracts.
    """
    app = web.Application(middlewares=[_problems], client_max_size=max(max_contract_bytes, 2 * MAX_DOCUMENT_BYTES))
    app[_AUTHORITY] = authority
    app[_ASKED] = QuotaBook()
    app.add_routes(
        [
            web.get("/anchor", _get_anchor),
            web.post("/documents", _post_document),
            web.get("/documents", _get_document),
            web.put("/contracts/{sha256}", _put_contract),
            web.get("/contracts/{sha256}", _get_contract),
            web.post("/requests", _post_request),
            web.get("/requests", _get_requests),
            web.get("/requests/{id}", _get_request),
            web.post("/requests/{id}/decision", _post_decision),
            web.put("/requests/{id}/certificate", _put_certificate),
            web.get("/checkpoint", _get_checkpoint),
            web.get("/tile/{path:.+}", _get_tile),
            web.get("/livez", _get_livez),
            web.get("/readyz", _get_readyz),
        ]
    )
    if minter is not None:
        app[_MINTER] = minter
        app.router.add_get("/credentials/{node:.+}", _get_credentials)
    if metrics is not None:
        app.router.add_get("/metrics", _metrics_handler(metrics))
    return app


# Errors -----------------------------------------------------------------------------------------------------------


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await handler(request)
    except TimeoutError:
        return problem(503, "registry-busy", f"no answer within {DEADLINE_S:g} s; it may have been carried out")
    except (RegistryError, EvidenceError) as error:
        return problem(_status_of(error), error.code, str(error))
    except web.HTTPException as error:
        return problem(error.status, f"http-{error.status}", error.reason)


def _status_of(error: RegistryError | EvidenceError) -> int:
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 422 if error.disposition == "reject" else 503


def problem(status: int, code: str, detail: str) -> web.Response:
    """An RFC 9457 problem."""
    body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
    headers = {"Retry-After": "5"} if status == 503 else {}
    return web.Response(
        status=status, body=json.dumps(body).encode(), content_type="application/problem+json", headers=headers
    )


async def _body(request: web.Request, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise TooLarge(f"the body has {request.content_length} bytes; {limit} are allowed", limit=limit)
    data = await request.read()
    if len(data) > limit:
        raise TooLarge(f"the body has {len(data)} bytes; {limit} are allowed", limit=limit)
    return data


# Documents --------------------------------------------------------------------------------------------------------


async def _get_anchor(request: web.Request) -> web.Response:
    authority = request.app[_AUTHORITY]
    anchors = [jws.decode() for jws in authority.anchors()]
    if not anchors:
        raise NotFound("the directory has no anchor yet")
    return web.json_response({"genesis": authority.directory.genesis, "anchors": anchors})


async def _post_document(request: web.Request) -> web.Response:
    if (refused := _refuse_too_many(request, "documents", DOCUMENTS_PER_ADDRESS)) is not None:
        return refused
    accepted = await request.app[_AUTHORITY].submit(await _body(request, MAX_DOCUMENT_BYTES))
    body = {"index": accepted.at, "digest": accepted.digest, "leaf_hash": accepted.leaf_hash.hex()}
    return web.json_response(body, status=201)


async def _get_document(request: web.Request) -> web.Response:
    newest = request.app[_AUTHORITY].newest(request.query.get("type", ""), request.query.get("subject", ""))
    said = {"index": newest.at, "digest": newest.digest, "payload": newest.payload.decode()}
    return web.json_response({**said, "jws": newest.signed.decode()})


def _digest(request: web.Request) -> str:
    sha256 = request.match_info["sha256"]
    if not _DIGEST.fullmatch(sha256):
        raise NotFound("a contract's address is the SHA-256 of its bytes, 64 lower-case hex digits")
    return sha256


async def _put_contract(request: web.Request) -> web.Response:
    if (refused := _refuse_too_many(request, "contracts", CONTRACTS_PER_ADDRESS)) is not None:
        return refused
    sha256 = _digest(request)
    request.app[_AUTHORITY].put_contract(sha256, await _body(request, request.app._client_max_size))
    return web.Response(status=204)


async def _get_contract(request: web.Request) -> web.Response:
    data = request.app[_AUTHORITY].store.contract(_digest(request))
    if data is None:
        raise NotFound("this contract is not here")
    # Never shown by a browser as anything but bytes: contracts come from strangers.
    headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
    return web.Response(body=data, content_type="application/octet-stream", headers=headers)


# Requests ---------------------------------------------------------------------------------------------------------


def _request_body(request: MemberRequest) -> bytes:
    return msgspec.json.encode(request)


def _refuse_too_many(request: web.Request, what: str, limit: QuotaLimit) -> web.Response | None:
    """Counts what anybody may send, by address; an IPv6 host has a network of /64."""
    now_s = asyncio.get_running_loop().time()
    wait_s = request.app[_ASKED].take(_network(request.remote or ""), what, limit, now_s)
    if wait_s is None:
        return None
    refused = problem(429, "too-many-requests", f"this address sends {what} too often: try again later")
    refused.headers["Retry-After"] = str(math.ceil(wait_s))
    return refused


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:  # a socket that hears both says IPv4 addresses so
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


async def _post_request(request: web.Request) -> web.Response:
    if (refused := _refuse_too_many(request, "requests", REQUESTS_PER_ADDRESS)) is not None:
        return refused
    asked = await _body(request, MAX_DOCUMENT_BYTES)
    kept = request.app[_AUTHORITY].admissions.request(asked, _network(request.remote or ""))
    return web.Response(status=201, body=_request_body(kept), content_type="application/json")


async def _get_requests(request: web.Request) -> web.Response:
    body = msgspec.json.encode({"requests": request.app[_AUTHORITY].store.requests()})
    return web.Response(body=body, content_type="application/json")


async def _get_request(request: web.Request) -> web.Response:
    store = request.app[_AUTHORITY].store
    kept = store.request(request.match_info["id"])
    body = {"request": kept, "jws": store.request_bytes(kept.id).decode(), "decision": store.decision(kept.id).decode()}
    if kept.state == "approved":
        body["certificate"] = store.certificate(kept.id).decode()
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


async def _post_decision(request: web.Request) -> web.Response:
    if (refused := _refuse_too_many(request, "decisions", DECISIONS_PER_ADDRESS)) is not None:
        return refused
    envelope = await _body(request, MAX_DOCUMENT_BYTES)
    decided = await request.app[_AUTHORITY].admissions.decide(request.match_info["id"], envelope)
    return web.Response(body=_request_body(decided), content_type="application/json")


async def _put_certificate(request: web.Request) -> web.Response:
    if (refused := _refuse_too_many(request, "decisions", DECISIONS_PER_ADDRESS)) is not None:
        return refused
    pem = await _body(request, MAX_CERTIFICATE_BYTES)
    request.app[_AUTHORITY].admissions.certify(request.match_info["id"], pem)
    return web.Response(status=204)


# Credentials ------------------------------------------------------------------------------------------------------


async def _get_credentials(request: web.Request) -> web.Response:
    directory = request.app[_AUTHORITY].directory
    jwt = await mint_for(directory, request.app[_MINTER], request.match_info["node"])
    assert directory.anchor is not None
    broker = directory.anchor.broker
    return web.json_response({"jwt": jwt, "broker": {"urls": list(broker.urls), "ca": broker.ca}})


# The log ----------------------------------------------------------------------------------------------------------


async def _get_checkpoint(request: web.Request) -> web.Response:
    return web.Response(body=request.app[_AUTHORITY].checkpoint(), content_type="text/plain", charset="utf-8")


async def _get_tile(request: web.Request) -> web.Response:
    found = _TILE.fullmatch(request.match_info["path"])
    if found is None:
        raise NotFound("not a tile path (C2SP tlog-tiles)")
    level, path, partial = found.groups()
    index = int(path.replace("x", "").replace("/", ""))
    width = int(partial or 256)
    authority = request.app[_AUTHORITY]
    data = authority.entry_bundle(index, width) if level == "entries" else authority.tile(int(level), index, width)
    return web.Response(body=data, content_type="application/octet-stream")


# Health -----------------------------------------------------------------------------------------------------------


async def _get_livez(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "size": request.app[_AUTHORITY].log.size})


async def _get_readyz(request: web.Request) -> web.Response:
    reasons = request.app[_AUTHORITY].unready()
    if reasons:
        return problem(503, reasons[0], f"not ready: {', '.join(reasons)}")
    return web.json_response({"status": "ok"})


def _metrics_handler(metrics: Metrics) -> Handler:
    async def get_metrics(_: web.Request) -> web.StreamResponse:
        content_type, body = metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    return get_metrics
