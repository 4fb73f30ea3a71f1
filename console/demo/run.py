"""The demonstration from its beginning to its end, whatever the end is: nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from console.demo.applications import free_port
from console.demo.cast import BUSINESS, PROVINCE
from console.demo.cluster import ClusterFacts, ClusterScene
from console.demo.processes import DemoFailed, Processes
from console.demo.report import Report
from console.demo.scenario import BULK_CONNECTIONS, Outcome, Scenario
from console.demo.servers import Servers
from console.demo.trust import TrustScene, WhoMaySpeak
from console.demo.verification import Books, LogResult, Tampering, Verification, sent_successes
from console.demo.work import Handed, Work
from console.demo.world import Database, World

_OUT_NAMES = ("logs", "trust.json", "sent.jsonl", "effects.jsonl")
_WORK_NAMES = ("commands.jsonl", "command-effects.jsonl", "kills.jsonl", "write-backs.jsonl")
_WATCH_S = 1.0
MAX_ONBOARDING_S, MAX_ONBOARDING_COMMANDS = 60.0, 12


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for.

    Attributes:
        seed: Of the registers, of whom is asked about, and of the changed byte.
        database: What the registers are kept in.
        keep_running: Leave everything running until a signal comes.
        out: Where to leave logs, trust file and notes; None leaves nothing.
        cluster: The broker is three servers, which are killed in a scene of its own.
    """

    seed: int
    database: Database
    keep_running: bool
    out: Path | None
    cluster: bool = False


