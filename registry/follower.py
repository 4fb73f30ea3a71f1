"""A gateway's own directory: follows the feed, verifies everything, keeps a local copy, works without the registry.

What the feed delivers is trusted for nothing. A checkpoint counts when the directory's keys signed it and the tree
recomputed from our leaves plus the new ones has its root: that is consistency with everything accepted before.

| attack or fault | what happens |
|---|---|
| an older, validly signed checkpoint (rollback) | refused, evidence kept; the next newer one is accepted |
| same size with two roots, or a signed tree that does not continue ours (fork) | refused for good, evidence kept, |
|  | also across restarts; the directory that we have is used until it is too old |
| no newer cosignature (freeze), feed or registry down | `fresh` becomes false after `max_age_s` |
| wrong, missing, oversized or malformed entries | refused, tried again with back-off |
| a document that fails a check | skipped and reported; later documents are not affected |

The store file is trusted as far as the machine is. Decides nothing about access.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from evidence.merkle import Frontier, leaf_hash
from evidence.stamps import encode_time
from registry.checkpoints import DirectoryCheckpoint, directory_verifier, verify_checkpoint
from registry.documents import Anchor
from registry.errors import (
    FeedInvalid,
    FeedUnavailable,
    ForkDetected,
    RegistryError,
    RollbackDetected,
)
from registry.feed import check_bundle, find_anchor
from registry.fold import Applied, Directory, Skipped
from registry.localcopy import Alarm, Confirmed, LocalCopy, Tip
from registry.observers import FollowerObserver, UnobservedFollower
from registry.ports import BUNDLE_LEAVES, FeedReader
from registry.settings import FollowerSettings

T = TypeVar("T")


class Follower:
    """See the module. Everything runs in one event loop; `directory` may be read at any time between awaits.

    Attributes:
        directory: The folded directory; the same object for the life of the follower.
        as_of: When the registry last confirmed what `directory` says; None before the first checkpoint.
    """

    def __init__(
        self,
        feed: FeedReader,
        store_path: Path,
        genesis: str,
        *,
        now: Callable[[], datetime],
        settings: FollowerSettings | None = None,
        observer: FollowerObserver | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Open the store and fold it: no network.

        Raises:
            StoreUnusable: The file is of another instance, newer, or damaged.
        """
        self.directory = Directory(genesis, ahead=self._known_leaves)
        self.as_of: datetime | None = None
        self._feed = feed
        self._now = now
        self.settings = settings or FollowerSettings()
        self._observer = observer or UnobservedFollower()
        self._sleep = sleep
        self._subscribers: list[Callable[[], None]] = []
        self._updating = asyncio.Lock()
        self._copy = LocalCopy(store_path, genesis)
        self._remembers = True
        self._known_size = 0  # leaves that were known at the time that the directory has reached
        self._restore()

    # Reading ------------------------------------------------------------------------------------------------------

    def fresh(self, now: datetime) -> bool:
        """Whether the directory was confirmed recently enough to work with."""
        return self.fresh_for_s(now) >= 0

    def fresh_for_s(self, now: datetime) -> float:
        """Seconds until the directory is too old to work with; negative when it is, or when there is none."""
        if self.as_of is None:
            return -math.inf
        return self.settings.max_age_s - (now - self.as_of).total_seconds()

    def alarms(self) -> list[Alarm]:
        """Evidence of rollbacks and forks, kept across restarts."""
        return self._copy.alarms()

    def leaf(self, index: int) -> bytes | None:
        """A leaf of the directory's log from the local copy, prefix included; None beyond its end."""
        return next(iter(self._copy.leaves(index, index + 1)), None)

    def confirmed(self) -> list[Confirmed]:
        """Trees of the directory that this follower saw, with the first and last time of their cosignatures."""
        return self._copy.confirmed()

    @property
    def forked(self) -> bool:
        """Whether the directory contradicted itself; such a follower accepts nothing new."""
        return any(alarm.kind == ForkDetected.code for alarm in self._copy.alarms())

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` after each update that changed the directory.

        Returns:
            A function that ends the subscription.
        """
        self._subscribers.append(changed)
        return lambda: self._subscribers.remove(changed)

    async def contract(self, sha256: str) -> bytes:
        """A contract's bytes, from the local copy or else from the feed.

        Raises:
            FeedUnavailable: It is not here and cannot be fetched.
            FeedInvalid: What was fetched is not that contract, or too large.
        """
        kept = self._copy.blob(sha256)
        if kept is not None:
            return kept
        data = await self._ask(self._feed.blob(sha256))
        if len(data) > self.settings.max_contract_bytes:
            raise FeedInvalid(
                f"contract {sha256[:16]} has {len(data)} bytes; {self.settings.max_contract_bytes} allowed"
            )
        if hashlib.sha256(data).hexdigest() != sha256:
            raise FeedInvalid(f"what the feed has as contract {sha256[:16]} has another digest")
        self._copy.add_blob(sha256, data)
        return data

    def close(self) -> None:
        """Close the store."""
        self._copy.close()

    # Following ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow until cancelled; failures are reported and tried again, a fork only reported once a round."""
        pause_s = self.settings.backoff_min_s
        while True:
            try:
                await self.update()
                pause_s = self.settings.backoff_min_s
                await self._wait_changed()
            except RegistryError as error:
                self._observer.failed(error)
                await self._sleep(pause_s)
                pause_s = min(pause_s * 2, self.settings.backoff_max_s)

    async def update(self) -> bool:
        """One round: newest checkpoint, its entries, the fold.

        Returns:
            Whether the directory changed.

        Raises:
            FeedUnavailable: Nothing to be had now.
            FeedInvalid: What was delivered does not verify.
            RollbackDetected: The checkpoint is older than ours.
            ForkDetected: The checkpoint contradicts ours; also from then on at every call.
            WrongGenesis: The feed's anchor is not ours.
            StoreUnusable: The local copy cannot be written.
        """
        async with self._updating:
            if self.forked:
                raise ForkDetected("this directory contradicted itself before; see its alarms, and ask the operator")
            note = await self._ask(self._feed.latest_checkpoint())
            anchor = self.directory.anchor or await self._first_anchor()
            checkpoint = verify_checkpoint(note, directory_verifier(self.directory.genesis, anchor))
            self._check_time(checkpoint)
            changed = await self._accept(checkpoint)
            self._confirm(checkpoint)
            changed = self._reach(checkpoint.size, checkpoint.cosigned) or changed
        if changed:
            for subscriber in tuple(self._subscribers):
                subscriber()
        return changed

    async def _first_anchor(self) -> Anchor:
        return find_anchor(await self._bundle(0), self.directory.genesis)

    def _check_time(self, checkpoint: DirectoryCheckpoint) -> None:
        if checkpoint.cosigned > self._now().timestamp() + self.settings.clock_skew_s:
            raise FeedInvalid("the directory checkpoint is from the future: compare the clocks of registry and gateway")

    async def _accept(self, checkpoint: DirectoryCheckpoint) -> bool:
        tip = self._copy.tip
        if checkpoint.size < tip.size:
            self._keep_alarm(RollbackDetected.code, checkpoint)
            raise RollbackDetected(f"the newest checkpoint has size {checkpoint.size}, an accepted one {tip.size}")
        if checkpoint.size > tip.size:
            if checkpoint.size > self.settings.max_leaves:
                raise FeedInvalid(f"a directory of {checkpoint.size} leaves; {self.settings.max_leaves} are allowed")
            await self._extend(checkpoint)
        elif checkpoint.root != tip.frontier.root():
            self._fork(checkpoint)
        self._reach(self._copy.tip.size, self._copy.tip.cosigned)
        before = self.directory.size
        await self._fold_new()
        return self.directory.size != before

    async def _extend(self, checkpoint: DirectoryCheckpoint) -> None:
        tip = self._copy.tip
        writer = self._copy.begin_leaves()
        frontier, left_bytes = tip.frontier, self.settings.max_update_bytes
        while frontier.size < checkpoint.size:
            leaves = await self._new_leaves(frontier.size, checkpoint.size)
            left_bytes -= sum(map(len, leaves))
            if left_bytes < 0:
                writer.discard()
                raise FeedInvalid(f"one update of more than {self.settings.max_update_bytes} bytes of entries")
            writer.add(frontier.size, leaves)
            frontier = frontier.extend([leaf_hash(leaf) for leaf in leaves]).frontier
        if frontier.root() != checkpoint.root:
            await self._explain_mismatch(checkpoint)
        # Commit point: from here on these leaves are the directory, whatever happens to the fold.
        writer.commit(Tip(size=frontier.size, edge=frontier.edge, note=checkpoint.note, cosigned=checkpoint.cosigned))

    async def _new_leaves(self, start: int, size: int) -> list[bytes]:
        bundle, offset = divmod(start, BUNDLE_LEAVES)
        leaves = await self._bundle(bundle)
        stop = min(BUNDLE_LEAVES, size - bundle * BUNDLE_LEAVES)
        if len(leaves) < stop:
            raise FeedUnavailable(f"bundle {bundle} of the feed is behind its checkpoint")
        return leaves[offset:stop]

    async def _explain_mismatch(self, checkpoint: DirectoryCheckpoint) -> None:
        """Tell a fork from a broken feed: does the feed, alone, make the signed tree?"""
        frontier = Frontier()
        while frontier.size < checkpoint.size:
            leaves = await self._new_leaves(frontier.size, checkpoint.size)
            frontier = frontier.extend([leaf_hash(leaf) for leaf in leaves]).frontier
        if frontier.root() == checkpoint.root:
            self._fork(checkpoint)
        raise FeedInvalid("the feed's entries are not those that its checkpoint commits to")

    def _fork(self, checkpoint: DirectoryCheckpoint) -> None:
        self._keep_alarm(ForkDetected.code, checkpoint)
        raise ForkDetected(
            f"a signed directory of size {checkpoint.size} does not continue the accepted one of size "
            f"{self._copy.tip.size}: both notes are kept; show them to the operator and to other members"
        )

    def _keep_alarm(self, kind: str, checkpoint: DirectoryCheckpoint) -> None:
        self._copy.add_alarm(Alarm(kind, encode_time(self._now()), self._copy.tip.note, checkpoint.note))

    def _confirm(self, checkpoint: DirectoryCheckpoint) -> None:
        """Move `as_of` forward, never back: an older note of the same tree confirms nothing."""
        tip = self._copy.tip
        if checkpoint.cosigned > tip.cosigned:
            self._copy.refresh_tip(msgspec.structs.replace(tip, note=checkpoint.note, cosigned=checkpoint.cosigned))
        self._set_as_of()
        now = self._now()
        self._observer.updated(self.directory.size, (now - (self.as_of or now)).total_seconds())

    def _set_as_of(self) -> None:
        tip = self._copy.tip
        self.as_of = datetime.fromtimestamp(tip.cosigned, UTC) if tip.note else None

    # Folding ------------------------------------------------------------------------------------------------------

    def _reach(self, size: int, cosigned: int) -> bool:
        self._known_size = size
        return bool(cosigned) and self.directory.reach(datetime.fromtimestamp(cosigned, UTC))

    def _known_leaves(self, start: int) -> Iterator[bytes]:
        while leaves := self._copy.leaves(start, min(start + BUNDLE_LEAVES, self._known_size)):
            yield from leaves
            start += len(leaves)

    def _restore(self) -> None:
        # Between the same leaves the same times are reached as when they came: so the directory is the same one.
        epochs = deque(self._copy.confirmed())

        def reach(index: int) -> None:
            while epochs and epochs[0].size <= index:
                past = epochs.popleft()
                self._reach(past.size, past.last_s)
            if epochs:
                self._reach(epochs[0].size, epochs[0].first_s)

        for document in self._copy.documents():
            reach(document.index)
            self.directory.restore(document.index, document.digest, document.author, document.payload)
        self.directory.folded_size = self._copy.folded
        for outcome in self._copy.skipped():
            self.directory.skip(outcome)
        while self.directory.folded_size < self._copy.tip.size:
            self._fold_some(reach)
        reach(self._copy.tip.size)
        self._reach(self._copy.tip.size, self._copy.tip.cosigned)
        self._settle()
        self._set_as_of()

    async def _fold_new(self) -> None:
        while self.directory.folded_size < self._copy.tip.size:
            self._fold_some()
            await asyncio.sleep(0)  # one bundle takes milliseconds; calls go on in between
        self._settle()

    def _fold_some(self, reach: Callable[[int], None] = lambda _: None) -> None:
        start = self.directory.folded_size
        outcomes = []
        for index, leaf in enumerate(self._copy.leaves(start, start + BUNDLE_LEAVES), start):
            reach(index)
            outcomes.append(self.directory.apply(index, leaf))
        self._remember(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, Skipped):
                self._observer.skipped(outcome)

    def _remember(self, outcomes: list[Applied | Skipped]) -> None:
        """Save the next start the verification. If it cannot be written, the next start verifies again."""
        if not self._remembers:
            return
        try:
            self._copy.add_outcomes(outcomes, self.directory.folded_size)
        except RegistryError as error:
            self._remembers = False  # a gap would make later rows wrong
            self._observer.failed(error)

    def _settle(self) -> None:
        tip = self._copy.tip
        if tip.size:
            self.directory.settle(tip.size, tip.frontier.root())

    # The feed -----------------------------------------------------------------------------------------------------

    async def _bundle(self, index: int) -> list[bytes]:
        leaves = await self._ask(self._feed.entries(index))
        check_bundle(leaves)
        return leaves

    async def _ask(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self.settings.fetch_timeout_s):
                return await answer
        except TimeoutError:
            raise FeedUnavailable(f"the feed did not answer within {self.settings.fetch_timeout_s} s") from None

    async def _wait_changed(self) -> None:
        try:
            # The feed keeps to the time itself; the outer limit holds when it does not.
            async with asyncio.timeout(self.settings.poll_s + self.settings.fetch_timeout_s):
                await self._feed.wait_changed(self.settings.poll_s)
        except TimeoutError:
            return
