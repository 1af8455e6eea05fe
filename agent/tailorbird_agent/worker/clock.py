"""On-CPU time of one call: the time it would have taken had nobody else used the CPU.

With one thread that is the caller's thread clock. With more it is the largest share any one thread had, the critical
path: the sum would count parallel work twice.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol


class CpuClock(Protocol):
    """A stopwatch for on-CPU time; start and stop are called by the thread that runs the inference."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop_ns(self) -> int:
        """On-CPU nanoseconds since start."""
        ...


class ThreadClock:
    """CLOCK_THREAD_CPUTIME_ID of the calling thread."""

    __slots__ = ("_started_ns",)

    def start(self) -> None:
        """Begin."""
        self._started_ns = time.thread_time_ns()

    def stop_ns(self) -> int:
        """On-CPU nanoseconds since start."""
        return time.thread_time_ns() - self._started_ns


class CriticalPathClock:
    """Busiest of all threads of this process; the list is refreshed by watch(), after a runtime made its threads."""

    __slots__ = ("_clocks", "_started_ns")

    def __init__(self) -> None:
        self.watch()

    def watch(self) -> None:
        """Look up the threads that exist now."""
        self._clocks = [_clock_of(int(task.name)) for task in Path("/proc/self/task").iterdir()]
        self._started_ns = [0] * len(self._clocks)

    def start(self) -> None:
        """Begin."""
        self._started_ns = [_read_ns(clock) for clock in self._clocks]

    def stop_ns(self) -> int:
        """On-CPU nanoseconds of the busiest thread since start."""
        now = (_read_ns(clock) for clock in self._clocks)
        return max(end - begin for begin, end in zip(self._started_ns, now, strict=True))


def make_clock(threads: int) -> CpuClock:
    """The cheapest clock that is right for a runtime with so many threads."""
    return ThreadClock() if threads == 1 else CriticalPathClock()


def _clock_of(tid: int) -> int:
    """Clock id of a thread: Linux encodes (~tid, per thread, scheduler time) in one number (posix-timers)."""
    return ~tid << 3 | 6


def _read_ns(clock: int) -> int:
    """Its on-CPU time; 0 once it has ended, which can only make it drop out of the maximum."""
    try:
        return time.clock_gettime_ns(clock)
    except OSError:
        return 0
