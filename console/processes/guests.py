"""The registry as host of the broker: who may come in, what streams they find, who is shown out.

Three connections, each with the rights of one account: *members* (answers nodes that ask for new credentials),
*streams* (the directory's feed, the members' streams), *system* (pushes the members' account, and its own once a leaf
broker was refused). Whatever the directory
says is settled at every accepted document, at every connection and every few seconds: withdrawals first.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from bus.errors import BusError
from bus.front.server import client_tls
from bus.transport import nkeys, subjects
from bus.transport.accounts import system_jwt
from bus.transport.connection import BrokerIdentity, Connection, TransportObserver
from bus.transport.feed import NatsFeed
from bus.transport.guestbook import GuestBook
from bus.transport.minting import AccountMinter
from bus.transport.renewal import CredentialDesk
from bus.transport.streams import MemberStreams, StreamSettings
from bus.transport.withdrawal import MembersAccount, PushedAccount
from console.homes import InstanceHome, replace_file
from console.instance import MEMBERS_ACCOUNT, SYSTEM_ACCOUNT, read_broker_identity
from console.leaves import leaf_keys, listener_keys
from evidence.errors import EvidenceError
from evidence.signer import FileSigner
from registry.authority import Authority
from registry.credentials import mint_for
from registry.errors import RegistryError

_log = structlog.get_logger("lienthong.registry")
_LOOK_S = 5.0
_RETRY_S = 0.5
_REPEAT_S = 10.0
"""So often leaf brokers and the servers of a cluster are told who is refused: one may have been away, or be new."""
_READ_S = 0.3
"""So long the broker carries a node that is shown out: it can read in the directory why. Nobody believes it now."""


class GuestObserver(TransportObserver, Protocol):
    """What the host reports."""

    def unsettled(self, what: str) -> None:
        """`withdrawals` or `streams` could not be brought to what the directory says."""

    def settled(self, what: str) -> None:
        """It was."""


class BrokerHost:
    """See the module.

    Args:
        home: of the instance.
        observer: metrics.
    """

    def __init__(self, home: InstanceHome, observer: GuestObserver) -> None:
        facts, identity = home.facts, read_broker_identity(home)
        self._home = home
        self._observer = observer
        self._changes = {what: asyncio.Event() for what in ("withdrawals", "streams")}
        self._kept = self._pushed = self._feed_checked = False
        self._repeat_at_s = math.inf
        self._book = GuestBook(home.broker / "guests.json", _replace, facts.broker_key_overlap_s)
        keys = {name: FileSigner.load(home.broker / f"{name}.pem") for name in ("operator", "account", "streams")}
        account, streams, operator = keys["account"], keys["streams"], keys["operator"]
        self.minter = AccountMinter(account.public_bytes, account.sign, time.time, facts.credentials_s, self._book)
        tls, urls = client_tls(str(home.ca / "ca.crt")), facts.broker_urls
        self._several = len(urls) > 1
        registry = FileSigner.load(home.broker / "registry.pem")
        self._members = Connection(
            urls,
            tls,
            BrokerIdentity("registry", lambda: identity.registry_user_jwt, registry.sign),
            _inbox(""),
            _Silent(observer),
        )
        self.streams = self._service(urls, tls, streams, "-streams", observer, self._streams_connected)
        system = FileSigner.load(home.broker / "system.pem")
        self._system = self._service(
            urls,
            tls,
            system,
            "-system",
            _Silent(observer),
            self._system_connected,
            publish=[subjects.CLAIMS_UPDATE],
            subscribe=[f"{_inbox('-system')}>"],
        )
        self.feed = NatsFeed(self.streams, facts.stream_replicas)
        self._account = MembersAccount(
            name=facts.instance,
            public=account.public_bytes,
            streams=streams.public_bytes,
            operator=operator.public_bytes,
            sign=operator.sign,
            path=home.broker / MEMBERS_ACCOUNT,
            replace=_replace,
            connection=self._system,
            inbox=_inbox("-system"),
            servers=len(urls),
            unix_time_s=time.time,
        )
        self._listeners = PushedAccount(
            claims=lambda revoked, at_s: system_jwt(
                system.public_bytes, operator.public_bytes, operator.sign, at_s, revoked
            ),
            path=home.broker / SYSTEM_ACCOUNT,
            replace=_replace,
            connection=self._system,
            inbox=f"{_inbox('-system')}system.",
            servers=len(urls),
            unix_time_s=time.time,
        )
        self._streams = MemberStreams(
            self.streams, StreamSettings(max_bytes=facts.stream_max_bytes, replicas=facts.stream_replicas)
        )

    @staticmethod
    def _service(
        urls: Sequence[str],
        tls: ssl.SSLContext,
        account: FileSigner,
        name: str,
        observer: TransportObserver,
        on_connected: Callable[[], None],
        publish: list[str] | None = None,
        subscribe: list[str] | None = None,
    ) -> Connection:
        """A connection of the registry in an account, with a key that lives as long as this process."""
        key = FileSigner.generate("ed25519")

        def jwt() -> str:
            return nkeys.user_jwt(
                f"registry{name}",
                key.public_bytes,
                account.public_bytes,
                account.sign,
                int(time.time()) - 1,
                expires_at_s=None,
                publish=publish,
                subscribe=subscribe,
            )

        identity = BrokerIdentity(f"registry{name}", jwt, key.sign)
        return Connection(urls, tls, identity, _inbox(name), observer, on_connected=on_connected)

    def _streams_connected(self) -> None:
        self._streams.forget()
        self._feed_checked = False
        self._changes["streams"].set()

    def _system_connected(self) -> None:
        self._pushed = False
        self._changes["withdrawals"].set()

    def changed(self) -> None:
        """To be called when the directory changed."""
        for event in self._changes.values():
            event.set()

    async def start(self, authority: Authority) -> None:
        """Writes the account as the directory wants it, then begins to connect, in the background."""
        self._settle_guests(authority)
        desk = CredentialDesk(
            self._home.facts.instance, lambda node: mint_for(authority.directory, self.minter, node), self._members
        )
        self._members.subscribe(f"lt.k.{subjects.REGISTRY}.*", desk.on_question)
        for connection in (self._members, self.streams, self._system):
            await connection.start()

    async def close(self) -> None:
        """Closes the connections."""
        await asyncio.gather(*(connection.close() for connection in (self._members, self.streams, self._system)))

    async def run(self, authority: Authority) -> None:
        """Settles until cancelled; a broker that is slow with its streams does not keep a withdrawal waiting."""
        async with asyncio.TaskGroup() as tasks:
            for what, work in (("withdrawals", self._settle_withdrawals), ("streams", self._settle_streams)):
                tasks.create_task(self._keep_settled(what, self._changes[what], work, authority))

    async def _keep_settled(
        self, what: str, changed: asyncio.Event, work: Callable[[Authority], Awaitable[None]], authority: Authority
    ) -> None:
        while True:
            changed.clear()
            pause_s = _RETRY_S
            try:
                await work(authority)
            except (BusError, RegistryError, EvidenceError, OSError) as error:
                self._observer.unsettled(what)
                _log.warning("broker.unsettled", what=what, error=str(error))
            except Exception as error:  # the registry itself goes on, whatever the broker answered
                self._observer.unsettled(what)
                _log.error("broker.unsettled", what=what, error=type(error).__name__, exc_info=error)
            else:
                self._observer.settled(what)
                pause_s = _LOOK_S
            try:
                async with asyncio.timeout(pause_s):
                    await changed.wait()
            except TimeoutError:
                continue

    def _settle_guests(self, authority: Authority) -> None:
        leaves = leaf_keys(self._home)
        changed = self._book.settle(authority.directory, leaves, int(time.time()))
        if (leaves or self._several) and time.monotonic() >= self._repeat_at_s:
            self._pushed = False
        if changed or not self._kept:
            self._pushed = False
            listeners, refused = listener_keys(self._home), self._book.revocations()
            self._account.keep({key: at_s for key, at_s in refused.items() if key not in listeners})
            second = {key: at_s for key, at_s in refused.items() if key in listeners}
            if second:  # an instance that never refused one has nothing to tell
                self._listeners.keep(second)
            self._kept = True

    async def _settle_withdrawals(self, authority: Authority) -> None:
        self._settle_guests(authority)
        if not self._pushed and self._system.connected:
            await asyncio.sleep(_READ_S)
            await self._account.push()
            if self._listeners.kept:
                await self._listeners.push()
            self._pushed = True
            self._repeat_at_s = time.monotonic() + _REPEAT_S

    async def _settle_streams(self, authority: Authority) -> None:
        if not self.streams.connected:
            return
        if not self._feed_checked:
            # The broker may have lost its store: the directory first, everything waits for it.
            await self.feed.prepare()
            await authority.heartbeat()
            self._feed_checked = True
        directory = authority.directory
        members = {}
        for member in directory.members():
            nodes = [node.node for node in directory.nodes_of(member.id) if node.status == "active"]
            if member.status == "active" and nodes:
                members[member.id] = nodes
        if made := await self._streams.settle(members):
            _log.info("streams.settled", changed=made)


class _Silent:
    """Observer of the connections beside the one that carries the directory: only denials are told."""

    def __init__(self, observer: TransportObserver) -> None:
        self._observer = observer

    def connected(self, up: bool) -> None:
        """See `bus.transport.connection.TransportObserver`."""

    def denied(self) -> None:
        """See `bus.transport.connection.TransportObserver`."""
        self._observer.denied()

    def overloaded(self) -> None:
        """See `bus.transport.connection.TransportObserver`."""


def _inbox(name: str) -> str:
    return f"_I.{subjects.REGISTRY}{name}."


def _replace(path: Path, data: bytes) -> None:
    replace_file(path, data, 0o600)
