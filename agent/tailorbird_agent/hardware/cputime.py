"""CPU time per thread: the on-CPU half of the adaptation's two channels when a runtime uses several threads.

Other processes are read through /proc/PID/task/*/schedstat, which needs no privilege and also tells how long threads
waited in the run queue. The kernel brings a *running* thread's figure up to date only at its next tick, so it can be
some milliseconds old; for threads of one's own process the per-thread clocks are exact and cheaper.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tailorbird_agent.hardware.number import whole
from tailorbird_agent.hardware.tree import Tree

_CLOCK_SCHED_PER_THREAD = 0b110  # include/linux/posix-timers.h: CPUCLOCK_SCHED | CPUCLOCK_PERTHREAD_MASK


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """One thread since it started: time on the CPU, and time spent runnable but waiting for a CPU."""

    tid: int
    run_us: float
    delay_us: float


@dataclass(frozen=True, slots=True)
class CpuTime:
    """All threads of a process, by thread number."""

    threads: tuple[ThreadTime, ...]

    @property
    def run_us(self) -> float:
        """CPU time of all threads together."""
        return sum(thread.run_us for thread in self.threads)

    @property
    def delay_us(self) -> float:
        """Run-queue delay of all threads together."""
        return sum(thread.delay_us for thread in self.threads)

    @property
    def busiest_us(self) -> float:
        """CPU time of the busiest thread: the critical path of a parallel kernel."""
        return max((thread.run_us for thread in self.threads), default=0.0)

    def since(self, earlier: CpuTime) -> CpuTime:
        """What was used after `earlier`; threads that have ended meanwhile are not in it."""
        before = {thread.tid: thread for thread in earlier.threads}
        none = ThreadTime(0, 0.0, 0.0)
        return CpuTime(
            tuple(
                ThreadTime(
                    now.tid,
                    now.run_us - before.get(now.tid, none).run_us,
                    now.delay_us - before.get(now.tid, none).delay_us,
                )
                for now in self.threads
            )
        )


def read_cpu_time(pid: int, root: Path | str = "/") -> CpuTime:
    """CPU time of every thread of a process.

    Raises:
        ProcessLookupError: there is no such process, or its kernel keeps no scheduler statistics.
    """
    tree = Tree(root)
    threads = []
    for tid in tree.names(f"/proc/{pid}/task"):
        words = (tree.text(f"/proc/{pid}/task/{tid}/schedstat") or "").split()
        run_ns, delay_ns = (whole(words[0]), whole(words[1])) if len(words) >= 2 else (None, None)
        if run_ns is not None and delay_ns is not None:  # a thread may end between the two looks
            threads.append(ThreadTime(int(tid), run_ns / 1e3, delay_ns / 1e3))
    if not threads:
        raise ProcessLookupError(f"/proc/{pid}/task/*/schedstat cannot be read")
    return CpuTime(tuple(threads))


def own_run_times_us(tids: Iterable[int] | None = None) -> dict[int, float]:
    """Exact CPU time of threads of this process, by thread number (all by default); ended threads are left out."""
    if tids is None:
        tids = [int(name) for name in Tree().names("/proc/self/task")]
    times = {}
    for tid in tids:
        with suppress(OSError):
            times[tid] = time.clock_gettime_ns((~tid << 3) | _CLOCK_SCHED_PER_THREAD) / 1e3
    return times


def busiest_us(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """CPU time of the thread that worked most between two looks."""
    return max((now - before.get(tid, 0.0) for tid, now in after.items()), default=0.0)


class RunQueue:
    """How long threads of this process were ready and had no CPU; its files stay open, since it is read all the time.

    Kernels without scheduler statistics do not tell.
    """

    __slots__ = ("_descriptors",)

    def __init__(self, tids: Iterable[int]) -> None:
        self._descriptors: list[int] = []
        for tid in tids:
            with suppress(OSError):
                flags = os.O_RDONLY | os.O_CLOEXEC
                self._descriptors.append(os.open(f"/proc/self/task/{tid}/schedstat", flags))

    def delay_us(self) -> float | None:
        """Microseconds of all threads together since they started; None when the kernel does not tell."""
        total_ns, told = 0, False
        for descriptor in self._descriptors:
            with suppress(OSError):  # the thread has ended
                words = os.pread(descriptor, 100, 0).split()
                if len(words) >= 2:
                    total_ns += int(words[1])
                    told = True
        return total_ns / 1e3 if told else None

    def __del__(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
