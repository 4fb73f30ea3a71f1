"""The dictionaries behind a directory, how documents change them, and the look-ups of the hot path.

Pure. Every document that arrives here was checked (`fold.Directory.apply`), so nothing here refuses. Entries are
built when a document is taken, so that a look-up is one dictionary access.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from evidence.checkpoint import key_name
from evidence.note import VerifierKey
from registry.authorship import owner_of, pinned_keys
from registry.datedtrees import DatedTree, DatedTrees
from registry.documents import (
    Access,
    Anchor,
    AnyDocument,
    Catalogue,
    Group,
    Member,
    Node,
    Revocation,
    Sealing,
    Service,
    Subsystem,
    parse_checked_time,
)
from registry.entries import access_entry, node_entry, replaced_status, sealing_entry, service_entry
from registry.keyuse import KeyUse, claims
from registry.publickeys import decode_base64, key_id
from registry.sealingkeys import SealingKeys
from registry.view import (
    AccessEntry,
    Announced,
    MemberEntry,
    NodeEntry,
    NodeStatus,
    RevocationKind,
    SealingKeyEntry,
    ServiceEntry,
    SubsystemEntry,
)
from registry.view import Revocation as RevocationEntry


class Head(msgspec.Struct, frozen=True, gc=False):
    """The newest document of a chain."""

    seq: int
    digest: str
    issued: str
    index: int


class State:
    """A directory's contents. `fold.Directory` adds the fold."""

    def __init__(self, genesis: str) -> None:
        self.genesis = genesis
        self.instance = ""
        self.size = 0
        self.root = b""
        self.view = ""
        self.anchor: Anchor | None = None
        self.anchor_indices: list[int] = []
        self.catalogue: Catalogue | None = None
        self.heads: dict[tuple[str, str], Head] = {}
        self.keys: dict[str, KeyUse] = {}
        self._members: dict[str, MemberEntry] = {}
        self._aliases: dict[str, str] = {}
        self._subsystems: dict[str, SubsystemEntry] = {}
        self._nodes: dict[str, NodeEntry] = {}
        self._origins: dict[str, NodeEntry] = {}
        self._nodes_of: dict[str, dict[str, None]] = {}
        self._log_keys: dict[str, frozenset[str]] = {}  # origin: every key that a statement named, base64
        self._dated = DatedTrees()
        self._services: dict[str, ServiceEntry] = {}
        self._services_of: dict[str, dict[str, None]] = {}
        self._access: dict[str, AccessEntry] = {}
        self._rights: dict[tuple[str, str], tuple[AccessEntry, ...]] = {}
        self._groups: dict[str, tuple[str, ...]] = {}
        self._groups_of: dict[str, tuple[str, ...]] = {}
        self._revoked: dict[tuple[str, str], RevocationEntry] = {}
        self._sealing = SealingKeys(self.is_revoked)
        self._announced: dict[str, Announced] = {}
        self._pending: dict[str, Member] = {}  # confirmed, but not yet due by a time that was verified here
        self.verified_at: datetime | None = None
        self.newest_issued = ""

    # Look-ups -----------------------------------------------------------------------------------------------------

    def member(self, id: str) -> MemberEntry | None:  # noqa: A002  (the protocol's word)
        """The member with that identifier."""
        return self._members.get(id)

    def members(self) -> tuple[MemberEntry, ...]:
        """All members."""
        return tuple(self._members.values())

    def resolve_alias(self, id: str) -> str:  # noqa: A002
        """The identifier with an alias in its member part replaced; unchanged when there is none."""
        if not self._aliases:
            return id
        parts = id.split("/", 3)
        known = self._aliases.get("/".join(parts[:3]))
        if known is None:
            return id
        return known if len(parts) == 3 else f"{known}/{parts[3]}"

    def subsystem(self, id: str) -> SubsystemEntry | None:  # noqa: A002
        """The subsystem with that identifier."""
        return self._subsystems.get(id)

    def subsystems(self) -> tuple[SubsystemEntry, ...]:
        """All subsystems."""
        return tuple(self._subsystems.values())

    def node(self, id: str) -> NodeEntry | None:  # noqa: A002
        """The newest incarnation of a node."""
        return self._nodes.get(id)

    def node_by_origin(self, origin: str) -> NodeEntry | None:
        """The node whose log has that origin, whatever its status."""
        return self._origins.get(origin)

    def nodes_of(self, member: str) -> tuple[NodeEntry, ...]:
        """Newest incarnation of each node of a member."""
        return tuple(self._nodes[node] for node in self._nodes_of.get(member, ()))

    def origins(self) -> tuple[NodeEntry, ...]:
        """Every log that the directory knows, closed ones included."""
        return tuple(self._origins.values())

    def log_keys(self, origin: str) -> frozenset[str]:
        """Every key (base64) that a statement ever named for a log."""
        return self._log_keys.get(origin, frozenset())

    def dated_trees(self, origin: str) -> tuple[DatedTree, ...]:
        """Trees of a node's log that documents name, oldest first."""
        return self._dated.of(origin)

    def revocations(self) -> tuple[RevocationEntry, ...]:
        """Every withdrawal of trust."""
        return tuple(self._revoked.values())

    def service(self, id: str) -> ServiceEntry | None:  # noqa: A002
        """The service with that identifier."""
        return self._services.get(id)

    def services_of(self, member: str) -> tuple[ServiceEntry, ...]:
        """Services that a member provides."""
        return tuple(self._services[service] for service in self._services_of.get(member, ()))

    def contracts(self) -> set[str]:
        """Digests of the contracts of all services."""
        return {entry.contract_sha256 for entry in self._services.values()}

    def access(self, subject: str) -> AccessEntry | None:
        """The access right with that subject."""
        return self._access.get(subject)

    def access_rights(self) -> tuple[AccessEntry, ...]:
        """All access rights."""
        return tuple(self._access.values())

    def groups(self) -> dict[str, tuple[str, ...]]:
        """All groups, each with the members and subsystems that it names."""
        return dict(self._groups)

    def groups_of(self, client: str) -> tuple[str, ...]:
        """Groups that name a subsystem or its member, but for those whose owner is suspended, gone or revoked."""
        if not self._groups_of:
            return ()
        found = self._groups_of.get(client, ()) + self._groups_of.get(client.rpartition("/")[0], ())
        return tuple(group for group in dict.fromkeys(found) if self._group_counts(group))

    def _group_counts(self, group: str) -> bool:
        owner = owner_of(group)
        if not owner:
            return True  # the instance's own
        member = self._members.get(owner)
        return member is not None and member.status == "active" and ("member", owner) not in self._revoked

    def rights(self, client: str, service: str) -> tuple[AccessEntry, ...]:
        """Rights of a subsystem to a service: its own, its member's, its groups'."""
        return self.rights_through(client, self.groups_of(client), service)

    def rights_through(self, client: str, groups: tuple[str, ...], service: str) -> tuple[AccessEntry, ...]:
        """Rights of a subsystem that is known to be in these groups."""
        rights = self._rights
        found = rights.get((client, service), ()) + rights.get((client.rpartition("/")[0], service), ())
        for group in groups:
            found = found + rights.get((group, service), ())
        return found

    def sealing_key(self, owner: str, use: str, at: datetime) -> SealingKeyEntry | None:
        """The newest key of an owner that may be sealed to for that use at that instant."""
        return self._sealing.newest(owner, use, at)

    def sealing_key_by_id(self, keyid: str) -> SealingKeyEntry | None:
        """The key with that id, valid or not."""
        return self._sealing.by_id(keyid)

    def is_revoked(self, kind: RevocationKind, id: str) -> bool:  # noqa: A002
        """Whether trust in a member, node or key was withdrawn."""
        return (kind, id) in self._revoked

    def revocation(self, kind: RevocationKind, id: str) -> RevocationEntry | None:  # noqa: A002
        """The withdrawal of trust in a member, node or key."""
        return self._revoked.get((kind, id))

    def key_owner(self, keyid: str) -> str | None:
        """Who first brought a key into the directory: a member id, `operator` or `directory`."""
        use = self.keys.get(keyid)
        return None if use is None else use.owner

    def head(self, type: str, subject: str) -> Head | None:  # noqa: A002
        """The newest document of a chain: what its successor must follow."""
        return self.heads.get((type, subject))

    # Changes ------------------------------------------------------------------------------------------------------

    def take(self, document: AnyDocument, author: str) -> None:
        """Let a checked document change the directory."""
        self.newest_issued = max(self.newest_issued, document.issued)
        match document:
            case Access():
                self._take_access(document, author)
            case Sealing():
                self._take_sealing(document)
            case Service():
                entry = service_entry(document)
                self._services[entry.id] = entry
                self._services_of.setdefault(entry.provider, {})[entry.id] = None
            case Subsystem():
                self._subsystems[document.subject] = SubsystemEntry(
                    id=document.subject, member=owner_of(document.subject), names=document.names
                )
            case Node():
                self._take_node(document)
            case Member():
                self._take_member(document)
            case Revocation():
                self._take_revocation(document, author)
            case Group():
                self._take_group(document)
            case Catalogue():
                self.catalogue = document
            case _:
                self._take_anchor(document)

    def reach(self, verified_at: datetime) -> bool:
        """Let time pass: confirmed changes of keys that are due by now take effect.

        Args:
            verified_at: A time that whoever folds has verified; an earlier one than before changes nothing.

        Returns:
            Whether keys of a member changed.
        """
        if self.verified_at is not None and verified_at <= self.verified_at:
            return False
        self.verified_at = verified_at
        due = [member for member in self._pending if self._ripe(member)]
        for member in due:
            self._replace_member(self._with_free_aliases(self._pending[member]))
        return bool(due)

    def due(self, member: str) -> bool:
        """Whether the public delay of an announced change of keys is over, by the time verified here."""
        announced = self._announced.get(member)
        return announced is not None and self.verified_at is not None and announced.due_at <= self.verified_at

    def _ripe(self, member: str) -> bool:
        return self.due(member) and not self.objected(self._announced[member])

    def objected(self, announced: Announced) -> bool:
        """Whether an objection that was in time stands further on in the log; here nothing is known of that."""
        return False

    def _with_free_aliases(self, document: Member) -> Member:
        """While a change waited, others may have taken its aliases."""
        prefix = document.subject.rpartition("/")[0]
        free = tuple(
            alias
            for alias in document.aliases
            if self._aliases.get(f"{prefix}/{alias}", document.subject) == document.subject
            and f"{prefix}/{alias}" not in self._members
        )
        return msgspec.structs.replace(document, aliases=free)

    def _take_anchor(self, document: Anchor) -> None:
        self.instance = document.instance
        self.anchor = document
        self.keys.update(claims(document))

    def _announce(self, document: Member) -> None:
        signing, recovery = pinned_keys(document)
        delay_s = 0 if self.anchor is None else self.anchor.recovery_delay_s
        due_at = parse_checked_time(document.issued) + timedelta(seconds=delay_s)
        self._pending.pop(document.subject, None)
        self._announced[document.subject] = Announced(signing, recovery, due_at)
        # The member owns what is announced in its name: so it can object, by revoking it.
        self.keys.update(claims(document))

    def _take_member(self, document: Member) -> None:
        if document.change == "announced":
            self._announce(document)
        elif document.change == "confirmed" and not self._ripe(document.subject):
            # Nobody but the reader's own verified time ends the delay: until then the old keys and objections count.
            self._pending[document.subject] = document
        else:
            self._replace_member(document)

    def _replace_member(self, document: Member) -> None:
        signing, recovery = pinned_keys(document)
        id_ = document.subject
        self._announced.pop(id_, None)
        self._pending.pop(id_, None)
        prefix = id_.rpartition("/")[0]
        before = self._members.get(id_)
        if before is not None:
            for alias in before.aliases:
                del self._aliases[f"{prefix}/{alias}"]
        self._members[id_] = MemberEntry(
            id=id_,
            status=document.status,
            names=document.names,
            aliases=document.aliases,
            signing_keys=signing,
            recovery_keys=recovery,
            since_at=parse_checked_time(document.issued),
            keys_from_at=self._keys_from(document, before),
        )
        for alias in document.aliases:
            self._aliases[f"{prefix}/{alias}"] = id_
        self.keys.update(claims(document))
        self._refresh_nodes(id_)

    @staticmethod
    def _keys_from(document: Member, before: MemberEntry | None) -> datetime | None:
        if document.change == "confirmed":
            return parse_checked_time(document.issued)
        return None if before is None else before.keys_from_at

    def announced(self, member: str) -> Announced | None:
        """A change of a member's keys that the operator announced and nobody confirmed or stopped."""
        return self._announced.get(member)

    def announcements(self) -> dict[str, Announced]:
        """All of them, by member."""
        return dict(self._announced)

    def alias_holder(self, id: str) -> str | None:  # noqa: A002
        """The member that has this identifier as an alias."""
        return self._aliases.get(id)

    def _take_node(self, document: Node) -> None:
        id_ = document.subject
        before = self._nodes.get(id_)
        if before is not None and before.origin != document.log.origin:
            self._origins[before.origin] = replaced_status(before, "closed", document.log.closes)
        self._date(document)
        origin = document.log.origin
        named = {document.log.key, *(other.key for other in document.log.others)}
        self._log_keys[origin] = self.log_keys(origin) | named
        self.keys.update(claims(document))
        entry = node_entry(document, VerifierKey(key_name(origin), decode_base64(document.log.key)))
        self._put_node(self._marked(entry))
        self._nodes_of.setdefault(entry.member, {})[id_] = None

    def _date(self, document: Node) -> None:
        log, head = document.log, self.heads.get(("node", document.subject))
        index = -1 if head is None else head.index
        issued_s = parse_checked_time(document.issued).timestamp()
        self._dated.add(log.origin, log.head, index, issued_s)
        if log.closes is not None:
            self._dated.add(log.closes.origin, log.closes, index, issued_s)

    def _marked(self, entry: NodeEntry) -> NodeEntry:
        """With the present status of node and further keys."""
        if any(("key", key_id(one.key.public)) in self._revoked for one in entry.other_keys):
            others = tuple(
                msgspec.structs.replace(one, revoked=("key", key_id(one.key.public)) in self._revoked)
                for one in entry.other_keys
            )
            entry = msgspec.structs.replace(entry, other_keys=others)
        return replaced_status(entry, self._node_status(entry))

    def _put_node(self, entry: NodeEntry) -> None:
        self._nodes[entry.node] = entry
        self._origins[entry.origin] = entry

    def _node_status(self, entry: NodeEntry) -> NodeStatus:
        revoked = self._revoked
        if (
            ("node", entry.node) in revoked
            or ("member", entry.member) in revoked
            or ("key", key_id(entry.log_key.public)) in revoked
            or ("key", key_id(entry.broker_key)) in revoked
        ):
            return "revoked"
        return self._members[entry.member].status

    def _refresh_nodes(self, member: str) -> None:
        for node in self._nodes_of.get(member, ()):
            self._put_node(self._marked(self._nodes[node]))

    def _take_sealing(self, document: Sealing) -> None:
        self._sealing.put(sealing_entry(document), document.use)
        self.keys.update(claims(document))

    def _take_access(self, document: Access, author: str) -> None:
        entry = access_entry(document, author)
        before = self._access.get(entry.subject)
        if before is not None:
            key = (before.client, before.service)
            self._rights[key] = tuple(right for right in self._rights[key] if right.subject != entry.subject)
        self._access[entry.subject] = entry
        key = (entry.client, entry.service)
        self._rights[key] = (*self._rights.get(key, ()), entry)

    def _take_group(self, document: Group) -> None:
        group = document.subject
        for client in self._groups.get(group, ()):
            self._groups_of[client] = tuple(other for other in self._groups_of[client] if other != group)
        self._groups[group] = document.clients
        for client in document.clients:
            self._groups_of[client] = (*self._groups_of.get(client, ()), group)

    def _take_revocation(self, document: Revocation, author: str) -> None:
        kind, target = document.kind, document.target
        since_at = parse_checked_time(document.since)
        before = self._revoked.get((kind, target))
        if before is not None:
            since_at = min(since_at, before.since_at)
        self._revoked[kind, target] = RevocationEntry(
            kind=kind, id=target, since_at=since_at, reason=document.reason, author=author
        )
        owner = self.key_owner(target) if kind == "key" else owner_of(target)
        if owner:
            self._stop_announcement(owner, kind, target)
            self._refresh_nodes(owner)
            self._sealing.drop_revoked(owner)

    def _stop_announcement(self, member: str, kind: RevocationKind, target: str) -> None:
        announced = self._announced.get(member)
        if announced is not None and kind == "key" and target in announced.signing_keys | announced.recovery_keys:
            del self._announced[member]
            self._pending.pop(member, None)
