"""What must be true of the logs after any fault, checked with the offline verifier and with nothing of the gateways.

1. each log verifies, if asked for with every checkpoint that it ever stored;
2. each log contains every tree whose checkpoint a counterparty holds: nothing that was released was taken back;
3. a record that a node received from another stands in the other's log: nothing was sent that was not logged;
4. every request has exactly one closing record in its own log, none is open;
5. what a client was told to have succeeded is in both logs, request and answer;
6. double entry: nothing is unmatched.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from fault_world import FaultWorld

from evidence import checkpoint, header
from evidence.header import Header
from evidence.leaf import EXCHANGE
from evidence.log.reader import LogReader
from evidence.merkle import leaf_hash
from evidence.note import VerifierKey
from evidence.reconcile import reconcile
from evidence.trust import load_trust
from evidence.verify import verify_log


def trusted_keys(world: FaultWorld, code: str) -> list[VerifierKey]:
    """Keys of all logs, from the directory that a member verified."""
    out = world.folder / f"trust-{code}.json"
    world.command("audit", "trust", "--home", str(world.members[code].home), "--out", str(out))
    return load_trust(out).keys()


def exchange_records(path: Path) -> dict[str, Header]:
    """Exchange records of a log by leaf hash."""
    with LogReader(path) as reader:
        return {
            leaf_hash(leaf).hex(): header.decode(leaf[len(EXCHANGE) :])
            for _, _, leaf in reader.leaves()
            if leaf.startswith(EXCHANGE)
        }


def notes_held(path: Path, origin: str) -> list[bytes]:
    """Checkpoints of a log that a counterparty keeps beside its own."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        notes = [row[0] for row in db.execute("SELECT note FROM peer_note")]
    return [note for note in notes if checkpoint.parse_note(note).origin == origin]


def origin_of(path: Path) -> str:
    """Origin of a log."""
    with LogReader(path) as reader:
        return reader.origin


def closing_records(records: Mapping[str, Header], node: str) -> Counter[str]:
    """How many closing records each request of `node` has in its log: received answers and refusals, own outcomes."""
    requests = {key for key, record in records.items() if record.type == "query" and record.node == node}
    closed: Counter[str] = Counter(dict.fromkeys(requests, 0))
    for record in records.values():
        closing = record.type in ("answer", "refusal") and record.node != node
        closing = closing or (record.type == "outcome" and record.node == node)
        if closing and record.inreplyto in requests:
            closed[record.inreplyto] += 1
    return closed


def outcome_classes(world: FaultWorld, code: str) -> Counter[str]:
    """Outcomes in a member's own log, by class."""
    records = exchange_records(world.members[code].log_db).values()
    return Counter(str(record.class_) for record in records if record.type == "outcome")


def check_evidence(
    world: FaultWorld, *codes: str, acknowledged: Iterable[str] = (), every_checkpoint: bool = False
) -> None:
    """Everything in the module's list, for the logs of these members; nothing may be under way."""
    keys = trusted_keys(world, codes[0])
    paths = {code: world.members[code].log_db for code in codes}
    for code, path in paths.items():
        origin = origin_of(path)
        known = [note for other, beside in paths.items() if other != code for note in notes_held(beside, origin)]
        report = verify_log(path, keys, known=known, every_checkpoint=every_checkpoint)
        assert report.verified, (code, report.problems)
    records = {code: exchange_records(path) for code, path in paths.items()}
    _check_said(world, records)
    for code in codes:
        closed = closing_records(records[code], world.members[code].node)
        wrong = {key: count for key, count in closed.items() if count != 1}
        assert not wrong, f"{code}: requests with another number of closing records than one: {wrong}"
    _check_acknowledged(records, acknowledged)
    with ExitStack() as stack:
        matched = reconcile([stack.enter_context(LogReader(path)) for path in paths.values()])
    assert matched.unmatched == [], matched.unmatched
    assert matched.malformed == []


def _check_said(world: FaultWorld, records: Mapping[str, Mapping[str, Header]]) -> None:
    owner = {world.members[code].node: code for code in records}
    for code, received in records.items():
        for key, record in received.items():
            sender = owner.get(record.node)
            if sender is not None:
                assert key in records[sender], f"{code} received a {record.type} that is not in the log of {sender}"


def _check_acknowledged(records: Mapping[str, Mapping[str, Header]], acknowledged: Iterable[str]) -> None:
    requests = {}
    answered: dict[str, set[str]] = {}
    for code, found in records.items():
        for key, record in found.items():
            if record.type == "query":
                requests[record.id] = key
            if record.type == "answer" and record.inreplyto is not None:
                answered.setdefault(record.inreplyto, set()).add(code)
    for record_id in acknowledged:
        assert record_id in requests, f"{record_id} was acknowledged to the client but is in no log"
        key = requests[record_id]
        assert sum(key in found for found in records.values()) == 2, f"{record_id}: the request is not in both logs"
        assert len(answered.get(key, ())) == 2, f"{record_id}: the answer is not in both logs"
