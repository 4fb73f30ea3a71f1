"""In which version of the wire a message is written: the newest one that this program and its receivers read.

What a node reads is in its statement, signed by its member (`registry.documents.Node.wire`): that version and the one
before. What goes to a member may reach any of its nodes, so all that are valid count; what goes to one node is written
for that one. A sender that does not know of a newer statement yet writes an older version, which is read as well.

The choice is remembered by receiver for one state of the directory, and for at most a minute, because the time of a
statement may begin or end. Encodes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import structlog

from bus import envelope as wire
from bus import errors
from bus.ports import Clock
from bus.transport import subjects
from registry.view import DirectoryView, NodeEntry

_log = structlog.get_logger("lienthong.versions")
_REMEMBERED_S = 60.0
_MOST = 4096
NEWER, OLDER, UNREADABLE = "wire-version-newer", "wire-version-older", "wire-version-unreadable"
"""Alarms: a member writes versions that this node does not read yet, or not any more; the directory says of this node
that it reads a version which it does not."""


def common(spoken: Collection[int], announced: Collection[int]) -> int | None:
    """The newest version in `spoken` that all receivers read; None when there is none.

    Args:
        spoken: versions that the sender can write.
        announced: of each receiver the newest version that it reads; it also reads the one before.
    """
    if not announced:
        return min(spoken)  # nobody is there to read it; the broker says so
    oldest, newest = max(announced) - 1, min(announced)
    return max((version for version in spoken if oldest <= version <= newest), default=None)


class _Choice(NamedTuple):
    """Version (None: none in common) for a receiver, while the directory has that size, until a monotonic time."""

    version: int | None
    to: str
    receiver: str
    announced: tuple[int, ...]
    size: int
    until_s: float


class Versions:
    """The choices of one node.

    Args:
        node: identifier.
        member: identifier.
        directory: as it is known, however old.
        clock: time.
        alarm: told of a code and a member, for people to look at.
    """

    def __init__(
        self,
        node: str,
        member: str,
        directory: Callable[[], DirectoryView],
        clock: Clock,
        alarm: Callable[[str, str], None],
    ) -> None:
        self._node = node
        self._member = member
        self._directory = directory
        self._clock = clock
        self._alarm = alarm
        self._choices: dict[str, _Choice] = {}
        self._told: dict[tuple[str, str], float] = {}

    def of(self, subject: str, to: str) -> int:
        """For what goes to a member under a subject: to any of its nodes, or to the one whose results these are.

        Args:
            subject: of a query, a command, or results.
            to: the member, or one of its subsystems or services.

        Raises:
            VersionUnshared: there is no version that this program and the receivers have in common.
        """
        choice = self._choices.get(subject)
        view = self._directory()
        if choice is None or choice.size != view.size or self._clock.monotonic() >= choice.until_s:
            choice = self._choose(view, subject, to)
        if choice.version is None:
            raise errors.VersionUnshared(
                f"{choice.receiver} announces {_span(choice.announced)}, this gateway speaks "
                f"{_span(wire.KNOWN.spoken)}: {_who(choice)}"
            )
        return choice.version

    def _choose(self, view: DirectoryView, subject: str, to: str) -> _Choice:
        now, size = self._clock.now(), view.size
        receiver = member = "/".join(to.split("/", 3)[:3])
        nodes = [one for one in view.nodes_of(member) if one.usable(now)]
        if subject.startswith("lt.r."):
            nodes = [one for one in nodes if subjects.result(one.node, self._member) == subject]
            receiver = nodes[0].node if nodes else member
        announced = tuple(sorted({one.wire for one in nodes}))
        until_s = self._clock.monotonic() + _REMEMBERED_S
        if len(self._choices) >= _MOST:
            self._choices.clear()
        choice = _Choice(common(wire.KNOWN.spoken, announced), member, receiver, announced, size, until_s)
        self._choices[subject] = choice
        return choice

    @staticmethod
    def to_node(node: NodeEntry, came: int) -> int:
        """For what answers a message of a node that came in version `came`: that one it reads in any case."""
        return common(wire.KNOWN.spoken, (node.wire,)) or came

    def own(self) -> int | None:
        """The newest version that this node reads according to the directory; None while that has no statement."""
        found = (one.wire for one in self._directory().nodes_of(self._member) if one.node == self._node)
        return next(found, None)

    def others_read(self, drop: errors.Dropped) -> bool:
        """Whether a message was dropped for its version, and another node of this member says that it reads that."""
        if not isinstance(drop, wire.VersionUnsupported):
            return False
        version, now = drop.version, self._clock.now()
        return any(
            one.wire - 1 <= version <= one.wire
            for one in self._directory().nodes_of(self._member)
            if one.node != self._node and one.usable(now)
        )

    def unread(self, drop: errors.Dropped, sender: str) -> None:
        """Says who has to do something about a message that was dropped for its version; nothing for other drops.

        Args:
            drop: why it was dropped.
            sender: token of the member that the broker let send it, or its identifier.
        """
        if not isinstance(drop, wire.VersionUnsupported):
            return
        view = self._directory()
        member = sender if "/" in sender else subjects.member_of_token(sender, view.instance) or ""
        member = member if view.member(member) is not None else ""
        code = NEWER if drop.version > wire.KNOWN.newest else OLDER
        self._alarm(code, member)
        if self._clock.monotonic() >= self._told.get((code, member), 0.0):
            self._told[code, member] = self._clock.monotonic() + _REMEMBERED_S
            do = "upgrade this node, or announce less" if code == NEWER else "that member has to upgrade"
            _log.warning("version.unread", member=member, reads=wire.KNOWN.spoken, newer=code == NEWER, do=do)

    def look(self) -> None:
        """To be called now and then: an alarm while others are told that this node reads what it does not."""
        own = self.own()
        if own is not None and own not in wire.KNOWN.spoken:
            self._alarm(UNREADABLE, self._member)
            _log.warning("version.announced-wrongly", announced=own, reads=wire.KNOWN.spoken)

    def peers(self) -> dict[str, int | None]:
        """The version for each member and node that something was written for lately; None: none in common."""
        view = self._directory()
        found: dict[str, int | None] = {}
        for subject, known in list(self._choices.items()):
            choice = self._choose(view, subject, known.to)
            found[choice.receiver] = choice.version
        return dict(sorted(found.items()))


def _who(choice: _Choice) -> str:
    if choice.announced[0] > wire.KNOWN.newest:
        return "upgrade this gateway"
    if choice.announced[-1] < wire.KNOWN.spoken[-1]:
        return "that member has to upgrade"
    return "that member's nodes have to be brought to one version"


def _span(versions: Collection[int]) -> str:
    return f"version {' and '.join(str(one) for one in sorted(versions))}"
