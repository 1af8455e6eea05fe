"""Three clocks of one call: wall time, the time it would have taken had nobody else used the CPU, and the queueing.

With one thread the second is the caller's thread clock. With more it is the share of the busiest thread, the critical
path: the sum would count parallel work twice, and the spinning of threads that wait for work as well. All clocks are
monotonic: setting the time of day changes nothing.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple, Protocol

from tailorbird_agent.hardware import cputime


class Lap(NamedTuple):
    """Microseconds. delay_us: threads of this process were ready and had no CPU, summed; None if the kernel is mute."""

    wall_us: float
    cpu_us: float
    delay_us: float | None


class Stopwatch(Protocol):
    """Started and stopped by the thread that makes the call."""

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> Lap:
        """What passed since start."""
        ...


class ThreadStopwatch:
    """For calls that stay on the calling thread. queueing: to be told of; then that thread makes the stopwatch, too."""

    __slots__ = ("_cpu_ns", "_delay_us", "_queue", "_wall_ns")

    def __init__(self, *, queueing: bool = False) -> None:
        self._queue = cputime.RunQueue((threading.get_native_id(),) if queueing else ())

    def start(self) -> None:
        """Begin; the wall clock surrounds the CPU clock, so that on-CPU time never exceeds wall time."""
        self._delay_us = self._queue.delay_us()
        self._wall_ns = time.perf_counter_ns()
        self._cpu_ns = time.thread_time_ns()

    def stop(self) -> Lap:
        """What passed since start."""
        cpu_ns = time.thread_time_ns() - self._cpu_ns
        wall_ns = time.perf_counter_ns() - self._wall_ns
        return Lap(wall_ns / 1e3, cpu_ns / 1e3, _between(self._delay_us, self._queue.delay_us()))


class CriticalPathStopwatch:
    """For runtimes with a thread pool; make it after the pool's first call, when all threads exist."""

    __slots__ = ("_delay_us", "_queue", "_started_us", "_tids", "_wall_ns")

    def __init__(self, *, queueing: bool = False) -> None:
        self._tids = tuple(cputime.own_run_times_us())
        self._queue = cputime.RunQueue(self._tids if queueing else ())

    def start(self) -> None:
        """Begin."""
        self._delay_us = self._queue.delay_us()
        self._wall_ns = time.perf_counter_ns()
        self._started_us = cputime.own_run_times_us(self._tids)

    def stop(self) -> Lap:
        """What passed since start, of the CPU time the busiest thread's."""
        ended_us = cputime.own_run_times_us(self._tids)
        wall_us = (time.perf_counter_ns() - self._wall_ns) / 1e3
        busiest_us = cputime.busiest_us(self._started_us, ended_us)
        return Lap(wall_us, busiest_us, _between(self._delay_us, self._queue.delay_us()))


def make_stopwatch(threads: int, *, queueing: bool = False) -> Stopwatch:
    """The cheapest stopwatch that is right for a runtime with so many threads; queueing: that times queueing, too."""
    return ThreadStopwatch(queueing=queueing) if threads == 1 else CriticalPathStopwatch(queueing=queueing)


def _between(before_us: float | None, after_us: float | None) -> float | None:
    return None if before_us is None or after_us is None else after_us - before_us
