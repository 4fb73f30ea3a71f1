"""One node, running: what is started in which order, what happens on SIGHUP and SIGTERM.

Order of a start: admin port (so that health can be asked), front, local directory, broker, log (recovered, boot leaf),
requests of an earlier run closed, own head confirmed with counterparties; only then are calls taken and served.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from aiohttp import web
from cryptography import x509

from bus import errors
from bus.exchange.answering import Answerer
from bus.exchange.asking import Asker, AskingLimits
from bus.exchange.composing import Composer
from bus.exchange.contracts import Contracts
from bus.exchange.control import Control
from bus.exchange.keeping import TABLES, DayKeys, Keeper
from bus.exchange.limits import InFlight
from bus.exchange.peers import Peers
from bus.exchange.recovery import left_behind
from bus.exchange.replay import SeenIds
from bus.exchange.verification import CheckpointMemory, RecordVerifier, TimeLimits
from bus.front.admin import AdminFront, Check
from bus.front.credentials import ClientSystem, Credentials
from bus.front.r1 import CallFront, FrontLimits
from bus.front.server import HttpServer, client_tls, server_tls
from bus.front.services import DirectoryFront, is_directory_target
from bus.gateway.backends import Backends, build_sources
from bus.gateway.sealingkeys import load_keys
from bus.metrics import GatewayMetrics
from bus.ports import Clock
from bus.sealing.epoch import Opener, Sealer
from bus.sealing.keys import SealingKeyPair
from bus.settings import GatewaySettings, load_settings
from bus.transport import subjects
from bus.transport.connection import BrokerIdentity, Connection
from bus.transport.feed import NatsFeedReader
from evidence.errors import EvidenceError, LogUnwritable
from evidence.identifiers import NodeId, log_origin
from evidence.log import ExchangeLog
from evidence.log.store import SqliteStore, Store
from evidence.signer import FileSigner
from registry.errors import RegistryError
from registry.fold import Skipped
from registry.follower import Follower, FollowerSettings
from registry.own import OwnStore, OwnView, compare
from registry.quota import QuotaBook

_log = structlog.get_logger("lienthong.gateway")
_RETRY_S = 3.0
_JOIN_EVERY_S = 45.0
_OWN_POLL_S = 0.5
_HEAD_DEADLINE_S = 10.0


class Gateway:
    """One node.

    Args:
        settings_path: of gateway.toml; read again at a reload.
        clock: time and randomness.
        store_factory: of the exchange log; tests wrap the real one.
    """

    def __init__(self, settings_path: Path, clock: Clock, store_factory: Callable[[Path], Store] = SqliteStore) -> None:
        self._path = settings_path
        self._clock = clock
        self._store_factory = store_factory
        self.settings: GatewaySettings = load_settings(settings_path)
        self.metrics = GatewayMetrics()
        self._backends = Backends()
        self._credentials = Credentials(clock.random)
        self._query_keys: dict[str, SealingKeyPair] = {}
        self._answer_keys: dict[str, SealingKeyPair] = {}
        self._memory = CheckpointMemory()
        self._log: ExchangeLog | None = None
        self._log_code = "starting"
        self._asker: Asker | None = None
        self._answerer: Answerer | None = None
        self._control: Control | None = None
        self._calls: CallFront | None = None
        self._halted: errors.BusError | None = None
        self._draining = False
        self._front_tls: ssl.SSLContext | None = None
        node = NodeId.parse(self.settings.node)
        self.node, self.member = str(node), str(node.member)
        self._origin = log_origin(self.settings.genesis, node, self.settings.incarnation)
        self._take_settings(self.settings)

    # --- settings -----------------------------------------------------------------------------------------------

    def _take_settings(self, settings: GatewaySettings) -> None:
        """Takes over what can change while running; called at start and, after everything was checked, at a reload."""
        keys = load_keys(settings.keys.sealing)
        self._query_keys.clear()
        self._query_keys.update(keys["query"])
        self._answer_keys.clear()
        self._answer_keys.update(keys["answer"])
        self._credentials.replace([_client_system(client) for client in settings.client])
        self.settings = settings

    def _front_context(self, settings: GatewaySettings) -> ssl.SSLContext | None:
        front = settings.front
        if front.certificate is None or front.key is None:
            return None
        return server_tls(str(front.certificate), str(front.key), str(front.client_ca or ""))

    async def reload(self) -> None:
        """Services, limits, clients, keys and certificates anew: all or nothing.

        Raises:
            SettingsInvalid: nothing was changed.
        """
        settings = load_settings(self._path)
        fixed = ("node", "genesis", "incarnation", "data", "broker")
        changed = [name for name in fixed if getattr(settings, name) != getattr(self.settings, name)]
        if changed:
            raise errors.SettingsInvalid([(0, name, "needs a restart") for name in changed], str(self._path))
        sources = build_sources(settings.service, self.metrics)
        load_keys(settings.keys.sealing)
        self._front_context(settings)
        await self._backends.replace(sources)
        # Commit point: from here on nothing can fail.
        self._take_settings(settings)
        if self._front_tls is not None and settings.front.certificate is not None and settings.front.key is not None:
            self._front_tls.load_cert_chain(settings.front.certificate, settings.front.key)
        if self._asker is not None:
            self._asker.limits = AskingLimits(settings.limits.deadline_s)
            self._per_client.limit = settings.limits.per_client
            self._per_service.limit = settings.limits.per_service
            self._served.limit = settings.limits.served_per_service
        _log.info("settings.reloaded", services=len(settings.service), clients=len(settings.client))

    # --- start --------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, ready: Callable[[Gateway], None] | None = None) -> None:
        """Runs until `stop` is set, then drains.

        Args:
            stop: set by the signal handler.
            ready: called once both ports listen.

        Raises:
            BusError: the node must not run (settings, a suspected clone).
        """
        settings = self.settings
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open_parts()
        try:
            await self._listen()
            if ready is not None:
                ready(self)
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(self._follower.run()),
                    tasks.create_task(self._become_ready()),
                    tasks.create_task(self._watch_own_store()),
                    tasks.create_task(self._housekeeping()),
                ]
                stopped = tasks.create_task(stop.wait())
                while not stopped.done():
                    await asyncio.wait([stopped], timeout=1)
                    if self._halted is not None:
                        break
                stopped.cancel()
                await self._drain()
                for task in background:
                    task.cancel()
        finally:
            await self._close()
        if self._halted is not None:
            raise self._halted

    def _open_parts(self) -> None:
        settings, clock = self.settings, self._clock
        signer = FileSigner.load(settings.keys.broker, passphrase_path=settings.keys.passphrase)
        identity = BrokerIdentity(
            self.node, lambda: settings.broker.credentials.read_text(encoding="ascii").strip(), signer.sign
        )
        self._connection = Connection(
            settings.broker.urls,
            client_tls(str(settings.broker.ca)),
            identity,
            subjects.inbox(self.node),
            self.metrics,
            settings.limits.handlers,
        )
        self._follower = Follower(
            NatsFeedReader(self._connection),
            settings.data / "directory.db",
            settings.genesis,
            now=clock.now,
            settings=FollowerSettings(max_age_s=settings.directory.max_age_s, backoff_max_s=4.0),
            observer=_FollowerLog(self.metrics),
        )
        self._own = OwnStore(settings.data / "own.db", genesis=settings.genesis, member=self.member)
        self._own_view = OwnView(self._own, self._follower.directory)
        self._contracts = Contracts(self._follower)
        self._peers = Peers(settings.data / "peers.db")
        self._day_keys = DayKeys(settings.data / "day-keys", clock.random)

    async def _listen(self) -> None:
        settings = self.settings
        self._services = DirectoryFront(
            lambda: self._follower.directory, self._follower, self._credentials, self._clock
        )
        admin = AdminFront(self.metrics.registry, self.checks, self.status, self._refresh)
        self.admin_server = HttpServer(settings.admin.listen, admin.handle, None, 1024)
        await self.admin_server.start()
        self._front_tls = self._front_context(settings)
        self.front_server = HttpServer(
            settings.front.listen, self._dispatch, self._front_tls, settings.front.max_body_bytes
        )
        await self.front_server.start()

    async def _dispatch(self, request: web.BaseRequest, raw_target: str) -> web.StreamResponse:
        if is_directory_target(raw_target):
            return await self._services.handle(request, raw_target)
        if not raw_target.startswith("/r1/"):
            raise errors.NotFound("calls go to /r1/{instance}/{class}/{member}/{subsystem}/{service}/…")
        if self._draining:
            raise errors.Draining
        if self._calls is None:
            raise errors.LogUnwritable if self._log_code == "log-unwritable" else errors.Starting(self._log_code)
        return await self._calls.handle(request, raw_target)

    def directory(self):  # type: ignore[no-untyped-def]
        """The verified directory, if it is fresh enough to decide on.

        Raises:
            DirectoryStale: it is too old, or there is none yet.
        """
        now = self._clock.now()
        if not self._follower.fresh(now):
            raise errors.DirectoryStale(
                f"the directory was last confirmed {_age(self._follower.as_of, now)}; the limit is"
                f" {self.settings.directory.max_age_s:g} s. The registry or the broker cannot be reached"
            )
        return self._follower.directory

    async def _become_ready(self) -> None:
        """Broker, log, open requests, own head: then calls are taken."""
        await self._backends.replace(build_sources(self.settings.service, self.metrics))
        await self._connection.start()
        self._log = await self._open_log()
        self._wire(self._log)
        assert self._control is not None
        await self._connection.serve(f"lt.k.{subjects.node_token(self.node)}.*", self._control.on_question)
        self._log_code = "confirming-head"
        await self._connection.wait_connected(float("inf"))
        try:
            answered = await asyncio.wait_for(self._control.confirm_own_head(), _HEAD_DEADLINE_S)
        except errors.CloneSuspected as error:
            _log.error("node.clone-suspected", detail=error.detail)
            self._halted = error
            return
        _log.info("head.confirmed", counterparties=answered, size=self._log.size)
        await self._close_open_requests()
        self._calls = CallFront(
            self._asker_(), self._credentials, _front_limits(self.settings), self._follower.directory.resolve_alias
        )
        answerer = self._answerer
        assert answerer is not None
        await self._connection.serve(
            f"lt.q.{subjects.member_token(self.member)}.*", answerer.on_query, subjects.query_group(self.member)
        )
        self._log_code = ""

    def _asker_(self) -> Asker:
        assert self._asker is not None
        return self._asker

    async def _open_log(self) -> ExchangeLog:
        signer = FileSigner.load(self.settings.keys.log, passphrase_path=self.settings.keys.passphrase)
        while True:
            try:
                return await ExchangeLog.open(
                    self.settings.data / "log.db",
                    origin=self._origin,
                    signer=signer,
                    now=self._clock.now,
                    token=lambda: self._clock.random(16).hex(),
                    schema=TABLES,
                    store_factory=self._store_factory,
                    observer=self.metrics,
                )
            except LogUnwritable as error:
                self._log_code = "log-unwritable"
                _log.error("log.unwritable", error=str(error), retry_in_s=_RETRY_S)
                await asyncio.sleep(_RETRY_S)

    def _wire(self, log: ExchangeLog) -> None:
        settings, clock, limits = self.settings, self._clock, self.settings.limits
        genesis = settings.genesis
        sealer = Sealer(genesis, self._origin, clock.random, clock.monotonic)
        composer = Composer(genesis, self.node, clock, sealer, lambda: self._follower.directory.view)
        keeper = Keeper(self._day_keys, clock.random)
        opener = Opener(genesis)
        verifier = RecordVerifier(
            self.member, self._memory, TimeLimits(timedelta(seconds=limits.clock_skew_s), timedelta(seconds=300))
        )
        self._per_client = InFlight("client", limits.per_client)
        self._per_service = InFlight("service", limits.per_service)
        self._served = InFlight("service", limits.served_per_service)
        self._seen = SeenIds()
        self._control = Control(
            node=self.node,
            log=log,
            memory=self._memory,
            peers=self._peers,
            transport=self._connection,
            directory=self.directory,
            clock=clock,
            observer=self.metrics,
        )
        self._asker = Asker(
            genesis=genesis,
            node=self.node,
            member=self.member,
            clock=clock,
            observer=self.metrics,
            log=log,
            broker=self._connection,
            directory=self.directory,
            contracts=self._contracts,
            composer=composer,
            keeper=keeper,
            verifier=verifier,
            opener=opener,
            answer_keys=self._answer_keys,
            per_client=self._per_client,
            per_service=self._per_service,
            limits=AskingLimits(limits.deadline_s),
        )
        self._answerer = Answerer(
            genesis=genesis,
            member=self.member,
            clock=clock,
            observer=self.metrics,
            log=log,
            outbound=self._connection,
            directory=self.directory,
            rights=lambda: self._own_view,
            contracts=self._contracts,
            sources=self._backends.current,
            composer=composer,
            keeper=keeper,
            verifier=verifier,
            opener=opener,
            query_keys=self._query_keys,
            seen=self._seen,
            quotas=QuotaBook(),
            per_service=self._served,
            max_envelope_bytes=settings.front.max_body_bytes + 512 * 1024,
            hints_per_s=limits.hints_per_s,
        )

    async def _close_open_requests(self) -> None:
        left = await asyncio.to_thread(left_behind, self.settings.data / "log.db", int(self._clock.now().timestamp()))
        self._seen.load(left.seen)
        await self._asker_().close_open(left.open_requests)
        if left.open_requests:
            _log.info("requests.closed", count=len(left.open_requests), outcome="unknown")

    # --- background ---------------------------------------------------------------------------------------------

    async def _watch_own_store(self) -> None:
        """Takes over access rights and services that `lienthong access|service` wrote beside this process."""
        path = self.settings.data / "own.db"
        known = _stamp(path)
        while True:
            await asyncio.sleep(_OWN_POLL_S)
            stamp = _stamp(path)
            if stamp == known:
                continue
            try:
                own = OwnStore(path, genesis=self.settings.genesis, member=self.member)
            except RegistryError as error:
                _log.error("own-store.unreadable", code=error.code)
                continue
            old, self._own = self._own, own
            self._own_view = OwnView(own, self._follower.directory)
            old.close()
            known = _stamp(path)
            _log.info("own-store.reloaded")

    async def _housekeeping(self) -> None:
        """Joins peers' checkpoints, compares the own store with the directory, closes what could not be closed, erases."""
        alarmed: set[tuple[str, str]] = set()
        while True:
            await asyncio.sleep(_JOIN_EVERY_S)
            if self._control is not None and self._connection.connected:
                with contextlib.suppress(errors.DirectoryStale):
                    await self._control.join_all()
            if self._asker is not None and self._log is not None and self._log.writable:
                await self._asker.close_open([])
            for alarm in compare(self._own, self._follower.directory):
                if (alarm.code, alarm.subject) not in alarmed:
                    alarmed.add((alarm.code, alarm.subject))
                    self.metrics.alarm(alarm.code, self.member)
                    _log.warning("own-store.alarm", code=alarm.code, subject=alarm.subject)
            oldest = self._clock.now().date() - timedelta(days=self.settings.retention.particulars_days)
            if gone := self._day_keys.erase_before(oldest):
                _log.info("particulars.erased", days=gone)

    # --- health -------------------------------------------------------------------------------------------------

    def checks(self) -> list[Check]:
        """What readiness depends on."""
        log = self._log
        writable = log is not None and log.writable
        fresh = self._follower.fresh(self._clock.now())
        found = [
            Check("log", True) if writable else Check("log", False, "log-unwritable", "free disk space; tried again"),
            Check("directory", True)
            if fresh
            else Check("directory", False, "directory-stale", "is the broker up, and the registry?"),
            Check("broker", True)
            if self._connection.connected
            else Check("broker", False, "broker-unavailable", "reconnecting by itself; see `lienthong doctor`"),
        ]
        if self._draining:
            found.append(Check("serving", False, "draining", "the gateway is stopping"))
        elif self._log_code:
            found.append(Check("serving", False, self._log_code, "starting"))
        return found

    def status(self) -> dict[str, object]:
        """Facts for operators."""
        log, directory = self._log, self._follower.directory
        return {
            "node": self.node,
            "origin": self._origin,
            "front": self.front_server.url,
            "log": {"size": log.size, "root": log.root.hex()} if log is not None else None,
            "directory": {"view": directory.view, "as_of": self._follower.as_of},
            "services": sorted(service.id for service in self.settings.service),
            "peers_forked": sorted(self._memory.forked),
        }

    def _refresh(self) -> None:
        metrics, log, now = self.metrics, self._log, self._clock.now()
        metrics.log_writable.set(1 if log is not None and log.writable else 0)
        metrics.log_size.set(log.size if log is not None else 0)
        as_of = self._follower.as_of
        metrics.directory_age.set((now - as_of).total_seconds() if as_of is not None else float("inf"))
        metrics.directory_size.set(self._follower.directory.size)
        for name, path in (
            ("member", self.settings.keys.member_certificate),
            ("front", self.settings.front.certificate),
        ):
            if path is not None:
                metrics.certificate_days.labels(name).set(_days_left(path, now))

    # --- stop ---------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Takes nothing new; what is under way may end."""
        self._draining = True
        grace_s = self.settings.limits.drain_s
        await self._connection.stop_serving(grace_s)
        deadline_s = self._clock.monotonic() + grace_s
        while self._asker is not None and self._asker.under_way and self._clock.monotonic() < deadline_s:
            await asyncio.sleep(0.02)

    async def _close(self) -> None:
        for server in (getattr(self, "front_server", None), getattr(self, "admin_server", None)):
            if server is not None:
                await server.stop()
        await self._connection.close()
        await self._backends.close()
        if self._log is not None:
            with contextlib.suppress(EvidenceError):
                await self._log.close()
        self._follower.close()
        self._own.close()
        self._peers.close()


