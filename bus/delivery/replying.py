"""What both sides say back: receipts, results and refusals, composed, and sent.

Sealed to the other member's key, so that any of its nodes can open them. A receipt has no contents and is in no outbox:
who misses it repeats what it is for, and gets the first one again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from bus import envelope as wire
from bus import errors
from bus.delivery.messages import envelope_of, first_message
from bus.delivery.owing import Owed
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

_log = structlog.get_logger("lienthong.delivery")


class Replier:
    """Composes and sends replies of one node.

    Args:
        member: own member.
        log: gives proofs.
        composer: of records.
        queues: of the broker.
        directory: as it is known, however old: what was taken is answered.
        owed: receipts that were not taken.
    """

    def __init__(
        self,
        member: str,
        log: ExchangeLog,
        composer: Composer,
        queues: Queues,
        directory: Callable[[], DirectoryView],
        owed: Owed,
    ) -> None:
        self._member = member
        self._log = log
        self._composer = composer
        self._queues = queues
        self._directory = directory
        self._owed = owed
        self._repeats = 0

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

    def is_behind(self, member: str) -> bool:
        """Whether a member's stream takes receipts more slowly than its commands come; its token as in subjects."""
        return self._owed.is_behind(member)

    def subject(self, node: str) -> str:
        """Where replies to what a node sent go."""
        return subjects.result(node, self._member)

    async def send_first(self, record: VerifiedRecord, receipt: Draft, logged: Logged) -> None:
        """The receipt that was just logged."""
        message = first_message(receipt, logged, self.subject(record.header.node))
        await self._send(message.subject, message.record_id, _encoded(record, message.envelope), message.record_id)

    async def send_again(self, record: VerifiedRecord, receipt: Outgoing) -> None:
        """A receipt that was sent before: the other side repeats because it did not get it."""
        try:
            envelope = await envelope_of(self._log, receipt)
        except EvidenceError as error:
            _log.warning("receipt.unsent", code=error.code)
            return
        # an id that was never used: the broker would take the first one's for a repeat, although it may have lost that
        self._repeats += 1
        message_id = f"{receipt.header.id}/{self._log.size}/{self._repeats}"
        await self._send(self.subject(record.header.node), receipt.header.id, _encoded(record, envelope), message_id)

    async def _send(self, subject: str, receipt_id: str, data: bytes, message_id: str) -> None:
        """At once, unless others stand in line for that receiver, or its stream does not take it now."""
        if not self._owed.is_owed(subject):
            try:
                await self._queues.put(subject, data, message_id)
            except errors.BusError as error:
                _log.debug("receipt.waits", code=error.code)
            else:
                return
        if not self._owed.stand(subject, receipt_id, data, message_id):
            _log.info("receipt.unsent")


def _encoded(record: VerifiedRecord, envelope: wire.Envelope) -> bytes:
    return wire.encode(wire.in_version(envelope, Versions.to_node(record.node, record.envelope.version)))
