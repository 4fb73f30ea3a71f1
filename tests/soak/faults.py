"""Does what the schedule says, and notes what was really done, and when, in `faults.jsonl`."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections import Counter

from . import strangers
from .lines import LineFile, read
from .schedule import CONSUMER, GATEWAYS, Fault
from .stage import Stage

_SLICE_S = 0.05


class Breaker:
    """Runs a schedule against a stage, from the main thread.

    Attributes:
        done: faults that took place, by kind.
        kills: SIGKILLs by target, those in the middle of a commit included.
        ended: gateways that ended by themselves, with their exit codes.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._book = LineFile(stage.out / "faults.jsonl")
        self._told: dict[Fault, float] = {}
        self._cut_at: dict[Fault, float] = {}
        self.done: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.ended: list[str] = []

    def run(self, faults: list[Fault], seconds: float) -> None:
        """Breaks and mends until `seconds` have passed."""
        events = sorted(
            [(one.at_s, 0, one) for one in faults] + [(one.until_s, 1, one) for one in faults],
            key=lambda event: (event[0], event[1]),
        )
        began_s = time.monotonic()
        for at_s, ends, fault in events:
            self._sleep(began_s + at_s)
            try:
                (self._end if ends else self._begin)(fault)
            except (OSError, TimeoutError) as error:  # a stranger finds no broker: noted, not counted
                self._book.add(fault=fault.kind, target=fault.target, failed=repr(error), at=time.time())
        self._sleep(began_s + seconds)

    def _sleep(self, until_s: float) -> None:
        while (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _SLICE_S))
            for code in GATEWAYS:
                self._notice_end(code)

    def _notice_end(self, code: str) -> None:
        """A gateway that a planned commit killed, or that ended by itself: noted once, here. It is started again when
        its fault ends, or at once if there is none, as a service manager would."""
        member = self._stage.world.members[code]
        if member.process is None or member.process.poll() is None:
            return
        if member.process.returncode == -signal.SIGKILL:
            self.kills[code] += 1
        else:
            self.ended.append(f"{code} with {member.process.returncode}")
        self._book.add(fault="killed", target=code, began=time.time(), ended=time.time())
        planned = member.process.returncode == -signal.SIGKILL
        member.process = None
        if not planned:
            self._stage.start(code)

    def _begin(self, fault: Fault) -> None:
        self._told[fault] = time.time()
        stage, target = self._stage, fault.target
        if fault.kind == "kill":
            self._kill(target)
        elif fault.kind == "kill-in-commit":
            step, action, nth = fault.detail.split()
            stage.world.arm(target, step, action, int(nth))
        elif fault.kind == "cut":
            stage.wires[target].cut()
        elif fault.kind == "blackhole":
            self._signal(target, signal.SIGSTOP)
        elif fault.kind in ("disk-full", "broker-full"):
            self._limit(target, 0)
        elif fault.kind == "skew":
            self._restart(target, fault.detail)
        elif fault.kind in ("slow", "busy"):
            (stage.out / fault.kind).write_text(fault.detail)
        elif fault.kind == "preempt":
            stage.wires[target].cut()
            self._cut_at[fault] = time.time()
        elif fault.kind == "duplicate" or fault.kind == "garbage":
            self._strange(fault)

    def _end(self, fault: Fault) -> None:
        stage, target = self._stage, fault.target
        if fault.kind in ("kill", "kill-in-commit"):
            if fault.kind == "kill-in-commit":
                (stage.world.members[target].data / "fault.json").unlink(missing_ok=True)
                self._notice_end(target)
            stage.start(target)
        elif fault.kind == "cut":
            stage.wires[target].mend()
        elif fault.kind == "blackhole":
            self._signal(target, signal.SIGCONT)
        elif fault.kind == "disk-full":
            self._notice_end(target)
            self._limit(target, None)
        elif fault.kind == "broker-full":  # there is space, and somebody starts it again: it does not write by itself
            stage.kill(target)
            stage.start(target)
        elif fault.kind == "skew":
            self._restart(target, "0")
        elif fault.kind in ("slow", "busy"):
            (stage.out / fault.kind).unlink(missing_ok=True)
        elif fault.kind == "preempt":
            try:
                self._strange(fault)
            finally:
                stage.wires[target].mend()
        self.done[fault.kind] += 1
        self._book.add(fault=fault.kind, target=target, detail=fault.detail, began=self._told[fault], ended=time.time())

    def _kill(self, target: str) -> None:
        if self._stage.kill(target):
            self.kills[target] += 1

    def _restart(self, code: str, offset_s: str) -> None:
        self._kill(code)
        self._stage.world.options[code] = ["--clock-offset-s", offset_s]
        self._stage.start(code)

    def _signal(self, target: str, number: signal.Signals) -> None:
        pid = self._stage.pids().get(target)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _limit(self, code: str, size: int | None) -> None:
        pid = self._stage.pids().get(code)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def _strange(self, fault: Fault) -> None:
        """What is done at the broker with others' credentials; a broker that is away is nothing to do it with."""
        world, count = self._stage.world, int(fault.detail)
        if "broker" not in self._stage.pids():
            return
        if fault.kind == "duplicate":
            made = self._stage.loop.run(strangers.duplicate(world, count), 6)
        elif fault.kind == "garbage":
            made = self._stage.loop.run(strangers.garbage(world, count, str(fault)), 4)
        else:
            made = self._stage.loop.run(strangers.preempt(world, self._waiting(fault)[:count]), 4)
        self.done[f"{fault.kind}-messages"] += made

    def _waiting(self, fault: Fault) -> list[str]:
        """Ids that the consumer's client heard while the line was cut."""
        assert fault.target == CONSUMER
        lines = read(self._stage.out / "sent.jsonl")
        return [line["told"] for line in lines if line["what"] == "accepted" and line["at"] >= self._cut_at[fault]]
