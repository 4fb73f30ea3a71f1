"""A feed in memory, fed by a small honest registry, that a test can make lie."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from registry_world import START, World

from evidence import note as evidence_note
from evidence.checkpoint import Checkpoint, key_name
from evidence.merkle import Frontier, leaf_hash
from registry.checkpoints import cosign_checkpoint, directory_origin
from registry.errors import FeedUnavailable
from registry.ports import BUNDLE_LEAVES


def root_of(leaves: Sequence[bytes]) -> bytes:
    return Frontier().extend([leaf_hash(leaf) for leaf in leaves]).root


def signed_checkpoint(
    world: World, leaves: Sequence[bytes], at: datetime, *, root: bytes | None = None, origin: str | None = None
) -> bytes:
    origin = origin or directory_origin(world.genesis, world.instance)
    text = Checkpoint(origin, len(leaves), root or root_of(leaves)).text()
    note = evidence_note.sign(text, key_name(origin), world.log_signer)
    return cosign_checkpoint(note, world.genesis, world.instance, world.cosigner, int(at.timestamp()))


class MemoryFeed:
    """Both ends of a feed."""

    def __init__(self) -> None:
        self.bundles: dict[int, list[bytes]] = {}
        self.checkpoint: bytes | None = None
        self.blobs: dict[str, bytes] = {}
        self.down = False
        self.published: list[str] = []
        self.changed = asyncio.Event()

    def _check(self) -> None:
        if self.down:
            raise FeedUnavailable("the feed is down")

    async def publish_entries(self, first_index: int, leaves: Sequence[bytes]) -> None:
        self._check()
        assert first_index % BUNDLE_LEAVES == 0
        self.bundles[first_index // BUNDLE_LEAVES] = list(leaves)
        self.published.append(f"entries {first_index}+{len(leaves)}")

    async def publish_checkpoint(self, note: bytes) -> None:
        self._check()
        self.checkpoint = note
        self.published.append("checkpoint")
        self.changed.set()

    async def publish_blob(self, sha256: str, data: bytes) -> None:
        self._check()
        self.blobs[sha256] = data
        self.published.append(f"blob {sha256[:8]}")

    async def latest_checkpoint(self) -> bytes:
        self._check()
        if self.checkpoint is None:
            raise FeedUnavailable("no checkpoint")
        return self.checkpoint

    async def entries(self, bundle_index: int) -> list[bytes]:
        self._check()
        if bundle_index not in self.bundles:
            raise FeedUnavailable("no such bundle")
        return self.bundles[bundle_index]

    async def blob(self, sha256: str) -> bytes:
        self._check()
        if sha256 not in self.blobs:
            raise FeedUnavailable("no such contract")
        return self.blobs[sha256]

    async def wait_changed(self, timeout_s: float) -> None:
        self._check()
        await self.changed.wait()
        self.changed.clear()

    def show(self, world: World, at: datetime, leaves: Sequence[bytes] | None = None) -> None:
        """Publish a world's log, or other leaves under its keys."""
        leaves = world.leaves if leaves is None else leaves
        self.bundles = {
            index // BUNDLE_LEAVES: list(leaves[index : index + BUNDLE_LEAVES])
            for index in range(0, len(leaves), BUNDLE_LEAVES)
        }
        self.checkpoint = signed_checkpoint(world, leaves, at)


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, minutes: float = 100.0) -> None:
        self.at = START + timedelta(minutes=minutes)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **delta: float) -> datetime:
        self.at += timedelta(**delta)
        return self.at
