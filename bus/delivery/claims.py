"""Which node of the own member has which command: agreed at the broker, before anything is logged or done.

Only for members with several nodes; a single one asks nobody. A claim names the node and has the command's envelope,
still sealed, so that another node can go on with it. It is put on condition that there is none yet (the broker compares
and stores in one step), and replaced on condition that nobody else replaced it: by the word that the command is done,
or by another node that takes over from a dead one. What a node holds it trusts as long as it cannot be taken for dead
(`bus.delivery.leases`); after that it claims everything anew, and loses what another node has taken meanwhile.

In the store is only which claims this node has made and not yet ended. Logs nothing and does no command.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from typing import Literal, NamedTuple

import msgspec
import structlog

from bus import errors
from bus.delivery.claimrows import CLAIMED, EARLIER, ENDED, LET_GO, MADE, TAKEN_BACK, TASKS
from bus.delivery.leases import Leases
from bus.delivery.store import DeliveryReader
from bus.exchange.keeping import Row
from bus.ports import BoardEntry, Clock, WorkBoard
from bus.transport import subjects

_log = structlog.get_logger("lienthong.delivery")
_AT_ONCE = 64
_DAYS, _ALWAYS_S = 8, 2**62
State = Literal["open", "dead", "done", "cancelled"]


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who has a command.

    Attributes:
        node: identifier.
        state: open; dead, a letter that an operator has to look at; done; cancelled before anybody took it.
        until_s: until when (seconds since 1970) copies of the command may come.
        taken_s: since when it is being done; the others as of a task.
        before: the node from which it was taken over.
        envelope: as it came, while somebody may have to go on with it.
    """

    node: str
    state: State = "open"
    until_s: int = 0
    taken_s: int = 0
    code: str = ""
    detail: str = ""
    attempts: int = 0
    before: str = ""
    envelope: bytes = b""


class Lost(NamedTuple):
    """A task that another node has now."""

    idx: int
    leaf_hash: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Claim).decode


