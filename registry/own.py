"""A provider's own word: the documents it signed itself, and the view that its gateway enforces.

The directory is the operator's log; what a provider serves and to whom is decided by this store alone, so an operator
that slips in or holds back a document changes nothing at the provider. `compare` finds such differences.

Services, access rights and its own revocations are kept, with every version. Signs nothing.

A document is written down as an intent before it is submitted, because the answer may be lost: until it is settled it
is submitted again, byte for byte, before anything else. What the registry says it refused is kept, too: when a later
document turns out to follow it, it was accepted after all, and is enforced.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple, Protocol

from registry.authorship import owner_of
from registry.database import open_store, transaction
from registry.documents import Access, AnyDocument, Revocation, Service, decode, decode_checked
from registry.envelope import read_envelope
from registry.errors import DocumentRefused
from registry.state import Head, State
from registry.view import AccessEntry, MemberEntry, NodeEntry, RevocationKind, ServiceEntry, SubsystemEntry

VERSION = 1
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS own
       (type TEXT NOT NULL, subject TEXT NOT NULL, seq INTEGER NOT NULL, digest TEXT NOT NULL, jws BLOB NOT NULL,
        payload BLOB NOT NULL, PRIMARY KEY (type, subject, seq)) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS intent (digest TEXT PRIMARY KEY, jws BLOB NOT NULL, settled INTEGER NOT NULL)",
)


class Alarm(NamedTuple):
    """A difference between a provider's own store and the directory.

    Attributes:
        code: `own-document-missing`, or `stranger-in-own-name`.
        type: Document type.
        subject: Of which chain.
        message: What it means and what to do.
    """

    code: str
    type: str
    subject: str
    message: str


class OwnStore:
    """Documents that this provider signed. One process writes it."""

    def __init__(self, path: Path, *, genesis: str, member: str) -> None:
        self.genesis = genesis
        self.member = member
        self.state = State(genesis)
        self._connection = open_store(path, kind="own-documents", version=VERSION, genesis=genesis, schema=_SCHEMA)
        self._read_version = self._data_version()  # before the rows: what is written meanwhile counts as changed
        rows = self._connection.execute("SELECT digest, payload FROM own ORDER BY type DESC, subject, seq")
        for digest, payload in rows:
            self._take(digest, decode_checked(payload))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def changed(self) -> bool:
        """Whether another process has written since this store was read (SQLite `PRAGMA data_version`)."""
        return self._data_version() != self._read_version

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def intend(self, jws: bytes) -> None:
        """Write down what is about to be submitted, if `put` will keep it: afterwards it could not be taken back.

        Raises:
            EnvelopeInvalid, DocumentMalformed, DocumentRefused: As `put`.
            StoreUnusable: It is not stored: do not submit it.
        """
        self.check(jws)
        with transaction(self._connection):
            self._connection.execute(
                "INSERT OR IGNORE INTO intent VALUES (?, ?, 0)", (hashlib.sha256(jws).hexdigest(), jws)
            )

    def intents(self) -> list[bytes]:
        """What was submitted without hearing how it ended, oldest first."""
        return [row[0] for row in self._connection.execute("SELECT jws FROM intent WHERE NOT settled ORDER BY rowid")]

    def intended(self, digest: str) -> bool:
        """Whether a document that is not in force was once submitted from here."""
        return self._connection.execute("SELECT 1 FROM intent WHERE digest = ?", (digest,)).fetchone() is not None

    def settle(self, jws: bytes) -> None:
        """The registry refused an intended document: it is not submitted again.

        Raises:
            StoreUnusable: It is not stored; it will be submitted again.
        """
        with transaction(self._connection):
            self._connection.execute(
                "UPDATE intent SET settled = 1 WHERE digest = ?", (hashlib.sha256(jws).hexdigest(),)
            )

    def check(self, jws: bytes) -> None:
        """Look whether `put` would keep this document.

        Raises:
            EnvelopeInvalid, DocumentMalformed, DocumentRefused: As `put`.
        """
        document, _ = self._read(jws)
        head = self.state.head(document.type, document.subject)
        before = self._missing(document, head)
        if before is None:
            self._check_next(document, head)
        else:
            self.check(before)

    def put(self, jws: bytes) -> AnyDocument:
        """Keep a document that this provider just signed; from now on it is enforced.

        Args:
            jws: The signed document. Its signature is not verified: only the owner of the key and of this file
                calls this.

        Raises:
            EnvelopeInvalid: Not an envelope of this instance.
            DocumentMalformed: Not an exact document.
            DocumentRefused: Not a service, access right or revocation of this member, or not the next of its chain.
            StoreUnusable: It is not stored and not enforced.
        """
        document, payload = self._read(jws)
        digest = hashlib.sha256(jws).hexdigest()
        head = self.state.head(document.type, document.subject)
        if head is not None and head.digest == digest:
            return document
        before = self._missing(document, head)
        if before is not None:
            self.put(before)
            head = self.state.head(document.type, document.subject)
        self._check_next(document, head)
        row = (document.type, document.subject, document.seq, digest, jws, payload)
        with transaction(self._connection):
            self._connection.execute("INSERT INTO own VALUES (?, ?, ?, ?, ?, ?)", row)
            self._connection.execute("DELETE FROM intent WHERE digest = ?", (digest,))
        self._take(digest, document)
        return document

    def _missing(self, document: AnyDocument, head: Head | None) -> bytes | None:
        """An own document between the head and this one, which the registry said it refused."""
        if head is None or document.prev == head.digest:
            return None
        row = self._connection.execute("SELECT jws FROM intent WHERE digest = ?", (document.prev,)).fetchone()
        return None if row is None else row[0]

    def _read(self, jws: bytes) -> tuple[AnyDocument, bytes]:
        envelope = read_envelope(jws, genesis=self.genesis)
        document = decode(envelope.payload)
        if not self._is_own(document):
            raise DocumentRefused("not-own", f"{document.subject} is not a service or access right of {self.member}")
        return document, envelope.payload

    def _is_own(self, document: AnyDocument) -> bool:
        if isinstance(document, Revocation):
            # whose a key is only the directory knows; it takes no document that withdraws somebody else's
            return document.kind == "key" or owner_of(document.target) == self.member
        return isinstance(document, Service | Access) and owner_of(document.subject) == self.member

    def _check_next(self, document: AnyDocument, head: Head | None) -> None:
        expected = 0 if head is None else head.seq + 1
        # A store that begins in the middle is fine: an older store may have been lost.
        if head is None or (isinstance(document, Revocation) and document.seq > head.seq):
            return  # between two revocations of one chain the operator may have written one
        if document.seq != expected or document.prev != head.digest:
            raise DocumentRefused(
                "sequence-gap",
                f"{document.subject} is at seq {head.seq} here, so {expected} is next, but the directory is further: "
                "another home of this member made a change; make this one there too, and copy its data/own.db here",
            )

    def _take(self, digest: str, document: AnyDocument) -> None:
        self.state.heads[document.type, document.subject] = Head(document.seq, digest, document.issued, -1)
        self.state.take(document, self.member)

    def newest(self) -> list[bytes]:
        """The newest signed document of each chain, services first: to be published again if the directory lost it."""
        rows = self._connection.execute(
            "SELECT jws, MAX(seq) FROM own GROUP BY type, subject ORDER BY type DESC, subject"
        )
        return [row[0] for row in rows]


class OwnWord(Protocol):
    """A provider's own documents, wherever they come from: its store, or `followed`."""

    @property
    def state(self) -> State:
        """What is in force."""
        ...

    @property
    def member(self) -> str:
        """Whose."""
        ...


