"""The sample register's own business application: a small HTTP program that stands behind the kind `http`.

It serves the contract `business/1` from its database, SQLite or PostgreSQL, on loopback. Each call that it served is
written as one line of JSON to the effects file before it is answered, so that a test can count what really happened.
It knows nothing of the bus but the header that names the exchange.
"""

import asyncio
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TextIO

import asyncpg
import msgspec
from aiohttp import web
from lxml import etree

from adapters.kinds.sql.binding import name_key

NAMESPACE = "urn:lienthong:business:1"
ONE = "SELECT document FROM enterprise WHERE code = ?"
DOSSIER = "SELECT code, state, received_on, enterprise_code FROM dossier WHERE code = ?"
COUNT = "SELECT count(*) FROM enterprise WHERE name_key >= ? AND name_key < ? AND status = coalesce(?, status)"
SEARCH = """
SELECT code, name, status, province FROM enterprise
WHERE name_key >= ? AND name_key < ? AND status = coalesce(?, status)
ORDER BY code LIMIT ? OFFSET ?
"""
_MAX_BODY_BYTES = 64 * 1024
_LAST = "\U0010ffff"
_FIRST_LIMIT = 20
_UNPREFIXED: dict[str | None, str] = {None: NAMESPACE}

Row = tuple[str | int | None, ...]
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Tables(Protocol):
    """Where the register's rows come from."""

    async def rows(self, statement: str, *values: str | int | None) -> list[Row]:
        """Run one of the constant statements above."""

    async def close(self) -> None:
        """Close the connection."""


