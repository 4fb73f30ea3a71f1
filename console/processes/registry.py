"""`lienthong registry`: the operator's authority, its HTTP interface and the directory's feed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from bus.clock import SystemClock
from console.addresses import host_of
from console.homes import InstanceHome
from console.processes.guests import BrokerHost
from console.processes.running import announce, configure_logging, run_process
from console.registrytls import server_context
from evidence.signer import FileSigner
from registry.authority import Authority
from registry.errors import RegistryError
from registry.http import create_app
from registry.settings import AuthoritySettings

_log = structlog.get_logger("lienthong.registry")
LISTENING = "listening.json"


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
        self._unsettled = Gauge(
            "lienthong_registry_broker_unsettled",
            "1 while the broker does not have what the directory says: withdrawals, streams.",
            ("what",),
            registry=registry,
        )
        self.on_accepted: Callable[[], None] = lambda: None

    def accepted(self, type: str, index: int) -> None:  # noqa: A002 - the port's word
        """See `registry.authority.AuthorityObserver`."""
        self._accepted.labels(type).inc()
        _log.info("document.accepted", type=type, index=index)
        self.on_accepted()

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

    def unsettled(self, what: str) -> None:
        """See `console.processes.guests.GuestObserver`."""
        self._unsettled.labels(what).set(1)

    def settled(self, what: str) -> None:
        """See `console.processes.guests.GuestObserver`."""
        self._unsettled.labels(what).set(0)


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
    host = BrokerHost(home, metrics)
    metrics.on_accepted = host.changed
    authority = await Authority.open(
        home.registry,
        genesis=facts.genesis,
        instance=facts.instance,
        log_signer=FileSigner.load(home.keys / "directory.pem"),
        cosigner=FileSigner.load(home.keys / "cosigner.pem"),
        now=clock.now,
        token=lambda: clock.random(16).hex(),
        feed=host.feed,
        settings=AuthoritySettings(heartbeat_s=facts.heartbeat_s),
        observer=metrics,
    )
    runner = web.AppRunner(
        create_app(
            authority,
            minter=host.minter,
            metrics=lambda: (CONTENT_TYPE_PLAIN_0_0_4, generate_latest(metrics.registry)),
        ),
        access_log=None,
        shutdown_timeout=2,
    )
    try:
        if authority.directory.anchor is None:
            await authority.submit((home.registry / "anchor.json").read_bytes())
        await host.start(authority)
        await runner.setup()
        port, url = facts.registry_listen.rpartition(":")[2], facts.registry_url.partition("#")[0]
        site = web.TCPSite(runner, host_of(facts.registry_listen), int(port), ssl_context=server_context(home))
        await site.start()
        announce(listening, {"url": url})
        _log.info("registry.listening", url=url, genesis=facts.genesis)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(_heartbeats(authority, host)),
                tasks.create_task(host.run(authority)),
            ]
            await stop.wait()
            for task in background:
                task.cancel()
    finally:
        await runner.cleanup()
        await host.close()
        await authority.close()


async def _heartbeats(authority: Authority, host: BrokerHost) -> None:
    """Prepares the stream at the first connection, then lets the authority publish."""
    await host.streams.wait_connected(float("inf"))
    while True:
        try:
            await host.feed.prepare()
            break
        except RegistryError as error:
            _log.warning("feed.unprepared", error=str(error))
            await asyncio.sleep(0.5)
    await authority.run()
