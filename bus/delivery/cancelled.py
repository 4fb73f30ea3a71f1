"""Cancelling, on the answering side: which commands are refused if they come, because their sender cancelled them.

Held in memory, so that no command costs a question to the store; stored with the receipt of the wish. A member can
cancel its own commands only, and one that cancels very many leaves room to the others. Takes no message and logs
nothing; see `bus.delivery.receiving`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec

from bus import errors
from bus.delivery.cancelrows import CANCEL, MARKS, Target, mark_row
from bus.delivery.shares import Shares
from bus.delivery.store import DeliveryReader
from bus.exchange.keeping import Row
from bus.exchange.opening import unseal
from bus.exchange.verification import VerifiedRecord
from bus.sealing.epoch import Opener
from bus.sealing.keys import SealingKeyPair

_KEPT_AFTER_S = 3_600
_decode = msgspec.json.Decoder(Target).decode


class Cancellations:
    """What senders cancelled before this provider took it.

    Args:
        genesis: of the instance.
        member: own member.
        opener: of sealed parts.
        member_keys: private sealing keys by key id.
        store: what is stored.
        longest_s: longest life of a command: as long a cancellation is held at least.
        most: cancellations that are held at once; sending members share them (`bus.delivery.shares`).
        believed: the time up to which they are forgotten, beside the one that is told; None when it is not known.
    """

    def __init__(
        self,
        genesis: str,
        member: str,
        opener: Opener,
        member_keys: Mapping[str, SealingKeyPair],
        store: DeliveryReader,
        longest_s: float,
        most: int = 100_000,
        believed: Callable[[], datetime | None] | None = None,
    ) -> None:
        self._genesis = genesis
        self._member = member
        self._opener = opener
        self._member_keys = member_keys
        self._store = store
        self._longest_s = longest_s
        self._believed = believed
        self._shares = Shares(most)
        self._marks = OrderedDict[tuple[str, bytes], int]()  # about in the order in which they end

    async def load(self) -> None:
        """Takes up what an earlier run stored."""
        for sender, hashed, until_s in await self._store.rows(MARKS):
            self._mark(sender, hashed, until_s)

    @staticmethod
    def is_wish(record: VerifiedRecord) -> bool:
        """Whether the record asks to cancel another one."""
        return record.header.operation == CANCEL

    def holds(self, record: VerifiedRecord) -> bool:
        """Whether its sender cancelled this command."""
        return (record.node.member, record.leaf_hash) in self._marks

    def read(self, record: VerifiedRecord) -> Target:
        """Which command is to be cancelled.

        Raises:
            RequestMalformed: the contents cannot be read.
        """
        pair = self._member_keys.get(record.header.keyid or "")
        if pair is None:
            raise errors.RequestMalformed("the wish to cancel is sealed for a key that this member no longer has")
        try:
            return _decode(unseal(self._opener, self._genesis, record, self._member, pair, "command").body)
        except (errors.AnswerUnverifiable, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise errors.RequestMalformed("the wish to cancel cannot be read") from error

    async def hold(self, record: VerifiedRecord, target: Target, now_s: int) -> list[Row]:
        """From here on the command is refused; the rows that go with the receipt of the wish.

        The caller has made sure that the command is not being taken at this moment.

        Raises:
            AlreadyDelivered: it was taken.
            OutboxFull: too many are held, of this member or of all.
        """
        member, hashed = record.node.member, bytes.fromhex(target.command)
        self._forget(now_s)
        if self._shares.full or self._shares.exhausted(member):
            held = self._shares.held(member)
            raise errors.OutboxFull(f"too many cancellations are held, {held} of this member; try again later")
        # not the wish's own life: the command's is not known here, and may be longer
        until_s = now_s + int(self._longest_s) + _KEPT_AFTER_S
        self._mark(member, hashed, until_s)  # before the store is asked: what comes meanwhile is refused
        taken = await self._store.taken(member, hashed, "")
        if taken is not None:
            self._unmark(member, hashed)
            raise errors.AlreadyDelivered("the provider has taken the command")
        return [mark_row(member, hashed, until_s)]

    def release(self, record: VerifiedRecord, target: Target) -> None:
        """What was held for this wish, and is not stored, is not held any more."""
        self._unmark(record.node.member, bytes.fromhex(target.command))

    def _mark(self, member: str, hashed: bytes, until_s: int) -> None:
        self._unmark(member, hashed)
        self._marks[self._shares.add(member), hashed] = until_s

    def _unmark(self, member: str, hashed: bytes) -> None:
        if self._marks.pop((member, hashed), None) is not None:
            self._shares.remove(member)

    def _forget(self, now_s: int) -> None:
        """What is past its time gives its room back; by no clock that is ahead, because commands come back with it."""
        if self._believed is not None:
            believed = self._believed()
            now_s = 0 if believed is None else min(now_s, int(believed.timestamp()))
        while self._marks:
            mark, until_s = next(iter(self._marks.items()))
            if until_s >= now_s:
                return
            self._unmark(*mark)