class _FollowerLog:
    """Observer of the follower: log lines and alarms."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._last = ""

    def updated(self, size: int, seconds: float) -> None:
        """See `registry.follower.FollowerObserver`."""
        del seconds
        self._last = ""
        self._metrics.directory_size.set(size)

    def skipped(self, outcome: Skipped) -> None:
        """See `registry.follower.FollowerObserver`."""
        self._metrics.alarm(f"directory-{outcome.code}", "")
        _log.warning("directory.document-skipped", index=outcome.index, code=outcome.code)

    def failed(self, error: RegistryError) -> None:
        """See `registry.follower.FollowerObserver`."""
        if error.disposition == "halt":
            self._metrics.alarm(error.code, "")
        if error.code != self._last:
            self._last = error.code
            _log.warning("directory.update-failed", code=error.code)


def _client_system(client) -> ClientSystem:  # type: ignore[no-untyped-def]
    key_hash = client.key.read_text(encoding="ascii").strip() if client.key is not None else ""
    return ClientSystem(client.name, frozenset(client.subsystems), key_hash, client.certificate_sha256)


def _front_limits(settings: GatewaySettings) -> FrontLimits:
    return FrontLimits(settings.front.max_body_bytes, settings.front.max_header_bytes)


def _age(as_of: datetime | None, now: datetime) -> str:
    return "never" if as_of is None else f"{(now - as_of).total_seconds():.0f} s ago"


def _stamp(path: Path) -> tuple[int, int]:
    wal = path.with_name(path.name + "-wal")
    return path.stat().st_mtime_ns, wal.stat().st_mtime_ns if wal.exists() else 0


def _days_left(path: Path, now: datetime) -> float:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return (certificate.not_valid_after_utc.replace(tzinfo=UTC) - now).total_seconds() / 86_400
