"""The directory's feed over JetStream: one stream, the newest message per subject.

`lt.dir.entries.<n>` holds bundle n (64 leaves, each after its 16-bit big-endian length, as in C2SP tlog-tiles),
`lt.dir.checkpoint` the newest cosigned checkpoint, `lt.dir.blob.<sha256>` a contract. Readers use direct get only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import nats.errors
import nats.js.errors
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from bus.errors import BusError
from bus.transport.connection import Connection
from bus.transport.subjects import DIRECTORY_STREAM, DIRECTORY_SUBJECTS
from registry.errors import FeedUnavailable
from registry.feed import decode_bundle, encode_bundle

_CHECKPOINT = "lt.dir.checkpoint"
_GET_DEADLINE_S = 5.0


class NatsFeedReader:
    """A gateway's end. `on_announcement` is to be subscribed on `lt.dir.checkpoint`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changed = asyncio.Event()
        self._announced: bytes | None = None
        connection.subscribe(_CHECKPOINT, self._on_announcement)

    async def _on_announcement(self, _subject: str, _reply: str, data: bytes) -> None:
        self._announced = data
        self._changed.set()

    async def _get(self, subject: str) -> bytes:
        request = f"$JS.API.DIRECT.GET.{DIRECTORY_STREAM}.{subject}"
        try:
            message = await self._connection.exchange(request, b"", _GET_DEADLINE_S)
        except BusError as error:
            raise FeedUnavailable(f"the directory's feed cannot be reached ({error.code})") from error
        if message.headers is not None and message.headers.get("Status"):
            raise FeedUnavailable(f"the directory's feed has nothing under {subject}")
        return bytes(message.data)

    async def latest_checkpoint(self) -> bytes:
        """See `registry.ports.FeedReader`."""
        # An announcement may be here before the stream has what it announces: it is the checkpoint itself.
        announced, self._announced = self._announced, None
        return announced or await self._get(_CHECKPOINT)

    async def entries(self, bundle_index: int) -> list[bytes]:
        """See `registry.ports.FeedReader`."""
        return decode_bundle(await self._get(f"lt.dir.entries.{bundle_index}"))

    async def blob(self, sha256: str) -> bytes:
        """See `registry.ports.FeedReader`."""
        return await self._get(f"lt.dir.blob.{sha256}")

    async def wait_changed(self, timeout_s: float) -> None:
        """See `registry.ports.FeedReader`."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return
        self._changed.clear()


class NatsFeed(NatsFeedReader):
    """The registry's end: makes the stream, publishes, and reads back how far the feed is.

    Args:
        connection: of a user of the streams' account.
        replicas: servers of a cluster that hold a copy.
    """

    def __init__(self, connection: Connection, replicas: int = 1) -> None:
        super().__init__(connection)
        self._replicas = replicas

    async def latest_checkpoint(self) -> bytes:
        """What the stream has: an announcement of one's own says nothing about a store that was lost."""
        return await self._get(_CHECKPOINT)

    async def prepare(self) -> None:
        """Makes the stream if the broker's store does not have it.

        Raises:
            FeedUnavailable: the broker cannot be reached.
        """
        config = StreamConfig(
            name=DIRECTORY_STREAM,
            subjects=[DIRECTORY_SUBJECTS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_msgs_per_subject=1,
            allow_direct=True,
            num_replicas=self._replicas,
        )
        try:
            js = self._connection.client.jetstream(timeout=_GET_DEADLINE_S)
            try:
                await js.update_stream(config)
            except nats.js.errors.NotFoundError:
                await js.add_stream(config)
        except (BusError, nats.errors.Error, OSError) as error:
            raise FeedUnavailable("the directory's stream cannot be made") from error

    async def _publish(self, subject: str, data: bytes) -> None:
        try:
            js = self._connection.client.jetstream(timeout=_GET_DEADLINE_S)
            await js.publish(subject, data, timeout=_GET_DEADLINE_S)
        except nats.js.errors.NoStreamResponseError:
            await self.prepare()
            raise FeedUnavailable("the directory's stream was made anew; publish again") from None
        except (BusError, nats.errors.Error, OSError) as error:
            raise FeedUnavailable("the broker did not confirm") from error

    async def publish_entries(self, first_index: int, leaves: Sequence[bytes]) -> None:
        """See `registry.ports.FeedPublisher`."""
        await self._publish(f"lt.dir.entries.{first_index // 64}", encode_bundle(leaves))

    async def publish_checkpoint(self, note: bytes) -> None:
        """See `registry.ports.FeedPublisher`."""
        await self._publish(_CHECKPOINT, note)

    async def publish_blob(self, sha256: str, data: bytes) -> None:
        """See `registry.ports.FeedPublisher`."""
        await self._publish(f"lt.dir.blob.{sha256}", data)
