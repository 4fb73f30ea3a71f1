"""The admin port: health, readiness, metrics and status, open to who reaches it; the admin API, with keys.

Loopback unless configured; no personal data.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from bus import errors
from bus.front.adminapi import BASE, AdminApi


class Check(msgspec.Struct, frozen=True):
    """One thing that readiness depends on.

    Attributes:
        name: log, directory, broker, head.
        ok: whether it is well.
        code: stable code when it is not.
        detail: for a person: what is wrong and what to do.
    """

    name: str
    ok: bool
    code: str = ""
    detail: str = ""


class AdminFront:
    """Answers the admin port.

    Args:
        registry: of the metrics.
        checks: current state of what readiness depends on.
        status: facts for `/status`.
        refresh: brings gauges up to date before a scrape.
        api: what needs a key; None for a port without it.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        checks: Callable[[], list[Check]],
        status: Callable[[], dict[str, object]],
        refresh: Callable[[], None],
        api: AdminApi | None = None,
    ) -> None:
        self._registry = registry
        self._checks = checks
        self._status = status
        self._refresh = refresh
        self._api = api

    async def handle(self, request: web.BaseRequest, raw_target: str) -> web.StreamResponse:
        """One question.

        Raises:
            NotFound, MethodNotAllowed: by name; and what the admin API raises.
        """
        if self._api is not None and raw_target.startswith(f"{BASE}/"):
            return await self._api.handle(request, raw_target)
        if request.method not in ("GET", "HEAD"):
            refused = errors.MethodNotAllowed("the admin port is read with GET")
            refused.allowed = ("GET", "HEAD")
            raise refused
        match raw_target.partition("?")[0]:
            case "/livez":
                return _json({"alive": True})
            case "/readyz":
                checks = self._checks()
                ready = all(check.ok for check in checks)
                return _json({"ready": ready, "checks": checks}, 200 if ready else 503)
            case "/metrics":
                self._refresh()
                body = generate_latest(self._registry)
                return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
            case "/status":
                return _json({**self._status(), "checks": self._checks()})
            case "/openapi.json" if self._api is not None:
                return _json(self._api.description())
        raise errors.NotFound("the admin port has /livez, /readyz, /metrics, /status, /openapi.json and /api/v1/…")


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), headers={"Content-Type": "application/json"})
