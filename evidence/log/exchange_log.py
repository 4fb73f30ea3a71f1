"""The exchange log as its owner uses it: open, append, prove, read, close (protocol.md "Exchange log").

One event loop, one writer. How commits work, and what happens when they fail, is told in `evidence.log.appender`.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import NoReturn, TypeVar

from evidence.errors import (
    IndexUnknown,
    KeyUnusable,
    LeafMalformed,
    LeafTooLarge,
    LogBusy,
    LogClosed,
    LogUnwritable,
    RowRefused,
)
from evidence.leaf import KINDS, MAX_LEAF_BYTES
from evidence.log.appender import Appender, CallerRow, LogObserver, Ports
from evidence.log.lock import LogLock
from evidence.log.reader import Logged, LogReader
from evidence.log.store import SqliteStore, Store
from evidence.note import VerifierKey
from evidence.signer import Signer

__all__ = ["CallerRow", "ExchangeLog", "LogObserver", "Logged"]

MAX_READS = 1_000
_LATE_S = 1.0

_Result = TypeVar("_Result")


class _NoObserver:
    def committed(self, leaves: int, seconds: float) -> None:
        pass

    def failed(self) -> None:
        pass


class ExchangeLog:
    """A node's log; made by `open`. All methods belong to the event loop that opened it.

    Attributes:
        origin: Origin of the log.
    """

    def __init__(self, path: Path, lock: LogLock, ports: Ports) -> None:
        self.origin = ports.origin
        self._appender = Appender(path, ports)
        self._path = path
        self._lock = lock
        self._reader: LogReader | None = None
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="exchange-log-reader")
        self._reads = 0
        self._late = (0, 0.0)  # size of the checkpoint of late proofs, and until when it serves

    @classmethod
    async def open(
        cls,
        path: str | PathLike[str],
        *,
        origin: str,
        signer: Signer,
        now: Callable[[], datetime],
        token: Callable[[], str],
        schema: Sequence[str] = (),
        store_factory: Callable[[Path], Store] = SqliteStore,
        observer: LogObserver | None = None,
        retry_s: float = 3.0,
        max_pending: int = 10_000,
        earlier_keys: Sequence[VerifierKey] = (),
    ) -> "ExchangeLog":
        """Open or create a log, examine it, and mark the start with a control leaf.

        Args:
            path: Database file; `<path>.lock` beside it is held while the log is open.
            origin: See `identifiers.log_origin`.
            signer: The log's Ed25519 key, used for nothing else.
            now: The clock, for the control leaf.
            token: Fresh unguessable texts of 16 to 128 characters `[0-9A-Za-z_-]`.
            schema: Statements for the callers' own tables, all with IF NOT EXISTS.
            store_factory: Makes the store; replaced in tests.
            observer: Hears of commits and failures.
            retry_s: Seconds between attempts to recover.
            max_pending: Leaves that may wait for a commit; beyond, `append` raises `LogBusy`.
            earlier_keys: Keys that signed this log before `signer`, as the directory says; without them a log of
                another key is refused.

        Raises:
            LogLocked: Another process writes this log.
            LogUnwritable: The disk does not take it now; try again later.
            LogCorrupt: The stored leaves do not give the stored root.
            LogMismatch: The file belongs to another origin or key.
            SchemaNewer: The file was written by a newer program.
            KeyUnusable: The signer is not Ed25519.
        """
        if signer.algorithm != "EdDSA":
            raise KeyUnusable("the log key must be an Ed25519 key")
        hears = observer or _NoObserver()
        earlier = tuple(earlier_keys)
        ports = Ports(origin, signer, now, token, store_factory, hears, retry_s, max_pending, earlier)
        lock = LogLock(Path(path))
        try:
            log = cls(Path(path), lock, ports)
        except BaseException:
            lock.release()
            raise
        try:
            await log._appender.open(schema)
        except BaseException as error:
            await log.close()
            if isinstance(error, sqlite3.Error | OSError):
                raise LogUnwritable(f"the log cannot be opened for writing: {error}") from error
            raise
        return log

    @property
    def verifier_key(self) -> VerifierKey:
        """Under which its next checkpoints verify."""
        return self._appender.verifier_key

    @property
    def verifier_keys(self) -> tuple[VerifierKey, ...]:
        """Under one of which each of its checkpoints verifies, the present key first."""
        return self._appender.keys

    def take_signer(self, signer: Signer) -> None:
        """Sign with another key from the next commit on; nothing that is under way is lost or signed twice.

        The caller has made sure that the directory names the key for this log.

        Raises:
            KeyUnusable: The signer is not Ed25519; nothing was changed.
        """
        if signer.algorithm != "EdDSA":
            raise KeyUnusable("the log key must be an Ed25519 key")
        self._appender.take_signer(signer)
        self._late = (0, 0.0)

    @property
    def size(self) -> int:
        """Leaves in the newest released tree."""
        return self._appender.released.size

    @property
    def root(self) -> bytes:
        """Root of the newest released tree, 32 bytes."""
        return self._appender.released.root

    @property
    def note(self) -> bytes:
        """The newest released checkpoint, signed."""
        return self._appender.released.note

    @property
    def writable(self) -> bool:
        """False after a failed or unknown commit, until a control leaf is committed; and after closing."""
        return self._appender.refusal is None

    async def append(self, leaves: Sequence[bytes], also_write: Sequence[CallerRow] = ()) -> list[Logged]:
        """Commit leaves, all in one transaction, and return them with their proofs.

        Cancelling the wait does not take the leaves back.

        Args:
            leaves: At least one, as `leaf.wrap` makes them.
            also_write: Rows of the caller's own tables, in the same transaction. Rows of one statement are written in
                this order, together with those of other calls; statements in the order of their first appearance.

        Returns:
            One entry for each leaf, in order, all at the size of this commit.

        Raises:
            LogUnwritable: Nothing was promised, the outcome may be unknown. `LogBusy`: not taken, try again shortly.
            LogForked: The log halted for good (also LogCorrupt).
            LeafTooLarge: A leaf exceeds 65,535 bytes.
            LeafMalformed: No leaf at all, or one without a known prefix.
            RowRefused: A row of `also_write` was refused; none of this call was stored.
        """
        return await self.begin(leaves, also_write)

    def begin(self, leaves: Sequence[bytes], also_write: Sequence[CallerRow] = ()) -> "asyncio.Future[list[Logged]]":
        """As `append`, without waiting: the future ends as `append` would; it has to be awaited."""
        if self._appender.refusal is not None:
            self._refuse_call()
        _check_leaves(leaves, also_write)
        return self._appender.submit(leaves, also_write)

    async def until_writable(self) -> None:
        """Wait until the log takes appends again; returns at once if it does. The caller sets the deadline.

        Raises:
            LogForked: It halted for good (also LogCorrupt).
            LogClosed: It was closed.
        """
        await self._appender.until_writable()
        if self._appender.refusal is not None:
            self._refuse_call()

    async def prove(self, index: int, size: int | None = None) -> Logged:
        """Prove a leaf against the newest released checkpoint, or one of another released size.

        Raises:
            IndexUnknown: No such leaf in that tree, or no checkpoint of that size.
            LogBusy: Too many reads are under way.
        """
        size = self._appender.released.size if size is None else size
        if size > self._appender.released.size:
            raise IndexUnknown(f"there is no checkpoint of size {size} yet")
        return await self._read(lambda reader: reader.prove(index, size))

    async def prove_late(self, index: int) -> Logged:
        """Prove a leaf that was logged a while ago, against a checkpoint of the last second.

        Many such proofs have one checkpoint: it is looked up once here, and verified once by those who receive them.

        Raises:
            IndexUnknown: There is no such leaf in that tree.
            LogBusy: Too many reads are under way.
        """
        now_s = asyncio.get_running_loop().time()
        size, until_s = self._late
        if index >= size or now_s >= until_s:
            size = self._appender.released.size
            self._late = size, now_s + _LATE_S
        return await self.prove(index, size)

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """Prove that the released tree of size `new` continues the one of size `old`.

        Raises:
            IndexUnknown: `new` is larger than the log.
            ProofInvalid: There is no such proof.
            LogBusy: Too many reads are under way.
        """
        if new > self._appender.released.size:
            raise IndexUnknown(f"there is no tree of size {new} yet")
        return await self._read(lambda reader: reader.consistency(old, new))

    async def read(self, index: int) -> bytes:
        """One released leaf.

        Raises:
            IndexUnknown: There is none at that index.
            LogBusy: Too many reads are under way.
        """
        if not 0 <= index < self._appender.released.size:
            raise IndexUnknown(f"this log has no leaf {index}")
        return await self._read(lambda reader: reader.leaf(index))

    async def close(self) -> None:
        """Commit what waits (for at most 10 s), release the file and the lock. Harmless when done twice."""
        if isinstance(self._appender.refusal, LogClosed):
            return
        try:
            await self._appender.drain()
        finally:
            # readers first: the last connection to close is the one that may tidy up the write-ahead log
            self._readers.shutdown()
            if self._reader is not None:
                self._reader.close()
            if await self._appender.shut():
                self._lock.release()

    def _refuse_call(self) -> NoReturn:
        refusal = self._appender.refusal
        raise type(refusal)(str(refusal))  # type: ignore[misc]  # a fresh one: callers add their tracebacks

    async def _read(self, question: Callable[[LogReader], _Result]) -> _Result:
        if isinstance(self._appender.refusal, LogClosed):
            self._refuse_call()
        if self._reads >= MAX_READS:
            raise LogBusy(f"{self._reads} reads of the log are under way: try again shortly")
        self._reads += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._ask, question)
        finally:
            self._reads -= 1

    def _ask(self, question: Callable[[LogReader], _Result]) -> _Result:
        """In the reader thread."""
        if self._reader is None:
            self._reader = LogReader(self._path)
        return question(self._reader)


def _check_leaves(leaves: Sequence[bytes], rows: Sequence[CallerRow]) -> None:
    if not leaves:
        raise LeafMalformed("an append needs at least one leaf")
    for leaf in leaves:
        if len(leaf) > MAX_LEAF_BYTES:
            raise LeafTooLarge(f"a leaf of {len(leaf)} bytes exceeds {MAX_LEAF_BYTES}", size_bytes=len(leaf))
        if not leaf.startswith(KINDS):
            raise LeafMalformed("a leaf does not begin with a known prefix: make it with `leaf.wrap`")
    for at, _, _ in rows:
        if at is not None and not 0 <= at < len(leaves):
            raise RowRefused("a row beside the log refers to a leaf that is not in this call")
