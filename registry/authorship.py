"""Who must have signed which document: one table and the check against it.

Pure. Signers come in as key ids whose signatures and certificate chains were verified before (`envelope`); this module
says only whether they are the right ones. Sequence, uniqueness and content are `fold`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from registry.documents import Anchor, AnyDocument, Member, Revocation
from registry.errors import AuthorshipRefused
from registry.publickeys import key_id
from registry.view import Announced, MemberEntry, RevocationKind

OPERATOR = "operator"

Rule = Literal["anchor", "operator", "operator-and-previous-key", "owner", "owner-or-operator"]

AUTHORS: Mapping[str, Rule] = {
    "anchor": "anchor",  # by the threshold of the anchor before it and by its own
    "member": "operator-and-previous-key",  # the second only where pinned keys change
    "node": "owner",
    "sealing": "owner",
    "subsystem": "owner",
    "group": "owner-or-operator",  # decided by the subject: `<member>#…` or `<INSTANCE>#…`
    "service": "owner",
    "access": "owner",
    "catalogue": "operator",
    "revocation": "owner-or-operator",
}
"""Document type to who signs it (protocol.md "Directory"). A type that is missing here has no author."""


Signers = Mapping[str, str | None]
"""Key id of each verified signature, with the member that its certificate names (None: it names none)."""


class AuthorshipState(Protocol):
    """What the check asks of the directory so far."""

    @property
    def anchor(self) -> Anchor | None:
        """The newest anchor; None before the first."""
        ...

    def member(self, id: str) -> MemberEntry | None:  # noqa: A002
        """A member as registered so far."""
        ...

    def is_revoked(self, kind: RevocationKind, id: str) -> bool:  # noqa: A002
        """Whether trust in a member, node or key was withdrawn so far."""
        ...

    def announced(self, member: str) -> Announced | None:
        """A change of its keys that is announced and not confirmed."""
        ...

    def key_owner(self, keyid: str) -> str | None:
        """Who first brought a key into the directory: a member id, `operator` or `directory`."""
        ...


def check_authorship(document: AnyDocument, signers: Signers, state: AuthorshipState) -> str:
    """Whose word the document is.

    Args:
        document: A decoded document.
        signers: Key ids of all verified signatures, see `Signers`.
        state: The directory before this document.

    Returns:
        `operator`, or the id of the member.

    Raises:
        AuthorshipRefused: A required signature is missing, or its author may not speak now.
    """
    match AUTHORS.get(document.type):
        case "anchor":
            _require_anchor(document, signers, state)
            return OPERATOR
        case "operator":
            require_operator(signers, state)
            return OPERATOR
        case "operator-and-previous-key":
            require_operator(signers, state)
            _require_previous_key(document, signers, state)
            return OPERATOR
        case "owner":
            return _require_member(owner_of(document.subject), document, signers, state)
        case "owner-or-operator":
            return _require_owner_or_operator(document, signers, state)
        case _:
            raise AuthorshipRefused(f"nobody may sign a document of type {document.type}", code="type-without-author")


def owner_of(subject: str) -> str:
    """The member that a subject belongs to: its first three parts; shorter subjects have no member."""
    parts = subject.partition("#")[0].split("/")
    return "/".join(parts[:3]) if len(parts) >= 3 else ""


def _require_anchor(document: AnyDocument, signers: Signers, state: AuthorshipState) -> None:
    assert isinstance(document, Anchor)
    if state.anchor is not None:
        require_operator(signers, state)
    # The new operators sign too: an anchor that nobody could follow up would end the directory.
    _require_threshold(document, signers, state)


def require_operator(signers: Signers, state: AuthorshipState) -> None:
    """The operator's word: signatures by the threshold of the newest anchor.

    Raises:
        AuthorshipRefused: There is no anchor, or too few of its keys signed.
    """
    if state.anchor is None:
        raise AuthorshipRefused("there is no anchor yet, so nobody is the operator", code="no-anchor")
    _require_threshold(state.anchor, signers, state)


def _require_threshold(anchor: Anchor, signers: Signers, state: AuthorshipState) -> None:
    counted = [
        operator.keyid
        for operator in anchor.operators
        if operator.keyid in signers and not state.is_revoked("key", operator.keyid)
    ]
    if len(counted) < anchor.threshold:
        raise AuthorshipRefused(
            f"{len(counted)} of {anchor.threshold} operator signatures that are needed",
            code="operator-signature-missing",
        )


def _require_previous_key(document: AnyDocument, signers: Signers, state: AuthorshipState) -> None:
    assert isinstance(document, Member)
    before = state.member(document.subject)
    if before is None:
        return
    signing, recovery = pinned_keys(document)
    if signing == before.signing_keys and recovery == before.recovery_keys:
        return
    pinned = before.signing_keys | before.recovery_keys
    if _signed_by(pinned, document.subject, signers, state) or document.change == "announced":
        return
    if document.change == "confirmed":
        _require_announced(document, signing, recovery, state)
    else:
        raise AuthorshipRefused(
            f"the keys of {document.subject} change without its previous or recovery key", code="previous-key-missing"
        )


def _require_announced(
    document: Member, signing: frozenset[str], recovery: frozenset[str], state: AuthorshipState
) -> None:
    """The threshold way: it was announced, has been public for the anchor's delay, and nobody objected."""
    announced = state.announced(document.subject)
    if announced is None or (announced.signing_keys, announced.recovery_keys) != (signing, recovery):
        raise AuthorshipRefused(
            f"these keys of {document.subject} were not announced, or the member objected",
            code="recovery-not-announced",
        )
    if document.issued_at < announced.due_at:
        raise AuthorshipRefused(
            f"the announced keys of {document.subject} can be confirmed from {announced.due_at:%Y-%m-%d %H:%M} UTC on",
            code="recovery-not-due",
        )