class OwnView:
    """What a provider's gateway enforces: rights and services from its own store, everyone else from the directory."""

    __slots__ = ("_directory", "_own")

    def __init__(self, own: OwnWord, directory: State) -> None:
        self._own = own.state
        self._directory = directory

    def member(self, id: str) -> MemberEntry | None:  # noqa: A002  (the protocol's word)
        """From the directory."""
        return self._directory.member(id)

    def subsystem(self, id: str) -> SubsystemEntry | None:  # noqa: A002
        """From the directory."""
        return self._directory.subsystem(id)

    def is_revoked(self, kind: RevocationKind, id: str) -> bool:  # noqa: A002
        """From the directory, or withdrawn by this member itself: that counts at once, whoever holds it back."""
        return self._directory.is_revoked(kind, id) or self._own.is_revoked(kind, id)

    def nodes_of(self, member: str) -> tuple[NodeEntry, ...]:
        """From the directory."""
        return self._directory.nodes_of(member)

    def service(self, id: str) -> ServiceEntry | None:  # noqa: A002
        """From the own store."""
        return self._own.service(id)

    def rights(self, client: str, service: str) -> tuple[AccessEntry, ...]:
        """From the own store; who is in a group that a right names is the directory's word."""
        return self._own.rights_through(client, self._directory.groups_of(client), service)


def compare(own: OwnWord, directory: State) -> list[Alarm]:
    """Differences between what a provider signed and what the directory says in its name.

    Args:
        own: The provider's store.
        directory: The directory, folded and verified.

    Returns:
        Alarms in a stable order; empty when all is well. A document that was just published stays missing until the
        follower has seen it.
    """
    alarms = [alarm for key, head in own.state.heads.items() if (alarm := _compare_head(key, head, directory))]
    for type_, subject in directory.heads:
        foreign = type_ not in {"service", "access"} or owner_of(subject) != own.member
        if not foreign and (type_, subject) not in own.state.heads:
            alarms.append(_stranger(type_, subject))
    return sorted(alarms)


def _compare_head(key: tuple[str, str], head: Head, directory: State) -> Alarm | None:
    type_, subject = key
    published = directory.heads.get(key)
    if published is None or published.seq < head.seq:
        message = f"seq {head.seq} is not in the directory: callers do not see it; publish it again"
        return Alarm("own-document-missing", type_, subject, message)
    if type_ == "revocation":
        return None  # the operator may have withdrawn the same
    return None if published.digest == head.digest else _stranger(type_, subject)


def _stranger(type_: str, subject: str) -> Alarm:
    message = (
        "the directory has a document in this member's name that this store does not know: it is not enforced here; "
        "if no other system of this member signed it, the member's key is stolen: revoke it"
    )
    return Alarm("stranger-in-own-name", type_, subject, message)