class Result(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What it came to; the JSON line of `--json`.

    Attributes:
        exchanges_ok: Successful exchanges: by the client's notes, the gateway's counter and its log alike.
        exchanges_per_s: Of the bulk of calls, by the gateway's counter.
        refused_as_expected: Refusals (4xx) with the expected status, code and pointer. The retryable 503 of the stopped
            gateway is checked too, and not counted here.
        records_verified: Leaves of all logs, hashed again offline.
        unmatched: Records on one side only that no outcome explains.
        tamper_detected: Whether the changed byte was caught and its record named.
        tampered_record: Leaf hash of that record as it was.
        onboarding_commands: From a member's request to its first successful call.
        onboarding_seconds: The same in seconds; the provider was there already.
        forged_documents_refused: By the registry, each for the lie that is in it.
        broker_intrusions_refused: By the broker, of what a genuine member's node tried.
        revocation_effective_ms: From the registry's acknowledgement of a revocation to the first refusal at the slowest
            gateway, probed every 50 ms.
        commands_accepted: Commands that a gateway answered with 202, in all scenes.
        commands_completed: Of these, done: their results are there.
        commands_failed: Refused by the provider's gateway, or failed in its back end.
        commands_dead: Dead letters that still wait for an operator.
        commands_pending: Without an end.
        effects_twice: Exchange ids with more than one effect in the agencies' applications.
        lost: Accepted and then unknown, or said to be done and without an effect.
        kills: SIGKILLs to broker, gateways and an application while commands were on their way.
        write_backs_accepted: Proposed changes that the population register took.
        write_backs_refused: Those that it did not take.
        seconds: From the first process to the end of the last.
        cluster: What became of commands while the broker's servers were killed; only when it is a cluster.
        problems: Everything that is not as expected.
    """

    exchanges_ok: int
    exchanges_per_s: float
    refused_as_expected: int
    records_verified: int
    unmatched: int
    tamper_detected: bool
    tampered_record: str
    onboarding_commands: int
    onboarding_seconds: float
    forged_documents_refused: int
    broker_intrusions_refused: int
    revocation_effective_ms: float
    commands_accepted: int
    commands_completed: int
    commands_failed: int
    commands_dead: int
    commands_pending: int
    effects_twice: int
    lost: int
    kills: int
    write_backs_accepted: int
    write_backs_refused: int
    seconds: float
    cluster: ClusterFacts | None = None
    problems: list[str] = []

    def summary(self) -> str:
        """In a few words."""
        return (
            f"{self.exchanges_ok:,} exchanges, {self.commands_accepted:,} commands, {self.kills} kills,"
            f" {self.lost} lost, {self.records_verified:,} records verified, {self.unmatched} unmatched,"
            f" {self.seconds:.1f} s."
        )


def run(options: Options, report: Report, tell: Callable[[Result], None]) -> int:
    """Play the demonstration; the exit code, 128 and the signal's number when a signal ended it before its result.

    Raises:
        DemoFailed: It could not be played to its end.
    """
    came: list[int] = []

    async def main() -> Result:
        task = asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            if not came:  # stopping is under way already
                came.append(number)
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        return await Demonstration(options, report, tell).play()

    try:
        result = asyncio.run(main())
    except asyncio.CancelledError:
        return 128 + came[0]
    return int(bool(result.problems))


class Demonstration:
    """One run.

    Args:
        options: What was asked for.
        report: Told as it goes.
        tell: Called with the result once it is known; with `keep_running` that is long before the end.
    """

    def __init__(self, options: Options, report: Report, tell: Callable[[Result], None]) -> None:
        self._tell = tell
        self._options = options
        self._report = report
        self._started_s = time.monotonic()

    async def play(self) -> Result:
        """Everything, and then nothing is left.

        Raises:
            DemoFailed: It could not be played to its end.
        """
        options = self._options
        if options.out is not None:
            clear_earlier(options.out)
        work = Path(tempfile.mkdtemp(prefix="lienthong-demo-"))
        processes = Processes(work)
        servers = Servers(processes, work / "instance", free_port) if options.cluster else None
        world = World(processes, work, options.seed, options.database, servers)
        try:
            result = await self._scenes(processes, world, work, servers)
            if options.keep_running:
                self._finish(result)
                self._report.running(world, work, os.getpid())
                with contextlib.suppress(asyncio.CancelledError):
                    await _watch(processes)
                self._report.stopping()
        finally:
            await processes.stop_all()
            world.remove()
            shutil.rmtree(work, ignore_errors=True)
        if not options.keep_running:
            self._finish(result)
        return result

    def _finish(self, result: Result) -> None:
        result.seconds = round(time.monotonic() - self._started_s, 1)
        self._report.closing(result.problems, result.summary(), self._options.out)
        self._tell(result)

    async def _scenes(self, processes: Processes, world: World, work: Path, servers: Servers | None) -> Result:
        report, options = self._report, self._options
        report.opening(options.seed, options.database)
        with report.part("An instance comes up", "making registers, members, keys, rights; starting gateways"):
            await world.bring_up()
        report.world(world, options.database)
        scenario = Scenario(processes, world, work, options.seed)
        await self._play_scenario(scenario)
        work_scenes = Work(processes, world, work)
        handed = await work_scenes.play(report)
        with report.part("Who may speak", "forging, breaking in, revoking"):
            trust = await TrustScene(world).play()
        report.trust(trust)
        cluster = None
        if servers is not None:
            scene = ClusterScene(processes, world, servers, work, scenario.sent)
            with report.part("The broker's servers are killed", "loading, killing one server, killing all, counting"):
                cluster = await scene.play()
            scenario.outcome.exchanges += scene.exchanges
            report.cluster(cluster)
        out = options.out if options.out is not None else work / "out"
        verification = Verification(world, out.resolve(), work, options.seed)
        result = await self._verify(world, scenario, trust, handed, verification, cluster)
        result.cluster = cluster
        work_scenes.leave(out.resolve(), handed)
        return result

    async def _play_scenario(self, scenario: Scenario) -> None:
        report, outcome = self._report, scenario.outcome
        with report.part("Calls that succeed", "calling"):
            await scenario.call_well()
        report.good(outcome.good)
        report.onboarding(scenario.onboarding)
        with report.part("Calls that are refused, each with its reason", "calling wrongly"):
            await scenario.call_wrongly()
        report.refused(outcome.refused)
        with report.part("Only the fields that the right grants", "comparing"):
            report_fields = outcome.fields
        report.fields(report_fields)
        with report.part("Many calls at once", "calling"):
            await scenario.call_much()
        assert outcome.bulk is not None
        report.bulk(outcome.bulk, BULK_CONNECTIONS)
        with report.part("A provider's gateway is stopped, then started again", "stopping, calling, starting, calling"):
            await scenario.call_while_away()
        report.away(outcome.away)

    async def _verify(
        self,
        world: World,
        scenario: Scenario,
        trust: WhoMaySpeak,
        handed: Handed,
        verification: Verification,
        cluster: ClusterFacts | None,
    ) -> Result:
        report, live = self._report, self._options.keep_running
        title = "Evidence, checked offline" + ("" if live else ", with all gateways stopped")
        with report.part(title, "exporting and verifying"):
            if not live:
                await world.gateways.stop_all()
            await verification.export(scenario.sent)
            logs, books = await verification.verify(), await verification.reconcile()
            tampering = await verification.tamper()
        report.logs(logs, books)
        report.tampering(tampering)
        more = cluster.queries_ok if cluster is not None else 0
        result = self._judge(scenario, trust, handed, logs, books, tampering, world, more)
        result.problems += cluster.problems() if cluster is not None else []
        return result

    def _judge(
        self,
        scenario: Scenario,
        trust: WhoMaySpeak,
        handed: Handed,
        logs: list[LogResult],
        books: Books,
        tampering: Tampering,
        world: World,
        more: int,
    ) -> Result:
        outcome = scenario.outcome
        bulk, tally = outcome.bulk, handed.tally
        assert bulk is not None
        good = sum(not step.expected.code for step in outcome.steps()) + bulk.calls + more
        problems = outcome.problems() + trust.problems() + handed.problems()
        problems += [f"the log of {log.member.code} does not verify" for log in logs if not log.verified]
        problems += counted(good, outcome, scenario.sent, logs, world.effects, handed.tally.lookups)
        if books.unmatched:
            problems.append(f"{books.unmatched} records are unmatched")
        if not 0 < world.onboarding.seconds < MAX_ONBOARDING_S or world.onboarding.commands > MAX_ONBOARDING_COMMANDS:
            problems.append(f"from a request to the first call: {world.onboarding}")
        if not tampering.detected:
            problems.append("the changed byte was not caught")
        return Result(
            exchanges_ok=sent_successes(scenario.sent),
            exchanges_per_s=round(bulk.exchanges / bulk.seconds, 1),
            refused_as_expected=sum(not step.problems for step in outcome.refused),
            records_verified=sum(log.records for log in logs if log.verified),
            unmatched=books.unmatched,
            tamper_detected=tampering.detected,
            tampered_record=tampering.leaf_hash,
            onboarding_commands=world.onboarding.commands,
            onboarding_seconds=world.onboarding.seconds,
            forged_documents_refused=trust.forgeries.refused,
            broker_intrusions_refused=trust.intrusions.refused,
            revocation_effective_ms=trust.effective_ms,
            commands_accepted=tally.accepted,
            commands_completed=tally.states.get("completed", 0),
            commands_failed=tally.states.get("failed", 0),
            commands_dead=tally.states.get("dead", 0),
            commands_pending=tally.pending,
            effects_twice=tally.effects_twice,
            lost=tally.lost,
            kills=len(handed.crowd.kills),
            write_backs_accepted=handed.write_backs.accepted,
            write_backs_refused=handed.write_backs.refused,
            seconds=0.0,
            problems=problems,
        )


def counted(
    expected: int, outcome: Outcome, sent: Path, logs: list[LogResult], effects: Path, lookups: int
) -> list[str]:
    """Compare what four parties counted: the scenario, the client, the gateway's metrics, its log; and the back end.

    The desk's `lookups` are in the log, too, and in nobody else's count.
    """
    noted, asked = sent_successes(sent), next(log for log in logs if log.member is PROVINCE)
    counts = {
        "planned": expected,
        "noted by the client": noted,
        "counted by the gateway": outcome.exchanges,
        "answers in its log": asked.counts.get("answer", 0) - lookups,
    }
    served = sum(f'"service":"{BUSINESS.id}"' in line and '"status":200' in line for line in _lines(sent))
    found = [f"successful calls: {counts}"] if len(set(counts.values())) > 1 else []
    if served != len(_lines(effects)):
        found.append(f"the business register's application served {len(_lines(effects))} calls, {served} were answered")
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def clear_earlier(out: Path) -> None:
    """Make room for the results: an earlier run's are removed, anything else of those names is left alone.

    Raises:
        DemoFailed: The folder holds such names, but not all that an earlier run leaves.
    """
    there = [name for name in (*_OUT_NAMES, *_WORK_NAMES) if (out / name).exists()]
    if there and not set(there) >= set(_OUT_NAMES):
        raise DemoFailed(
            f"{out} holds {', '.join(there)}, but not from a run of this demonstration; choose another folder"
        )
    for name in there:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


async def _watch(processes: Processes) -> None:
    while True:
        processes.check()
        await asyncio.sleep(_WATCH_S)
