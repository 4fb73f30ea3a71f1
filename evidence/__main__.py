"""`python -m evidence`: verification with nothing of the bus installed.

Exit codes: 0 verified, 1 not verified, 2 cannot read or wrong usage.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import msgspec

from evidence import checkpoint, judging, reconcile, verify
from evidence.errors import EvidenceError, SchemaNewer, SourceUnreadable, TrustMalformed
from evidence.leaf import MAX_LEAF_BYTES
from evidence.log.reader import LogReader
from evidence.note import VerifierKey
from evidence.proof import MAX_PROOF_BYTES
from evidence.rebuild import Problem, Source
from evidence.stamps import decode_time
from evidence.trust import Trust, load_trust
from evidence.verify import RecordReport

VERIFIED, NOT_VERIFIED, UNREADABLE = 0, 1, 2
_VERDICT_CODES = frozenset({"signed-after-revocation", "time-indeterminate"})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(UNREADABLE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m evidence", description="Verify exchange logs and records offline.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    log = commands.add_parser("verify", help="verify a log: a database file or a directory of exported tiles")
    log.add_argument("path")
    log.add_argument("--known", action="append", default=[], help="file with a checkpoint that someone else holds")
    log.add_argument("--every-checkpoint", action="store_true", help="verify every checkpoint stored in a database")
    record = commands.add_parser("proof", help="verify one record with its proof")
    record.add_argument("leaf", help="file with the bytes of the leaf")
    record.add_argument("proof", help="file with the proof (.tlog-proof)")
    logs = commands.add_parser("reconcile", help="match several logs against each other")
    logs.add_argument("paths", nargs="+", metavar="path")
    for command in (log, record, logs):
        command.add_argument("--trust", required=command is not logs, help="trust file: the keys of the logs")
        command.add_argument("--json", action="store_true", help="print the report as JSON")
        command.add_argument("--immutable", action="store_true", help="databases are on a read-only medium")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _show(report: msgspec.Struct, lines: Sequence[str], as_json: bool) -> None:
    _say(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() if as_json else "\n".join(lines))


def _problem_lines(problems: Sequence[Problem]) -> list[str]:
    return [f"  {problem.code}: {problem.message}" for problem in problems]


def _read(path: str, limit: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise SourceUnreadable(f"{path} cannot be read ({error.strerror})") from None
    if len(data) > limit:
        raise SourceUnreadable(f"{path} is larger than such a file can be")
    return data


def _origin(source: Source) -> str:
    try:
        return checkpoint.parse_note(source.note()).origin
    except EvidenceError:
        return ""


def _verify_source(
    source: Source, trust: Trust, options: argparse.Namespace, elsewhere: Mapping[bytes, datetime] | None = None
) -> verify.Report:
    known = [_read(path, MAX_PROOF_BYTES) for path in getattr(options, "known", [])]
    every = getattr(options, "every_checkpoint", False)
    keys = trust.keys_for(_origin(source))
    return verify.verify_log(source, keys, known=known, every_checkpoint=every, trust=trust, elsewhere=elsewhere)


def _log_lines(report: verify.Report) -> list[str]:
    lines = [
        f"{'VERIFIED' if report.verified else 'NOT VERIFIED'}: {report.origin or 'no readable checkpoint'}",
        f"  {report.records_verified} of {report.size} records in {report.seconds:.2f} s, root {report.root}",
        *(f"  {name}: {count}" for name, count in report.counts.items()),
    ]
    if report.verdicts:
        told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(report.verdicts.items()))
        lines.append(f"  records of revoked signers, against the revocation: {told}")
    if report.first_bad_leaf is not None:
        bad = report.first_bad_leaf
        lines.append(f"  first bad leaf: {bad.index}, recorded {bad.recorded_hash}, computed {bad.computed_hash}")
    return lines + _problem_lines(report.problems)


def _open(stack: ExitStack, path: str, immutable: bool) -> Source:
    source = verify.open_source(path, immutable=immutable)
    if isinstance(source, LogReader):
        stack.enter_context(source)
    return source


def _run_verify(options: argparse.Namespace) -> int:
    trust = load_trust(options.trust)
    with ExitStack() as stack:
        report = _verify_source(_open(stack, options.path, options.immutable), trust, options)
    _show(report, _log_lines(report), options.json)
    return VERIFIED if report.verified else NOT_VERIFIED


class _ProofReport(msgspec.Struct, frozen=True):
    verified: bool
    record: RecordReport | None
    problems: list[Problem]


_VERDICT_PROBLEMS = {
    "after": Problem("signed-after-revocation", "trust in the signer was already withdrawn when it signed this"),
    "indeterminate": Problem(
        "time-indeterminate", "nobody else dated this checkpoint before trust in its signer was withdrawn"
    ),
}


def _judge_record(report: RecordReport, proof_text: bytes, trust: Trust) -> list[Problem]:
    """The key's time against the record's own claim, which must not contradict it; and revocations."""
    known = trust.origins.get(report.origin)
    if known is None or report.header is None:
        return []
    problems = []
    if not known.covers(decode_time(report.header.time), VerifierKey.parse(report.signed_by)):
        problems.append(
            Problem("key-out-of-time", "the record claims a time at which the key that signed was not the log's")
        )
    verdict = judging.judge_proof(report.header, proof_text, trust)
    if verdict not in {None, "before"}:
        problems.append(_VERDICT_PROBLEMS[str(verdict)])
    return problems


def _run_proof(options: argparse.Namespace) -> int:
    trust = load_trust(options.trust)
    leaf, proof_text = _read(options.leaf, MAX_LEAF_BYTES), _read(options.proof, MAX_PROOF_BYTES)
    record, problems = None, []
    try:
        record = verify.verify_record(leaf, proof_text, trust.keys())
        problems = _judge_record(record, proof_text, trust)
    except EvidenceError as error:
        problems = [Problem(error.code, str(error))]
    lines = ["NOT VERIFIED" if problems else "VERIFIED", *_problem_lines(problems)]
    if record is not None:
        word = "said by" if record.said else "received by"
        lines.append(f"  {word} {record.origin}, leaf {record.index} of {record.size}, {record.leaf_hash}")
    _show(_ProofReport(not problems, record, problems), lines, options.json)
    return NOT_VERIFIED if problems else VERIFIED


class _ReconcileReport(msgspec.Struct, frozen=True):
    verified: bool
    logs: list[verify.Report]
    books: reconcile.Report


def _verify_together(sources: Sequence[Source], trust: Trust, options: argparse.Namespace) -> list[verify.Report]:
    """Each log by itself; then, where verdicts need it, with what the other logs prove of the time."""
    logs = [_verify_source(source, trust, options) for source in sources]
    if all(set(log.verdicts) <= {"before"} for log in logs):
        return logs
    elsewhere: dict[bytes, datetime] = {}
    for source, log in zip(sources, logs, strict=True):
        if all(problem.code in _VERDICT_CODES for problem in log.problems):
            for leaf, at in judging.upper_bounds(source, trust).items():
                elsewhere[leaf] = min(at, elsewhere.get(leaf, at))
    return [_verify_source(source, trust, options, elsewhere) for source in sources]


def _run_reconcile(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        sources = [_open(stack, path, options.immutable) for path in options.paths]
        logs = []
        if options.trust is not None:
            trust = load_trust(options.trust)
            logs = _verify_together(sources, trust, options)
        books = reconcile.reconcile(sources)
    good = not books.unmatched and not books.malformed and all(log.verified for log in logs)
    lines = [line for log in logs for line in _log_lines(log)]
    verdict = "RECONCILED" if good else "NOT RECONCILED"
    counts = f"{books.matched} matched, {books.explained} explained, {len(books.unmatched)} unmatched"
    lines += [
        f"{verdict}: {counts}, {len(books.malformed)} malformed",
        *(f"  {one.reason}: {one.type} {one.leaf_hash} of {one.node} in {one.origin}" for one in books.unmatched),
    ]
    _show(_ReconcileReport(good, logs, books), lines, options.json)
    return VERIFIED if good else NOT_VERIFIED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    run = {"verify": _run_verify, "proof": _run_proof, "reconcile": _run_reconcile}[options.command]
    try:
        return run(options)
    except (SourceUnreadable, TrustMalformed, SchemaNewer) as error:
        sys.stderr.write(f"cannot read: {error}\n")
    except EvidenceError as error:
        sys.stderr.write(f"not verified: {error}\n")
        return NOT_VERIFIED
    return UNREADABLE


if __name__ == "__main__":
    sys.exit(main())
