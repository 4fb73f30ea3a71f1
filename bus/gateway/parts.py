"""What a running node stands on: broker connection, directory, own rights, keys, credentials, back ends, memory.

Everything here works without a writable log. `exchange.py` puts the exchange on top once there is one.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import structlog
from msgspec import structs

from bus import errors
from bus.exchange.contracts import Contracts
from bus.exchange.keeping import DayKeys
from bus.exchange.peers import Peers
from bus.exchange.standing import CertificateStanding
from bus.exchange.verification import CheckpointMemory
from bus.exchange.versions import Versions
from bus.front.adminkeys import AdminKeys, AdminSystem
from bus.front.credentials import ClientSystem, Credentials
from bus.front.server import client_tls, server_tls
from bus.gateway.backends import Backends
from bus.gateway.brokeruser import BrokerUser, registry_fetch
from bus.gateway.followedrights import FollowedRights
from bus.gateway.maintenance import Maintenance
from bus.gateway.nodekeys import BrokerFiles
from bus.gateway.ownrights import OwnRights
from bus.gateway.revocationlists import RevocationLists
from bus.gateway.sealingkeys import load_keys
from bus.gateway.triedcontracts import TriedContracts
from bus.gateway.watchedkeys import WatchedKeys
from bus.metrics import GatewayMetrics
from bus.ports import Clock
from bus.sealing.keys import SealingKeyPair
from bus.settings import AdminKey, Client, GatewaySettings
from bus.transport import subjects
from bus.transport.connection import BrokerIdentity, Connection
from bus.transport.feed import NatsFeedReader
from evidence.identifiers import NodeId, log_origin
from registry.contract import DEFAULT
from registry.errors import RegistryError
from registry.fold import Directory, Skipped
from registry.follower import Follower
from registry.settings import FollowerSettings
from registry.view import DecisionView

_log = structlog.get_logger("lienthong.gateway")
_FRESH_FOR_S = 0.1


@dataclass(frozen=True, slots=True)
class Changeable:
    """What a reload exchanges, read from its files: sealing keys by use and keyid, client systems, admin keys."""

    keys: dict[str, dict[str, SealingKeyPair]]
    clients: list[ClientSystem]
    admins: list[AdminSystem]


def read_changeable(settings: GatewaySettings) -> Changeable:
    """Reads everything that a reload exchanges, before anything is changed.

    Raises:
        SettingsInvalid: a file cannot be read or is not what it should be.
    """
    return Changeable(
        load_keys(settings.keys.sealing),
        [_client_system(client) for client in settings.client],
        [_admin(key) for key in settings.admin_key],
    )


class Parts:
    """The parts of one node.

    Args:
        settings: of the node.
        clock: time and randomness.
        metrics: of the process.
    """

    def __init__(self, settings: GatewaySettings, clock: Clock, metrics: GatewayMetrics) -> None:
        node = NodeId.parse(settings.node)
        self.node, self.member = str(node), str(node.member)
        self.genesis = settings.genesis
        self.origin = log_origin(settings.genesis, node, settings.incarnation)
        self.clock = clock
        self.metrics = metrics
        self.backends = Backends()
        self.credentials = Credentials(clock.random, clock.monotonic)
        self.admins = AdminKeys(clock.random, clock.monotonic)
        self.maintenance = Maintenance(settings.data / "maintenance.json", clock)
        self.sealing = WatchedKeys(settings.keys.sealing)
        self.query_keys, self.answer_keys = self.sealing.query, self.sealing.answer
        self.memory = CheckpointMemory()
        self.standing = CertificateStanding()
        self.versions = Versions(self.node, self.member, lambda: self.follower.directory, clock, metrics.alarm)
        self._fresh_until_s = 0.0
        self.take(read_changeable(settings))

    def take(self, read: Changeable) -> None:
        """Takes over keys and client systems; cannot fail."""
        self.sealing.take(read.keys)
        self.credentials.replace(read.clients)
        self.admins.replace(read.admins)

    def take_limits(self, settings: GatewaySettings) -> None:
        """Takes over the limits of what is open; cannot fail."""
        self.follower.settings = structs.replace(self.follower.settings, max_age_s=settings.directory.max_age_s)
        self._fresh_until_s = 0.0
        self.connection.max_handlers = settings.limits.handlers

    def open(self, settings: GatewaySettings) -> None:
        """Opens files; no network yet. What fails leaves nothing open, and may be tried again.

        Raises:
            EvidenceError: a key file cannot be used.
            RegistryError: a store cannot be used; `StoreUnwritable`: now.
            OSError: a file cannot be opened or written.
        """
        with contextlib.ExitStack() as opened:
            self._connect(settings)
            self._open_stores(settings, opened)
            opened.pop_all()

    def _connect(self, settings: GatewaySettings) -> None:
        clock = self.clock
        files = BrokerFiles(settings)
        self.broker_user = BrokerUser(
            node=self.node,
            files=files,
            path=settings.broker.credentials,
            account=self._broker_account,
            clock=clock,
            fetch=registry_fetch(settings.registry.url) if settings.registry.url else None,
        )
        self.connection = Connection(
            settings.broker.urls,
            client_tls(str(settings.broker.ca)),
            BrokerIdentity(self.node, self.broker_user.jwt, files.sign),
            subjects.inbox(self.node),
            self.metrics,
            settings.limits.handlers,
            clock.random,
            settings.broker.connect_deadline_s,
            on_refused=self.broker_user.refused,
        )

    def _open_stores(self, settings: GatewaySettings, opened: contextlib.ExitStack) -> None:
        clock = self.clock
        self.follower = Follower(
            NatsFeedReader(self.connection),
            settings.data / "directory.db",
            settings.genesis,
            now=clock.now,
            settings=FollowerSettings(max_age_s=settings.directory.max_age_s, backoff_max_s=4.0),
            observer=_FollowerLog(self.metrics),
        )
        opened.callback(self.follower.close)
        self.own: OwnRights | FollowedRights
        if settings.keys.member_signers is None:
            self.own = OwnRights(settings.data / "own.db", settings.genesis, self.member, self.follower.directory)
        else:
            self.own = FollowedRights(settings.keys.member_signers, self.member, self.follower)
        opened.callback(self.own.close)
        self.contracts = Contracts(
            self.follower,
            budget=replace(DEFAULT, depth=settings.limits.json_depth),
            verdicts=TriedContracts(settings.data / "tried-contracts"),
        )
        self.revocation_lists = RevocationLists(
            settings.data / "crl",
            settings.revocation,
            self.standing,
            self.follower.directory,
            self.follower.leaf,
            clock,
            self.metrics,
        )
        self.peers = Peers(settings.data / "peers.db")
        opened.callback(self.peers.close)
        self.day_keys = DayKeys(settings.data / "day-keys", clock.random)

    def _broker_account(self) -> str:
        anchor = self.follower.directory.anchor
        return (anchor.broker.account or "") if anchor is not None else ""

    def rights(self) -> DecisionView:
        """What this provider enforces.

        Raises:
            Maintenance: it answers nothing at the moment.
        """
        self.maintenance.refuse()
        return self.own.view

    def directory(self) -> Directory:
        """The verified directory, if it is fresh enough to decide on.

        Raises:
            DirectoryStale: it is too old, or there is none yet.
        """
        # Asked for each call: while nothing changed, the answer of a moment ago holds for a moment.
        now_s = self.clock.monotonic()
        if now_s < self._fresh_until_s:
            return self.follower.directory
        now = self.clock.now()
        left_s = self.follower.fresh_for_s(now)
        if left_s < 0:
            raise errors.DirectoryStale(
                f"the directory was last confirmed {_age(self.follower.as_of, now)}; the limit is"
                f" {self.follower.settings.max_age_s:g} s. The registry or the broker cannot be reached"
            )
        self._fresh_until_s = now_s + min(left_s, _FRESH_FOR_S)
        return self.follower.directory

    def confirmed_now(self) -> datetime | None:
        """The earlier of the own clock and the directory's newest confirmation, for what cannot be undone.

        A clock alone may be years ahead. None while the directory is too old to work with, as it is to such a clock.
        """
        now, as_of = self.clock.now(), self.follower.as_of
        return None if as_of is None or not self.follower.fresh(now) else min(now, as_of)

    async def close(self) -> None:
        """Closes everything that was opened."""
        await self.connection.close()
        await self.backends.close()
        self.follower.close()
        self.own.close()
        self.peers.close()


def front_tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    """TLS of the front, None for plain HTTP."""
    front = settings.front
    if front.certificate is None or front.key is None:
        return None
    return server_tls(str(front.certificate), str(front.key), str(front.client_ca or ""))


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


def _client_system(client: Client) -> ClientSystem:
    keys = (() if client.key is None else (client.key,)) + client.further_keys
    first = (client.certificate_sha256,) if client.certificate_sha256 else ()
    return ClientSystem(
        client.name,
        frozenset(client.subsystems),
        tuple(_key_hash(path, f"client {client.name}") for path in keys),
        first + client.further_certificates_sha256,
        client.max_in_flight,
        client.per_second,
    )


def _admin(key: AdminKey) -> AdminSystem:
    return AdminSystem(key.name, tuple(key.roles), _key_hash(key.key, f"admin_key {key.name}"))


def _key_hash(path: Path, whose: str) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read ({type(error).__name__})"
        raise errors.SettingsInvalid([(0, whose, message)]) from error


def _age(as_of: datetime | None, now: datetime) -> str:
    return "never" if as_of is None else f"{(now - as_of).total_seconds():.0f} s ago"
