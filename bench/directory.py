"""The directory alone (`python -m bench.directory FACTS`): fold, restore and look-up.

FACTS: `{"documents"}`. 500 members with their nodes, sealing keys, subsystems and services; the rest are access rights.
Every document is signed by a certified key, and every signature is verified by the fold.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil  # type: ignore[import-untyped]

from evidence.identifiers import MemberId
from evidence.issue import create_authority, issue_member
from evidence.leaf import DIRECTORY, wrap
from evidence.signer import FileSigner
from evidence.stamps import encode_time
from registry import documents as d
from registry.decision import authorise
from registry.envelope import genesis_of, sign_document
from registry.fold import Applied, Directory
from registry.publickeys import key_id, spki_public

_INSTANCE = "VN-BENCH"
_MEMBERS = 500
_START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
_FAR = datetime(2036, 1, 1, tzinfo=UTC)
_AT = datetime(2026, 6, 1, tzinfo=UTC)
_SEED = 11
_LOOKUPS = 20_000


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass(frozen=True, slots=True)
class _Party:
    id: str
    signer: FileSigner
    chain: list[bytes]

    @property
    def spki(self) -> str:
        return _b64(self.signer.public_bytes)


class History:
    """Leaves of a directory's log, made one after another."""

    def __init__(self) -> None:
        self._authority = create_authority(
            "benchmark", FileSigner.generate("p256"), not_before_at=_START - timedelta(days=1), not_after_at=_FAR
        )
        self._operator = self._party(f"{_INSTANCE}/OPERATOR/one")
        self._anchor = self._make_anchor()
        self.genesis = genesis_of(self._anchor)
        self._second = 0

    def _party(self, id_: str) -> _Party:
        signer = FileSigner.generate("p256")
        certificate = issue_member(
            self._authority,
            MemberId.parse(id_),
            signer.private_key.public_key(),
            not_before_at=_START - timedelta(days=1),
            not_after_at=_FAR,
        )
        return _Party(id_, signer, [certificate])

    def _make_anchor(self) -> d.Anchor:
        keys = FileSigner.generate("ed25519"), FileSigner.generate("ed25519")
        operator = self._operator
        return d.Anchor(
            instance=_INSTANCE,
            subject=_INSTANCE,
            seq=0,
            issued=encode_time(_START),
            threshold=1,
            operators=(d.Operator(keyid=key_id(spki_public(operator.signer.public_bytes)), spki=operator.spki),),
            certification_authorities=(self._authority.pem.decode(),),
            directory=d.DirectoryKeys(log_key=_b64(keys[0].public_bytes), cosigner_key=_b64(keys[1].public_bytes)),
        )

    def _common(self, subject: str) -> dict[str, Any]:
        self._second += 1
        issued = encode_time(_START + timedelta(seconds=self._second))
        return {"instance": _INSTANCE, "subject": subject, "seq": 0, "issued": issued}

    def _signed(self, document: d.AnyDocument, party: _Party) -> bytes:
        genesis = None if isinstance(document, d.Anchor) else self.genesis
        return wrap(DIRECTORY, sign_document(document, party.signer, party.chain, genesis))

    def leaves(self, count: int) -> Iterator[bytes]:
        """The first `count` leaves."""
        return itertools.islice(self._all(), count)

    def _all(self) -> Iterator[bytes]:
        yield self._signed(self._anchor, self._operator)
        parties = [self._party(f"{_INSTANCE}/GOV/M{number:03d}") for number in range(_MEMBERS)]
        for party in parties:
            pinned = (d.PinnedKey(spki=party.spki),)
            names = {"en": f"Agency {party.id[-4:]}"}
            member = d.Member(**self._common(party.id), status="active", names=names, keys=pinned)
            yield self._signed(member, self._operator)
        for party in parties:
            yield from self._belongings(party)
        yield from self._rights(parties)

    def _belongings(self, party: _Party) -> Iterator[bytes]:
        """Node, sealing key, subsystem and service of a member."""
        start = encode_time(_START)
        node = f"{party.id}/@n1"
        log = d.NodeLog(key=_b64(FileSigner.generate("ed25519").public_bytes), origin=f"{self.genesis}/{node}/1")
        broker_key = _b64(FileSigner.generate("ed25519").public_bytes)
        yield self._signed(d.Node(**self._common(node), log=log, broker_key=broker_key, valid_from=start), party)
        public = hashlib.sha256(party.id.encode()).digest()
        subject = f"{party.id}#{key_id(public)}"
        yield self._signed(
            d.Sealing(**self._common(subject), kem="X25519", public=_b64(public), use=("query",), valid_from=start),
            party,
        )
        yield self._signed(d.Subsystem(**self._common(f"{party.id}/desk"), names={"en": "desk"}), party)
        yield self._signed(
            d.Service(
                **self._common(f"{party.id}/desk/items"),
                contract=hashlib.sha256(b"items").hexdigest(),
                title="Items",
                version="1.0.0",
                operations=(d.Operation(id="readItem", method="GET", path="/items/{id}"),),
                fields=("address",),
            ),
            party,
        )

    def _rights(self, parties: list[_Party]) -> Iterator[bytes]:
        for step in itertools.count(1):
            for at, party in enumerate(parties):
                client = f"{parties[(at + step) % _MEMBERS].id}/desk"
                service = f"{party.id}/desk/items"
                yield self._signed(
                    d.Access(
                        **self._common(f"{service}#r{step}"),
                        client=client,
                        service=service,
                        purposes=("benchmark",),
                        grounds=("measuring",),
                    ),
                    party,
                )


