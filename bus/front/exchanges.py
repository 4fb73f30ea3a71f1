"""`GET /exchanges/{id}` and `/exchanges/{id}/result`: what became of a command, for the subsystem that sent it.

For everybody else there is no such command: another subsystem cannot even tell whether it exists.
"""

from __future__ import annotations

import re

import msgspec
from aiohttp import web

from bus import errors
from bus.delivery.statuses import Statuses
from bus.delivery.store import Command
from bus.front.credentials import Credentials
from bus.front.prefer import wait_s
from bus.front.r1 import plain_response, stated_client

_TARGET = re.compile(r"/exchanges/([0-9a-f-]{36})(/result)?")
_READ = ("GET", "HEAD")
_LONGEST_WAIT_S = 60


def is_exchange_target(raw_target: str) -> bool:
    """Whether the request is about a command that was sent."""
    return raw_target.startswith("/exchanges/")


class ExchangeFront:
    """Answers client systems.

    Args:
        statuses: of this node's commands.
        credentials: of client systems.
    """

    def __init__(self, statuses: Statuses, credentials: Credentials) -> None:
        self._statuses = statuses
        self._credentials = credentials

    async def handle(self, request: web.BaseRequest, raw_target: str) -> web.StreamResponse:
        """One question.

        Raises:
            BusError: malformed, not allowed, not there; or the provider's refusal, where the result is asked for.
        """
        if request.method not in _READ:
            refused = errors.MethodNotAllowed("exchanges are read with GET")
            refused.allowed = _READ
            raise refused
        match = _TARGET.fullmatch(raw_target.partition("?")[0])
        if match is None:
            raise errors.NotFound("exchanges are at /exchanges/{id} and /exchanges/{id}/result")
        client = stated_client(request)
        system = await self._credentials.authenticate(request)
        if client not in system.subsystems:
            raise errors.ClientForbidden(f"this client system may not act as {client}")
        command = await self._statuses.of(match[1], client)
        return await self._result(command) if match[2] else await self._state(request, command)

    async def _state(self, request: web.BaseRequest, command: Command) -> web.Response:
        wanted_s = wait_s(request.headers.getall("Prefer", []), _LONGEST_WAIT_S)
        if wanted_s is not None:
            command = await self._statuses.wait(command, wanted_s)
        response = web.Response(body=msgspec.json.encode(self._statuses.told(command)), content_type="application/json")
        response.headers["Cache-Control"] = "no-store"
        if wanted_s is not None:
            response.headers["Preference-Applied"] = f"wait={wanted_s}"
        return response

    async def _result(self, command: Command) -> web.Response:
        response = plain_response(await self._statuses.result(command))
        response.headers["Cache-Control"] = "no-store"
        response.headers["x-road-request-id"] = command.header.id
        return response