def pinned_keys(document: Member) -> tuple[frozenset[str], frozenset[str]]:
    """Key ids that a member document pins: for signing, for recovery."""
    ids = {"signing": set[str](), "recovery": set[str]()}
    for key in document.keys:
        ids[key.kind].add(key_id(key.public))
    return frozenset(ids["signing"]), frozenset(ids["recovery"])


def _require_member(id_: str, document: AnyDocument, signers: Signers, state: AuthorshipState) -> str:
    member = state.member(id_)
    if member is None:
        raise AuthorshipRefused(f"the owner of {document.subject} is not a member", code="member-unknown")
    keys = member.signing_keys
    if isinstance(document, Revocation):
        # Deny-only: a suspended member and one that has only its recovery key left can still withdraw trust.
        keys = keys | member.recovery_keys
        if document.kind == "key" and document.target in member.recovery_keys:
            # Otherwise a stolen signing key could lock its owner out for good.
            keys = member.recovery_keys
    elif member.status != "active" or state.is_revoked("member", id_):
        raise AuthorshipRefused(f"{id_} is not active, so it cannot publish", code="member-not-active")
    if member.keys_from_at is not None and document.issued_at < member.keys_from_at:
        raise AuthorshipRefused(f"issued before the present keys of {id_} were its keys", code="issued-before-keys")
    if not _signed_by(keys, id_, signers, state):
        raise AuthorshipRefused(f"no pinned key of {id_} signed it", code="member-signature-missing")
    return id_


def _signed_by(keys: frozenset[str], member: str, signers: Signers, state: AuthorshipState) -> bool:
    # The pinned key decides. A certificate that names somebody else contradicts it, one that names nobody does not.
    return any(
        keyid in signers and signers[keyid] in {None, member} and not state.is_revoked("key", keyid) for keyid in keys
    )


def _require_owner_or_operator(document: AnyDocument, signers: Signers, state: AuthorshipState) -> str:
    owner = _owner_of_target(document, state)
    if not isinstance(document, Revocation):
        if owner:
            return _require_member(owner, document, signers, state)
    elif state.member(owner) is not None:
        try:
            return _require_member(owner, document, signers, state)
        except AuthorshipRefused:
            pass  # not the owner's word; it may still be the operator's
    require_operator(signers, state)
    return OPERATOR


def _owner_of_target(document: AnyDocument, state: AuthorshipState) -> str:
    if not isinstance(document, Revocation):
        return owner_of(document.subject)
    if document.kind == "key":
        return state.key_owner(document.target) or ""
    return owner_of(document.target)
