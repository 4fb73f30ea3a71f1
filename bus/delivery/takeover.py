"""Taking over what a dead node of the own member had: its commands are received here and done here.

The claim is taken over at the broker first, atomically, so no other node does it too. The received header and a receipt
of this node's own go into this node's log in one commit: nobody can know whether the dead node still gave its receipt,
and a second one tells the sender the truth. What was a dead letter there is one here. When, is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from bus import envelope as wire
from bus import errors
from bus.delivery.claimrows import WAS_LET_GO
from bus.delivery.claims import Claim, Claims
from bus.delivery.receiving import CommandTaker
from bus.delivery.running import TaskRunner
from bus.delivery.store import DeliveryReader
from bus.delivery.taskrecords import Origin, TaskRecords
from bus.delivery.tasks import TaskReader
from bus.exchange.verification import RecordVerifier, VerifiedRecord
from bus.ports import Clock, TaskObserver
from bus.sealing.epoch import sealdigest
from evidence import header
from evidence.errors import EvidenceError
from registry.view import DirectoryView

_log = structlog.get_logger("lienthong.delivery")


class TakeOver:
    """Takes single commands over. All collaborators are given; see the composition root."""

    def __init__(
        self,
        *,
        clock: Clock,
        directory: Callable[[], DirectoryView],
        verifier: RecordVerifier,
        store: DeliveryReader,
        claims: Claims,
        taker: CommandTaker,
        tasks: TaskReader,
        records: TaskRecords,
        runner: TaskRunner,
        watcher: TaskObserver,
        max_envelope_bytes: int,
    ) -> None:
        self._clock = clock
        self._directory = directory
        self._verifier = verifier
        self._store = store
        self._claims = claims
        self._taker = taker
        self._tasks = tasks
        self._records = records
        self._runner = runner
        self._watcher = watcher
        self._max_envelope_bytes = max_envelope_bytes

    async def take(self, leaf_hash: bytes, claim: Claim, number: int) -> bool:
        """Takes a command over; False when something was faster, it is no command, or it has its end here.

        Raises:
            EvidenceError, BusError: it cannot be done now. The claim may be this node's without a task: it is to be
                looked for again.
        """
        try:
            record = self._record(claim.envelope)
        except errors.Dropped as drop:
            _log.error("takeover.refused", code=drop.code, of=claim.node)
            return False
        if record.leaf_hash != leaf_hash or not await self._claims.inherit(leaf_hash, claim, number):
            return False
        try:
            idx = await self._stored(record, claim)
        except (EvidenceError, errors.BusError):
            self._claims.unsure(leaf_hash)
            self._runner.doubt()
            raise
        if idx is None:
            self._claims.done(leaf_hash)
            return False
        if claim.state == "open":
            self._runner.put(idx, record.header.to)
        self._watcher.taken_over(record.header.to)
        _log.warning("command.taken-over-here", id=record.header.id, of=claim.node)
        return True

    async def _stored(self, record: VerifiedRecord, claim: Claim) -> int | None:
        """Log index of the command once its task is in the store; None when this node has ended it before."""
        known = await self._store.taken(record.node.member, record.leaf_hash, record.header.id)
        if known is None:
            return await self._taker.receive_from_node(record, claim)
        if known.leaf_hash != record.leaf_hash:
            return None
        if await self._tasks.open(known.idx):
            return known.idx
        if not await self._store.rows(WAS_LET_GO, record.leaf_hash):
            return None
        origin = Origin(known.idx, record.header, record.leaf_hash)
        await self._records.resumed(origin, self._taker.task_of(record, claim), claim.until_s)
        return known.idx

    def _record(self, envelope: bytes) -> VerifiedRecord:
        decoded = wire.decode_stored(envelope, self._max_envelope_bytes)
        head, now = header.decode(decoded.header), self._clock.now()
        if sealdigest(decoded.wrapped, decoded.nonce, decoded.ciphertext) != head.sealdigest:
            raise errors.Dropped("seal-digest-mismatch")
        member = head.node.rpartition("/@")[0]
        node = next((one for one in self._directory().nodes_of(member) if one.node == head.node), None)
        if node is None:
            raise errors.Dropped("node-unknown")
        return self._verifier.prove(decoded, head, node, now)