class SqliteTables:
    """A SQLite file, asked in the event loop: its statements take microseconds, and this is a sample."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)

    async def rows(self, statement: str, *values: str | int | None) -> list[Row]:
        """Run a statement."""
        return self._connection.execute(statement, values).fetchall()

    async def close(self) -> None:
        """Close the file."""
        self._connection.close()


class PostgresqlTables:
    """A PostgreSQL database."""

    def __init__(self, pool: asyncpg.Pool, numbered: dict[str, str]) -> None:
        self._pool = pool
        self._numbered = numbered

    @classmethod
    async def connect(cls, address: str) -> "PostgresqlTables":
        """Connect.

        Args:
            address: `postgresql://…`.
        """
        pool = await asyncpg.create_pool(address, min_size=1, max_size=4)
        return cls(pool, {statement: _numbered(statement) for statement in (ONE, DOSSIER, COUNT, SEARCH)})

    async def rows(self, statement: str, *values: str | int | None) -> list[Row]:
        """Run a statement."""
        found = await self._pool.fetch(self._numbered[statement], *values)
        return [tuple(row) for row in found]

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()


class Effects:
    """The file of what was served: one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)

    def served(self, operation: str, exchange_id: str) -> None:
        """Write one line.

        Args:
            operation: The contract's `operationId`.
            exchange_id: What the caller named the exchange; empty when it did not.
        """
        line = {"exchange_id": exchange_id, "operation": operation, "at": datetime.now(UTC).isoformat()}
        self._file.write(msgspec.json.encode(line).decode() + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Application:
    """The register's HTTP surface."""

    def __init__(self, tables: Tables, effects: Effects) -> None:
        self._tables = tables
        self._effects = effects

    def routed(self) -> web.Application:
        """The aiohttp application."""
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_get("/livez", self._livez)
        application.router.add_get("/enterprises/{code}", self._noted("getEnterprise", self._one))
        application.router.add_get("/enterprises", self._noted("searchEnterprises", self._search))
        application.router.add_post("/registration-status", self._noted("registrationStatus", self._dossier))
        return application

    def _noted(self, operation: str, handler: Handler) -> Handler:
        async def noted(request: web.Request) -> web.Response:
            answer = await handler(request)
            self._effects.served(operation, request.headers.get("X-Road-Request-Id", ""))
            return answer

        return noted

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _one(self, request: web.Request) -> web.Response:
        found = await self._tables.rows(ONE, request.match_info["code"])
        if not found:
            return _problem(404, "No enterprise has this code")
        return web.Response(text=str(found[0][0]), content_type="application/json")

    async def _search(self, request: web.Request) -> web.Response:
        name = name_key(request.query.get("name", ""))
        try:
            limit, offset = int(request.query.get("limit", _FIRST_LIMIT)), int(request.query.get("offset", 0))
        except ValueError:
            return _problem(400, "limit and offset are numbers")
        if not name or not 1 <= limit <= 100 or not 0 <= offset <= 10_000:
            return _problem(400, "name, limit or offset is not usable")
        wanted = (name, name + _LAST, request.query.get("status"))
        total = (await self._tables.rows(COUNT, *wanted))[0][0]
        found = await self._tables.rows(SEARCH, *wanted, limit, offset)
        entries = [dict(zip(("code", "name", "status", "province"), row, strict=True)) for row in found]
        body = msgspec.json.encode({"total": total, "enterprises": entries})
        return web.Response(body=body, content_type="application/json")

    async def _dossier(self, request: web.Request) -> web.Response:
        code = _asked_dossier(await request.read())
        if code is None:
            return _problem(400, "The body is not a RegistrationStatusRequest")
        found = await self._tables.rows(DOSSIER, code)
        if not found:
            return _problem(404, "No such dossier")
        return web.Response(body=_status_document(found[0]), content_type="application/xml")


def _asked_dossier(body: bytes) -> str | None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError:
        return None
    if root.tag != f"{{{NAMESPACE}}}RegistrationStatusRequest":
        return None
    return root.findtext(f"{{{NAMESPACE}}}DossierCode")


def _status_document(row: Row) -> bytes:
    root = etree.Element(f"{{{NAMESPACE}}}RegistrationStatus", nsmap=_UNPREFIXED)  # type: ignore[arg-type]
    for name, value in zip(("DossierCode", "State", "ReceivedOn", "EnterpriseCode"), row, strict=True):
        if value is not None:
            etree.SubElement(root, f"{{{NAMESPACE}}}{name}").text = str(value)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _problem(status: int, title: str) -> web.Response:
    body = msgspec.json.encode({"type": "about:blank", "title": title, "status": status})
    return web.Response(status=status, body=body, content_type="application/problem+json")


def _numbered(statement: str) -> str:
    """PostgreSQL's marks; `coalesce` needs to be told the type of a NULL."""
    parts = statement.split("?")
    marked = "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], 1)) + parts[-1]
    return marked.replace("coalesce($3", "coalesce($3::text")


async def open_tables(database: str) -> Tables:
    """Open the register's database.

    Args:
        database: A path, `sqlite:///…` or `postgresql://…`.
    """
    if database.startswith(("postgresql://", "postgres://")):
        return await PostgresqlTables.connect(database)
    return SqliteTables(Path(database.removeprefix("sqlite:///")))


async def serve(database: str, effects: Path, port_file: Path | None, port: int = 0) -> None:
    """Serve on loopback until SIGTERM or SIGINT.

    Args:
        database: See `open_tables`.
        effects: File to append served calls to.
        port_file: Where to write the port, whole or not at all; None prints it.
        port: 0 takes a free one.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tables, noted = await open_tables(database), Effects(effects)
    runner = web.AppRunner(Application(tables, noted).routed(), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        _tell(runner.addresses[0][1], port_file)
        await stop.wait()
    finally:
        await runner.cleanup()
        await tables.close()
        noted.close()


def _tell(port: int, port_file: Path | None) -> None:
    if port_file is None:
        print(port, flush=True)
        return
    unfinished = port_file.with_name(f"{port_file.name}.{os.getpid()}")
    unfinished.write_text(f"{port}\n")
    unfinished.rename(port_file)
