"""The directory alone (`python -m bench.directory FACTS`): first start, restart, update, look-ups, memory.

FACTS: `{"documents", "folder"}`. 500 members with their nodes, sealing keys, subsystems and services; the rest
are access rights. Every document is signed by a certified key, and every signature is verified at the first start. The
feed lies in the folder; the gateway's own follower follows it, in a new process for each figure (`directory_copy`).
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.directory_copy import INSTANCE, LATER, MEMBERS
from evidence import note as evidence_note
from evidence.checkpoint import Checkpoint, key_name
from evidence.identifiers import MemberId
from evidence.issue import create_authority, issue_member
from evidence.leaf import DIRECTORY, wrap
from evidence.merkle import Frontier, leaf_hash
from evidence.signer import FileSigner
from evidence.stamps import encode_time
from registry import documents as d
from registry.checkpoints import cosign_checkpoint, directory_origin
from registry.envelope import genesis_of, sign_document
from registry.feed import encode_bundle
from registry.ports import BUNDLE_LEAVES
from registry.publickeys import key_id, spki_public

RESTART_S = 2.0
MEMORY_MB = 500.0
LOOKUP_US = 50.0
_START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
_FAR = datetime(2036, 1, 1, tzinfo=UTC)
_RESTARTS = 3


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
        self._operator = self._party(f"{INSTANCE}/OPERATOR/one")
        self._log_key, self._cosigner = FileSigner.generate("ed25519"), FileSigner.generate("ed25519")
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
        keys, operator = (self._log_key, self._cosigner), self._operator
        return d.Anchor(
            instance=INSTANCE,
            subject=INSTANCE,
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
        return {"instance": INSTANCE, "subject": subject, "seq": 0, "issued": issued}

    def _signed(self, document: d.AnyDocument, party: _Party) -> bytes:
        genesis = None if isinstance(document, d.Anchor) else self.genesis
        return wrap(DIRECTORY, sign_document(document, party.signer, party.chain, genesis))

    def leaves(self, count: int) -> Iterator[bytes]:
        """The first `count` leaves."""
        return itertools.islice(self._all(), count)

    def checkpoint(self, size: int, root: bytes) -> bytes:
        """The registry's signed and cosigned statement of a tree, confirmed now."""
        origin = directory_origin(self.genesis, INSTANCE)
        note = evidence_note.sign(Checkpoint(origin, size, root).text(), key_name(origin), self._log_key)
        return cosign_checkpoint(note, self.genesis, INSTANCE, self._cosigner, int(time.time()))

    def _all(self) -> Iterator[bytes]:
        yield self._signed(self._anchor, self._operator)
        parties = [self._party(f"{INSTANCE}/GOV/M{number:03d}") for number in range(MEMBERS)]
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
                client = f"{parties[(at + step) % MEMBERS].id}/desk"
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


class _Feed:
    """Writes a history as the feed that `bench.directory_copy` reads; its genuine keys sign the checkpoints."""

    def __init__(self, folder: Path, history: History) -> None:
        self._folder = folder
        self._history = history
        self._frontier = Frontier()
        self._last: list[bytes] = []

    def publish(self, step: int, leaves: Iterable[bytes]) -> None:
        """The next checkpoint with the bundles that it changes."""
        place = self._folder / str(step)
        place.mkdir()
        for leaf in leaves:
            self._last.append(leaf)
            if len(self._last) == BUNDLE_LEAVES:
                self._close(place)
        if self._last:
            _write_bundle(place, self._frontier.size // BUNDLE_LEAVES, self._last)
        whole = self._frontier
        if self._last:
            whole = whole.extend([leaf_hash(leaf) for leaf in self._last]).frontier
        note = self._history.checkpoint(whole.size, whole.root())
        (self._folder / f"checkpoint.{step}").write_bytes(note)

    def _close(self, place: Path) -> None:
        _write_bundle(place, self._frontier.size // BUNDLE_LEAVES, self._last)
        self._frontier = self._frontier.extend([leaf_hash(leaf) for leaf in self._last]).frontier
        self._last = []


def _write_bundle(place: Path, index: int, leaves: list[bytes]) -> None:
    (place / str(index)).write_bytes(encode_bundle(leaves))


def _child(folder: Path, genesis: str, task: str) -> dict[str, Any]:
    facts = json.dumps({"folder": str(folder), "genesis": genesis, "task": task})
    done = subprocess.run([sys.executable, "-m", "bench.directory_copy", facts], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _measure(count: int, folder: Path) -> dict[str, Any]:
    history = History()
    feed, leaves = _Feed(folder, history), history.leaves(count + sum(LATER))
    feed.publish(0, itertools.islice(leaves, count))
    for step, more in enumerate(LATER, 1):
        feed.publish(step, itertools.islice(leaves, more))
    first = _child(folder, history.genesis, "first")
    restarts = [_child(folder, history.genesis, "restart") for _ in range(_RESTARTS)]
    again = sorted(restarts, key=lambda one: float(one["s"]))[_RESTARTS // 2]
    if not first["size"] == again["size"] == count:
        raise RuntimeError(f"{count} documents were published; a gateway has {again['size']}")
    file_mb = round((folder / "directory.db").stat().st_size / 2**20, 1)
    update = _child(folder, history.genesis, "update")
    return {
        "documents": count,
        "members": MEMBERS,
        "first_start_s": first["s"],
        "first_start_us_each": round(1e6 * first["s"] / count, 1),
        "first_start_peak_mb": first["peak_mb"],
        "restart_s": again["s"],
        "restart_peak_mb": again["peak_mb"],
        "program_alone_mb": again["program_mb"],
        "file_mb": file_mb,
        "update": update,
        "lookup": again["lookup"],
    }


def broken_bounds(found: dict[str, Any]) -> list[str]:
    """Which promises the figures break; empty when all are kept."""
    memory_mb = max(found["first_start_peak_mb"], found["restart_peak_mb"])
    slowest_us = max(found["lookup"].values())
    told = (
        (found["restart_s"] <= RESTART_S, f"a restart took {found['restart_s']} s; {RESTART_S} s are allowed"),
        (memory_mb < MEMORY_MB, f"{memory_mb} MB of memory; less than {MEMORY_MB} MB are allowed"),
        (slowest_us <= LOOKUP_US, f"a look-up took {slowest_us} us; {LOOKUP_US} us are allowed"),
    )
    return [reason for kept, reason in told if not kept]


def _main(facts: dict[str, Any]) -> int:
    found = _measure(facts["documents"], Path(facts["folder"]))
    print(json.dumps(found))
    broken = broken_bounds(found)
    print("\n".join(broken), file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(_main(json.loads(sys.argv[1])))
