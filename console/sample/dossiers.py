"""An agency's own dossier application: a small HTTP program that stands behind the kind `http`, contract `dossiers/1`.

Its one file is its store: each effect is one line of JSON, written before it is answered and read again at the next
start. It knows the exchange ids of what it has done, so that a command that comes again changes nothing and gets the
same answer. It knows nothing of the bus but the header that names the exchange.
"""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

_ENDED = frozenset({"refused", "withdrawn", "stopped", "returned"})
_SHOWN = ("code", "procedure", "procedureName", "receivedAt", "dueAt", "finishedAt", "returnedAt", "status", "unit")
_MAX_BODY_BYTES = 256 * 1024


class DossierBook:
    """Dossiers of one agency.

    Args:
        path: The file; made when it is not there.

    Attributes:
        dossiers: Code to what is known of it.
    """

    def __init__(self, path: Path) -> None:
        self.dossiers: dict[str, dict[str, Any]] = {}
        self._done: set[str] = set()
        if path.exists():
            for line in path.read_bytes().splitlines():
                self._take(msgspec.json.decode(line))
        self._file = path.open("ab", buffering=0)

    def _take(self, line: dict[str, Any]) -> None:
        self._done.add(line["exchange_id"])
        self.dossiers.setdefault(line["code"], {"code": line["code"]}).update(line["told"])

    def done(self, exchange_id: str) -> bool:
        """Whether this exchange had its effect."""
        return exchange_id in self._done

    def effect(self, exchange_id: str, operation: str, code: str, told: dict[str, Any]) -> None:
        """Do it: one line, then the dossier has changed.

        Args:
            exchange_id: What the caller named the exchange.
            operation: The contract's `operationId`.
            code: Of the dossier.
            told: What changes.
        """
        line = {
            "exchange_id": exchange_id,
            "operation": operation,
            "at": datetime.now(UTC).isoformat(),
            "code": code,
            "told": told,
        }
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._take(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class DossierApplication:
    """The application's HTTP surface.

    Args:
        book: Its store.
    """

    def __init__(self, book: DossierBook) -> None:
        self._book = book

    def routed(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_post("/dossiers", self._submit)
        application.router.add_get("/dossiers/{code}", self._one)
        application.router.add_post("/dossiers/{code}/progress", self._progress)
        application.router.add_post("/dossiers/{code}/status", self._status)
        return application

    async def _one(self, request: web.Request) -> web.Response:
        found = self._book.dossiers.get(request.match_info["code"])
        if found is None:
            return _problem(404, "No such dossier", "dossier-unknown")
        return _answer({name: found[name] for name in _SHOWN if name in found})

    async def _submit(self, request: web.Request) -> web.Response:
        told = await request.json()
        kept = {name: told[name] for name in _SHOWN if name in told}
        return self._do(request, "submitDossier", told["code"], kept, known=False)

    async def _progress(self, request: web.Request) -> web.Response:
        told = await request.json()
        step = {"status": told["status"], "content": told["content"]} | _unit(told)
        return self._do(request, "reportProgress", request.match_info["code"], step)

    async def _status(self, request: web.Request) -> web.Response:
        told = await request.json()
        ended = {"finished": "finishedAt", "returned": "returnedAt"}.get(told["status"])
        at = {ended: told["at"]} if ended and "at" in told else {}
        return self._do(request, "reportStatus", request.match_info["code"], {"status": told["status"]} | at)

    def _do(
        self, request: web.Request, operation: str, code: str, told: dict[str, Any], *, known: bool = True
    ) -> web.Response:
        exchange_id = request.headers.get("X-Road-Request-Id", "")
        if not self._book.done(exchange_id):
            found = self._book.dossiers.get(code)
            if known and found is None:
                return _problem(404, "No such dossier", "dossier-unknown")
            if known and found is not None and found["status"] in _ENDED:
                return _problem(422, "The dossier has ended; nothing more can be done with it", "dossier-ended")
            self._book.effect(exchange_id, operation, code, told)
        return _answer({"code": code})


def _unit(told: dict[str, Any]) -> dict[str, Any]:
    return {"unit": told["unit"]} if "unit" in told else {}


def _answer(body: dict[str, Any]) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


def _problem(status: int, title: str, code: str) -> web.Response:
    body = {"type": "about:blank", "title": title, "status": status, "code": code}
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/problem+json")


async def serve(effects: Path, port: int) -> None:
    """Serve on loopback until SIGTERM or SIGINT.

    Args:
        effects: Its store.
        port: Where to listen.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    book = DossierBook(effects)
    runner = web.AppRunner(DossierApplication(book).routed(), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        await stop.wait()
    finally:
        await runner.cleanup()
        book.close()
