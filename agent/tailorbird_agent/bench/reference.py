"""The reference kernel: fixed work, timed again and again, that tells a slower device from a slower candidate.

SHA-256 of 16 KiB, in the C library that every Python has: it stays in the first-level cache, allocates nothing and uses
no thread pool, so that its on-CPU time follows the core's clock and whoever shares the core, and nothing else.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable

_BYTES = bytes(16 * 1024)
_SAMPLES = 15
_SAMPLE_NS = 200e3
_FIRST = 5
#: The usual speed is the median of so many timings: of some minutes, when they are half a second apart.
_REMEMBERED = 201


def _digest() -> bytes:
    return hashlib.sha256(_BYTES).digest()


class Reference:
    """Times the kernel and remembers what is usual. clock_ns: on-CPU nanoseconds of the calling thread."""

    def __init__(self, clock_ns: Callable[[], int] = time.thread_time_ns, work: Callable[[], object] = _digest) -> None:
        self._clock_ns = clock_ns
        self._work = work
        self._work()
        self._number = max(1, math.ceil(_SAMPLE_NS / max(1.0, min(self._once_ns(1) for _ in range(5)))))
        self._seen_us: deque[float] = deque((self._time_us() for _ in range(_FIRST)), _REMEMBERED)

    @property
    def usual_us(self) -> float:
        """Microseconds per run, the median of what was seen."""
        return statistics.median(self._seen_us)

    def drift(self) -> float:
        """Time the kernel now: 0.05 when it took 5 % longer than usual. About 3 ms."""
        now_us = self._time_us()
        self._seen_us.append(now_us)
        return now_us / self.usual_us - 1.0

    def _time_us(self) -> float:
        return statistics.median(self._once_ns(self._number) / self._number for _ in range(_SAMPLES)) / 1e3

    def _once_ns(self, number: int) -> float:
        started = self._clock_ns()
        for _ in range(number):
            self._work()
        return self._clock_ns() - started
