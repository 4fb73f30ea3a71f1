"""What processes cost: user and system time, and resident memory, of a fixed set of processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

from bench.processes import BenchFailed


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds since the processes began, and resident bytes now."""

    cpu_s: float
    resident_bytes: int


class Meter:
    """Measures a set of processes together.

    Args:
        pids: All processes of a side but the generator.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]

    def read(self) -> Cost:
        """The cost until now.

        Raises:
            BenchFailed: One of the processes is gone.
        """
        cpu_s, resident = 0.0, 0
        for process in self._processes:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    cpu_s += times.user + times.system
                    resident += process.memory_info().rss
            except psutil.Error as error:
                raise BenchFailed(f"a process of the run ended while it was measured: {error}") from error
        return Cost(cpu_s, resident)
