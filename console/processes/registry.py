"""`lienthong registry`: the operator's authority, its HTTP interface and the directory's feed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from bus.clock import SystemClock
from bus.front.server import client_tls
from bus.transport.connection import BrokerIdentity, Connection
from bus.transport.feed import NatsFeed
from bus.transport.minting import AccountMinter
from console.addresses import host_of
from console.homes import InstanceHome
from console.instance import read_broker_identity
from console.processes.running import announce, configure_logging, run_process
from console.registrytls import server_context
from evidence.signer import FileSigner
from registry.authority import Authority
from registry.errors import RegistryError
from registry.http import create_app
from registry.settings import AuthoritySettings

_log = structlog.get_logger("lienthong.registry")
LISTENING = "listening.json"
_INBOX = "_I.registry."


class RegistryMetrics:
    """Observer of the authority and of its connection."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._accepted = Counter(
            "lienthong_registry_documents_total", "Documents appended.", ("type",), registry=registry
        )
        self._refused = Counter(
            "lienthong_registry_refusals_total", "Documents refused, by code.", ("code",), registry=registry
        )
        self._published = Gauge(
            "lienthong_registry_published_size", "Size of the directory that the feed has.", registry=registry
        )
        self._failures = Counter(
            "lienthong_registry_heartbeat_failures_total", "Heartbeats that failed.", registry=registry
        )
        self._up = Gauge("lienthong_registry_broker_connected", "1 when connected to the broker.", registry=registry)

    def accepted(self, type: str, index: int) -> None:  # noqa: A002 - the port's word
        """See `registry.authority.AuthorityObserver`."""
        self._accepted.labels(type).inc()
        _log.info("document.accepted", type=type, index=index)

    def refused(self, code: str) -> None:
        """See `registry.authority.AuthorityObserver`."""
        self._refused.labels(code).inc()
        _log.warning("document.refused", code=code)

    def published(self, size: int) -> None:
        """See `registry.authority.AuthorityObserver`."""
        self._published.set(size)

    def failed(self, error: Exception) -> None:
        """See `registry.authority.AuthorityObserver`."""
        self._failures.inc()
        _log.warning("heartbeat.failed", error=str(error))

    def connected(self, up: bool) -> None:
        """See `bus.transport.connection.TransportObserver`."""
        self._up.set(1 if up else 0)

    def denied(self) -> None:
        """See `bus.transport.connection.TransportObserver`."""
        _log.error("broker.denied")

    def overloaded(self) -> None:
        """See `bus.transport.connection.TransportObserver`."""


def run(home_path: Path) -> None:
    """Runs the registry until SIGTERM."""
    configure_logging()
    home = InstanceHome(home_path)
    listening = home.registry / LISTENING
    listening.unlink(missing_ok=True)

    async def main(stop: asyncio.Event) -> None:
        await _serve(home, listening, stop)

    try:
        run_process(main, None)
    finally:
        listening.unlink(missing_ok=True)


async def _serve(home: InstanceHome, listening: Path, stop: asyncio.Event) -> None:
    facts, clock, metrics = home.facts, SystemClock(), RegistryMetrics()
    connection = _connection(home, facts.broker_listen, metrics)
    feed = NatsFeed(connection)
    authority = await Authority.open(
        home.registry,
        genesis=facts.genesis,
        instance=facts.instance,
        log_signer=FileSigner.load(home.keys / "directory.pem"),
        cosigner=FileSigner.load(home.keys / "cosigner.pem"),
        now=clock.now,
        token=lambda: clock.random(16).hex(),
        feed=feed,
        settings=AuthoritySettings(heartbeat_s=facts.heartbeat_s),
        observer=metrics,
    )
    account = FileSigner.load(home.broker / "account.pem")
    minter = AccountMinter(account.public_bytes, account.sign, time.time)
    runner = web.AppRunner(
        create_app(
            authority,
            minter=minter,
            metrics=lambda: (CONTENT_TYPE_PLAIN_0_0_4, generate_latest(metrics.registry)),
        ),
        access_log=None,
        shutdown_timeout=2,
    )
    try:
        if authority.directory.anchor is None:
            await authority.submit((home.registry / "anchor.json").read_bytes())
        await connection.start()
        await runner.setup()
        port, url = facts.registry_listen.rpartition(":")[2], facts.registry_url.partition("#")[0]
        site = web.TCPSite(runner, host_of(facts.registry_listen), int(port), ssl_context=server_context(home))
        await site.start()
        announce(listening, {"url": url})
        _log.info("registry.listening", url=url, genesis=facts.genesis)
        async with asyncio.TaskGroup() as tasks:
            heartbeat = tasks.create_task(_heartbeats(authority, connection, feed))
            await stop.wait()
            heartbeat.cancel()
    finally:
        await runner.cleanup()
        await connection.close()
        await authority.close()


async def _heartbeats(authority: Authority, connection: Connection, feed: NatsFeed) -> None:
    """Prepares the stream at the first connection, then lets the authority publish."""
    await connection.wait_connected(float("inf"))
    while True:
        try:
            await feed.prepare()
            break
        except RegistryError as error:
            _log.warning("feed.unprepared", error=str(error))
            await asyncio.sleep(0.5)
    await authority.run()


def _connection(home: InstanceHome, broker_listen: str, metrics: RegistryMetrics) -> Connection:
    identity = read_broker_identity(home)
    signer = FileSigner.load(home.broker / "registry.pem")
    return Connection(
        [f"tls://{broker_listen}"],
        client_tls(str(home.ca / "ca.crt")),
        BrokerIdentity("registry", lambda: identity.registry_user_jwt, signer.sign),
        _INBOX,
        metrics,
    )
