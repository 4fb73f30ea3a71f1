"""The fold: a log of signed documents becomes members, keys, services and access rights.

Every gateway folds for itself and trusts nobody's summary: a document that fails a check is skipped and reported,
whoever appended it, and never raises. Signatures are verified by a function that comes in as an argument; a local
copy that was verified before is folded with `restore`, which checks nothing again.

Pure but for that function. Reads no log and computes no root (`settle` is told it); decides no access (`decision`).
Checks that need the document's neighbours are in `rules`, the dictionaries in `state`.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from evidence.errors import EvidenceError
from evidence.leaf import CONTROL, DIRECTORY, KIND_NAMES, unwrap
from registry import rules
from registry.authorship import Signers, check_authorship
from registry.documents import Anchor, AnyDocument, Revocation, decode, decode_checked
from registry.envelope import Envelope, read_envelope, verify_envelope
from registry.errors import RegistryError
from registry.state import Head, State
from registry.view import Announced

_SKIPPED_KEPT = 1_000
_ROOTS_KEPT = 1_000

Verify = Callable[[Envelope, tuple[str, ...], datetime], Signers]
"""Verifies all signatures and chains of an envelope against PEM authorities at an instant; gives the signers."""


REVOCATION_PREFIX = DIRECTORY + b'{"payload":"' + base64.urlsafe_b64encode(b'{"type":"revocatio')
"""With what every revocation's leaf begins: envelope and document have one exact encoding each, the type first."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf that counts.

    Attributes:
        index: Its index in the directory's log.
        digest: SHA-256 hex of the JWS; empty for a control leaf, which says nothing to the fold.
        author: `operator` or a member id; empty for a control leaf.
        payload: The document's bytes; empty for a control leaf.
        document: None for a control leaf.
    """

    index: int
    digest: str = ""
    author: str = ""
    payload: bytes = b""
    document: AnyDocument | None = None


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A leaf that does not count, and why."""

    index: int
    code: str
    message: str


Ahead = Callable[[int], Iterable[bytes]]
"""The leaves from an index on, as far as they are known and verified to be in the log."""


