"""The streams of members, made by the registry and by nobody else.

| stream | holds | keeps |
|---|---|---|
| `CMD_P` | `lt.c.P.*`, commands to member P | each until P acknowledges it (work queue) |
| `CML_P` | `lt.c.large.P.*`, those of more than 16 KiB | the same |
| `RES_P` | `lt.r.P.<node>.*`, results and receipts for what that node of P sent | the same |
| `REL_P` | `lt.r.large.P.<node>.*`, those of more than 16 KiB | the same |
| `WRK_P` | `lt.w.P.>`, who of several nodes of P does what; only those nodes see it | the newest of each subject |
| `EVT_P` | `lt.e.P.>`, events of member P | the newest, for some days |

P's nodes pull from one durable consumer on each of the first two, and from one each on the next two. The broker bounds
what one sender has in a stream by number only, not by bytes. So that a sender cannot fill a stream for others, its
number is that of the largest messages that make half of the stream. In one stream for all sizes that would be a few
dozen; small messages in a stream that takes no others are thousands. The streams of results take only what is for nodes
in the directory, or a sender could make up ever more of them. What exists is brought to this shape; no stream is ever
deleted here. Reads and writes no message.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from bus.errors import BusError
from bus.transport import subjects
from bus.transport.connection import Connection

_log = structlog.get_logger("lienthong.transport")
_DEADLINE_S = 5.0
_SETTLED = (
    "subjects",
    "max_bytes",
    "max_msg_size",
    "max_msgs_per_subject",
    "max_age",
    "discard",
    "discard_new_per_subject",
    "num_replicas",
    "duplicate_window",
    "deny_delete",
    "allow_direct",
    "allow_msg_ttl",
)
MAX_MESSAGE_BYTES = 4 * 1024 * 1024 + 512 * 1024
"""A body of 4 MiB, sealed, with header and proof."""
_SMALL_MESSAGE_BYTES = subjects.SMALL_BYTES + 512
"""With the headers of NATS."""
_MOST_PENDING = 100_000
_STORED_BESIDE_BYTES = 1024
"""Most that the broker stores beside a message: its subject and what it notes."""


class StreamsUnready(BusError):
    """Streams of members could not be made or brought to their shape."""

    code = "streams-unready"
    title = "The broker does not have all streams"


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How large a member's streams may become.

    Attributes:
        max_bytes: Of one stream, half of it of one for small messages; the broker reserves it, so that the sum fits on
            its disk.
        replicas: Servers of the cluster that hold a copy.
        duplicates_s: How long the broker knows the ids of messages.
        events_days: How long events are kept.
    """

    max_bytes: int = 256 * 1024 * 1024
    replicas: int = 1
    duplicates_s: float = 300.0
    events_days: float = 7.0

    @property
    def small_bytes(self) -> int:
        """Size of a stream of small messages."""
        return self.max_bytes // 2

    @property
    def per_sender(self) -> int:
        """Small messages that one sender may have in a stream: of the largest ones, half of it."""
        return max(1, self.small_bytes // (2 * (_SMALL_MESSAGE_BYTES + _STORED_BESIDE_BYTES)))

    @property
    def large_per_sender(self) -> int:
        """The same for large messages."""
        return max(1, self.max_bytes // (2 * MAX_MESSAGE_BYTES))


@dataclass(frozen=True, slots=True)
class Wanted:
    """One stream, and the consumers from which its member pulls."""

    config: StreamConfig
    consumers: tuple[ConsumerConfig, ...] = ()


def wanted_streams(member: str, nodes: Sequence[str], settings: StreamSettings) -> list[Wanted]:
    """The streams of a member with these nodes as they are to be."""
    token = subjects.member_token(member)
    found: list[Wanted] = []
    for large in (False, True):
        share = settings.large_per_sender if large else settings.per_sender
        commands = subjects.sized(f"lt.c.{token}.*", large=large)
        results = [subjects.sized(subjects.results_of(node), large=large) for node in sorted(nodes)]
        # a sender's share is for all nodes of the member together
        each = max(1, share // max(1, len(nodes)))
        found += [
            Wanted(
                _queue(subjects.command_stream(member, large=large), [commands], share, settings, large),
                (own_consumer(),),
            ),
            Wanted(
                _queue(subjects.result_stream(member, large=large), results, each, settings, large),
                tuple(node_consumer(node, large=large) for node in sorted(nodes)),
            ),
        ]
    if len(nodes) > 1:
        found.append(Wanted(_work(member, settings)))
    events = _common(settings).evolve(
        name=subjects.event_stream(member),
        subjects=[f"lt.e.{token}.>"],
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.OLD,
        max_age=settings.events_days * 86_400,
    )
    return [*found, Wanted(events)]


def _work(member: str, settings: StreamSettings) -> StreamConfig:
    return _common(settings).evolve(
        name=subjects.work_stream(member),
        subjects=[f"lt.w.{subjects.member_token(member)}.>"],
        retention=RetentionPolicy.LIMITS,
        # full means that no further command is taken; no claim ever makes room for another
        discard=DiscardPolicy.NEW,
        max_msgs_per_subject=1,
        allow_direct=True,
        allow_msg_ttl=True,
    )


def _queue(name: str, taken: list[str], share: int, settings: StreamSettings, large: bool) -> StreamConfig:
    return _common(settings).evolve(
        name=name,
        subjects=taken,
        retention=RetentionPolicy.WORK_QUEUE,
        # Full means refused, with a reason, for the sender who filled it; nobody's message makes room for another's.
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_bytes=settings.max_bytes if large else settings.small_bytes,
        max_msg_size=MAX_MESSAGE_BYTES if large else _SMALL_MESSAGE_BYTES,
        max_msgs_per_subject=share,
    )


def _common(settings: StreamSettings) -> StreamConfig:
    return StreamConfig(
        storage=StorageType.FILE,
        num_replicas=settings.replicas,
        max_bytes=settings.max_bytes,
        max_msg_size=MAX_MESSAGE_BYTES,
        duplicate_window=settings.duplicates_s,
        deny_delete=True,
        allow_direct=False,
        allow_msg_ttl=False,
    )


def node_consumer(node: str, *, large: bool = False) -> ConsumerConfig:
    """The durable pull consumer of one node on its member's results."""
    taken = subjects.sized(subjects.results_of(node), large=large)
    return own_consumer().evolve(durable_name=subjects.node_consumer(node), filter_subject=taken)


def own_consumer() -> ConsumerConfig:
    """The durable pull consumer of a member: explicit acknowledgement, delivered again for ever."""
    return ConsumerConfig(
        durable_name=subjects.OWN_CONSUMER,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=5,  # a message is acknowledged as soon as it is logged; what a dead node took comes again soon
        max_deliver=-1,
        # What is put back counts until it is acknowledged: far more than a sender's share, or one whose quota is used
        # up, with its messages put back for half a minute again and again, would be all that is delivered.
        max_ack_pending=_MOST_PENDING,
    )


class MemberStreams:
    """Brings the broker's streams to their shape.

    Args:
        connection: of a user of the streams' account.
        settings: of all streams.
    """

    def __init__(self, connection: Connection, settings: StreamSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._ready: dict[str, tuple[str, ...]] = {}

    def forget(self) -> None:
        """To be called at each new connection: the broker may have lost its store."""
        self._ready.clear()

    async def settle(self, members: Mapping[str, Sequence[str]]) -> int:
        """Makes and corrects the streams of these members with these nodes; how many were made or changed.

        Raises:
            StreamsUnready: not all are there; what is possible was done. Call again.
        """
        missing = [member for member, nodes in members.items() if self._ready.get(member) != tuple(sorted(nodes))]
        if not missing:
            return 0
        try:
            js = self._connection.client.jetstream(timeout=_DEADLINE_S)
            there = await _existing(js)
        except (BusError, nats.errors.Error, OSError) as error:
            raise StreamsUnready(f"the broker's streams cannot be listed ({type(error).__name__})") from error
        changed, failures = 0, []
        for member in missing:
            try:
                changed += await self._settle_member(js, member, members[member], there)
            except (BusError, nats.errors.Error, OSError) as error:
                failures.append(error)
                _log.error("streams.unready", member=member, reason=_reason(error))
            else:
                self._ready[member] = tuple(sorted(members[member]))
        if failures:
            raise StreamsUnready(
                f"the streams of {len(failures)} members are not as they should be: {_reason(failures[0])}; tried again"
            )
        return changed

    async def _settle_member(
        self, js: JetStreamContext, member: str, nodes: Sequence[str], there: dict[str, StreamConfig]
    ) -> int:
        changed = 0
        for wanted in wanted_streams(member, nodes, self._settings):
            name = str(wanted.config.name)
            known = there.get(name)
            if known is None:
                await js.add_stream(wanted.config)
                changed += 1
            elif any(_settled(known, field) != _settled(wanted.config, field) for field in _SETTLED):
                await js.update_stream(wanted.config)
                changed += 1
                if name == subjects.result_stream(member):  # one for all nodes, of an earlier version
                    with contextlib.suppress(nats.js.errors.NotFoundError):
                        await js.delete_consumer(name, subjects.OWN_CONSUMER)
            for consumer in wanted.consumers:
                await js.add_consumer(name, consumer)
        return changed


async def _existing(js: JetStreamContext) -> dict[str, StreamConfig]:
    found: dict[str, StreamConfig] = {}
    while True:
        try:
            page = await js.streams_info(offset=len(found))
        except TypeError:  # the client's own, when the broker has no stream at all
            return found
        new = {str(info.config.name): info.config for info in page}
        if not new.keys() - found.keys():
            return found
        found.update(new)


def _settled(config: StreamConfig, field: str) -> object:
    found = getattr(config, field)
    return sorted(found) if isinstance(found, list) else found or None


def _reason(error: Exception) -> str:
    """What the broker said; its own words, which name streams and limits only."""
    return getattr(error, "description", None) or type(error).__name__
