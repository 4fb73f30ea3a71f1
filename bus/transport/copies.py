"""Whether every server of a cluster has current copies of the streams, and of what is known of who takes from them.

A server that comes back catches up stream by stream and consumer by consumer; while one of these has no leader or one
current copy only, the loss of another server stops it. Says nothing about a broker of one server. Changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import msgspec
import nats.errors

from bus.errors import BrokerUnavailable
from bus.transport.connection import Connection

_DEADLINE_S = 10.0


class _Copy(msgspec.Struct):
    name: str
    current: bool = False
    offline: bool = False
    lag: int = 0


class _Cluster(msgspec.Struct):
    leader: str = ""
    replicas: list[_Copy] = []


class _Config(msgspec.Struct):
    name: str
    num_replicas: int = 1


class _Stream(msgspec.Struct):
    config: _Config
    cluster: _Cluster | None = None


class _Consumer(msgspec.Struct):
    name: str
    cluster: _Cluster | None = None


class _Page(msgspec.Struct):
    """An answer of `$JS.API.STREAM.LIST` or `$JS.API.CONSUMER.LIST` (nats-server, JetStream wire API)."""

    total: int = 0
    streams: list[_Stream] = []
    consumers: list[_Consumer] = []
    missing: list[str] = []


class Copies(msgspec.Struct, frozen=True):
    """What the servers have.

    Attributes:
        count: streams and consumers.
        incomplete: those of which not every server has a current copy.
        leaderless: those that no server leads, which therefore stand still.
        behind: names of the servers that lack something.
    """

    count: int
    incomplete: tuple[str, ...]
    leaderless: tuple[str, ...]
    behind: tuple[str, ...]


async def look(connection: Connection) -> Copies:
    """Asks for everything in the account.

    Args:
        connection: of a user who may do everything in the streams' account.

    Raises:
        BrokerUnavailable: no answer, or one that is not understood.
    """
    found: list[tuple[str, _Cluster | None]] = []
    missing: list[str] = []
    async for page in _pages(connection, "$JS.API.STREAM.LIST"):
        missing += page.missing
        for stream in page.streams:
            name = stream.config.name
            found.append((name, stream.cluster))
            async for more in _pages(connection, f"$JS.API.CONSUMER.LIST.{name}"):
                missing += [f"{name} > {one}" for one in more.missing]
                found += [(f"{name} > {one.name}", one.cluster) for one in more.consumers]
    return _judged(found, missing)


async def _pages(connection: Connection, subject: str) -> AsyncIterator[_Page]:
    offset = 0
    while True:
        try:
            answer = await connection.client.request(subject, b'{"offset":%d}' % offset, timeout=_DEADLINE_S)
            page = msgspec.json.decode(answer.data, type=_Page)
        except (nats.errors.Error, OSError, msgspec.MsgspecError) as error:
            raise BrokerUnavailable(f"the broker does not say what it has ({type(error).__name__})") from error
        yield page
        got = len(page.streams) + len(page.consumers)
        offset += got
        if not got or offset >= page.total:
            return


def _judged(found: Iterable[tuple[str, _Cluster | None]], missing: Iterable[str]) -> Copies:
    names, incomplete, leaderless, behind = set(missing), list[str](), set(missing), set[str]()
    for name, cluster in found:
        names.add(name)
        if cluster is None:
            continue
        late = [one.name for one in cluster.replicas if one.offline or not one.current]
        behind.update(late)
        if not cluster.leader:
            leaderless.add(name)
        if late:
            incomplete.append(name)
    return Copies(len(names), tuple(sorted(incomplete)), tuple(sorted(leaderless)), tuple(sorted(behind)))
