"""Ports of the bus: time and randomness, and what the exchange reports.

`bus/gateway` wires the real ones; tests bring their own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, Protocol

Side = Literal["client", "provider"]


class Clock(Protocol):
    """Time and randomness."""

    def now(self) -> datetime:
        """Aware UTC."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary point."""

    def random(self, count: int) -> bytes:
        """Random bytes, fit for keys."""


class ExchangeObserver(Protocol):
    """What the exchange reports. Labels are bounded: services and members of the directory, codes, stages."""

    def ended(
        self, side: Side, service: str, peer: str, outcome: str, seconds: float, sent: int, received: int
    ) -> None:
        """One exchange ended: `outcome` ok, refused, failed, undelivered, timedout, rejected or unknown; body bytes."""

    def refused(self, side: Side, code: str) -> None:
        """A call was refused with a code."""

    def dropped(self, code: str) -> None:
        """A received message was dropped."""

    def hinted(self, code: str) -> None:
        """The provider hinted why it dropped a request of ours."""

    def deprecated(self, service: str, operation: str, client: str) -> None:
        """A client subsystem called an operation that its provider has deprecated."""

    def clock_offset(self, member: str, seconds: float) -> None:
        """A peer's clock as it seems from here."""

    def in_flight(self, side: Side, change: int) -> None:
        """Calls under way."""

    def alarm(self, code: str, member: str) -> None:
        """Something that a person must look at: a fork, a suspected clone."""


class TaskObserver(Protocol):
    """What becomes of commands that this node has taken. Labels are bounded: own services and codes."""

    def retried(self, service: str, code: str) -> None:
        """An attempt did not succeed, and another one follows."""

    def buried(self, service: str, code: str) -> None:
        """A command became a dead letter."""

    def taken_over(self, service: str) -> None:
        """A command of another node of this member is done here now, because that node is dead."""


class HookObserver(Protocol):
    """What becomes of webhooks."""

    def hook(self, outcome: str) -> None:
        """An attempt ended: `told`, `failed` (another one follows), `gone` (the receiver wants no more), `given-up`."""


class Broker(Protocol):
    """The asking side of the transport."""

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""

    async def exchange(self, subject: str, payload: bytes, deadline_s: float) -> Reply:
        """One request, one message back."""


class Reply(Protocol):
    """A message that came back."""

    data: bytes


class Outbound(Protocol):
    """The answering side of the transport."""

    async def send(self, subject: str, payload: bytes) -> None:
        """Publishes."""


class Queues(Protocol):
    """Durable queues of the broker, towards other members."""

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""

    async def put(self, subject: str, payload: bytes, message_id: str) -> bool:
        """Stores one message; False when the broker says that it has one under this id already.

        Raises:
            BusError: it is not known to be stored.
        """


class BoardEntry(NamedTuple):
    """The newest message of a subject: its number in the stream, and the broker's time of it (seconds since 1970)."""

    subject: str
    number: int
    at_s: float
    data: bytes


class WorkBoard(Protocol):
    """What the nodes of one member share at the broker: one message a subject."""

    async def put(self, subject: str, data: bytes, after: int, life_s: int = 0) -> int | None:
        """Stores a message if the newest one of the subject still is number `after` (0: none); its own number.

        None when it is not; then nothing was stored. With `life_s` the broker drops it after so many seconds.

        Raises:
            BusError: it is not known to be stored.
        """

    async def last(self, subject: str) -> BoardEntry | None:
        """The newest message of a subject.

        Raises:
            BusError: it cannot be read now.
        """

    async def page(self, subjects_: str, first: int) -> list[BoardEntry]:
        """Messages of subjects that match, in order, from number `first` on; empty at the end.

        Raises:
            BusError: they cannot be read now.
        """


class Pulled(Protocol):
    """One message taken from a queue; it comes again until it is `done`."""

    @property
    def subject(self) -> str:
        """Under which it was stored."""

    @property
    def data(self) -> bytes:
        """Its body."""

    async def done(self) -> None:
        """It is not needed any more. Never raises: at worst it comes again."""

    async def later(self, after_s: float) -> None:
        """It cannot be taken now. Never raises."""
