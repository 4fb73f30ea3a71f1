"""What both sides say back: receipts, results and refusals, composed, and sent.

Sealed to the other member's key, so that any of its nodes can open them. A receipt has no contents and is in no outbox:
who misses it repeats what it is for, and gets the first one again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import structlog

from bus import envelope as wire
from bus import errors
from bus.delivery.outbox import envelope_of, first_message
from bus.delivery.store import Outgoing
from bus.exchange.composing import Composer, Draft
from bus.exchange.verification import VerifiedRecord
from bus.exchange.versions import Versions
from bus.ports import Queues
from bus.sealing.contents import Particulars
from bus.transport import subjects
from evidence.errors import EvidenceError
from evidence.header import AnswerClass, Header, Type
from evidence.log import ExchangeLog, Logged
from registry.view import DirectoryView, SealingKeyEntry

_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
_MOST_WAIT, _STUCK_S = 16, 5.0
_log = structlog.get_logger("lienthong.delivery")


class Replier:
    """Composes and sends replies of one node.

    Args:
        member: own member.
        log: gives proofs.
        composer: of records.
        queues: of the broker.
        directory: as it is known, however old: what was taken is answered.
    """

    def __init__(
        self,
        member: str,
        log: ExchangeLog,
        composer: Composer,
        queues: Queues,
        directory: Callable[[], DirectoryView],
    ) -> None:
        self._member = member
        self._log = log
        self._composer = composer
        self._queues = queues
        self._directory = directory
        self._repeats = 0
        self._waiting: Counter[str] = Counter()
        self._stuck_until_s: dict[str, float] = {}

    def key_of(self, member: str, now: datetime) -> SealingKeyEntry:
        """The key to which replies for a member are sealed.

        Raises:
            Dropped: `answer-key-missing`.
        """
        key = self._directory().sealing_key(member, "command", now)
        if key is None:
            raise errors.Dropped("answer-key-missing")
        return key

    def compose(
        self,
        head: Header,
        leaf_hash: bytes,
        key: SealingKeyEntry,
        type_: Type,
        class_: AnswerClass,
        now: datetime,
        particulars: Particulars | None = None,
        body: bytes = b"",
    ) -> Draft:
        """A reply to the record with that header and leaf hash."""
        return self._composer.sealed(
            type_,
            source=head.to,
            to=head.source,
            receiver=key.owner,
            key=key,
            use="answer",
            operation=head.operation or "",
            particulars=particulars or Particulars(),
            body=body,
            now=now,
            inreplyto=leaf_hash.hex(),
            class_=class_,
        )

    def subject(self, node: str) -> str:
        """Where replies to what a node sent go."""
        return subjects.result(node, self._member)

    async def send_first(self, record: VerifiedRecord, receipt: Draft, logged: Logged) -> None:
        """The receipt that was just logged."""
        message = first_message(receipt, logged, self.subject(record.header.node))
        await self._send(message.subject, _encoded(record, message.envelope), message.record_id)

    async def send_again(self, record: VerifiedRecord, receipt: Outgoing) -> None:
        """A receipt that was sent before: the other side repeats because it did not get it."""
        try:
            envelope = await envelope_of(self._log, receipt)
        except EvidenceError as error:
            _log.warning("receipt.unsent", code=error.code)
            return
        # an id that was never used: the broker would take the first one's for a repeat, although it may have lost that
        self._repeats += 1
        subject = self.subject(record.header.node)
        await self._send(subject, _encoded(record, envelope), f"{receipt.header.id}/{self._log.size}/{self._repeats}")

    async def _send(self, subject: str, data: bytes, message_id: str) -> None:
        """A receiver's stream is full for moments under load, and its repeats come much later: so it is waited for.

        Who waits holds the place of another member's command. So a few wait, and for a receiver that took nothing a
        moment ago, nobody.
        """
        loop = asyncio.get_running_loop()
        for pause_s in _PAUSES_S:
            try:
                await self._queues.put(subject, data, message_id)
            except errors.BusError as error:
                stuck = loop.time() < self._stuck_until_s.get(subject, 0.0)
                if stuck or not self._queues.connected or self._waiting[subject] >= _MOST_WAIT:
                    break
                _log.debug("receipt.waits", code=error.code)
                await self._wait(subject, pause_s)
            else:
                self._stuck_until_s.pop(subject, None)
                return
        else:
            self._stuck_until_s[subject] = loop.time() + _STUCK_S
        _log.info("receipt.unsent")

    async def _wait(self, subject: str, pause_s: float) -> None:
        self._waiting[subject] += 1
        try:
            await asyncio.sleep(pause_s)
        finally:
            self._waiting[subject] -= 1
            if not self._waiting[subject]:
                del self._waiting[subject]


def _encoded(record: VerifiedRecord, envelope: wire.Envelope) -> bytes:
    return wire.encode(wire.in_version(envelope, Versions.to_node(record.node, record.envelope.version)))