def _timed(calls: int, work: Callable[[int], object]) -> float:
    """Microseconds of one call."""
    started = time.perf_counter()
    for number in range(calls):
        work(number)
    return round(1e6 * (time.perf_counter() - started) / calls, 3)


def _lookups(directory: Directory) -> dict[str, float]:
    chosen = random.Random(_SEED)
    members = [f"{_INSTANCE}/GOV/M{number:03d}" for number in range(_MEMBERS)]
    picked = [(chosen.choice(members), chosen.choice(members)) for _ in range(_LOOKUPS)]
    at, genesis = _AT, directory.genesis
    return {
        "service_us": _timed(_LOOKUPS, lambda n: directory.service(f"{picked[n][0]}/desk/items")),
        "node_by_origin_us": _timed(_LOOKUPS, lambda n: directory.node_by_origin(f"{genesis}/{picked[n][0]}/@n1/1")),
        "sealing_key_us": _timed(_LOOKUPS, lambda n: directory.sealing_key(picked[n][0], "query", at)),
        "rights_us": _timed(_LOOKUPS, lambda n: directory.rights(f"{picked[n][1]}/desk", f"{picked[n][0]}/desk/items")),
        "authorise_us": _timed(
            _LOOKUPS,
            lambda n: authorise(
                directory,
                client=f"{picked[n][1]}/desk",
                service=f"{picked[n][0]}/desk/items",
                operation="readItem",
                purpose="benchmark",
                ground="measuring",
                official="",
                at=at,
            ),
        ),
    }


def _measure(count: int) -> dict[str, Any]:
    history = History()
    leaves = list(history.leaves(count))
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    directory = Directory(history.genesis)
    accepted: list[Applied] = []
    started = time.perf_counter()
    for index, leaf in enumerate(leaves):
        outcome = directory.apply(index, leaf)
        if not isinstance(outcome, Applied):
            raise TypeError(f"document {index} was skipped: {outcome.code} {outcome.message}")
        accepted.append(outcome)
    fold_s = time.perf_counter() - started
    stored = [(one.index, one.digest, one.author, one.payload) for one in accepted]
    accepted.clear()
    again = Directory(history.genesis)
    gc.collect()
    before = process.memory_info().rss
    started = time.perf_counter()
    for one in stored:
        again.restore(*one)
    restore_s = time.perf_counter() - started
    return {
        "documents": count,
        "fold_s": round(fold_s, 2),
        "fold_us_each": round(1e6 * fold_s / count, 1),
        "restore_s": round(restore_s, 3),
        "restore_us_each": round(1e6 * restore_s / count, 1),
        "memory_mb": round((process.memory_info().rss - before) / 2**20, 1),
        "lookup": _lookups(again),
    }


if __name__ == "__main__":
    print(json.dumps(_measure(json.loads(sys.argv[1])["documents"])))
