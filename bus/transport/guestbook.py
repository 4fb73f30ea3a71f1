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
from bus.transport.nkeys import public_bytes, public_text
from registry.publickeys import key_id
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
        replaced_at_s: since when the node's statement names another key; 0 when it does not.
    """

    kind: GuestKind
    holder: str
    refused_at_s: int = 0
    withdrawn: bool = False
    replaced_at_s: int = 0


_NEW = Guest("node", "")


class GuestBook:
    """See the module.

    Args:
        path: of the file; made when it is first written.
        replace: writes a file durably and as a whole.
        overlap_s: how long a key that its owner replaced goes on: the node connects with the new one meanwhile.
    """

    def __init__(self, path: Path, replace: Callable[[Path, bytes], None], overlap_s: int = 60) -> None:
        self._path = path
        self._replace = replace
        self._overlap_s = overlap_s
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
        before = dict(self._guests)
        for member in directory.members():
            for node in directory.nodes_of(member.id):
                self.admit(public_text("user", node.broker_key), "node", node.node)
        for key, holder in leaves.items():
            self.admit(key, "leaf", holder)
        for key, guest in self._guests.items():
            held = guest.kind == "node" or leaves.get(key) == guest.holder
            replaced = _replaced(directory, key, guest)
            replaced_at_s = (guest.replaced_at_s or now_s) if replaced else 0
            welcome = now_s < replaced_at_s + self._overlap_s if replaced else held and _welcome(directory, key, guest)
            at_s = guest.refused_at_s if welcome or guest.withdrawn else max(now_s, guest.refused_at_s) + 1
            self._guests[key] = Guest(guest.kind, guest.holder, at_s, not welcome, replaced_at_s)
        if self._guests != before:
            self._save()
        return any(guest.withdrawn != before.get(key, _NEW).withdrawn for key, guest in self._guests.items())

    def guests(self) -> dict[str, Guest]:
        """Every user key that was ever let in, as it stands."""
        return dict(self._guests)

    def revocations(self) -> dict[str, int]:
        """For the account's JWT: key to the time up to which what was issued to it is refused."""
        return {key: guest.refused_at_s for key, guest in self._guests.items() if guest.refused_at_s}

    def _save(self) -> None:
        self._replace(self._path, msgspec.json.encode(self._guests))


def _replaced(directory: Members, key: str, guest: Guest) -> bool:
    """The node is well and has another key, and nobody revoked this one: its owner exchanges it."""
    node = directory.node(guest.holder) if guest.kind == "node" else None
    if node is None or node.status != "active" or public_text("user", node.broker_key) == key:
        return False
    return not directory.is_revoked("key", key_id(public_bytes(key)))


def _welcome(directory: Members, key: str, guest: Guest) -> bool:
    if guest.kind == "leaf":
        member = directory.member(guest.holder)
        active = member is not None and member.status == "active" and not directory.is_revoked("member", guest.holder)
        return active and not _is_revoked_nodes(directory, key, guest.holder)
    node = directory.node(guest.holder)
    return node is not None and node.status == "active" and public_text("user", node.broker_key) == key


def _is_revoked_nodes(directory: Members, key: str, member: str) -> bool:
    """Whether the member gave a leaf's key to a node, too, and trust in that was withdrawn: then it is in both."""
    if directory.is_revoked("key", key_id(public_bytes(key))):
        return True
    return any(
        node.status == "revoked" and public_text("user", node.broker_key) == key for node in directory.nodes_of(member)
    )
