"""A gateway that can be watched: `lienthong gateway` with two profilers inside, for `python -m bench --profile`.

SIGUSR1 begins, SIGUSR2 ends and writes LIENTHONG_BENCH_PROFILE. `sampling` looks at the event loop's thread every
millisecond and hardly disturbs; `tracing` is cProfile, which counts calls and makes small
functions look dearer than they are. Time inside C code counts for the line that called it, or comes back to.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Protocol

import msgspec

_PERIOD_S = 0.001
_IDLE = ("run", "runners.py")
FILE, KIND = "LIENTHONG_BENCH_PROFILE", "LIENTHONG_BENCH_PROFILE_KIND"


class Line(msgspec.Struct, frozen=True):
    """One place and what it took: samples or seconds, alone and with everything that it called.

    Attributes:
        place: File, line and function.
        own: Alone.
        whole: With callees.
        calls: How often it was called; 0 when unknown.
    """

    place: str
    own: float
    whole: float
    calls: int = 0


class Profile(msgspec.Struct, frozen=True):
    """What a profiler saw.

    Attributes:
        total: Sum of `own` over all places.
        functions: By function.
        lines: By source line; only of the sampling profiler.
    """

    total: float
    functions: list[Line]
    lines: list[Line]


class Profiler(Protocol):
    """One way of watching."""

    def start(self) -> None:
        """Begins."""

    def stop(self) -> Profile:
        """Ends; what was seen."""


class Sampling:
    """Samples the main thread's stack every millisecond; the loop waiting is left out.

    By the wall clock, because timers of CPU time only go off at the kernel's ticks.
    """

    def __init__(self) -> None:
        self._own: Counter[tuple[CodeType, int]] = Counter()
        self._whole: Counter[CodeType] = Counter()

    def start(self) -> None:
        """Begins."""
        signal.signal(signal.SIGALRM, self._sample)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, _PERIOD_S, _PERIOD_S)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        if frame is None or (frame.f_code.co_name, frame.f_code.co_filename.rpartition("/")[2]) == _IDLE:
            return
        self._own[frame.f_code, frame.f_lineno] += 1
        seen = set()
        walked: FrameType | None = frame
        while walked is not None:
            seen.add(walked.f_code)
            walked = walked.f_back
        self._whole.update(seen)

    def stop(self) -> Profile:
        """Ends; what was seen."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        by_function: Counter[CodeType] = Counter()
        for (code, _), count in self._own.items():
            by_function[code] += count
        functions = [
            Line(_place(code.co_filename, code.co_firstlineno, code.co_name), by_function[code], whole)
            for code, whole in self._whole.items()
        ]
        lines = [
            Line(_place(code.co_filename, line, code.co_name), count, count)
            for (code, line), count in self._own.items()
        ]
        return Profile(float(sum(by_function.values())), _sorted(functions), _sorted(lines))


class Tracing:
    """The interpreter's own profiler, in the main thread."""

    def __init__(self) -> None:
        self._profiler = cProfile.Profile()

    def start(self) -> None:
        """Begins."""
        self._profiler.enable()

    def stop(self) -> Profile:
        """Ends; what was seen."""
        self._profiler.disable()
        stats = pstats.Stats(self._profiler).stats  # type: ignore[attr-defined]
        functions = [Line(_place(*name), own, whole, calls) for name, (_, calls, own, whole, _callers) in stats.items()]
        return Profile(sum(line.own for line in functions), _sorted(functions), [])


def _sorted(lines: list[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: line.own, reverse=True)[:200]


def _place(file: str, line: int, name: str) -> str:
    root = str(Path(__file__).resolve().parent.parent) + "/"
    short = file.removeprefix(root)
    for mark in ("site-packages/", "lib/python3.11/"):
        short = short.rpartition(mark)[2]
    return f"{short}:{line} {name}" if line else name


def main() -> None:
    """`--home HOME`, like `lienthong gateway`."""
    from console.processes.gateway import run

    profiler: Profiler = Sampling() if os.environ[KIND] == "sampling" else Tracing()
    target = Path(os.environ[FILE])

    def begin(_number: int, _frame: FrameType | None) -> None:
        profiler.start()

    def end(_number: int, _frame: FrameType | None) -> None:
        made = msgspec.json.encode(profiler.stop())
        target.with_suffix(".part").write_bytes(made)
        target.with_suffix(".part").rename(target)

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)
    run(Path(sys.argv[sys.argv.index("--home") + 1]))


if __name__ == "__main__":
    main()
