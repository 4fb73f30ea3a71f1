"""What the outbox publishes: a logged record with its proof, sealed, and where it goes. Sends nothing."""

from __future__ import annotations

import msgspec

from bus import envelope as wire
from bus.delivery.store import Outgoing
from bus.exchange.composing import Draft
from evidence import leaf
from evidence.log import ExchangeLog, Logged


class Message(msgspec.Struct, frozen=True):
    """What is published for a record: subject, record id, whom it is for, and the record with its proof, sealed.

    In which version it is written is decided when it goes out.
    """

    subject: str
    record_id: str
    to: str
    envelope: wire.Envelope

    @property
    def held_bytes(self) -> int:
        """About what it takes in memory."""
        envelope = self.envelope
        return sum(map(len, (envelope.header, envelope.path, envelope.note, envelope.wrapped, envelope.ciphertext)))


def first_message(draft: Draft, logged: Logged, subject: str) -> Message:
    """A record that was logged just now, with the proof that came of its commit."""
    envelope = wire.Envelope(
        wire.KNOWN.newest,
        draft.header_bytes,
        logged.index,
        logged.size,
        logged.path,
        logged.note,
        draft.wrapped,
        draft.nonce,
        draft.ciphertext,
    )
    return Message(subject, draft.header.id, draft.header.to, envelope)


async def envelope_of(log: ExchangeLog, row: Outgoing) -> wire.Envelope:
    """A logged record with a proof against a new checkpoint."""
    logged = await log.prove_late(row.idx)
    return wire.Envelope(
        wire.KNOWN.newest,
        leaf.unwrap(row.leaf)[1],
        logged.index,
        logged.size,
        logged.path,
        logged.note,
        row.wrapped,
        row.nonce,
        row.ciphertext,
    )
