"""The broker's guests: which keys got credentials, whose they are, and since when they are refused.

A user key stands here before the first credentials for it are handed out, so that every key that could connect can be
refused later, also one that a newer node statement replaced. The directory decides who is refused (`settle`); this book
only remembers when. It is one file of the registry, replaced whole; with a hundred thousand guests it would be some ten
megabytes. It is no list of secrets, and it talks to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from bus.errors import BusError
from bus.transport.nkeys import public_text
from registry.view import MemberEntry, NodeEntry, RevocationKind

GuestKind = Literal["node", "leaf"]


class GuestBookUnreadable(BusError):
    """The book of the broker's guests cannot be read."""

    code = "guest-book-unreadable"
    title = "The registry cannot read who has broker credentials"
    disposition = "halt"


class Members(Protocol):
    """What the directory has to say."""

    def member(self, id: str) -> MemberEntry | None:  # noqa: A002  (the directory's word)
        """The member with that identifier."""
        ...

    def node(self, id: str) -> NodeEntry | None:  # noqa: A002
        """The newest incarnation of a node."""
        ...

    def members(self) -> tuple[MemberEntry, ...]:
        """All members."""
        ...

    def nodes_of(self, member: str) -> tuple[NodeEntry, ...]:
        """Newest incarnation of each node of a member."""
        ...

    def is_revoked(self, kind: RevocationKind, id: str) -> bool:  # noqa: A002
        """Whether trust in a member, node or key was withdrawn."""
        ...


class Guest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user key.

    Attributes:
        kind: a node's, or that of a member's leaf broker.
        holder: node or member.
        refused_at_s: what was issued up to then is refused; 0 when nothing ever was.
        withdrawn: whether it is refused now, so that nothing is issued either.
    """

    kind: GuestKind
    holder: str
    refused_at_s: int = 0
    withdrawn: bool = False


class GuestBook:
    """See the module.

    Args:
        path: of the file; made when it is first written.
        replace: writes a file durably and as a whole.
    """

    def __init__(self, path: Path, replace: Callable[[Path, bytes], None]) -> None:
        self._path = path
        self._replace = replace
        self._guests: dict[str, Guest] = {}
        try:
            self._guests = msgspec.json.decode(path.read_bytes(), type=dict[str, Guest])
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise GuestBookUnreadable(
                f"{path} cannot be read ({type(error).__name__}): put it back from a backup. Without it, keys that were"
                " refused at the broker would be let in again until their credentials end"
            ) from error

    def admit(self, key: str, kind: GuestKind, holder: str) -> Guest:
        """The guest with that key; durable before anything is issued to it."""
        known = self._guests.get(key)
        if known is None:
            known = self._guests[key] = Guest(kind, holder)
            self._save()
        return known

    def settle(self, directory: Members, leaves: Mapping[str, str], now_s: int) -> bool:
        """Refuses and re-admits as the directory says; True when anything changed.

        Args:
            directory: as the registry folded it.
            leaves: keys of all leaf brokers that the operator made, to their members; to nobody when withdrawn.
            now_s: current time.

        A refusal covers everything that was issued until now and a second beyond: credentials issued in the very second
        of a re-admission are dated after the refusal before it.
        """
        changed = False
        for member in directory.members():
            for node in directory.nodes_of(member.id):
                self.admit(public_text("user", node.broker_key), "node", node.node)
        for key, holder in leaves.items():
            self.admit(key, "leaf", holder)
        for key, guest in self._guests.items():
            held = guest.kind == "node" or leaves.get(key) == guest.holder
            withdrawn = not (held and _welcome(directory, key, guest))
            if withdrawn != guest.withdrawn:
                changed = True
                at_s = max(now_s, guest.refused_at_s) + 1 if withdrawn else guest.refused_at_s
                self._guests[key] = Guest(guest.kind, guest.holder, at_s, withdrawn)
        if changed:
            self._save()
        return changed

    def revocations(self) -> dict[str, int]:
        """For the account's JWT: key to the time up to which what was issued to it is refused."""
        return {key: guest.refused_at_s for key, guest in self._guests.items() if guest.refused_at_s}

    def _save(self) -> None:
        self._replace(self._path, msgspec.json.encode(self._guests))


def _welcome(directory: Members, key: str, guest: Guest) -> bool:
    if guest.kind == "leaf":
        member = directory.member(guest.holder)
        return member is not None and member.status == "active" and not directory.is_revoked("member", guest.holder)
    node = directory.node(guest.holder)
    return node is not None and node.status == "active" and public_text("user", node.broker_key) == key