class Claims:
    """The claims of one node.

    Args:
        node: identifier.
        member: identifier.
        clock: time.
        board: shared by the member's nodes.
        leases: who works.
        store: what is stored of commands.
    """

    def __init__(
        self, node: str, member: str, clock: Clock, board: WorkBoard, leases: Leases, store: DeliveryReader
    ) -> None:
        self._node = node
        self._member = member
        self._clock = clock
        self._board = board
        self._leases = leases
        self._store = store
        self.wake = asyncio.Event()
        self._held: dict[bytes, int] = {}
        self._before: dict[bytes, str] = {}
        self._doubtful: set[bytes] = set()
        self._words: dict[bytes, Claim] = {}
        self._ended: list[bytes] = []
        self._synced = False
        self._was_alone = False

    @property
    def shared(self) -> bool:
        """Whether the member has further nodes, so that commands have to be claimed."""
        return bool(self._leases.others())

    @property
    def ready(self) -> bool:
        """Whether this node may take and do commands now."""
        return not self.shared or (self._synced and self._leases.trusted)

    def require_ready(self, record_time_s: float) -> None:
        """Returns when a command composed at that time (seconds since 1970) may be taken by this node.

        Raises:
            ClaimUncertain: another node may have taken it, and nobody can know now.
        """
        if not self.shared:
            return
        if not self.ready:
            raise errors.ClaimUncertain("this node has not yet told the member's other nodes what it does")
        if not self._leases.all_present() and not self._leases.began_before(record_time_s):
            raise errors.ClaimUncertain(
                "another node of this member, which may have taken the command, has not been heard of yet"
            )

    async def take(self, leaf_hash: bytes, claim: Claim) -> Claim | None:
        """Claims a command; None when it is this node's now, else who has it.

        Raises:
            BusError: it is not known whose it is.
        """
        if not self.shared:
            return None
        return await self._put_first(leaf_hash, claim, 0)

    async def _put_first(self, leaf_hash: bytes, claim: Claim, life_s: int) -> Claim | None:
        subject = subjects.claim(self._member, leaf_hash)
        number = await self._board.put(subject, _encode(claim), self._held.get(leaf_hash, 0), life_s)
        if number is None:
            there = await self._board.last(subject)
            if there is None:
                raise errors.ClaimUncertain("the claim on the command ended this moment")
            found = _read(there)
            if found is None or found.node != self._node or found.state != claim.state:
                return found or Claim("", "done")
            # an earlier attempt, whose answer was lost or whose commit failed; a read alone may be behind
            number = await self._board.put(subject, _encode(claim), there.number, life_s)
            if number is None:
                raise errors.ClaimUncertain("the claim on the command changed this moment")
        self._held[leaf_hash] = number
        return None

    async def cancel(self, leaf_hash: bytes, until_s: int) -> Claim | None:
        """Claims that a command is cancelled; None when no node has it or will, else who has.

        Raises:
            BusError: it is not known.
        """
        if not self.shared:
            return None
        claim = Claim(self._node, "cancelled", until_s)
        found = await self._put_first(leaf_hash, claim, self._life_s(until_s))
        if found is None:
            self._held.pop(leaf_hash, None)
        return None if found is not None and found.state == "cancelled" else found

    def new(self, envelope: bytes, until_s: int) -> Claim:
        """A claim of this node on a command that came now."""
        return Claim(self._node, "open", until_s, int(self._clock.now().timestamp()), envelope=envelope)

    def rows(self, leaf_hash: bytes, until_s: int) -> list[Row]:
        """What goes into the commit of a command that was claimed, and of claims that have ended."""
        return [(None, CLAIMED, (leaf_hash, until_s)), *self.ended_rows()] if self.shared else []

    def lost_rows(self, sender: str, leaf_hash: bytes) -> list[Row]:
        """What goes into the commit by which this node lets a command of that member go."""
        return [(None, ENDED, (leaf_hash,)), (None, LET_GO, (sender, leaf_hash))]

    def back_rows(self, leaf_hash: bytes, until_s: int) -> list[Row]:
        """What goes into the commit by which this node has a command again that it had let go."""
        return [(None, TAKEN_BACK, (leaf_hash,)), *self.rows(leaf_hash, until_s)]

    def has(self, leaf_hash: bytes) -> bool:
        """Whether this node knows that it has the command, now or when it could last be sure."""
        return leaf_hash in self._held

    def unsure(self, leaf_hash: bytes) -> None:
        """The claim is this node's, and what follows from it may not be stored: `companions` looks for such claims."""
        self._held.pop(leaf_hash, None)

    async def changed(self, idx: int) -> None:
        """A task has another state now, which a node that takes it over has to know.

        Raises:
            EvidenceError: it cannot be read.
        """
        if self.shared:
            for hashed, until_s, _, *facts in await self._store.rows(f"{TASKS} WHERE task.idx = ?", idx):
                self.say(hashed, self._of_task(until_s, *facts))

    def _of_task(
        self, until_s: int, envelope: bytes, taken_s: int, state: str, code: str, detail: str, attempts: int
    ) -> Claim:
        return Claim(
            self._node, "dead" if state == "dead" else "open", until_s, taken_s, code, detail, attempts,
            envelope=envelope,
        )  # fmt: skip

    def ended_rows(self) -> list[Row]:
        """What goes into the next commit: claims whose end the broker knows. Were it to fail, they end again."""
        ended, self._ended = self._ended[:_AT_ONCE], self._ended[_AT_ONCE:]
        return [(None, ENDED, (leaf_hash,)) for leaf_hash in ended]

    def holds(self, leaf_hash: bytes) -> bool:
        """Whether the command is this node's.

        Raises:
            ClaimUncertain: it is not known now.
        """
        if not self.shared:
            return True
        if leaf_hash in self._held and leaf_hash in self._doubtful and self._leases.all_present():
            self._doubtful.discard(leaf_hash)
        if not self.ready or leaf_hash in self._doubtful:
            raise errors.ClaimUncertain("another node of this member may have taken the command over meanwhile")
        return leaf_hash in self._held

    def took(self, leaf_hash: bytes, claim: Claim | None) -> None:
        """A command was taken; when it was not claimed, because there was no other node a moment ago, it is now."""
        if claim is not None and leaf_hash not in self._held:
            self._held[leaf_hash] = 0
            self.say(leaf_hash, claim)

    async def inherit(self, leaf_hash: bytes, claim: Claim, number: int) -> bool:
        """Takes a claim over, of a dead node or of this node's own earlier run; False when something was faster.

        Raises:
            BusError: it is not known.
        """
        before = claim.before if claim.node == self._node else claim.node
        mine = msgspec.structs.replace(claim, node=self._node, before=before)
        taken = await self._board.put(subjects.claim(self._member, leaf_hash), _encode(mine), number)
        if taken is not None:
            self._held[leaf_hash] = taken
            if before:
                self._before[leaf_hash] = before
        return taken is not None

    async def of_nodes(self, nodes: Collection[str], first: int) -> tuple[list[tuple[bytes, Claim, BoardEntry]], int]:
        """A page of what these nodes have not ended, and where the next one begins; 0 at the end.

        Raises:
            BusError: it cannot be read.
        """
        entries = await self._board.page(subjects.claims(self._member), first)
        found = []
        for entry in entries:
            claim = _read(entry)
            if claim is not None and claim.node in nodes and claim.state in ("open", "dead") and claim.envelope:
                found.append((bytes.fromhex(entry.subject.rpartition(".")[2]), claim, entry))
        return found, entries[-1].number + 1 if entries else 0

    def say(self, leaf_hash: bytes, claim: Claim) -> None:
        """What became of a command is told to the other nodes, soon; its change of state is committed."""
        if self.shared:
            self._words[leaf_hash] = claim
            self.wake.set()

    def done(self, leaf_hash: bytes) -> None:
        """The command has its end."""
        self.say(leaf_hash, Claim(self._node, "done", before=self._before.pop(leaf_hash, "")))

    # Telling ------------------------------------------------------------------------------------------------------

    async def tell(self) -> None:
        """Puts what is to be said.

        Raises:
            BusError: not all of it.
        """
        while self._words:
            await self._leases.keep()
            said = list(itertools.islice(self._words.items(), _AT_ONCE))
            await asyncio.gather(*(self._tell(leaf_hash, claim) for leaf_hash, claim in said))

    async def _tell(self, leaf_hash: bytes, claim: Claim) -> None:
        until_s = claim.until_s or await self._until_s(leaf_hash)
        # a node that comes back after long must still learn that its command was done by another one
        life_s = self._life_s(until_s) if claim.state == "done" and not claim.before else 0
        told = msgspec.structs.replace(claim, until_s=until_s)
        number = await self._board.put(
            subjects.claim(self._member, leaf_hash), _encode(told), self._held.get(leaf_hash, 0), life_s
        )
        if number is not None:
            self._held[leaf_hash] = number
        if self._words.get(leaf_hash) is claim:
            del self._words[leaf_hash]
            if claim.state == "done":
                self._held.pop(leaf_hash, None)
                self._ended.append(leaf_hash)

    def _life_s(self, until_s: int) -> int:
        return max(60, until_s - int(self._clock.now().timestamp()))

    async def _until_s(self, leaf_hash: bytes) -> int:
        rows = await self._store.rows("SELECT until_s FROM claimed WHERE leaf_hash = ?", leaf_hash)
        return int(rows[0][0]) if rows else 0

    # Claiming anew ------------------------------------------------------------------------------------------------

    def alone(self) -> None:
        """To be called again and again while there is no other node."""
        self._was_alone, self._synced = True, False
        self._words.clear()
        self._held.clear()

    @property
    def synced(self) -> bool:
        """Whether all that this node holds was claimed since it could last be taken for dead."""
        return self._synced

    def doubt(self) -> None:
        """This node may have been taken for dead."""
        self._synced = False

    async def sync(self) -> list[Lost]:
        """Claims everything that this node holds anew; what another node has.

        To be called after each time in which this node could be taken for dead, with its sign of life given.

        Raises:
            BusError, EvidenceError: not done.
        """
        new_stream = await self._leases.begin()
        lost: list[Lost] = []
        open_: set[bytes] = set()
        for leaf_hash, until_s, idx, *facts in await self._store.rows(TASKS):
            claim = self._of_task(until_s, *facts)
            open_.add(leaf_hash)
            await self._leases.keep()
            if not await self._claim_anew(leaf_hash, claim):
                lost.append(Lost(idx, leaf_hash))
        await self._end_anew(open_, new_stream)
        self._was_alone, self._synced = False, True
        return lost

    async def _claim_anew(self, leaf_hash: bytes, claim: Claim) -> bool:
        subject = subjects.claim(self._member, leaf_hash)
        there = await self._board.last(subject)
        if there is None:
            # Nobody has it. It was this process's own until now; else another node may have done it before the broker
            # lost what it knew, and that is told when each has been heard of.
            own = self._was_alone or leaf_hash in self._held or claim.taken_s >= self._leases.began_s
            number = await self._board.put(subject, _encode(claim), 0)
            if number is None:
                raise errors.ClaimUncertain("the claim changed this moment")
            if not own:
                self._doubtful.add(leaf_hash)
        else:
            found = _read(there)
            if found is None or found.node != self._node or found.state == "done":
                if found is not None and found.node != self._node and found.state == "done":  # that is known now
                    await self._board.put(subject, there.data, there.number, self._life_s(found.until_s))
                return self._lose(leaf_hash, found)
            if found.before:
                self._before[leaf_hash] = found.before
                claim = msgspec.structs.replace(claim, before=found.before)
            number = await self._board.put(subject, _encode(claim), there.number)
            if number is None:
                return self._lose(leaf_hash, None)
        self._held[leaf_hash] = number
        return True

    def _lose(self, leaf_hash: bytes, found: Claim | None) -> bool:
        self._held.pop(leaf_hash, None)
        self._before.pop(leaf_hash, None)
        _log.warning("command.taken-over", leaf_hash=leaf_hash.hex(), by=found.node if found is not None else "")
        return False

    async def _end_anew(self, open_: set[bytes], new_stream: bool) -> None:
        """The ends that the broker may not know: those of this node's claims, and all when the stream is a new one."""
        ended: dict[bytes, int] = dict(await self._store.rows(MADE))
        if new_stream or self._was_alone:
            longest_s = _ALWAYS_S if self._was_alone else int(self._leases.began_s) + _DAYS * 86_400
            for leaf_hash, until_s in await self._store.rows(EARLIER, longest_s):
                ended.setdefault(leaf_hash, until_s)
        for leaf_hash, until_s in ended.items():
            if leaf_hash in open_ or leaf_hash in self._words:
                continue
            await self._leases.keep()
            subject = subjects.claim(self._member, leaf_hash)
            there = await self._board.last(subject)
            found = None if there is None else _read(there)
            if there is None or (found is not None and found.node == self._node and found.state == "open"):
                claim = Claim(self._node, "done", until_s)
                await self._board.put(
                    subject, _encode(claim), 0 if there is None else there.number, self._life_s(until_s)
                )
            self._ended.append(leaf_hash)


def _read(entry: BoardEntry) -> Claim | None:
    try:
        return _decode(entry.data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
