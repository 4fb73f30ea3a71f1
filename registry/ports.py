"""What the registry needs from outside: the feed that carries the directory, and the broker's credentials.

`bus` implements these over NATS JetStream (`lt.dir.entries.<n>`, `lt.dir.checkpoint`, `lt.dir.blob.<sha256>`);
tests with a fake in memory. Deadlines are set by the callers (`asyncio.timeout`): an implementation may wait as
long as it is not cancelled. Foreign exceptions are translated to `FeedUnavailable` by the implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from registry.view import MemberEntry, NodeEntry

BUNDLE_LEAVES = 64
"""Leaves in one full bundle; only the last one has fewer."""


class FeedPublisher(Protocol):
    """The registry's end of the feed. Publishing the same thing twice is harmless."""

    async def publish_entries(self, first_index: int, leaves: Sequence[bytes]) -> None:
        """Replace one bundle: `first_index` is a multiple of 64; 1 to 64 leaves (prefix included).

        Raises:
            FeedUnavailable: It is not known to be stored; publish again.
        """
        ...

    async def publish_checkpoint(self, note: bytes) -> None:
        """Replace the newest checkpoint (a cosigned note). Always after the entries it commits to.

        Raises:
            FeedUnavailable: It is not known to be stored; publish again.
        """
        ...

    async def publish_blob(self, sha256: str, data: bytes) -> None:
        """Store a contract under its digest.

        Raises:
            FeedUnavailable: It is not known to be stored; publish again.
        """
        ...


class FeedReader(Protocol):
    """A gateway's end of the feed. Nothing it returns is trusted before it is verified."""

    async def latest_checkpoint(self) -> bytes:
        """The newest checkpoint note.

        Raises:
            FeedUnavailable: There is none, or the feed cannot be reached.
        """
        ...

    async def entries(self, bundle_index: int) -> list[bytes]:
        """The leaves of one bundle, 1 to 64, in order.

        Raises:
            FeedUnavailable: There is no such bundle, or the feed cannot be reached.
            FeedInvalid: The stored bundle cannot be decoded.
        """
        ...

    async def blob(self, sha256: str) -> bytes:
        """A stored contract.

        Raises:
            FeedUnavailable: It is not there, or the feed cannot be reached.
        """
        ...

    async def wait_changed(self, timeout_s: float) -> None:
        """Return when a newer checkpoint may be there, at the latest after `timeout_s`.

        Raises:
            FeedUnavailable: The feed cannot be reached.
        """
        ...


class CredentialMinter(Protocol):
    """Makes broker credentials from what the directory says about a node."""

    async def mint(self, node: NodeEntry, member: MemberEntry) -> str:
        """A user JWT for the node's broker key, with the rights of protocol.md "Broker".

        Raises:
            NotFound: The node's statement has ended.
            RegistryUnavailable: The broker's account cannot be used now.
        """
        ...


class ReaderFeed(FeedPublisher, FeedReader, Protocol):
    """Both ends, as the registry itself uses them to see how far the feed is."""
