"""Bringing the feed up to the registry's log: entries first, contracts next, the checkpoint last.

The feed is disposable: at the start, and whenever its own checkpoint is behind what was published, everything is
published again from the log. Cosigns nothing itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from evidence import checkpoint as evidence_checkpoint
from evidence.errors import EvidenceError
from registry.errors import FeedUnavailable
from registry.ports import BUNDLE_LEAVES, ReaderFeed
from registry.state import State

T = TypeVar("T")


class Publisher:
    """Remembers how far the feed is. One publication at a time."""

    def __init__(
        self,
        feed: ReaderFeed,
        leaves: Callable[[int, int], list[bytes]],
        contract: Callable[[str], bytes | None],
        timeout_s: float,
    ) -> None:
        """Publish from a log.

        Args:
            feed: Both ends of the feed.
            leaves: `(start, stop)` to the leaves of the log.
            contract: Digest to the contract's bytes.
            timeout_s: Deadline of one publication.
        """
        self._feed = feed
        self._leaves = leaves
        self._contract = contract
        self._timeout_s = timeout_s
        self._size = 0
        self._contracts: set[str] = set()
        self._publishing = asyncio.Lock()

    async def publish(self, note: bytes, size: int, directory: State) -> None:
        """Publish everything up to `size`, then the note.

        Raises:
            FeedUnavailable: The feed may lack something; call again.
        """
        async with self._publishing:
            if self._size and await self._feed_size() < self._size:
                self._size = 0
                self._contracts.clear()
            await self._publish_entries(size)
            await self._publish_contracts(directory)
            await self._ask(self._feed.publish_checkpoint(note))

    async def _feed_size(self) -> int:
        try:
            return evidence_checkpoint.parse_note(await self._ask(self._feed.latest_checkpoint())).size
        except (FeedUnavailable, EvidenceError):
            return 0

    async def _publish_entries(self, size: int) -> None:
        while self._size < size:
            first = self._size - self._size % BUNDLE_LEAVES
            stop = min(first + BUNDLE_LEAVES, size)
            await self._ask(self._feed.publish_entries(first, self._leaves(first, stop)))
            self._size = stop

    async def _publish_contracts(self, directory: State) -> None:
        for sha256 in directory.contracts() - self._contracts:
            data = self._contract(sha256)
            if data is not None:
                await self._ask(self._feed.publish_blob(sha256, data))
            self._contracts.add(sha256)

    async def _ask(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError:
            raise FeedUnavailable(f"the feed did not answer within {self._timeout_s} s") from None
