"""Commits of the exchange log: batches, the five steps, failure and recovery (protocol.md "Exchange log", "Commit").

Appends of many callers share a commit without any timer: while one commit is on its way to disk, the next batch
gathers. A commit has five steps, and only after the last one does anything become visible:

1. compute on a scratch copy of the tree
2. sign the checkpoint
3. one transaction: head (guarded), leaves, tiles, checkpoint, callers' rows
4. COMMIT, in the writer thread
5. resolve the waiters

An error in 3 or 4 means that the outcome is unknown. Every waiter gets `LogUnwritable`, the connection is dropped, and
the log is reopened from disk, examined, and marked by a control leaf before it takes anything else. `writable` is False
in the meantime. What was once returned to a caller is never contradicted: if the reopened file does, the log halts for
good.

| step | fails | process dies | done but reported as failed |
|---|---|---|---|
| 1, 2 | waiters refused, reopen | nothing stored | nothing stored, never shown |
| 3 | waiters refused, reopen | not stored, nothing was shown | not stored, nothing was shown |
| 4 | waiters refused, reopen; the file decides | stored or not, nothing was shown | found stored, nothing was shown |
| 5 | (memory only) | stored; some callers never heard | — |

One exception: a caller's own row that the database refuses (a constraint) is known not to be stored; that caller gets
`RowRefused` and the commit of the others goes on.

The write-ahead log is checkpointed by the same thread: when nothing waits and about 500 pages (2 MB) have gathered, or
at 4,000 pages (16 MB) even if something waits.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Protocol

import msgspec

from evidence.checkpoint import key_name
from evidence.errors import EvidenceError, LogBusy, LogClosed, LogUnwritable, RowRefused
from evidence.leaf import Boot, encode_control
from evidence.log import recovery
from evidence.log.reader import Logged
from evidence.log.store import Store
from evidence.log.tree import Batch, Released, Tree, grow
from evidence.log.writer_thread import WriterThread
from evidence.note import VerifierKey
from evidence.signer import Signer
from evidence.stamps import encode_time

MAX_BATCH_LEAVES = 128
"""Larger batches would make those who wait for the first ones idle (bench/README.md)."""
MAX_GATHER_TURNS = 2
"""Turns of the event loop that a commit waits at most, as long as each brings more records."""
CHECKPOINT_IDLE_PAGES = 500
CHECKPOINT_BOUND_PAGES = 4_000
CLOSE_DEADLINE_S = 10.0
_PAGES_PER_COMMIT = 6
_BYTES_PER_PAGE = 3_500

CallerRow = tuple[int | None, str, tuple[object, ...]]
"""`(k, sql, params)`; k is the position in the call's leaves whose log index is put before `params`, or None."""


