"""`/exchanges`, `/exchanges/{id}` and its `/result`: what became of commands, for the subsystem that sent them.

`DELETE /exchanges/{id}` cancels one.
For everybody else there is no such command: another subsystem cannot even tell whether it exists.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlencode

import msgspec
from aiohttp import web

from bus import errors
from bus.delivery.cancelling import CancelDesk
from bus.delivery.statuses import STATES, Page, Statuses
from bus.delivery.store import Command
from bus.front.credentials import Credentials
from bus.front.deprecations import Deprecations
from bus.front.lookuplimits import LookupLimits
from bus.front.prefer import wait_s
from bus.front.r1 import plain_response, stated_client

_TARGET = re.compile(r"/exchanges/([0-9a-f-]{36})(/result)?")
_READ, _CANCEL = ("GET", "HEAD"), "DELETE"
_MOST, _USUAL = 200, 50
_LONGEST_WAIT_S = 60


def is_exchange_target(raw_target: str) -> bool:
    """Whether the request is about a command that was sent."""
    return raw_target.startswith(("/exchanges/", "/exchanges?")) or raw_target == "/exchanges"


class ExchangeFront:
    """Answers client systems.

    Args:
        statuses: of this node's commands.
        credentials: of client systems.
        desk: cancels.
        deprecations: told beside a result.
        limits: of look-ups.
    """

    def __init__(
        self,
        statuses: Statuses,
        credentials: Credentials,
        desk: CancelDesk,
        deprecations: Deprecations,
        limits: LookupLimits,
    ) -> None:
        self._limits = limits
        self._statuses = statuses
        self._deprecations = deprecations
        self._desk = desk
        self._credentials = credentials

    async def handle(self, request: web.BaseRequest, raw_target: str) -> web.StreamResponse:
        """One question.

        Raises:
            BusError: malformed, not allowed, too often, not there; or the provider's refusal, where the result is asked
                for.
        """
        path, _, query = raw_target.partition("?")
        match = _TARGET.fullmatch(path)
        if match is None and path != "/exchanges":
            raise errors.NotFound("exchanges are at /exchanges, /exchanges/{id} and /exchanges/{id}/result")
        allowed = (*_READ, _CANCEL) if match is not None and not match[2] else _READ
        if request.method not in allowed:
            refused = errors.MethodNotAllowed(
                "exchanges are read with GET; one that is not delivered, cancelled with DELETE"
            )
            refused.allowed = allowed
            raise refused
        client = stated_client(request)
        system = await self._credentials.authenticate(request)
        if client not in system.subsystems:
            raise errors.ClientForbidden(f"this client system may not act as {client}")
        self._limits.count(system.name)
        if match is None:
            with self._limits.listing(system.name):
                return await self._list(client, query)
        command = await self._statuses.of(match[1], client)
        if request.method == _CANCEL:
            command = await self._desk.cancel(command)
            return self._told(command, 202 if command.state == "accepted" else 200)
        return await self._result(command) if match[2] else await self._state(request, command, system.name)

    def _told(self, command: Command, status: int = 200) -> web.Response:
        return _json(self._statuses.told(command), status)

    async def _list(self, client: str, query: str) -> web.Response:
        page = page_of(client, query)
        commands, below = await self._statuses.page(page)
        body: dict[str, object] = {"exchanges": [self._statuses.told(command) for command in commands]}
        if below is not None:
            body["next"] = "/exchanges?" + urlencode([*_filters(page), ("cursor", below)])
        return _json(body)

    async def _state(self, request: web.BaseRequest, command: Command, system: str) -> web.Response:
        wanted_s = wait_s(request.headers.getall("Prefer", []), _LONGEST_WAIT_S)
        if wanted_s:
            with self._limits.long_poll(system):
                command = await self._statuses.wait(command, wanted_s)
        response = self._told(command)
        if wanted_s is not None:
            response.headers["Preference-Applied"] = f"wait={wanted_s}"
        return response

    async def _result(self, command: Command) -> web.Response:
        response = plain_response(await self._statuses.result(command))
        response.headers["Cache-Control"] = "no-store"
        response.headers["x-road-request-id"] = command.header.id
        self._deprecations.tell(response, command.header)
        return response


def _json(body: object, status: int = 200) -> web.Response:
    response = web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def page_of(client: str, query: str) -> Page:
    """The page that a query asks for: `state`, `since` (RFC 3339), `limit`, and `cursor` of the page before.

    Raises:
        RequestMalformed: says which parameter is wrong, and how it is right.
    """
    told: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in ("state", "since", "limit", "cursor") or name in told:
            raise errors.RequestMalformed("exchanges are listed by state, since, limit and cursor, each once")
        told[name] = value
    state, limit, cursor = told.get("state", ""), told.get("limit", str(_USUAL)), told.get("cursor", "0")
    if state and state not in STATES:
        raise errors.RequestMalformed(f"state is one of {', '.join(STATES)}")
    if not _is_number(limit) or not 1 <= int(limit) <= _MOST:
        raise errors.RequestMalformed(f"limit is 1 to {_MOST}")
    if not _is_number(cursor):
        raise errors.RequestMalformed("cursor comes from `next` of the page before")
    since = _instant(told["since"]) if "since" in told else None
    return Page(client, state, since, int(cursor) if "cursor" in told else None, int(limit))


def _filters(page: Page) -> list[tuple[str, object]]:
    since = None if page.since is None else page.since.isoformat().replace("+00:00", "Z")
    named = (("state", page.state), ("since", since), ("limit", page.limit))
    return [(name, value) for name, value in named if value]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped + of a zone
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last day have no UTC in every zone
        pass
    raise errors.RequestMalformed("since is a time with its zone, such as 2026-11-23T05:29:00Z")
