"""The registry's authority: the only writer of a directory's log.

It appends what every reader would accept and refuses the rest with the reader's own code; it can hold documents back
and publish late, but it cannot make a member's word: gateways check every signature themselves. Documents are
submitted one at a time.

| step of `submit` | fails | afterwards |
|---|---|---|
| checks, trial run | refused with a code | nothing changed |
| append to the log | `RegistryUnavailable`, outcome may be unknown | the same bytes again: found, or appended |
| fold, local rows | `StoreUnusable` | the next start folds it from the log |
| publish | feed unavailable | published with the next heartbeat |

Mints no credentials and speaks no HTTP (`http`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from evidence.errors import EvidenceError
from evidence.leaf import DIRECTORY
from evidence.log import ExchangeLog, LogReader
from evidence.merkle import HASH_BYTES
from evidence.signer import Signer
from evidence.tiles import TILE_WIDTH, tile_width
from registry.admissions import Admissions
from registry.checkpoints import cosign_checkpoint, directory_origin
from registry.contract import trial_async
from registry.documents import MAX_DOCUMENT_BYTES, AnyDocument, Member, decode
from registry.errors import (
    DocumentRefused,
    NotFound,
    RegistryError,
    RegistryUnavailable,
    StoreUnusable,
    TooLarge,
)
from registry.fold import Applied, Directory, Skipped, digest_of
from registry.localcopy import LocalCopy
from registry.observers import AuthorityObserver, UnobservedAuthority
from registry.ports import BUNDLE_LEAVES, ReaderFeed
from registry.publisher import Publisher
from registry.registrystore import RegistryStore
from registry.settings import AuthoritySettings
from registry.trialruns import Trials, TryContract

_TRIALS = 3
"""Rounds in which a document is tried, because what it depends on may change during the trial."""


class Accepted(NamedTuple):
    """A document that is in the log.

    Attributes:
        at: Its index in the directory's log.
        digest: SHA-256 hex of its JWS: what the next document of its chain names as `prev`.
        leaf_hash: 32 bytes.
    """

    at: int
    digest: str
    leaf_hash: bytes


class Newest(NamedTuple):
    """The newest document of a chain, as `GET /documents` answers it."""

    at: int
    digest: str
    payload: bytes
    signed: bytes


class Authority:
    """See the module. One event loop; `run` belongs beside it.

    Attributes:
        directory: As far as it is folded.
        store: Contracts and requests.
        log: The directory's log.
        admissions: Requests to become a member.
    """

    def __init__(
        self,
        log: ExchangeLog,
        reader: LogReader,
        directory: Directory,
        copy: LocalCopy,
        store: RegistryStore,
        *,
        instance: str,
        cosigner: Signer,
        now: Callable[[], datetime],
        feed: ReaderFeed | None = None,
        settings: AuthoritySettings | None = None,
        observer: AuthorityObserver | None = None,
        try_contract: TryContract = trial_async,
    ) -> None:
        """Use `open` instead; this takes parts that are open already."""
        self.directory = directory
        self.store = store
        self.log = log
        self._instance = instance
        self._copy = copy
        self._cosigner = cosigner
        self._now = now
        self._settings = settings or AuthoritySettings()
        self._observer = observer or UnobservedAuthority()
        self._publisher: Publisher | None = None
        if feed is not None:
            self._publisher = Publisher(feed, self._leaves, store.contract, self._settings.publish_timeout_s)
        self._submitting = asyncio.Lock()
        self._trying = asyncio.Lock()
        self._changed = asyncio.Event()
        self._reader = reader
        self._trials = Trials(directory, store.contract, try_contract)
        self.admissions = Admissions(directory, store, now, self.submit)

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        genesis: str,
        instance: str,
        log_signer: Signer,
        cosigner: Signer,
        now: Callable[[], datetime],
        token: Callable[[], str],
        feed: ReaderFeed | None = None,
        settings: AuthoritySettings | None = None,
        observer: AuthorityObserver | None = None,
        try_contract: TryContract = trial_async,
    ) -> Authority:
        """Open the registry's files, fold the log, append nothing but the boot leaf.

        Args:
            folder: Holds `directory.db`, `copy.db` and `registry.db`; exists.
            genesis: 64 hex digits.
            instance: Its name.
            log_signer: Ed25519 key of the directory's log.
            cosigner: Ed25519 key of the timestamped cosignature.
            now: The clock, aware UTC.
            token: Makes random ids for boot leaves.
            feed: Where to publish; None publishes nothing.
            settings: Limits and intervals.
            observer: Metrics.
            try_contract: Tries a new contract where it can do no harm, before it is parsed here.

        Raises:
            EvidenceError: The log cannot be opened.
            StoreUnusable: A file is of another instance or newer, or the log is older than what was folded from it.
        """
        settings = settings or AuthoritySettings()
        log = await ExchangeLog.open(
            folder / "directory.db", origin=directory_origin(genesis, instance), signer=log_signer, now=now, token=token
        )
        try:
            copy = LocalCopy(folder / "copy.db", genesis)
            store = RegistryStore(
                folder / "registry.db",
                genesis,
                max_contract_bytes=settings.max_contract_bytes,
                max_requests=settings.max_requests,
            )
            authority = cls(
                log,
                LogReader(folder / "directory.db"),
                Directory(genesis),
                copy,
                store,
                instance=instance,
                cosigner=cosigner,
                now=now,
                feed=feed,
                settings=settings,
                observer=observer,
                try_contract=try_contract,
            )
            authority._restore()
        except BaseException:
            await log.close()
            raise
        return authority

    async def close(self) -> None:
        """Close all files."""
        await self.log.close()
        self._reader.close()
        self._copy.close()
        self.store.close()

    def _restore(self) -> None:
        if self._copy.folded > self.log.size:
            raise StoreUnusable("the directory's log is older than what was folded from it: restore the newer one")
        self.directory.reach(self._now().replace(microsecond=0))
        for document in self._copy.documents():
            self.directory.restore(document.index, document.digest, document.author, document.payload)
        self.directory.folded_size = self._copy.folded
        self._catch_up()

    # Documents ----------------------------------------------------------------------------------------------------

    async def submit(self, envelope: bytes) -> Accepted:
        """Append a document, or say why not.

        The same bytes again give the same answer.

        Args:
            envelope: JWS bytes.

        Raises:
            DocumentRefused: Every reader would skip it; or the trial run failed; with a stable code.
            ContractMissing: A service's contract has to be put first.
            ContractMismatch: The document contradicts its contract.
            RegistryUnavailable: The log cannot be written now; submit the same bytes again.
        """
        try:
            accepted, document = await self._submit(envelope)
        except RegistryError as error:
            self._observer.refused(error.code)
            raise
        if document is not None:
            self._observer.accepted(document.type, accepted.at)
            self._changed.set()
        return accepted

    async def _submit(self, envelope: bytes) -> tuple[Accepted, AnyDocument | None]:
        tried: object = None
        for _ in range(_TRIALS):
            async with self._submitting:
                self._catch_up()
                known = self._copy.index_of(digest_of(envelope))
                if known is not None:
                    return await self._accepted(known, digest_of(envelope)), None
                outcome = self._check(envelope)
                document = decode(outcome.payload)
                basis = self._trials.basis(document)
                if basis is None or basis == tried:
                    return await self._append(envelope, outcome.digest), document
            # A slow contract must hold up nobody else's documents, revocations and heartbeats least of all.
            async with self._trying:
                await self._trials.run(document)
            tried = basis
        raise RegistryUnavailable("the documents that this one depends on keep changing: submit it again")

    def _check(self, envelope: bytes) -> Applied:
        if len(envelope) > MAX_DOCUMENT_BYTES:
            raise TooLarge(f"{len(envelope)} bytes; {MAX_DOCUMENT_BYTES} fit into a leaf", limit=MAX_DOCUMENT_BYTES)
        outcome = self.directory.check(DIRECTORY + envelope)
        if isinstance(outcome, Skipped):
            raise DocumentRefused(outcome.code, outcome.message)
        self._check_issued(decode(outcome.payload))
        return outcome

    async def _append(self, envelope: bytes, digest: str) -> Accepted:
        try:
            [logged] = await self.log.append([DIRECTORY + envelope])
        except EvidenceError as error:
            raise RegistryUnavailable(f"the directory's log cannot be written now ({error.code})") from error
        # Commit point: the document is in the log. Everything below can be done again from it.
        self._catch_up()
        return Accepted(logged.index, digest, logged.leaf_hash)

    async def _accepted(self, at: int, digest: str) -> Accepted:
        logged = await self.log.prove(at)
        return Accepted(at, digest, logged.leaf_hash)

    def _check_issued(self, document: AnyDocument) -> None:
        now = self._now()
        oldest = now - timedelta(seconds=self._settings.issued_past_s)
        newest = now + timedelta(seconds=self._settings.issued_future_s)
        # The first anchor was made when the instance was; certificates of all others are judged at `issued`.
        if self.directory.anchor is not None and not oldest <= document.issued_at <= newest:
            raise DocumentRefused("issued-implausible", "`issued` is too far from the registry's clock: sign it anew")
        if isinstance(document, Member) and document.change == "confirmed" and not self.directory.due(document.subject):
            raise DocumentRefused("recovery-not-due", "the public delay is not over by the registry's clock")

    def put_contract(self, sha256: str, data: bytes) -> None:
        """Keep a contract for services to come.

        Raises:
            RegistryError: See `RegistryStore.put_contract`.
        """
        self.store.put_contract(sha256, data, self.directory.contracts())

    def newest(self, type: str, subject: str) -> Newest:  # noqa: A002
        """The newest document of a chain: what the next one has to follow.

        Raises:
            NotFound: There is none.
        """
        head = self.directory.head(type, subject)
        stored = None if head is None else self._copy.document(head.index)
        if stored is None:
            raise NotFound(f"there is no {type} document of {subject}")
        [leaf] = self._leaves(stored.index, stored.index + 1)
        return Newest(stored.index, stored.digest, stored.payload, leaf[len(DIRECTORY) :])

    def anchors(self) -> list[bytes]:
        """The signed anchor documents, oldest first."""
        return [leaf[len(DIRECTORY) :] for at in self.directory.anchor_indices for leaf in self._leaves(at, at + 1)]

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Hashes of a tile of the log (C2SP tlog-tiles).

        Raises:
            NotFound: The log is not that large.
        """
        if not 1 <= width <= tile_width(level, index, self.log.size):
            raise NotFound("this log has no such tile")
        return self._reader.tile(level, index, width)[: width * HASH_BYTES]

    def entry_bundle(self, index: int, width: int) -> bytes:
        """Leaves of a level-0 tile, each after its 16-bit length (C2SP tlog-tiles).

        Raises:
            NotFound: The log is not that large.
        """
        if not 1 <= width <= tile_width(0, index, self.log.size):
            raise NotFound("this log has no such entry bundle")
        start = index * TILE_WIDTH
        return b"".join(len(leaf).to_bytes(2) + leaf for leaf in self._leaves(start, start + width))

    def unready(self) -> list[str]:
        """Why documents cannot be taken now; empty when they can."""
        reasons = [] if self.log.writable else ["log-unwritable"]
        return reasons if self.directory.anchor is not None else [*reasons, "no-anchor"]

    def _leaves(self, start: int, stop: int) -> list[bytes]:
        return [leaf for _, _, leaf in self._reader.leaves(start, stop)]

    def _catch_up(self) -> None:
        """Fold what the log has beyond the directory: also leaves whose append seemed to fail."""
        # To the second, as it is cosigned: what is due here is due for every reader of the next checkpoint.
        self.directory.reach(self._now().replace(microsecond=0))
        size = self.log.size
        while self.directory.folded_size < size:
            start = self.directory.folded_size
            leaves = self._leaves(start, min(start + BUNDLE_LEAVES, size))
            outcomes = [self.directory.apply(index, leaf) for index, leaf in enumerate(leaves, start)]
            self._copy.add_outcomes(outcomes, self.directory.folded_size)
        if self.directory.size != size:
            self.directory.settle(size, self.log.root)

    # The feed -----------------------------------------------------------------------------------------------------

    def checkpoint(self) -> bytes:
        """The newest checkpoint with a cosignature of now.

        Raises:
            RegistryUnavailable: There is no directory yet.
        """
        if self.directory.anchor is None:
            raise RegistryUnavailable("the directory has no anchor yet")
        unix_s = int(self._now().timestamp())
        return cosign_checkpoint(self.log.note, self.directory.genesis, self._instance, self._cosigner, unix_s)

    async def heartbeat(self) -> None:
        """Publish what the feed lacks and a freshly cosigned checkpoint.

        Raises:
            FeedUnavailable: The feed is not known to have it; nothing is lost.
        """
        if self._publisher is None or self.directory.anchor is None:
            return
        async with self._submitting:
            self._catch_up()
            note, size = self.checkpoint(), self.log.size
        await self._publisher.publish(note, size, self.directory)
        self._observer.published(size)

    async def run(self) -> None:
        """Heartbeats until cancelled: every `heartbeat_s`, and at once when a document was accepted."""
        while True:
            self._changed.clear()
            try:
                await self.heartbeat()
            except (RegistryError, EvidenceError) as error:
                self._observer.failed(error)
            try:
                async with asyncio.timeout(self._settings.heartbeat_s):
                    await self._changed.wait()
            except TimeoutError:
                continue
