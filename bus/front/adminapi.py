"""The admin API: who may do what at the admin port, and the one way of every act.

An act is authenticated, authorised by role, recorded in the exchange log, and only then done: what cannot be recorded
is not done. Refused acts are recorded too; of those that come without a good key, only so many a second. What the acts
do is in `bus.gateway.adminacts`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from bus import errors
from bus.front.adminkeys import AdminKeys, AdminSystem

ASKING_KEY = web.RequestKey("asking_key", AdminSystem)
"""Of a request: whose key it came with."""

BASE = "/api/v1"
_STRANGERS_PER_S, _STRANGERS_BURST = 1.0, 20.0
_UNKNOWN_ACT = "unknown"

Outcome = Literal["allowed", "refused", "failed"]
Perform = Callable[[web.BaseRequest, tuple[str, ...]], Awaitable[web.Response]]
Record = Callable[[str, str, AdminSystem | None, Outcome, str], Awaitable[None]]
"""Appends an admin record: act, target, key, outcome, code."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One act of the API.

    Attributes:
        name: in records, like `maintenance.on`.
        roles: each of them allows it.
        summary: for the OpenAPI document.
        perform: does it; gets the values of the path's parameters.
    """

    name: str
    roles: frozenset[str]
    summary: str
    perform: Perform


Deeds = Mapping[tuple[str, str], Deed]
"""By method and path template below `BASE`, like `("GET", "/evidence/records/{index}")`."""


class AdminApi:
    """Answers `/api/v1/…` and `/openapi.json` of the admin port.

    Args:
        keys: the admin keys.
        deeds: what can be done.
        record: appends the record of an act; raises when it cannot.
        monotonic: seconds.
    """

    def __init__(self, keys: AdminKeys, deeds: Deeds, record: Record, monotonic: Callable[[], float]) -> None:
        self._keys = keys
        self._deeds = deeds
        self._record = record
        self._monotonic = monotonic
        self._routes = [(method, _pattern(template), deed) for (method, template), deed in deeds.items()]
        self._strangers = _STRANGERS_BURST
        self._strangers_at_s = monotonic()

    async def handle(self, request: web.BaseRequest, raw_target: str) -> web.Response:
        """One act.

        Raises:
            BusError: refused or failed; it stands in the log.
        """
        path = raw_target.partition("?")[0]
        method = "GET" if request.method == "HEAD" else request.method
        deed, values, allowed = self._find(method, path.removeprefix(BASE))
        name = _UNKNOWN_ACT if deed is None else deed.name
        target = "/".join(values)
        try:
            key = await self._keys.authenticate(request)
        except errors.BusError as refusal:
            if self._take_stranger():
                await self._record(name, target, None, "refused", refusal.code)
            raise
        if deed is None or not deed.roles & set(key.roles):
            refused = _refusal(deed, allowed)
            await self._record(name, target, key, "refused", refused.code)
            raise refused
        await self._record(name, target, key, "allowed", "")
        request[ASKING_KEY] = key
        try:
            return await deed.perform(request, values)
        except errors.BusError as failure:
            await self._record(name, target, key, "failed", failure.code)
            raise
        except (OSError, asyncio.CancelledError) as failure:
            code = errors.InternalError.code if isinstance(failure, OSError) else "cancelled"
            await self._record(name, target, key, "failed", code)
            raise

    def _find(self, method: str, path: str) -> tuple[Deed | None, tuple[str, ...], tuple[str, ...]]:
        """The act of a path, its values, and the methods that the path has."""
        allowed: list[str] = []
        for known, pattern, deed in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if known == method:
                return deed, match.groups(), ()
            allowed.append(known)
        return None, (), tuple(allowed)

    def _take_stranger(self) -> bool:
        """Whether a refusal without a good key is still recorded: strangers must not fill the log."""
        now_s = self._monotonic()
        elapsed_s, self._strangers_at_s = now_s - self._strangers_at_s, now_s
        self._strangers = min(_STRANGERS_BURST, self._strangers + elapsed_s * _STRANGERS_PER_S)
        if self._strangers < 1.0:
            return False
        self._strangers -= 1.0
        return True

    def description(self) -> dict[str, object]:
        """The OpenAPI document of the API."""
        return describe(self._deeds)


def _refusal(deed: Deed | None, allowed: tuple[str, ...]) -> errors.BusError:
    if deed is not None:
        return errors.RoleMissing(f"this asks for one of the roles {', '.join(sorted(deed.roles))}")
    if allowed:
        refused = errors.MethodNotAllowed("the admin API has this path, but not with this method")
        refused.allowed = allowed
        return refused
    return errors.NotFound("the admin API has no such path; see /openapi.json")


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{[a-z_]+\\\}", "([0-9A-Za-z-]{1,64})", re.escape(template)))


def describe(deeds: Deeds) -> dict[str, object]:
    """The OpenAPI 3.1 document of the acts."""
    paths: dict[str, dict[str, object]] = {}
    for (method, template), deed in deeds.items():
        names = re.findall(r"\{([a-z_]+)\}", template)
        paths.setdefault(BASE + template, {})[method.lower()] = {
            "operationId": deed.name,
            "summary": deed.summary,
            "description": "Roles: " + ", ".join(sorted(deed.roles)),
            "parameters": [
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
            ],
            "responses": {
                "200": {"description": "Done."},
                "default": {
                    "description": "Refused or failed, with a stable code.",
                    "content": {"application/problem+json": {"schema": {"type": "object"}}},
                },
            },
            "security": [{"key": []}],
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Liên Thông gateway, admin API", "version": "1"},
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "X-Road-ApiKey"}}},
    }
