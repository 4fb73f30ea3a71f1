"""The directory as a member's gateway has it, read beside the running gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from console.homes import HomeInvalid, MemberHome
from console.services import own_store
from evidence.header import encode_time
from evidence.trust import OriginTrust, Trust
from registry.errors import FeedUnavailable
from registry.fold import Directory
from registry.follower import Follower
from registry.own import OwnView
from registry.view import (
    AccessEntry,
    DecisionView,
    MemberEntry,
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
    """The local copy with when it was last confirmed and what alarmed it; it follows nothing.

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


@contextmanager
def decision_view(home: MemberHome) -> Iterator[DecisionView]:
    """What decides for this member's gateway."""
    with local_directory(home) as directory:
        own = own_store(home)
        try:
            yield _AsEnforced(directory, OwnView(own, directory), home.facts.member)
        finally:
            own.close()


def trust_of(directory: Directory) -> Trust:
    """Which key belongs to which log, for an offline verification; earlier incarnations included."""
    origins = {}
    for entry in (node for member in directory.members() for node in directory.nodes_of(member.id)):
        until = None if entry.until_at is None else encode_time(entry.until_at)
        origins[entry.origin] = OriginTrust(key=str(entry.log_key), from_=encode_time(entry.valid_from_at), until=until)
    return Trust(genesis=directory.genesis, instance=directory.instance, origins=origins)