class Directory(State):
    """A directory folded up to `size`, with the look-ups of `view.DirectoryView`.

    What it says depends on the log's prefix and on the verified times that `reach` was told between leaves, and on
    nothing else.

    Not safe for use from several threads. Look-ups between `apply` calls see a prefix of the log; `view` names the
    last settled one.
    """

    def __init__(self, genesis: str, *, verify: Verify = verify_envelope, ahead: Ahead = lambda _: ()) -> None:
        super().__init__(genesis)
        self._verify = verify
        self._ahead = ahead
        self.skipped: deque[Skipped] = deque(maxlen=_SKIPPED_KEPT)
        self.skipped_count = 0
        self.folded_size = 0
        self._roots: dict[int, bytes] = {}

    def apply(self, index: int, leaf: bytes) -> Applied | Skipped:
        """Fold the next leaf; whatever it is, the directory moves on behind it.

        Args:
            index: Must be `folded_size`.
            leaf: The log's leaf, prefix included.

        Raises:
            ValueError: The caller left a gap, which is a fault of the program.
        """
        if index != self.folded_size:
            raise ValueError(f"leaf {self.folded_size} is next, not {index}")
        outcome = self.check(leaf)
        self.folded_size += 1
        if isinstance(outcome, Skipped):
            self.skip(outcome)
        elif outcome.document is not None:
            self._commit(index, outcome.digest, outcome.author, outcome.document)
        return outcome

    def check(self, leaf: bytes) -> Applied | Skipped:
        """What `apply` would do with a leaf now, without doing it."""
        index = self.folded_size
        try:
            kind, data = unwrap(leaf)
            if kind == CONTROL:
                return Applied(index=index)
            if kind != DIRECTORY:
                return Skipped(index=index, code="leaf-kind", message=f"an {KIND_NAMES[kind]} leaf in a directory")
            return self._check_document(index, data)
        except (RegistryError, EvidenceError) as error:
            return Skipped(index=index, code=error.code, message=str(error))

    def _check_document(self, index: int, jws: bytes) -> Applied:
        first = self.anchor is None
        envelope = read_envelope(jws, genesis=None if first else self.genesis)
        document = decode(envelope.payload)
        rules.check_type(document, envelope.type)
        rules.check_instance(document, self)
        if first:
            rules.check_genesis(document, envelope.payload, self.genesis)
        rules.check_date(document, self)
        rules.check_sequence(document, self)
        rules.check_subject(document, self)
        authorities = self._authorities(document)
        signers = self._verify(envelope, authorities, document.issued_at)
        author = check_authorship(document, signers, self)
        rules.check_content(document, self)
        return Applied(index=index, digest=envelope.digest, author=author, payload=envelope.payload, document=document)

    def objected(self, announced: Announced) -> bool:
        """Whether an objection that was in time stands further on in the log.

        A reader that comes late gets a confirmation and the objection to it at once, and long after both.
        """
        return any(self._is_objection(leaf, announced) for leaf in self._ahead(self.folded_size))

    def _is_objection(self, leaf: bytes, announced: Announced) -> bool:
        if not leaf.startswith(REVOCATION_PREFIX):  # a reader that comes late looks at the whole log
            return False
        try:
            envelope = read_envelope(leaf[len(DIRECTORY) :], genesis=self.genesis)
            document = decode(envelope.payload)
            if not isinstance(document, Revocation) or document.kind != "key":
                return False
            if document.target not in announced.signing_keys | announced.recovery_keys:
                return False
            rules.check_instance(document, self)
            check_authorship(document, self._verify(envelope, self._authorities(document), document.issued_at), self)
        except (RegistryError, EvidenceError):
            return False
        return document.issued_at < announced.due_at

    def _authorities(self, document: AnyDocument) -> tuple[str, ...]:
        if self.anchor is not None:
            return self.anchor.certification_authorities
        # The first anchor vouches for itself: its hash is the genesis, which was learnt out of band.
        return document.certification_authorities if isinstance(document, Anchor) else ()

    def restore(self, index: int, digest: str, author: str, payload: bytes) -> None:
        """Fold a document that `apply` accepted before, from a copy that nobody else can write.

        Args:
            index: At least `folded_size`; leaves in between were control leaves or skipped.
            digest: As in `Applied`.
            author: As in `Applied`.
            payload: As in `Applied`.
        """
        self._commit(index, digest, author, decode_checked(payload))
        self.folded_size = index + 1

    def skip(self, outcome: Skipped) -> None:
        """Note a skipped leaf for `skipped`; the newest thousand are kept."""
        self.skipped.append(outcome)
        self.skipped_count += 1

    def settle(self, size: int, root: bytes) -> None:
        """Name the tree that the directory now stands for.

        Args:
            size: Number of leaves; becomes `folded_size` too.
            root: Its root, verified by the caller.
        """
        self.folded_size = self.size = size
        self.root = root
        self.view = f"{size} {root.hex()}"
        self._roots[size] = root
        if len(self._roots) > _ROOTS_KEPT:
            del self._roots[next(iter(self._roots))]

    def root_at(self, size: int) -> bytes | None:
        """The root of a tree that the directory stood for lately, in this process; None when it is not remembered."""
        return self._roots.get(size)

    def _commit(self, index: int, digest: str, author: str, document: AnyDocument) -> None:
        self.heads[document.type, document.subject] = Head(document.seq, digest, document.issued, index)
        self.take(document, author)
        if isinstance(document, Anchor):
            self.anchor_indices.append(index)


def digest_of(jws: bytes) -> str:
    """What a successor names as `prev`: SHA-256 hex of the JWS bytes."""
    return hashlib.sha256(jws).hexdigest()
