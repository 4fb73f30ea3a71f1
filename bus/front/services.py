"""Directory services in X-Road's form: `listClients`, `listMethods`, `allowedMethods`, `getOpenAPI`.

Answered from the gateway's own verified directory; no message is sent.
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
from bus.front.target import client_of
from bus.ports import Clock
from registry.catalogue import allowed_methods, list_clients, list_methods
from registry.errors import RegistryError
from registry.state import State

_TARGET = re.compile(r"/listClients(?:\?|$)|/r1(?:/[^/?]*){4}/(?:listMethods|allowedMethods|getOpenAPI)(?:[/?]|$)")
_JSON = "application/json; charset=utf-8"


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
        if request.method not in ("GET", "HEAD"):
            refused = errors.MethodNotAllowed("directory services are read with GET")
            refused.allowed = ("GET", "HEAD")
            raise refused
        path, _, query = raw_target.partition("?")
        if path == "/listClients":
            return _json(list_clients(self._directory()))
        await self._credentials.authenticate(request)
        parts = path.split("/")
        if len(parts) != 7:
            raise errors.RequestMalformed(f"{parts[6]} takes no further path")
        provider = client_of("/".join(parts[2:6]))
        if parts[6] == "getOpenAPI":
            return await self._contract(provider, query)
        if parts[6] == "listMethods":
            return _json(list_methods(self._directory(), provider))
        client = stated_client(request)
        return _json(allowed_methods(self._directory(), provider, client, self._clock.now()))

    async def _contract(self, provider: str, query: str) -> web.Response:
        codes = parse_qs(query, keep_blank_values=True).get("serviceCode", [])
        if len(codes) != 1 or not codes[0]:
            raise errors.RequestMalformed("name one service: getOpenAPI?serviceCode=CODE")
        service = self._directory().service(f"{provider}/{codes[0]}")
        if service is None:
            raise errors.ServiceUnknown(f"{provider} has no such service; see listMethods")
        try:
            document = await self._contracts.contract(service.contract_sha256)
        except RegistryError as error:
            raise errors.ContractUnavailable(f"the contract cannot be fetched now ({error.code})") from error
        kind = "application/json" if document.lstrip()[:1] == b"{" else "application/yaml"
        return web.Response(body=document, headers={"Content-Type": f"{kind}; charset=utf-8"})


def is_directory_target(raw_target: str) -> bool:
    """Whether a target is one of the directory services."""
    return _TARGET.match(raw_target) is not None


def _json(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), headers={"Content-Type": _JSON})
