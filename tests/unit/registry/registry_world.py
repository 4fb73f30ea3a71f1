"""A small instance for tests: operator, members, keys, and the documents they sign."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from evidence.identifiers import MemberId
from evidence.issue import Authority, create_authority, issue_member
from evidence.leaf import DIRECTORY, wrap
from evidence.signer import FileSigner
from evidence.stamps import encode_time
from registry import documents as d
from registry.envelope import add_signature, genesis_of, sign_document
from registry.fold import Applied, Directory, Skipped
from registry.publickeys import key_id, spki_public

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
FAR = datetime(2036, 1, 1, tzinfo=UTC)
INSTANCE = "VN-TEST"
PROVIDER, CONSUMER = f"{INSTANCE}/GOV/G01", f"{INSTANCE}/GOV/H37"
SUBSYSTEM, CLIENT = f"{PROVIDER}/population", f"{CONSUMER}/onedoor"
SERVICE = f"{SUBSYSTEM}/citizens"
RIGHT = f"{SERVICE}#h37"
CONTRACT = b'{"openapi":"3.1.0"}'


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def time_at(minutes: float) -> str:
    return encode_time(START + timedelta(minutes=minutes))


@dataclass
class Party:
    """Somebody with a certified key."""

    id: str
    signer: FileSigner
    chain: list[bytes]

    @property
    def spki(self) -> str:
        return b64(self.signer.public_bytes)

    @property
    def keyid(self) -> str:
        return key_id(spki_public(self.signer.public_bytes))

    def pinned(self, kind: str = "signing") -> d.PinnedKey:
        return d.PinnedKey(spki=self.spki, kind=kind)


@dataclass
class World:
    """One instance; `leaves` is its directory's log, `directory` the fold of it."""

    instance: str = INSTANCE
    minute: float = 0.0
    leaves: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.authority: Authority = create_authority(
            "Test CA", FileSigner.generate("p256"), not_before_at=START - timedelta(days=1), not_after_at=FAR
        )
        self.operator = self.party(f"{self.instance}/OPERATOR/one")
        self.provider = self.party(f"{self.instance}/GOV/G01")
        self.consumer = self.party(f"{self.instance}/GOV/H37")
        self.log_signer = FileSigner.generate("ed25519")
        self.cosigner = FileSigner.generate("ed25519")
        self.anchor = self.make_anchor()
        self.genesis = genesis_of(self.anchor)
        self.directory = Directory(self.genesis)
        self.digests: dict[tuple[str, str], list[str]] = {}

    def party(self, id_: str, authority: Authority | None = None) -> Party:
        signer = FileSigner.generate("p256")
        certificate = issue_member(
            authority or self.authority,
            MemberId.parse(id_),
            signer.private_key.public_key(),
            not_before_at=START - timedelta(days=1),
            not_after_at=FAR,
        )
        return Party(id_, signer, [certificate])

    def make_anchor(self, **changes: object) -> d.Anchor:
        values: dict[str, object] = {
            "instance": self.instance,
            "subject": self.instance,
            "seq": 0,
            "issued": time_at(0),
            "threshold": 1,
            "operators": (d.Operator(keyid=self.operator.keyid, spki=self.operator.spki),),
            "certification_authorities": (self.authority.pem.decode(),),
            "directory": d.DirectoryKeys(
                log_key=b64(self.log_signer.public_bytes), cosigner_key=b64(self.cosigner.public_bytes)
            ),
        }
        return d.Anchor(**{**values, **changes})

    def common(self, kind: str, subject: str) -> dict[str, object]:
        self.minute += 1
        known = self.digests.get((kind, subject), [])
        common: dict[str, object] = {
            "instance": self.instance,
            "subject": subject,
            "seq": len(known),
            "issued": time_at(self.minute),
        }
        if known:
            common["prev"] = known[-1]
        return common

    def sign(self, document: d.AnyDocument, *parties: Party, genesis: str | None = "") -> bytes:
        jws = sign_document(document, parties[0].signer, parties[0].chain, self.genesis if genesis == "" else genesis)
        for party in parties[1:]:
            jws = add_signature(jws, party.signer, party.chain)
        return jws

    def append(self, jws: bytes) -> Applied | Skipped:
        leaf = wrap(DIRECTORY, jws)
        self.leaves.append(leaf)
        outcome = self.directory.apply(len(self.leaves) - 1, leaf)
        if isinstance(outcome, Applied) and outcome.document is not None:
            key = outcome.document.type, outcome.document.subject
            self.digests.setdefault(key, []).append(hashlib.sha256(jws).hexdigest())
        return outcome

    def put(self, document: d.AnyDocument, *parties: Party) -> Applied:
        outcome = self.append(self.sign(document, *parties))
        assert isinstance(outcome, Applied), outcome
        return outcome

    # Documents ------------------------------------------------------------------------------------------------

    def member(self, party: Party, **changes: object) -> d.Member:
        values: dict[str, object] = {
            **self.common("member", party.id),
            "status": "active",
            "names": {"vi": f"Cơ quan {party.id[-3:]}", "en": f"Agency {party.id[-3:]}"},
            "keys": (party.pinned(),),
        }
        return d.Member(**{**values, **changes})

    def subsystem(self, id_: str, **changes: object) -> d.Subsystem:
        values = {**self.common("subsystem", id_), "names": {"en": id_.rpartition("/")[2]}}
        return d.Subsystem(**{**values, **changes})

    def node(
        self, id_: str, *, incarnation: int = 1, log: FileSigner | d.NodeLog | None = None, **changes: object
    ) -> d.Node:
        log = log or FileSigner.generate("ed25519")
        if isinstance(log, FileSigner):
            log = d.NodeLog(key=b64(log.public_bytes), origin=f"{self.genesis}/{id_}/{incarnation}")
        values: dict[str, object] = {
            **self.common("node", id_),
            "log": log,
            "broker_key": b64(FileSigner.generate("ed25519").public_bytes),
            "valid_from": time_at(0),
        }
        return d.Node(**{**values, **changes})

    def sealing(self, owner: str, public: bytes, **changes: object) -> d.Sealing:
        values: dict[str, object] = {
            **self.common("sealing", f"{owner}#{key_id(public)}"),
            "kem": "X25519",
            "public": b64(public),
            "use": ("query", "command"),
            "valid_from": time_at(0),
        }
        return d.Sealing(**{**values, **changes})

    def service(self, id_: str = SERVICE, **changes: object) -> d.Service:
        values: dict[str, object] = {
            **self.common("service", id_),
            "contract": hashlib.sha256(CONTRACT).hexdigest(),
            "title": "Citizens",
            "version": "1.0.0",
            "operations": (
                d.Operation(id="getCitizen", method="GET", path="/citizens/{id}"),
                d.Operation(id="confirmCitizen", method="POST", path="/citizens/confirm"),
            ),
            "fields": ("address", "religion"),
        }
        return d.Service(**{**values, **changes})

    def access(self, subject: str = RIGHT, **changes: object) -> d.Access:
        values: dict[str, object] = {
            **self.common("access", subject),
            "client": f"{self.instance}/GOV/H37/onedoor",
            "service": subject.partition("#")[0],
            "purposes": ("residence",),
            "grounds": ("Decree 1/2026",),
        }
        return d.Access(**{**values, **changes})

    def revocation(self, subject: str, **changes: object) -> d.Revocation:
        values = {**self.common("revocation", subject), "since": time_at(self.minute), "reason": "key lost"}
        return d.Revocation(**{**values, **changes})

    # Whole histories ------------------------------------------------------------------------------------------

    def begin(self) -> World:
        """Anchor and both members."""
        outcome = self.append(self.sign(self.anchor, self.operator, genesis=None))
        assert isinstance(outcome, Applied), outcome
        self.put(self.member(self.provider), self.operator)
        self.put(self.member(self.consumer), self.operator)
        return self

    def populate(self) -> World:
        """One service, one client with a right, one node each."""
        self.begin()
        self.put(self.subsystem(f"{self.provider.id}/population"), self.provider)
        self.put(self.subsystem(f"{self.consumer.id}/onedoor"), self.consumer)
        self.put(self.node(f"{self.provider.id}/@n1"), self.provider)
        self.put(self.node(f"{self.consumer.id}/@n1"), self.consumer)
        self.put(self.service(f"{self.provider.id}/population/citizens"), self.provider)
        self.put(self.access(f"{self.provider.id}/population/citizens#h37"), self.provider)
        return self
