"""The sealing keys of a directory: which one others seal to now, and every one that ever was.

Pure. Who may bring a key into the directory is `authorship`'s.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable
from datetime import datetime

from registry.authorship import owner_of
from registry.view import RevocationKind, SealingKeyEntry


class SealingKeys:
    """Keys by id, and those that count by (owner, use).

    Args:
        is_revoked: whether trust in a member, node or key was withdrawn.
    """

    def __init__(self, is_revoked: Callable[[RevocationKind, str], bool]) -> None:
        self._is_revoked = is_revoked
        self._by_id: dict[str, SealingKeyEntry] = {}
        self._counting: dict[tuple[str, str], list[SealingKeyEntry]] = {}  # oldest first

    def newest(self, owner: str, use: str, at: datetime) -> SealingKeyEntry | None:
        """The newest key of an owner that may be sealed to for that use at that instant."""
        for entry in reversed(self._counting.get((owner, use), ())):
            if entry.usable(at):
                return entry
        return None

    def by_id(self, keyid: str) -> SealingKeyEntry | None:
        """The key with that id, valid or not."""
        return self._by_id.get(keyid)

    def put(self, entry: SealingKeyEntry, uses: Iterable[str]) -> None:
        """A new key, or a known one with another validity."""
        known = entry.keyid in self._by_id
        self._by_id[entry.keyid] = entry
        for use in uses:
            ranked = self._counting.setdefault((entry.owner, use), [])
            if known:
                ranked[:] = [other for other in ranked if other.keyid != entry.keyid]
            if not self._revoked(entry):
                # Newest last; equal starts are ordered by key id so that all gateways choose the same one.
                insort(ranked, entry, key=_rank)

    def drop_revoked(self, member: str) -> None:
        """Keys of a member or its nodes that trust was withdrawn from do not count any more."""
        for key, entries in self._counting.items():
            if owner_of(key[0]) == member:
                self._counting[key] = [entry for entry in entries if not self._revoked(entry)]

    def _revoked(self, entry: SealingKeyEntry) -> bool:
        return (
            self._is_revoked("key", entry.keyid)
            or self._is_revoked("node", entry.owner)
            or self._is_revoked("member", owner_of(entry.owner))
        )


def _rank(entry: SealingKeyEntry) -> tuple[datetime, str]:
    return entry.valid_from_at, entry.keyid