class LogObserver(Protocol):
    """Hears what the log does; must not raise or block."""

    def committed(self, leaves: int, seconds: float) -> None:
        """A batch became durable; `seconds` from its first step to its visibility."""
        ...

    def failed(self) -> None:
        """A commit failed, or its outcome is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """What a log is given from outside.

    Attributes:
        origin: Origin of the log.
        signer: Its Ed25519 key.
        now: The clock, for control leaves.
        token: Fresh unguessable texts, for control leaves.
        store_factory: Makes a store over the database file.
        observer: Hears of commits and failures.
        retry_s: Seconds between attempts to recover.
        max_pending: Leaves that may wait for a commit.
        earlier_keys: Keys that signed this log's checkpoints before.
    """

    origin: str
    signer: Signer
    now: Callable[[], datetime]
    token: Callable[[], str]
    store_factory: Callable[[Path], Store]
    observer: LogObserver
    retry_s: float
    max_pending: int
    earlier_keys: tuple[VerifierKey, ...] = ()


class _Waiter(msgspec.Struct, frozen=True):
    leaves: Sequence[bytes]
    rows: Sequence[CallerRow]
    future: asyncio.Future[list[Logged]]

    def refuse(self, error: EvidenceError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Appender:
    """Owns the store, the newest tree and everybody who waits for a commit. Belongs to one event loop.

    Attributes:
        released: The newest checkpoint that was shown to anyone.
        refusal: Why appends are refused, or None.
        verifier_key: Under which the next checkpoints verify.
        keys: Under one of which each checkpoint of this log verifies, the present one first.
    """

    def __init__(self, path: Path, ports: Ports) -> None:
        self.verifier_key = VerifierKey(key_name(ports.origin), ports.signer.public_bytes)
        self.keys = (self.verifier_key, *(key for key in ports.earlier_keys if key != self.verifier_key))
        self._signer = ports.signer
        self.released = Released()
        self.refusal: EvidenceError | None = LogUnwritable("the log is being opened")
        self._path = path
        self._ports = ports
        self._loop = asyncio.get_running_loop()
        self._store = ports.store_factory(path)
        # owned by the event loop; replaced after each commit
        self._tree = Tree()
        self._waiting: deque[_Waiter] = deque()
        self._pending = 0
        self._scheduled = False
        # the last commit had several waiters
        self._crowd = False
        # a job of the writer thread is under way: nobody else touches the store
        self._busy = False
        self._wal_pages = 0
        self._recovering: asyncio.Task[None] | None = None
        self._idle: asyncio.Event = asyncio.Event()
        self._thread = WriterThread(self._loop)

    async def open(self, schema: Sequence[str]) -> None:
        """Open and examine the file, create what is missing, and commit a control leaf."""
        await self._reopen(tuple(schema))
        await self._append_boot()
        self.refusal = None

    def take_signer(self, signer: Signer) -> None:
        """From the next commit on another key signs; what is being committed keeps its signature."""
        self._signer = signer
        self.verifier_key = VerifierKey(key_name(self._ports.origin), signer.public_bytes)
        self.keys = (self.verifier_key, *(key for key in self.keys if key != self.verifier_key))

    def submit(self, leaves: Sequence[bytes], rows: Sequence[CallerRow]) -> asyncio.Future[list[Logged]]:
        """Queue leaves for the next commit.

        Raises:
            LogBusy: Too many wait already.
        """
        if self._pending + len(leaves) > self._ports.max_pending:
            raise LogBusy(f"{self._pending} leaves wait for the disk already: try again shortly")
        future: asyncio.Future[list[Logged]] = self._loop.create_future()
        self._waiting.append(_Waiter(leaves, rows, future))
        self._pending += len(leaves)
        if not self._busy and not self._scheduled:
            self._schedule()
        return future

    async def until_writable(self) -> None:
        """Wait for the recovery that is under way, if one is."""
        if self._recovering is not None:
            await asyncio.wait([self._recovering])

    async def drain(self) -> None:
        """Take nothing more, commit what waits (for at most 10 s), refuse the rest."""
        healthy = self.refusal is None
        self.refusal = LogClosed("the log is closed")
        try:
            if self._recovering is not None:
                self._recovering.cancel()
                await asyncio.wait([self._recovering])
            if healthy and (self._busy or self._waiting):
                self._idle.clear()
                await asyncio.wait_for(self._idle.wait(), CLOSE_DEADLINE_S)
        except TimeoutError:
            pass  # the waiters learn it now
        finally:
            self._refuse_all()

    async def shut(self) -> bool:
        """After `drain`: end the thread, which finishes a commit that is under way, and close the file.

        Returns:
            False if the disk does not answer: the file is still in use, and only the end of the process frees it.
        """
        if not await asyncio.to_thread(self._thread.stop, CLOSE_DEADLINE_S):
            return False
        self._store.close()
        return True

    # --- the commit, in the event loop but for step 4 ---

    def _schedule(self) -> None:
        """Begin a commit with the next turn of the loop; in a crowd, once a turn brings nothing new."""
        self._scheduled = True
        if self._crowd:
            self._loop.call_soon(self._gather, MAX_GATHER_TURNS, len(self._waiting))
        else:
            self._loop.call_soon(self._start)

    def _gather(self, turns: int, seen: int) -> None:
        """No timer: whoever woke with the last commit, or came in with this turn, shares the next signature."""
        waiting = len(self._waiting)
        if turns and waiting > seen:
            self._loop.call_soon(self._gather, turns - 1, waiting)
        else:
            self._start()

    def _start(self) -> None:
        """Take what waits and begin its commit, unless one is under way."""
        self._scheduled = False
        while not self._busy and self._waiting:
            waiters = self._take()
            at_fault = self._begin(waiters)
            if at_fault is not None:
                # known not to be stored: the others go first again, without the one at fault
                rest = [waiter for waiter in waiters if waiter is not at_fault]
                self._waiting.extendleft(reversed(rest))
                self._pending += sum(len(waiter.leaves) for waiter in rest)

    def _take(self) -> list[_Waiter]:
        waiters: list[_Waiter] = []
        leaves = 0
        while self._waiting and (not waiters or leaves + len(self._waiting[0].leaves) <= MAX_BATCH_LEAVES):
            waiter = self._waiting.popleft()
            leaves += len(waiter.leaves)
            waiters.append(waiter)
        self._pending -= leaves
        return waiters

    def _begin(self, waiters: list[_Waiter]) -> _Waiter | None:
        """Steps 1 to 3; returns the waiter whose own row was refused."""
        started = perf_counter()
        leaves = [leaf for waiter in waiters for leaf in waiter.leaves]
        try:
            batch = grow(self._tree, leaves, self._ports.origin, self._signer)  # 1, 2
            try:
                self._write(batch, waiters, together=True)  # 3
            except RowRefused:
                self._store.rollback()
                at_fault = self._write(batch, waiters, together=False)  # 3, to learn whose row it is
                if at_fault is not None:
                    self._store.rollback()
                    return at_fault
        except Exception as error:  # whatever it was: the waiters must hear of it, and the file decides what is true
            self._fail(error, waiters)
            return None
        self._busy = True
        # 4: the commit point is inside `commit`
        self._thread.submit(self._store.commit, partial(self._committed, batch, waiters, started))
        return None

    def _write(self, batch: Batch, waiters: list[_Waiter], *, together: bool) -> _Waiter | None:
        store = self._store
        store.begin()
        store.guard_head(batch.old, batch.tree.head())
        store.write_leaves(batch.old.size, batch.hashes, batch.leaves)
        if batch.tiles:
            store.write_tiles(batch.tiles)
        store.write_note(batch.tree.frontier.size, batch.note)
        if together:
            # One call a statement costs a third of one a row.
            grouped: dict[str, list[tuple[object, ...]]] = {}
            for _, sql, params in _caller_rows(batch.old.size, waiters):
                grouped.setdefault(sql, []).append(params)
            for sql, rows in grouped.items():
                store.write_caller_rows(sql, rows)
            return None
        for waiter, sql, params in _caller_rows(batch.old.size, waiters):
            try:
                store.write_caller_rows(sql, [params])
            except RowRefused as error:
                waiter.refuse(error)
                return waiter
        return None

    def _committed(
        self, batch: Batch, waiters: list[_Waiter], started: float, _result: None, error: BaseException | None
    ) -> None:
        """Step 5, or the failure of step 4."""
        self._busy = False
        if error is not None:
            self._fail(error, waiters)
            return
        size, note = batch.tree.frontier.size, batch.note
        self._tree = batch.tree
        self.released = Released(size, batch.tree.root, note)
        proofs = [
            Logged(index, size, leaf_hash, path, note)
            for index, (leaf_hash, path) in enumerate(zip(batch.hashes, batch.paths, strict=True), batch.old.size)
        ]
        at = 0
        for waiter in waiters:
            if not waiter.future.done():
                waiter.future.set_result(proofs[at : at + len(waiter.leaves)])
            at += len(waiter.leaves)
        self._crowd = len(waiters) > 1
        self._wal_pages += _PAGES_PER_COMMIT + sum(map(len, batch.leaves)) // _BYTES_PER_PAGE
        self._ports.observer.committed(len(proofs), perf_counter() - started)
        self._go_on()

    def _go_on(self) -> None:
        """Checkpoint the write-ahead log if it is time, else commit what waits."""
        limit = CHECKPOINT_BOUND_PAGES if self._waiting else CHECKPOINT_IDLE_PAGES
        if self._wal_pages >= limit:
            self._busy = True
            self._thread.submit(self._store.checkpoint, self._checkpointed)
        elif self._waiting and not self._scheduled:
            self._schedule()
        if not self._busy and not self._waiting:
            self._idle.set()

    def _checkpointed(self, left: int | None, error: BaseException | None) -> None:
        self._busy = False
        if error is not None:
            self._fail(error, [])
            return
        # pages that readers still need count again, but must not make every commit try anew
        self._wal_pages = min(left or 0, CHECKPOINT_IDLE_PAGES // 2)
        self._go_on()

    # --- failure and recovery ---

    def _fail(self, error: BaseException, waiters: list[_Waiter]) -> None:
        """The outcome is unknown: refuse everybody, then reopen."""
        self._ports.observer.failed()
        for waiter in waiters:
            waiter.refuse(_unwritable(error))
        if self.refusal is None:
            self.refusal = _unwritable(error)
            self._recovering = self._loop.create_task(self._recover(), name="exchange-log-recovery")
        self._refuse_all()

    def _refuse_all(self) -> None:
        waiting, self._waiting, self._pending = self._waiting, deque(), 0
        for waiter in waiting:
            waiter.refuse(LogUnwritable("the log could not commit: try again when it is writable"))
        self._idle.set()

    async def _recover(self) -> None:
        while True:
            try:
                await self._reopen(None)
                await self._append_boot()
            except Exception as error:  # the disk, the store or the signer: the next attempt may fare better
                if isinstance(error, EvidenceError) and error.disposition == "halt":
                    self.refusal = error
                    return
            else:
                self.refusal = None
                return
            await asyncio.sleep(self._ports.retry_s)

    async def _reopen(self, schema: tuple[str, ...] | None) -> None:
        """Drop the connection, open the file anew and examine it; `schema` only the first time."""
        self._tree, found = await self._thread.run(partial(self._open_store, schema))
        if self.released.size == 0:
            self.released = found  # what stands in the file at the start has been released before

    def _open_store(self, schema: tuple[str, ...] | None) -> tuple[Tree, Released]:
        """In the writer thread."""
        self._store.close()
        store = self._store = self._ports.store_factory(self._path)
        store.open()
        store.recover()
        if schema is not None:
            earlier = [str(key) for key in self.keys[1:]]
            store.initialise(self._ports.origin, str(self.verifier_key), schema, earlier)
        tree = recovery.load_tree(store)
        found = recovery.check_note(store, tree, self.keys)
        recovery.check_continues(store, tree, self.released)
        return tree, found

    async def _append_boot(self) -> None:
        boot = encode_control(Boot(id=self._ports.token(), time=encode_time(self._ports.now())))
        future: asyncio.Future[list[Logged]] = self._loop.create_future()
        self._wal_pages = 0
        self._begin([_Waiter([boot], (), future)])
        await future


def _unwritable(error: BaseException) -> LogUnwritable:
    refusal = LogUnwritable(
        f"the log could not commit ({type(error).__name__}: {error}); it is reopened, and the outcome may be unknown"
    )
    refusal.__cause__ = error
    return refusal


def _caller_rows(first: int, waiters: list[_Waiter]) -> Iterator[tuple[_Waiter, str, tuple[object, ...]]]:
    """Every row with the log index of its leaf put before its parameters."""
    for waiter in waiters:
        for at, sql, params in waiter.rows:
            yield waiter, sql, params if at is None else (first + at, *params)
        first += len(waiter.leaves)
