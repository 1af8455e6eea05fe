"""How a call is timed: warm up until it settles, repeat it often enough for the clock, stop by rule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from tailorbird_agent.bench.stopwatch import Stopwatch
from tailorbird_agent.worker.plan import Protocol

#: One sample lasts at least this long, by repeating the call: a hundred times the cost of reading the clocks.
SAMPLE_FLOOR_US = 100.0
#: No batch has more samples; calls are repeated within samples so that they still cover the protocol's time.
MAX_SAMPLES = 2000

_SETTLED = 0.02
_WARM_UP_MIN_RUNS = 3
_WARM_UP_FLOOR_US = 100e3
_WARM_UP_CEILING_US = 5e6


@dataclass(frozen=True, slots=True)
class Samples:
    """Microseconds per call on both clocks; each sample is the mean of `number` calls in a row."""

    wall_us: tuple[float, ...]
    cpu_us: tuple[float, ...]
    number: int


def time_call(call: Callable[[], object], protocol: Protocol, stopwatch: Stopwatch) -> Samples:
    """Time a call under a protocol: until both its minima are reached, or its maximum."""
    number = _repeats(warm_up(call, protocol, stopwatch), protocol)
    wall_us: list[float] = []
    cpu_us: list[float] = []
    spent_us = 0.0
    while not _done(len(wall_us), spent_us, protocol):
        stopwatch.start()
        for _ in range(number):
            call()
        wall, cpu = stopwatch.stop()
        wall_us.append(wall / number)
        cpu_us.append(cpu / number)
        spent_us += wall
    return Samples(tuple(wall_us), tuple(cpu_us), number)


def warm_up(call: Callable[[], object], protocol: Protocol, stopwatch: Stopwatch) -> float:
    """Run in doubling rounds until two medians in a row differ by less than 2 %; returns the last, in microseconds.

    At least 3 runs and 100 ms (a fifth of the protocol's time if that is less), at most 5 s (half its maximum).
    Medians are of on-CPU time: a busy board settles, too.
    """
    floor_us = min(_WARM_UP_FLOOR_US, protocol.min_time_ms * 1e3 / 5.0)
    ceiling_us = min(_WARM_UP_CEILING_US, protocol.max_time_ms * 1e3 / 2.0)
    runs, spent_us, round_runs, before = 0, 0.0, 1, math.inf
    while True:
        times_us: list[float] = []
        while len(times_us) < round_runs and (spent_us < ceiling_us or not times_us):
            stopwatch.start()
            call()
            wall, cpu = stopwatch.stop()
            times_us.append(cpu)
            spent_us += wall
        runs += len(times_us)
        now = statistics.median(times_us)
        settled = abs(now - before) <= _SETTLED * before if math.isfinite(before) else False
        if spent_us >= ceiling_us or (settled and runs >= _WARM_UP_MIN_RUNS and spent_us >= floor_us):
            return now
        before = now
        round_runs *= 2


def _repeats(call_us: float, protocol: Protocol) -> int:
    """Calls per sample."""
    sample_us = max(SAMPLE_FLOOR_US, protocol.min_time_ms * 1e3 / MAX_SAMPLES)
    return max(1, math.ceil(sample_us / max(call_us, 0.01)))


def _done(samples: int, spent_us: float, protocol: Protocol) -> bool:
    if samples == 0:
        return False
    enough = samples >= protocol.min_runs and spent_us >= protocol.min_time_ms * 1e3
    return enough or spent_us >= protocol.max_time_ms * 1e3 or samples >= MAX_SAMPLES
