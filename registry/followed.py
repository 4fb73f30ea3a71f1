"""A member's own word at a node whose home cannot give it: services and rights taken from the directory.

The member's home alone has the member key and the store of what it signed (`own`). A further node takes the same
documents from the verified directory, and of those only what the member signed with a key that its home named to this
node: an operator that re-keys the member, or whose registry appends what it likes, brings nothing into force here.
What such a registry holds back is missing until the directory is too old to work with.

Verifies no signature: the fold did, and refuses a document of which one fails. Stores nothing; the local copy does.
"""

from __future__ import annotations

from collections.abc import Callable

from evidence.leaf import DIRECTORY, unwrap
from evidence.x509 import describe
from registry.authorship import owner_of
from registry.documents import Access, Service, decode
from registry.envelope import Envelope, read_envelope
from registry.errors import RegistryError
from registry.publickeys import key_id, spki_public
from registry.state import State

_LEAVES_AT_ONCE = 1_000


class FollowedWord:
    """Services and rights of one member.

    Args:
        directory: The folded directory; the same object for the life of this one.
        member: Whose word.
        signers: Key ids of the keys whose signature counts.
        leaf: A leaf of the directory's log by its index, from the verified local copy.

    Attributes:
        state: What is in force.
        member: Whose word.
    """

    def __init__(
        self, directory: State, member: str, signers: frozenset[str], leaf: Callable[[int], bytes | None]
    ) -> None:
        self.state = State(directory.genesis)
        self.member = member
        self._directory = directory
        self._signers = signers
        self._leaf = leaf
        self._next = 0

    def take_over(self, size: int) -> bool:
        """Takes what is new in the directory.

        Args:
            size: Leaves that the directory has folded.

        Returns:
            Whether anything was taken.
        """
        if size <= self._next:
            return False
        # Few new leaves are looked at one by one; after a long absence, or at the start, only the newest documents.
        few = size - self._next <= _LEAVES_AT_ONCE and self._next > 0
        indices = range(self._next, size) if few else self._own_heads()
        taken = [self._take(index) for index in indices]
        self._next = size
        return any(taken)

    def _own_heads(self) -> list[int]:
        return sorted(
            head.index
            for (type_, subject), head in self._directory.heads.items()
            if type_ in {"service", "access"} and owner_of(subject) == self.member and head.index >= self._next
        )

    def _take(self, index: int) -> bool:
        envelope = self._envelope(index)
        if envelope is None or envelope.type not in {"service", "access"}:
            return False
        document = decode(envelope.payload)
        if not isinstance(document, Service | Access) or owner_of(document.subject) != self.member:
            return False
        head = self._directory.heads.get((document.type, document.subject))
        if head is None or head.digest != envelope.digest or self._signers.isdisjoint(_signers_of(envelope)):
            return False  # not the newest, not accepted, or by a key that the member's home did not name
        self.state.heads[document.type, document.subject] = head
        self.state.take(document, self.member)
        return True

    def _envelope(self, index: int) -> Envelope | None:
        leaf = self._leaf(index)
        if leaf is None:
            return None
        kind, data = unwrap(leaf)
        if kind != DIRECTORY:
            return None
        try:
            return read_envelope(data, genesis=self._directory.genesis)
        except RegistryError:
            return None  # the fold skipped it, too; the first anchor names no genesis


def _signers_of(envelope: Envelope) -> set[str]:
    return {key_id(spki_public(describe(one.chain[0]).public_bytes)) for one in envelope.signatures}
