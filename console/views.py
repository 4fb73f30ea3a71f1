"""The directory as a member's gateway has it, read beside the running gateway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from msgspec import UNSET

from bus.gateway.followedrights import read_signers
from console.homes import HomeInvalid, MemberHome
from console.ownword import own_store
from evidence.header import encode_time
from evidence.trust import DatedTree, KeyTrust, OriginTrust, RevocationTrust, Trust, ViewTrust
from registry.errors import FeedUnavailable
from registry.fold import Directory
from registry.followed import FollowedWord
from registry.follower import Follower
from registry.localcopy import Confirmed
from registry.own import OwnView
from registry.view import (
    AccessEntry,
    DecisionView,
    MemberEntry,
    NodeEntry,
    Revocation,
    RevocationKind,
    ServiceEntry,
    SubsystemEntry,
)


class _NoFeed:
    """A feed that has nothing: only the local copy is read."""

    async def latest_checkpoint(self) -> bytes:
        raise FeedUnavailable("not connected")

    async def entries(self, bundle_index: int) -> list[bytes]:
        raise FeedUnavailable(f"not connected ({bundle_index})")

    async def blob(self, sha256: str) -> bytes:
        raise FeedUnavailable(f"not connected ({sha256})")

    async def wait_changed(self, timeout_s: float) -> None:
        raise FeedUnavailable(f"not connected ({timeout_s})")


@contextmanager
def local_directory(home: MemberHome) -> Iterator[Directory]:
    """The verified local copy.

    Raises:
        HomeInvalid: the gateway never ran.
    """
    with local_follower(home) as follower:
        yield follower.directory


@contextmanager
def local_follower(home: MemberHome) -> Iterator[Follower]:
    """The verified local copy with what is known about the times of its trees.

    Raises:
        HomeInvalid: the gateway never ran.
    """
    path = home.data / "directory.db"
    if not path.exists():
        raise HomeInvalid(f"there is no {path}; it comes when the gateway runs")
    follower = Follower(_NoFeed(), path, home.facts.genesis, now=lambda: datetime.now(UTC))
    try:
        yield follower
    finally:
        follower.close()


def other_nodes(home: MemberHome, node: str) -> tuple[NodeEntry, ...]:
    """The member's other active nodes, as far as the local copy of the directory knows."""
    try:
        with local_directory(home) as directory:
            found = directory.nodes_of(home.facts.member)
    except HomeInvalid:
        return ()
    return tuple(one for one in found if one.node != node and one.status == "active")


class _AsEnforced:
    """Rights as the provider enforces them where that is this member, otherwise as the directory says."""

    def __init__(self, directory: DecisionView, own: DecisionView, member: str) -> None:
        self._directory = directory
        self._own = own
        self._prefix = f"{member}/"

    def _for(self, service: str) -> DecisionView:
        return self._own if service.startswith(self._prefix) else self._directory

    def member(self, id: str) -> MemberEntry | None:  # noqa: A002
        return self._directory.member(id)

    def subsystem(self, id: str) -> SubsystemEntry | None:  # noqa: A002
        return self._directory.subsystem(id)

    def service(self, id: str) -> ServiceEntry | None:  # noqa: A002
        return self._for(id).service(id)

    def rights(self, client: str, service: str) -> tuple[AccessEntry, ...]:
        return self._for(service).rights(client, service)

    def is_revoked(self, kind: RevocationKind, id: str) -> bool:  # noqa: A002
        return self._directory.is_revoked(kind, id)

    def nodes_of(self, member: str) -> tuple[NodeEntry, ...]:
        return self._directory.nodes_of(member)


@contextmanager
def decision_view(home: MemberHome) -> Iterator[DecisionView]:
    """What decides for this member's gateway."""
    if home.facts.node:
        with local_follower(home) as follower:
            word = FollowedWord(
                follower.directory, home.facts.member, read_signers(home.keys / "member-signers.json"), follower.leaf
            )
            word.take_over(follower.directory.folded_size)
            yield _AsEnforced(follower.directory, OwnView(word, follower.directory), home.facts.member)
        return
    with local_directory(home) as directory:
        own = own_store(home)
        try:
            yield _AsEnforced(directory, OwnView(own, directory), home.facts.member)
        finally:
            own.close()


def trust_of(directory: Directory, confirmed: Sequence[Confirmed] = ()) -> Trust:
    """What an offline verification needs: keys of all logs with their times, revocations, and bounds for times.

    Args:
        directory: The verified directory.
        confirmed: Trees of the directory with the times of their cosignatures.
    """
    origins = {entry.origin: _origin_trust(entry) for entry in directory.origins()}
    return Trust(
        genesis=directory.genesis,
        instance=directory.instance,
        origins=origins,
        revocations=[_revocation_trust(directory, one) for one in directory.revocations()],
        views=[ViewTrust(one.size, _instant(one.first_s), _instant(one.last_s)) for one in confirmed],
        dated=[tree for origin in origins for tree in _dated(directory, origin, confirmed)],
    )


def _origin_trust(entry: NodeEntry) -> OriginTrust:
    newest = KeyTrust(str(entry.log_key), encode_time(entry.key_from_at or entry.valid_from_at), _until(entry.until_at))
    others = [KeyTrust(str(one.key), encode_time(one.from_at), _until(one.until_at)) for one in entry.other_keys]
    keys = sorted((newest, *others), key=lambda one: one.from_)
    return OriginTrust(newest.key, newest.from_, newest.until, keys if others else UNSET)


def _until(at: datetime | None) -> str | None:
    return None if at is None else encode_time(at)


def _instant(unix_s: int) -> str:
    return encode_time(datetime.fromtimestamp(unix_s, UTC))


def _revocation_trust(directory: Directory, revoked: Revocation) -> RevocationTrust:
    head = directory.head("revocation", f"{revoked.kind}:{revoked.id}")
    # A later document of the chain may have moved `since`; whoever saw the newest one had it before him.
    return RevocationTrust(
        revoked.kind, revoked.id, encode_time(revoked.since_at), None if head is None else head.index
    )


def _dated(directory: Directory, origin: str, confirmed: Sequence[Confirmed]) -> list[DatedTree]:
    """Trees that documents name: each is not younger than the first cosignature over a directory with the document."""
    found = []
    for tree in directory.dated_trees(origin):
        seconds = [one.first_s for one in confirmed if one.size > tree.at]
        if tree.at >= 0 and seconds:
            found.append(DatedTree(origin, tree.size, tree.root.hex(), _instant(min(seconds) + 1)))
    return found
