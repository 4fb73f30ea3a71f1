"""What the registry keeps beside its log: contracts by digest, and requests to become a member.

One SQLite file, one writer. The log is elsewhere and is the only truth; losing this file loses unpublished contracts
and undecided requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import msgspec

from registry.crowding import Pending, to_drop
from registry.database import open_store, transaction
from registry.errors import ContractMismatch, NotFound, QueueFull, RequestConflict, TooLarge
from registry.requests import MemberRequest

VERSION = 1
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS contract (sha256 TEXT PRIMARY KEY, data BLOB NOT NULL)",
    """CREATE TABLE IF NOT EXISTS request
       (id TEXT PRIMARY KEY, member TEXT NOT NULL, state TEXT NOT NULL, received TEXT NOT NULL, entry BLOB NOT NULL,
        jws BLOB NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS decision (id TEXT PRIMARY KEY, jws BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS certificate (id TEXT PRIMARY KEY, pem BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS asker (id TEXT PRIMARY KEY, network TEXT NOT NULL)",
)
_LONGEST_PENDING = timedelta(days=30)
_KEPT_STRANGERS = 64
"""So many contracts that no service names stay when room is needed: the newest may be about to be published."""
_request = msgspec.json.Decoder(MemberRequest)


class RegistryStore:
    """Contracts and requests."""

    def __init__(
        self,
        path: Path,
        genesis: str,
        *,
        max_contract_bytes: int = 1_048_576,
        max_contracts_bytes: int = 1 << 30,
        max_requests: int = 1_000,
    ) -> None:
        self._connection = open_store(path, kind="registry", version=VERSION, genesis=genesis, schema=_SCHEMA)
        self._max_contract_bytes = max_contract_bytes
        self._max_contracts_bytes = max_contracts_bytes
        self._max_requests = max_requests

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def put_contract(self, sha256: str, data: bytes, named: Collection[str] = ()) -> None:
        """Keep a contract; when there is no room, older ones that no service names make it.

        Args:
            sha256: Its digest, 64 lower-case hex digits.
            data: Its bytes.
            named: Digests that services name.

        Raises:
            TooLarge: Over the size limit.
            ContractMismatch: The bytes have another digest.
            QueueFull: The contracts that are kept already leave no room.
        """
        if len(data) > self._max_contract_bytes:
            limit = self._max_contract_bytes
            raise TooLarge(f"the contract has {len(data)} bytes; {limit} are allowed", limit=limit)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ContractMismatch("the contract's bytes have another digest than its address")
        if self.contract(sha256) is not None:
            return
        if self._contract_bytes() + len(data) > self._max_contracts_bytes:
            self._drop_strangers(named)
        kept_bytes = self._contract_bytes()
        if kept_bytes + len(data) > self._max_contracts_bytes:
            raise QueueFull(
                f"contracts of {kept_bytes} bytes are kept already; {self._max_contracts_bytes} are allowed"
            )
        with transaction(self._connection):
            self._connection.execute("INSERT OR IGNORE INTO contract VALUES (?, ?)", (sha256, data))

    def _contract_bytes(self) -> int:
        [kept_bytes] = self._connection.execute("SELECT COALESCE(SUM(LENGTH(data)), 0) FROM contract").fetchone()
        return int(kept_bytes)

    def _drop_strangers(self, named: Collection[str]) -> None:
        rows = self._connection.execute("SELECT sha256 FROM contract ORDER BY rowid").fetchall()
        strangers = [row for row in rows if row[0] not in named]
        with transaction(self._connection):
            self._connection.executemany("DELETE FROM contract WHERE sha256 = ?", strangers[:-_KEPT_STRANGERS])

    def contract(self, sha256: str) -> bytes | None:
        """A contract, if it is here."""
        row = self._connection.execute("SELECT data FROM contract WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else bytes(row[0])

    def add_request(self, request: MemberRequest, jws: bytes, network: str = "") -> MemberRequest:
        """Keep a request; the same one again is the same one. Where there is no room, others make it (`crowding`).

        Args:
            request: Checked before.
            jws: Its signed bytes.
            network: Where it came from; forgotten when it is decided.

        Raises:
            RequestConflict: The same keys ask for the same name already.
            QueueFull: Too many are pending that the operator began to approve.
        """
        with transaction(self._connection):
            oldest = (request.received_at - _LONGEST_PENDING).isoformat()
            self._connection.execute("DELETE FROM request WHERE state = 'pending' AND received < ?", (oldest,))
        known = self._connection.execute("SELECT entry FROM request WHERE id = ?", (request.id,)).fetchone()
        if known is not None:
            return _request.decode(known[0])
        rows = self._connection.execute(
            "SELECT entry FROM request WHERE member = ? AND state = 'pending'", (request.member,)
        )
        # Requests by other keys are kept beside each other: nobody may take a name away by asking first.
        if any(_request.decode(row[0]).keys == request.keys for row in rows):
            raise RequestConflict(f"another request for {request.member} is pending; the operator decides it first")
        dropped = to_drop(self._pending(), Pending(request.id, request.member, network), self._max_requests)
        if dropped is None:
            raise QueueFull(f"{self._max_requests} requests are pending; try again when the operator has decided some")
        with transaction(self._connection):
            self._connection.executemany("DELETE FROM request WHERE id = ?", [(one,) for one in dropped])
            self._connection.execute("INSERT OR REPLACE INTO asker VALUES (?, ?)", (request.id, network))
            self._connection.execute(
                "DELETE FROM asker WHERE id NOT IN (SELECT id FROM request WHERE state = 'pending') AND id <> ?",
                (request.id,),
            )
        self._write(request, jws)
        return request

    def _pending(self) -> list[Pending]:
        rows = self._connection.execute(
            "SELECT request.id, member, COALESCE(network, ''), certificate.id IS NOT NULL FROM request"
            " LEFT JOIN asker ON asker.id = request.id LEFT JOIN certificate ON certificate.id = request.id"
            " WHERE state = 'pending' ORDER BY received, request.rowid"
        )
        return [Pending(id_, member, network, bool(held)) for id_, member, network, held in rows]

    def decide(self, request: MemberRequest, decision: bytes) -> None:
        """Keep the outcome of a pending request, with the operator's signed word.

        Raises:
            NotFound: There is no such request.
        """
        self._write(request, self.request_bytes(request.id))
        with transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO decision VALUES (?, ?)", (request.id, decision))

    def decision(self, id: str) -> bytes:  # noqa: A002
        """The operator's signed decision of a request; empty while there is none."""
        row = self._connection.execute("SELECT jws FROM decision WHERE id = ?", (id,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def put_certificate(self, id: str, pem: bytes) -> None:  # noqa: A002
        """Keep a certificate for the applicant; checked before (`requests.check_certificate`)."""
        with transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO certificate VALUES (?, ?)", (id, pem))

    def certificate(self, id: str) -> bytes:  # noqa: A002
        """The certificate that was left for a request; empty where there is none."""
        row = self._connection.execute("SELECT pem FROM certificate WHERE id = ?", (id,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def _write(self, request: MemberRequest, jws: bytes) -> None:
        received = request.received_at.isoformat()
        row = (request.id, request.member, request.state, received, msgspec.json.encode(request), jws)
        with transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO request VALUES (?, ?, ?, ?, ?, ?)", row)

    def request(self, id: str) -> MemberRequest:  # noqa: A002  (the interface's word)
        """One request.

        Raises:
            NotFound: There is no such request.
        """
        row = self._connection.execute("SELECT entry FROM request WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFound("there is no such request")
        return _request.decode(row[0])

    def request_bytes(self, id: str) -> bytes:  # noqa: A002
        """The signed request itself: what an operator may add its signature to.

        Raises:
            NotFound: There is no such request.
        """
        row = self._connection.execute("SELECT jws FROM request WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFound("there is no such request")
        return bytes(row[0])

    def requests(self) -> list[MemberRequest]:
        """Pending ones first, then decided ones, newest first; at most a thousand."""
        rows = self._connection.execute(
            "SELECT entry FROM request ORDER BY state <> 'pending', received DESC LIMIT 1000"
        )
        return [_request.decode(row[0]) for row in rows]
