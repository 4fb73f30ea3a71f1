"""One node, running: what is started in which order, what happens on SIGHUP and SIGTERM.

Order of a start: admin port (so that health can be asked) and front, local directory, broker, log (recovered, boot
leaf), own head confirmed with counterparties, requests of an earlier run closed; only then are calls taken and served.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from bus import errors
from bus.delivery import store as delivery
from bus.exchange.keeping import TABLES
from bus.exchange.recovery import left_behind, newest_peer_notes
from bus.front.admin import AdminFront
from bus.front.adminapi import AdminApi
from bus.front.deprecations import Deprecations
from bus.front.exchanges import ExchangeFront, is_exchange_target
from bus.front.lookuplimits import LookupLimits, LookupRules
from bus.front.r1 import CallFront, FrontLimits
from bus.front.server import HttpServer
from bus.front.services import DirectoryFront, is_directory_target
from bus.gateway.adminacts import AdminActs
from bus.gateway.backends import build_sources
from bus.gateway.background import persist
from bus.gateway.commandacts import CommandActs
from bus.gateway.delivery import Delivery
from bus.gateway.exchange import Exchange
from bus.gateway.health import Health
from bus.gateway.housekeeping import Housekeeping
from bus.gateway.nodekeys import keys_of_log, load_log_signer, successor
from bus.gateway.parts import Parts, front_tls, read_changeable
from bus.gateway.space import until_space
from bus.gateway.warming import keep_warm
from bus.gateway.webhookposts import read_targets
from bus.metrics import GatewayMetrics
from bus.ports import Clock
from bus.settings import GatewaySettings, load_settings
from bus.transport import subjects
from evidence.errors import EvidenceError, LogMismatch, LogUnwritable
from evidence.log import ExchangeLog
from evidence.log.store import SqliteStore, Store
from evidence.signer import FileSigner

_log = structlog.get_logger("lienthong.gateway")
_RETRY_S = 3.0
_OWN_POLL_S = 0.5
_LOG_POLL_S = 1.0
_DIRECTORY_DEADLINE_S = 10.0
_FIXED = (
    "node", "genesis", "incarnation", "data", "broker", "registry", "keys.log", "keys.broker", "keys.passphrase",
    "front.listen", "front.client_ca", "front.max_body_bytes", "front.max_header_bytes", "admin.listen",
    "limits.pending_records", "limits.json_depth", "commands", "logging",
)  # fmt: skip
"""What a reload cannot take over; everything else it does."""


class Gateway:
    """One node.

    Args:
        settings_path: of gateway.toml; read again at a reload.
        clock: time and randomness.
        store_factory: of the exchange log; tests wrap the real one.

    Raises:
        SettingsInvalid: with every problem of the settings.
    """

    def __init__(self, settings_path: Path, clock: Clock, store_factory: Callable[[Path], Store] = SqliteStore) -> None:
        self._path = settings_path
        self._clock = clock
        self._store_factory = store_factory
        self.settings: GatewaySettings = load_settings(settings_path)
        self.metrics = GatewayMetrics()
        self._parts = Parts(self.settings, clock, self.metrics)
        self.node = self._parts.node
        self._health = Health(self._parts)
        self._exchange: Exchange | None = None
        self._calls: CallFront | None = None
        self._commands: ExchangeFront | None = None
        self._delivery: Delivery | None = None
        self._halted: errors.BusError | EvidenceError | None = None
        self._front_tls: ssl.SSLContext | None = None
        self._housekeeping = Housekeeping(self._parts, self.metrics, lambda: self.settings)
        self._client_ca = _content(self.settings.front.client_ca)

    # Settings -----------------------------------------------------------------------------------------------------

    async def reload(self) -> None:
        """Services, limits, clients, keys and certificates anew: all or nothing.

        Raises:
            SettingsInvalid: nothing was changed.
        """
        settings = load_settings(self._path)
        changed = [key for key in _FIXED if _value(settings, key) != _value(self.settings, key)]
        if changed:
            raise errors.SettingsInvalid([(0, key, "needs a restart") for key in changed], str(self._path))
        sources = build_sources(settings.service, self.metrics)
        changeable = read_changeable(settings)
        if _content(settings.front.client_ca) != self._client_ca:
            # a running TLS context can be told to trust more authorities, but never fewer
            raise errors.SettingsInvalid([(0, "front.client_ca", "needs a restart")], str(self._path))
        try:
            front_tls(settings)
        except (OSError, ssl.SSLError) as error:
            raise errors.SettingsInvalid([(0, "front.certificate", str(error))], str(self._path)) from error
        log_signer = self._next_log_signer(settings)
        webhooks = read_targets(settings)
        await self._parts.backends.replace(sources)
        # Commit point: from here on nothing can fail.
        self.settings = settings
        if log_signer is not None and self._health.log is not None:
            self._health.log.take_signer(log_signer)
            _log.info("log.key-changed", key=self._health.log.verifier_key.id.hex())
        self._parts.take(changeable)
        self._parts.take_limits(settings)
        front = settings.front
        if self._front_tls is not None and front.certificate is not None and front.key is not None:
            self._front_tls.load_cert_chain(front.certificate, front.key)
        if self._exchange is not None:
            self._exchange.take_limits(settings.limits)
        if self._delivery is not None:
            self._delivery.take_webhooks(webhooks)
            self._delivery.take_settings(settings)
        _log.info("settings.reloaded", services=len(settings.service), clients=len(settings.client))

    def _next_log_signer(self, settings: GatewaySettings) -> FileSigner | None:
        log, parts = self._health.log, self._parts
        if log is None:
            return None
        return successor(settings, parts.follower.directory, parts.origin, log.verifier_key, self._clock.now())

    # Start --------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, ready: Callable[[Gateway], None] | None = None) -> None:
        """Runs until `stop` is set, then drains.

        Args:
            stop: set by the signal handler.
            ready: called once both ports listen.

        Raises:
            BusError: the node must not run (settings, a suspected clone).
            EvidenceError: nor with this log (locked, damaged, another node's).
        """
        self.settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not await until_space(lambda: self._parts.open(self.settings), stop):
            return
        await self._parts.revocation_lists.recall()
        try:
            await self._listen()
            if ready is not None and not await until_space(lambda: ready(self), stop):
                return
            async with asyncio.TaskGroup() as tasks:
                lasting = {
                    "directory": self._parts.follower.run,
                    "log": self._watch_log,
                    "housekeeping": self._housekeeping.run,
                    "own rights": self._watch_own_rights,
                    "revocation lists": self._parts.revocation_lists.run,
                    "contracts": self._keep_warm,
                }
                background = [
                    tasks.create_task(self._or_halt(work, stop))
                    # becoming ready cannot begin anew: a defect there ends the process, and a new one begins
                    for work in (
                        self._become_ready(),
                        self._parts.broker_user.run(self._parts.connection),
                        *(persist(name, work) for name, work in lasting.items()),
                    )
                ]
                await stop.wait()
                await self._drain()
                for task in background:
                    task.cancel()
        finally:
            await self._close()
        if self._halted is not None:
            raise self._halted

    async def _listen(self) -> None:
        settings, parts = self.settings, self._parts
        self._services = DirectoryFront(
            lambda: parts.follower.directory, parts.follower, parts.credentials, self._clock
        )
        about_commands = CommandActs(
            parts.node,
            self._clock,
            settings.data / "log.db",
            lambda: None if self._delivery is None else self._delivery.letters,
            lambda: None if self._delivery is None else self._delivery.outgoing_end,
            lambda: None if self._delivery is None else self._delivery.statuses,
        )
        acts = AdminActs(parts, self._health, lambda: self.settings, self._status, self.reload, about_commands)
        admin = AdminFront(
            self.metrics.registry,
            self._health.checks,
            self._status,
            self._refresh,
            AdminApi(parts.admins, acts.deeds(), acts.record, self._clock.monotonic),
        )
        self.admin_server = HttpServer(settings.admin.listen, admin.handle, None, 4096)
        self._front_tls = front_tls(settings)
        self.front_server = HttpServer(
            settings.front.listen, self._dispatch, self._front_tls, settings.front.max_body_bytes
        )
        await self.admin_server.start()
        await self.front_server.start()

    def _refresh(self) -> None:
        self._health.refresh(self.settings)
        if self._delivery is not None:
            self._delivery.refresh(self.metrics)

    def _status(self) -> dict[str, object]:
        return self._health.status(self.settings, self.front_server.url)

    async def _dispatch(self, request: web.BaseRequest, raw_target: str) -> web.StreamResponse:
        if is_directory_target(raw_target):
            return await self._services.handle(request, raw_target)
        if is_exchange_target(raw_target):
            if self._commands is None:
                raise errors.Starting("the gateway is starting: what became of a command can be told in a moment")
            return await self._commands.handle(request, raw_target)
        if not raw_target.startswith("/r1/"):
            raise errors.NotFound("calls go to /r1/{instance}/{class}/{member}/{subsystem}/{service}/…")
        self._parts.maintenance.refuse()
        code = self._health.serving_code
        if code == "draining":
            raise errors.Draining
        if code == "log-unwritable":
            raise errors.LogUnwritable
        if self._calls is None:
            raise errors.Starting(f"the gateway is starting ({code})")
        return await self._calls.handle(request, raw_target)

    async def _or_halt(self, work: Coroutine[Any, Any, None], stop: asyncio.Event) -> None:
        """What a person must look at first ends the process with one clear line, not with a traceback."""
        try:
            await work
        except (errors.BusError, EvidenceError) as error:
            if error.disposition != "halt":
                raise
            _log.error(f"node.{error.code}", detail=str(error))
            self._halted = error
            stop.set()

    async def _become_ready(self) -> None:
        """Broker, log, own head, open requests: then calls are taken and served.

        Raises:
            CloneSuspected, SettingsInvalid, EvidenceError: this node must not run.
        """
        parts, settings = self._parts, self.settings
        await parts.backends.replace(build_sources(settings.service, self.metrics))
        await parts.connection.start()
        log = self._health.log = await self._open_log()
        exchange = self._exchange = self._housekeeping.exchange = Exchange(parts, log, settings)
        delivering = self._delivery = Delivery(parts, exchange, settings)
        delivering.take_webhooks(read_targets(settings))
        await delivering.open()
        deprecations = Deprecations(lambda: parts.follower.directory)
        self._commands = ExchangeFront(
            delivering.statuses, parts.credentials, delivering.cancel_desk, deprecations,
            LookupLimits(self._lookup_rules, self._clock.monotonic, partial(self.metrics.refused, "client")),
        )  # fmt: skip
        self._health.serving_code = "confirming-head"
        control, answerer = exchange.control, exchange.answerer
        for note in await asyncio.to_thread(newest_peer_notes, settings.data / "log.db"):
            parts.memory.recall(note)
        await parts.connection.serve(f"lt.k.{subjects.node_token(parts.node)}.*", control.on_question)
        await parts.connection.wait_connected(float("inf"))
        await self._housekeeping.confirm_head(exchange)
        await self._close_open_requests(exchange)
        limits = FrontLimits(settings.front.max_body_bytes, settings.front.max_header_bytes)
        self._calls = CallFront(
            exchange.asker, parts.credentials, limits, parts.follower.directory.resolve_alias, self._clock.monotonic,
            delivering.desk, delivering.statuses, deprecations,
        )  # fmt: skip
        self._housekeeping.calls_taken = True
        await parts.connection.serve(
            f"lt.q.{subjects.member_token(parts.member)}.*", answerer.on_query, subjects.query_group(parts.member)
        )
        self._health.serving_code = ""
        await delivering.run(self._health.warm)

    def _lookup_rules(self) -> LookupRules:
        return LookupRules(self.settings.limits.lookups_per_s, self.settings.limits.long_polls)

    async def _open_log(self) -> ExchangeLog:
        signer, directory = load_log_signer(self.settings), self._parts.follower.directory
        waited = False
        while True:
            try:
                return await ExchangeLog.open(
                    self.settings.data / "log.db",
                    origin=self._parts.origin,
                    signer=signer,
                    now=self._clock.now,
                    token=lambda: self._clock.random(16).hex(),
                    schema=TABLES + delivery.TABLES,
                    store_factory=self._store_factory,
                    observer=self.metrics,
                    max_pending=self.settings.limits.pending_records,
                    earlier_keys=keys_of_log(directory, self._parts.origin),
                )
            except LogMismatch:
                # The key may have been exchanged while this node was down: a newer directory knows.
                known = {key.public for key in keys_of_log(directory, self._parts.origin)}
                if waited or signer.public_bytes in known:
                    raise
                waited = True
                await self._directory_moved(_DIRECTORY_DEADLINE_S)
            except LogUnwritable as error:
                self._health.serving_code = "log-unwritable"
                _log.error("log.unwritable", error=str(error), retry_in_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)

    async def _directory_moved(self, deadline_s: float) -> None:
        """Waits until the directory changed, or the deadline passed."""
        moved = asyncio.Event()
        end = self._parts.follower.subscribe(moved.set)
        try:
            await asyncio.wait_for(moved.wait(), deadline_s)
        except TimeoutError:
            return
        finally:
            end()

    async def _close_open_requests(self, exchange: Exchange) -> None:
        now_s = int(self._clock.now().timestamp())
        left = await asyncio.to_thread(left_behind, self.settings.data / "log.db", now_s)
        exchange.seen.load(left.seen)
        await exchange.asker.close_open(left.open_requests)
        if left.open_requests:
            _log.info("requests.closed", count=len(left.open_requests), outcome="unknown")

    # Background ---------------------------------------------------------------------------------------------------

    async def _keep_warm(self) -> None:
        parts = self._parts
        await keep_warm(parts.follower, parts.contracts, parts.member, self._health.warmed)

    async def _watch_own_rights(self) -> None:
        while True:
            await asyncio.sleep(_OWN_POLL_S)
            self._parts.own.take_over()
            self._parts.sealing.take_over()

    async def _watch_log(self) -> None:
        """A log that contradicts what it released stays closed: the process must not go on as if it were a full disk.

        Raises:
            LogForked, LogCorrupt: by name.
        """
        while True:
            await asyncio.sleep(_LOG_POLL_S)
            log = self._health.log
            if log is None or log.writable:
                continue
            try:
                async with asyncio.timeout(_LOG_POLL_S):
                    await log.until_writable()
            except TimeoutError:
                continue  # it is being reopened
            except EvidenceError as error:
                if error.disposition == "halt":
                    raise

    # Stop ---------------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Takes nothing new; what is under way may end."""
        self._health.serving_code = "draining"
        grace_s = self.settings.limits.drain_s
        until_s = self._clock.monotonic() + grace_s
        if self._delivery is not None:
            await self._delivery.stop(grace_s)
        await self._parts.connection.stop_serving(max(0.0, until_s - self._clock.monotonic()))
        if self._exchange is not None:
            await self._exchange.asker.wait_idle(max(0.0, until_s - self._clock.monotonic()))

    async def _close(self) -> None:
        for server in (getattr(self, "front_server", None), getattr(self, "admin_server", None)):
            if server is not None:
                await server.stop()
        if self._delivery is not None:
            await self._delivery.close()
        await self._parts.close()
        if self._health.log is not None:
            with contextlib.suppress(EvidenceError):
                await self._health.log.close()


def _content(path: Path | None) -> bytes:
    """What a reload compares; a file that is not there any more is no longer the same."""
    try:
        return b"" if path is None else path.read_bytes()
    except OSError:
        return b"?"


def _value(settings: GatewaySettings, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value
