"""Evidence of the commands of a soak, with the offline verifier: complete on both sides, and nothing unmatched.

1. both logs verify, and contain every tree whose checkpoint the other side holds;
2. what one side received stands in the other's log as said;
3. each accepted command stands in its sender's log once; of one that is closed, one command, its receipt, and one closing
   record stand in both logs (a refusal is both), or an outcome in the sender's;
4. double entry: nothing is unmatched, while nothing is pending.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from fault_evidence import _check_said, exchange_records, notes_held, origin_of, trusted_keys
from fault_world import FaultWorld

from evidence.header import Header
from evidence.log.reader import LogReader
from evidence.reconcile import reconcile
from evidence.verify import verify_log

from .schedule import CONSUMER, PROVIDER


@dataclass
class Evidence:
    """What was found.

    Attributes:
        records: exchange records by log.
        unmatched: records on one side only that nothing explains.
        commands: ids of all commands in the sender's log.
        problems: empty when the evidence is whole.
    """

    records: dict[str, int] = field(default_factory=dict)
    unmatched: int = 0
    commands: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def look(world: FaultWorld, states: Mapping[str, str]) -> Evidence:
    """Looks at both logs; nothing may be under way but what is pending."""
    found = Evidence()
    keys = trusted_keys(world, CONSUMER)
    paths = {code: world.members[code].log_db for code in (CONSUMER, PROVIDER)}
    for code, path in paths.items():
        origin = origin_of(path)
        known = [note for other, beside in paths.items() if other != code for note in notes_held(beside, origin)]
        report = verify_log(path, keys, known=known)
        if not report.verified:
            found.problems.append(f"the log of {code} does not verify: {report.problems[:3]}")
    records = {code: exchange_records(path) for code, path in paths.items()}
    found.records = {code: len(held) for code, held in records.items()}
    try:
        _check_said(world, records)
    except AssertionError as error:
        found.problems.append(str(error).splitlines()[0])
    found.problems += _incomplete(world, records, states, found)
    with ExitStack() as stack:
        matched = reconcile([stack.enter_context(LogReader(path)) for path in paths.values()])
    found.unmatched = len(matched.unmatched)
    if matched.malformed:
        found.problems.append(f"records that cannot be read: {matched.malformed[:3]}")
    pending = sum(state not in ("completed", "failed", "cancelled", "expired") for state in states.values())
    if found.unmatched and not pending:
        found.problems.append(f"unmatched: {matched.unmatched[:3]}")
    return found


def _incomplete(
    world: FaultWorld, records: Mapping[str, Mapping[str, Header]], states: Mapping[str, str], found: Evidence
) -> list[str]:
    node = world.members[CONSUMER].node
    commands = {
        hashed: head.id
        for hashed, head in records[CONSUMER].items()
        if head.type == "command" and head.node == node and head.operation == "doEffect"
    }
    found.commands = set(commands.values())
    problems = []
    if len(found.commands) != len(commands):
        problems.append("one id stands for several commands")
    missing = sorted(set(states) - found.commands)
    if missing:
        problems.append(f"accepted and not in the log: {missing[:3]}")
    replies = {code: _replies(held) for code, held in records.items()}
    for hashed, record_id in commands.items():
        state = states.get(record_id, "")
        if state in ("completed", "failed"):
            wrong = [code for code in records if not _whole(records[code], replies[code], hashed)]
        elif state in ("expired", "cancelled"):
            closing = replies[CONSUMER][hashed]
            wrong = [] if closing["outcome"] + closing["refusal"] + closing["result"] else [CONSUMER]
        else:
            continue
        if wrong:
            told = {code: dict(replies[code][hashed]) for code in wrong}
            problems.append(f"{state} {record_id} is not whole: {told}")
    return problems[:20]


def _replies(held: Mapping[str, Header]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for head in held.values():
        if head.inreplyto is not None:
            found[head.inreplyto][head.type] += 1
    return found


def _whole(held: Mapping[str, Header], replies: Mapping[str, Counter[str]], hashed: str) -> bool:
    """A closed command in one log: itself, a receipt unless it was refused, and exactly one closing record."""
    told = replies[hashed]
    closing = told["result"] + told["refusal"]
    return hashed in held and closing == 1 and bool(told["receipt"] or told["refusal"])
