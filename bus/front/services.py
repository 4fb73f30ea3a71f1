"""Directory services: `listClients`, `listMethods`, `allowedMethods`, `getOpenAPI`, and X-Road's answer to `getWsdl`.

In two forms: X-Road's (PR-META, PR-MREST), and that of GovStack's Information Mediator for who sends
`X-GovStack-Client`, asks for `/r1/listClients` or names an `instanceId`. Answered from the gateway's own verified
directory; no message is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from bus import errors
from bus.exchange.contracts import ContractBlobs
from bus.front.credentials import Credentials
from bus.front.r1 import stated_client
from bus.front.target import service_of, subsystem_of
from bus.ports import Clock
from registry import mediator
from registry.catalogue import Offer, allowed, clients_xml, list_clients, method_of, provided
from registry.errors import RegistryError
from registry.state import State
from registry.view import ServiceEntry

_TARGET = re.compile(
    r"(?:/r1)?/listClients(?:\?|$)|/r1(?:/[^/?]*){4}/(?:listMethods|allowedMethods|getOpenAPI|getWsdl)(?:[/?]|$)"
)
_JSON = "application/json; charset=utf-8"
_READ = ("GET", "HEAD")


class DirectoryFront:
    """Answers the meta services."""

    def __init__(
        self, directory: Callable[[], State], contracts: ContractBlobs, credentials: Credentials, clock: Clock
    ) -> None:
        self._directory = directory
        self._contracts = contracts
        self._credentials = credentials
        self._clock = clock

    async def handle(self, request: web.BaseRequest, raw_target: str) -> web.StreamResponse:
        """One question.

        Raises:
            BusError: malformed, or not allowed.
        """
        if request.method not in _READ:
            refused = errors.MethodNotAllowed("directory services are read with GET")
            refused.allowed = _READ
            raise refused
        path, _, raw_query = raw_target.partition("?")
        query = Query(raw_query)
        if path.endswith("/listClients"):
            return self._clients(request, path, query)
        system = await self._credentials.authenticate(request)
        parts = path.split("/")
        if len(parts) != 7:
            raise errors.RequestMalformed(f"{parts[6]} takes no further path")
        provider, verb = subsystem_of(tuple(parts[2:6])), parts[6]
        client = stated_client(request) if _states_client(request) or verb == "allowedMethods" else ""
        if client and client not in system.subsystems:
            raise errors.ClientForbidden(f"this client system may not act as {client}")
        govstack = "X-GovStack-Client" in request.headers and "X-Road-Client" not in request.headers
        if verb == "getOpenAPI":
            return await self._contract(self._service(provider, query, govstack))
        if verb == "getWsdl":
            raise errors.ServiceTypeInvalid(f"{self._service(provider, query, govstack).id} has an OpenAPI description")
        directory = self._directory()
        offers = (
            provided(directory, provider)
            if verb == "listMethods"
            else allowed(directory, provider, client, self._clock.now())
        )
        return _methods(offers, query.one("serviceId"), govstack)

    def _clients(self, request: web.BaseRequest, path: str, query: Query) -> web.Response:
        directory = self._directory()
        asked = query.one("xRoadInstance") or query.one("instanceId")
        if asked and asked != directory.instance:
            raise errors.InstanceUnknown(f"this gateway belongs to {directory.instance}; other instances are not known")
        listed = list_clients(directory, language=query.one("language"))
        if path.startswith("/r1/") or query.has("instanceId") or "X-GovStack-Client" in request.headers:
            return _json(mediator.clients(listed))
        accept = request.headers.get("Accept", "")
        if "xml" in accept and "json" not in accept:
            return web.Response(body=clients_xml(listed), headers={"Content-Type": "text/xml; charset=utf-8"})
        return _json(listed)

    def _service(self, provider: str, query: Query, govstack: bool) -> ServiceEntry:
        code = query.one("serviceCode")
        if not code:
            raise errors.RequestMalformed("name one service: ?serviceCode=CODE")
        identifier = service_of((*provider.split("/"), code))
        service = self._directory().service(identifier)
        if service is None:
            message = f"{provider} has no such service; see listMethods"
            # GovStack's interface knows 200, 400 and 500 only
            raise errors.RequestMalformed(message) if govstack else errors.ServiceUnknown(message)
        return service

    async def _contract(self, service: ServiceEntry) -> web.Response:
        try:
            document = await self._contracts.contract(service.contract_sha256)
        except RegistryError as error:
            raise errors.ContractUnavailable(f"the contract cannot be fetched now ({error.code})") from error
        kind = "application/json" if document.lstrip()[:1] == b"{" else "application/yaml"
        return web.Response(body=document, headers={"Content-Type": f"{kind}; charset=utf-8"})


class Query:
    """The query of a directory service: each parameter at most once and never empty."""

    def __init__(self, raw: str) -> None:
        self._values = parse_qs(raw, keep_blank_values=True)

    def has(self, name: str) -> bool:
        """Whether the parameter was given."""
        return name in self._values

    def one(self, name: str) -> str:
        """Its value, empty when it was not given.

        Raises:
            RequestMalformed: given twice, or empty.
        """
        values = self._values.get(name)
        if values is None:
            return ""
        if len(values) != 1 or not values[0].strip():
            raise errors.RequestMalformed(f"{name} is given once and is not empty")
        return values[0]


def is_directory_target(raw_target: str) -> bool:
    """Whether a target is one of the directory services."""
    return _TARGET.match(raw_target) is not None


def _states_client(request: web.BaseRequest) -> bool:
    return "X-Road-Client" in request.headers or "X-GovStack-Client" in request.headers


def _methods(offers: list[Offer], service_id: str, govstack: bool) -> web.Response:
    if govstack:
        return _json(mediator.methods(offers, service_id))
    kept = [offer for offer in offers if not service_id or offer[0].id.rpartition("/")[2] == service_id]
    return _json({"service": [method_of(entry, operations) for entry, operations in kept]})


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), headers={"Content-Type": _JSON})
