"""Both clocks of one call: wall time, and the time it would have taken had nobody else used the CPU.

With one thread the latter is the caller's thread clock. With more it is the share of the busiest thread, the critical
path: the sum would count parallel work twice.
"""

from __future__ import annotations

import time
from typing import Protocol

from tailorbird_agent.hardware import cputime


class Stopwatch(Protocol):
    """Started and stopped by the thread that makes the call."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> tuple[float, float]:
        """(wall, on-CPU) microseconds since start."""
        ...


class ThreadStopwatch:
    """For calls that stay on the calling thread."""

    __slots__ = ("_cpu_ns", "_wall_ns")

    def start(self) -> None:
        """Begin; the wall clock surrounds the CPU clock, so that on-CPU time never exceeds wall time."""
        self._wall_ns = time.perf_counter_ns()
        self._cpu_ns = time.thread_time_ns()

    def stop(self) -> tuple[float, float]:
        """(wall, on-CPU) microseconds since start."""
        cpu_ns = time.thread_time_ns() - self._cpu_ns
        return (time.perf_counter_ns() - self._wall_ns) / 1e3, cpu_ns / 1e3


class CriticalPathStopwatch:
    """For runtimes with a thread pool; make it after the pool's first call, when all threads exist."""

    __slots__ = ("_started_us", "_tids", "_wall_ns")

    def __init__(self) -> None:
        self._tids = tuple(cputime.own_run_times_us())

    def start(self) -> None:
        """Begin."""
        self._wall_ns = time.perf_counter_ns()
        self._started_us = cputime.own_run_times_us(self._tids)

    def stop(self) -> tuple[float, float]:
        """(wall, busiest thread's on-CPU) microseconds since start."""
        ended_us = cputime.own_run_times_us(self._tids)
        wall_us = (time.perf_counter_ns() - self._wall_ns) / 1e3
        return wall_us, cputime.busiest_us(self._started_us, ended_us)


def make_stopwatch(threads: int) -> Stopwatch:
    """The cheapest stopwatch that is right for a runtime with so many threads."""
    return ThreadStopwatch() if threads == 1 else CriticalPathStopwatch()
