"""After the load: is every counted exchange in both logs, and do the logs verify?"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.instance import Product, lienthong
from bench.processes import BenchFailed
from evidence.leaf import EXCHANGE
from evidence.log.reader import LogReader
from evidence.merkle import leaf_hash
from evidence.reconcile import reconcile
from evidence.trust import load_trust
from evidence.verify import verify_log


@dataclass(frozen=True, slots=True)
class Audited:
    """What the logs say.

    Attributes:
        pairs: Queries with an ok answer, both records in both logs.
        counted: Exchanges that the generator counted.
        records: Leaves verified in both logs.
        records_per_s: Offline verification.
    """

    pairs: int
    counted: int
    records: int
    records_per_s: float

    def report(self) -> dict[str, Any]:
        """For the results."""
        return asdict(self)


class _Head(msgspec.Struct):
    """The part of a header that pairing needs."""

    type: str
    inreplyto: str = ""
    class_: str = msgspec.field(default="", name="class")


_read_head = msgspec.json.Decoder(_Head).decode


def audit(product: Product, counted: int) -> Audited:
    """Verifies both logs and matches them. The gateways have ended.

    Raises:
        BenchFailed: A log does not verify, records do not match, or an exchange is missing.
    """
    trust_path = product.folder / "trust.json"
    lienthong("audit", "trust", "--home", str(product.folder / "consumer"), "--out", str(trust_path))
    keys = load_trust(trust_path).keys()
    logs = [product.folder / name / "data" / "log.db" for name in ("consumer", "provider")]
    records, seconds = 0, 0.0
    for path in logs:
        started = time.perf_counter()
        report = verify_log(path, keys)
        seconds += time.perf_counter() - started
        records += report.records_verified
        if not report.verified:
            raise BenchFailed(f"{path} does not verify: {report.problems[:3]}")
    match_logs(logs)
    pairs = _pairs(logs)
    if pairs < counted:
        raise BenchFailed(f"the generator counted {counted} exchanges, the logs hold {pairs} of them")
    return Audited(pairs, counted, records, round(records / seconds, 1))


def match_logs(logs: list[Path]) -> None:
    """Double entry over these logs.

    Raises:
        BenchFailed: Records are in one log only, or malformed.
    """
    sources = [LogReader(path) for path in logs]
    try:
        matched = reconcile(sources)
    finally:
        for source in sources:
            source.close()
    if matched.unmatched or matched.malformed:
        raise BenchFailed(
            f"{len(matched.unmatched)} records are in one log only, {len(matched.malformed)} are malformed:"
            f" {matched.unmatched[:3]}"
        )


def _pairs(logs: list[Path]) -> int:
    """Queries with an ok answer, both in every log."""
    answered: list[set[str]] = []
    for path in logs:
        queries, replies = set(), set()
        with LogReader(path) as reader:
            for _, _, leaf in reader.leaves():
                if not leaf.startswith(EXCHANGE):
                    continue
                head = _read_head(leaf[len(EXCHANGE) :])
                if head.type == "query":
                    queries.add(leaf_hash(leaf).hex())
                elif head.type == "answer" and head.class_ == "ok":
                    replies.add(head.inreplyto)
        answered.append(queries & replies)
    return len(answered[0] & answered[1])
