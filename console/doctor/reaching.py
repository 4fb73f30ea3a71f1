"""What a home reaches over the network: registry, broker, its own ports. Short deadlines; nothing is changed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bus.errors import BrokerUnavailable, BusError
from bus.transport import copies, nkeys
from bus.transport.connection import BrokerIdentity, Connection
from bus.transport.copies import Copies
from bus.transport.feed import NatsFeedReader
from console.addresses import host_of
from console.membership import call_registry
from evidence.signer import FileSigner
from registry.checkpoints import DirectoryCheckpoint, directory_verifier, verify_checkpoint
from registry.client import RegistryClient
from registry.documents import Anchor
from registry.errors import RegistryError

_DEADLINE_S = 4.0


class RegistrySeen(NamedTuple):
    """What the registry answered.

    Attributes:
        anchor: The newest, verified against the genesis.
        checkpoint: The directory's newest checkpoint, verified, cosigned at that moment.
        ahead_s: The registry's clock minus ours, in seconds, as its cosignature says; whole seconds only.
    """

    anchor: Anchor
    checkpoint: DirectoryCheckpoint
    ahead_s: float


def ask_registry(url: str, genesis: str) -> RegistrySeen:
    """Anchor, checkpoint and clock of a registry.

    Raises:
        RegistryError: It does not answer, or is not this instance's.
    """

    async def work(client: RegistryClient) -> RegistrySeen:
        anchor, _ = await client.anchor(genesis)
        before_at = datetime.now(UTC)
        note = await client.checkpoint()
        after_at = datetime.now(UTC)
        checkpoint = verify_checkpoint(note, directory_verifier(genesis, anchor))
        # The cosignature was made between our two looks, and its second is cut off.
        ahead_s = max(0.0, checkpoint.cosigned - after_at.timestamp()) + min(
            0.0, checkpoint.cosigned + 1 - before_at.timestamp()
        )
        return RegistrySeen(anchor, checkpoint, ahead_s)

    return call_registry(url, work)


class BrokerSeen(NamedTuple):
    """What the broker let us do.

    Attributes:
        connected: Whether it took the credentials.
        own_inbox: Whether a message to the own inbox came back.
        denied: How many publishes or subscriptions it denied.
        cosigned_at: When the directory that it has was last confirmed; None when it could not be read.
        problem: Why, in that case.
    """

    connected: bool
    own_inbox: bool = False
    denied: int = 0
    cosigned_at: datetime | None = None
    problem: str = ""


class _Denials:
    def __init__(self) -> None:
        self.count = 0

    def connected(self, up: bool) -> None:
        """Not looked at."""

    def denied(self) -> None:
        """The broker denied something."""
        self.count += 1

    def overloaded(self) -> None:
        """Cannot be: nothing is taken."""


def try_broker(
    urls: tuple[str, ...],
    ca: Path,
    name: str,
    jwt: Callable[[], str],
    sign: Callable[[bytes], bytes],
    inbox: str,
    anchor: tuple[str, Anchor] | None,
) -> BrokerSeen:
    """Connects as a node, sends itself a message, reads the directory's newest checkpoint.

    Args:
        urls: `tls://host:port`.
        ca: Authority of the broker.
        name: Of the node.
        jwt: Its credentials.
        sign: By its broker key.
        inbox: Its reply prefix, ends with a dot.
        anchor: Genesis and anchor, to verify the directory's checkpoint; None does not look at it.
    """
    return asyncio.run(_try_broker(urls, ca, BrokerIdentity(name, jwt, sign), inbox, anchor))


def look_at_copies(urls: tuple[str, ...], ca: Path, account: FileSigner) -> Copies:
    """What the servers of a broker have of the streams.

    Args:
        urls: `tls://host:port`.
        ca: Authority of the broker.
        account: The key of the streams' account.

    Raises:
        BrokerUnavailable: no server answers.
    """
    key = FileSigner.generate("ed25519")
    jwt = nkeys.user_jwt(
        "doctor", key.public_bytes, account.public_bytes, account.sign, int(time.time()) - 1,
        expires_at_s=int(time.time()) + 300, publish=None, subscribe=None,
    )  # fmt: skip
    return asyncio.run(_look_at_copies(urls, ca, BrokerIdentity("doctor", lambda: jwt, key.sign)))


async def _look_at_copies(urls: tuple[str, ...], ca: Path, identity: BrokerIdentity) -> Copies:
    connection = Connection(urls, _tls(ca), identity, "_I.doctor.", _Denials(), connect_deadline_s=_DEADLINE_S)
    try:
        await connection.start()
        if not await connection.wait_connected(_DEADLINE_S):
            raise BrokerUnavailable("no server of the broker can be reached")
        return await copies.look(connection)
    finally:
        await connection.close()


def _tls(ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=str(ca))
    return context


async def _try_broker(
    urls: tuple[str, ...], ca: Path, identity: BrokerIdentity, inbox: str, anchor: tuple[str, Anchor] | None
) -> BrokerSeen:
    denials = _Denials()
    connection = Connection(urls, _tls(ca), identity, inbox, denials, connect_deadline_s=_DEADLINE_S)
    own = f"{inbox}doctor-{os.urandom(8).hex()}"

    async def echo(_subject: str, reply: str, data: bytes) -> None:
        await connection.send(reply, data)

    connection.subscribe(own, echo)
    try:
        await connection.start()
        if not await connection.wait_connected(_DEADLINE_S):
            return BrokerSeen(False)
        try:
            echoed = (await connection.exchange(own, b"doctor", _DEADLINE_S)).data == b"doctor"
        except BusError:
            echoed = False
        cosigned_at, problem = await _feed_age(connection, anchor)
        return BrokerSeen(True, echoed, denials.count, cosigned_at, problem)
    finally:
        await connection.close()


async def _feed_age(connection: Connection, anchor: tuple[str, Anchor] | None) -> tuple[datetime | None, str]:
    if anchor is None:
        return None, ""
    try:
        note = await asyncio.wait_for(NatsFeedReader(connection).latest_checkpoint(), _DEADLINE_S)
        found = verify_checkpoint(note, directory_verifier(*anchor))
    except TimeoutError:
        return None, "no answer"
    except RegistryError as error:
        return None, f"{error.code}: {error}"
    return datetime.fromtimestamp(found.cosigned, UTC), ""


def is_free(listen: str) -> bool:
    """Whether `host:port` could be listened on; port 0 always can."""
    host, port = host_of(listen), int(listen.rpartition(":")[2])
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def listening_facts(folder: Path) -> dict[str, Any]:
    """What a running process says of itself; empty when none does."""
    try:
        found = json.loads((folder / "listening.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def fetch(url: str, ca: Path | None = None) -> tuple[int, bytes]:
    """Status and body of an address of ours; status 0 when nobody answers."""
    context = ssl.create_default_context(cafile=str(ca)) if ca is not None else None
    try:
        try:
            with urllib.request.urlopen(url, timeout=_DEADLINE_S, context=context) as answer:  # noqa: S310 - our own file
                return answer.status, answer.read(1 << 20)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(1 << 20)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return 0, str(reason).encode()
