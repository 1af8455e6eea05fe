"""How calls are timed: warm up until they settle, repeat them often enough for the clock, stop by rule.

Samples are taken in batches of half a second, between which the caller may look at the device. Several calls are timed
in turns: in every round each gets one block of samples, in an order drawn anew, so that whatever the device does
meanwhile happens to all of them. Nothing that was measured is left out.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tailorbird_agent.bench.stopwatch import Lap, Stopwatch
from tailorbird_agent.worker.plan import Protocol

#: One sample lasts at least this long, by repeating the call: a hundred times the cost of reading the clocks.
SAMPLE_FLOOR_US = 100.0
#: No call has more samples; calls are repeated within samples so that they still cover the protocol's time.
MAX_SAMPLES = 2000
#: After so much wall time the device is looked at.
BATCH_US = 500e3
#: Wall time of one call's block in a round of several. A busy device changes its speed within milliseconds, with what
#: runs on the other core or hardware thread: blocks must be shorter for neighbours to have seen the same.
BLOCK_US = 2e3

_SETTLED = 0.02
_WARM_UP_MIN_RUNS = 3
_WARM_UP_FLOOR_US = 100e3
_WARM_UP_CEILING_US = 5e6

Call = Callable[[], object]


def _no_look() -> None:
    """For those who do not want to look."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Microseconds per call; each sample is the mean of `number` calls in a row.

    delay_us is empty when the kernel does not tell; blocks are the numbers of samples taken in one go, in order;
    complete: both minima of the protocol were reached.
    """

    wall_us: tuple[float, ...]
    cpu_us: tuple[float, ...]
    delay_us: tuple[float, ...]
    number: int
    blocks: tuple[int, ...]
    complete: bool


def time_call(call: Call, protocol: Protocol, stopwatch: Stopwatch, look: Callable[[], None] = _no_look) -> Samples:
    """Time a call until both minima of the protocol are reached, or its maximum. `look` is called around each batch."""
    return time_calls([call], protocol, stopwatch, look)[0]


def time_calls(
    calls: Sequence[Call],
    protocol: Protocol,
    stopwatch: Stopwatch,
    look: Callable[[], None] = _no_look,
    draw: random.Random | None = None,
) -> list[Samples]:
    """Time several calls in turns until each has reached both minima, or one of them the maximum.

    `draw` decides the order within each round.
    """
    draw = draw or random.Random(0)  # noqa: S311 -- an order, not a secret
    arms = [_Arm(call, _repeats(warm_up(call, protocol, stopwatch), protocol)) for call in calls]
    block_us = BLOCK_US if len(arms) > 1 else BATCH_US
    look()
    since_look_us = 0.0
    while not all(arm.reached(protocol) for arm in arms) and not any(arm.over(protocol) for arm in arms):
        for arm in draw.sample(arms, len(arms)):
            since_look_us += arm.block(stopwatch, block_us, protocol, alone=len(arms) == 1)
        if since_look_us >= BATCH_US:
            look()
            since_look_us = 0.0
    if since_look_us > 0.0:
        look()
    return [arm.samples(protocol) for arm in arms]


def warm_up(call: Call, protocol: Protocol, stopwatch: Stopwatch) -> float:
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
            lap = stopwatch.stop()
            times_us.append(lap.cpu_us)
            spent_us += lap.wall_us
        runs += len(times_us)
        now = statistics.median(times_us)
        settled = abs(now - before) <= _SETTLED * before if math.isfinite(before) else False
        if spent_us >= ceiling_us or (settled and runs >= _WARM_UP_MIN_RUNS and spent_us >= floor_us):
            return now
        before = now
        round_runs *= 2


@dataclass(slots=True)
class _Arm:
    """One of the calls, and what was measured of it so far."""

    call: Call
    number: int
    laps: list[Lap] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    spent_us: float = 0.0
    ran_us: float = 0.0

    def reached(self, protocol: Protocol) -> bool:
        """Whether both minima hold. Time counts while the call runs: on a busy device it waits most of the time."""
        return len(self.laps) >= protocol.min_runs and self.ran_us >= protocol.min_time_ms * 1e3

    def over(self, protocol: Protocol) -> bool:
        """Whether it must stop whatever it has reached."""
        return self.spent_us >= protocol.max_time_ms * 1e3 or len(self.laps) >= MAX_SAMPLES

    def block(self, stopwatch: Stopwatch, block_us: float, protocol: Protocol, *, alone: bool) -> float:
        """Take samples for block_us, one at least; returns the wall time spent. Alone, it stops when it is done."""
        started_us, first = self.spent_us, len(self.laps)
        call = self.call
        while True:
            stopwatch.start()
            for _ in range(self.number):
                call()
            lap = stopwatch.stop()
            self.laps.append(lap)
            self.spent_us += lap.wall_us
            self.ran_us += lap.cpu_us
            if self.spent_us - started_us >= block_us or self.over(protocol) or (alone and self.reached(protocol)):
                break
        self.blocks.append(len(self.laps) - first)
        return self.spent_us - started_us

    def samples(self, protocol: Protocol) -> Samples:
        """All of it, per call."""
        number = self.number
        delays = [lap.delay_us for lap in self.laps if lap.delay_us is not None]
        return Samples(
            wall_us=tuple(lap.wall_us / number for lap in self.laps),
            cpu_us=tuple(lap.cpu_us / number for lap in self.laps),
            delay_us=tuple(delay / number for delay in delays) if len(delays) == len(self.laps) else (),
            number=number,
            blocks=tuple(self.blocks),
            complete=self.reached(protocol),
        )


def _repeats(call_us: float, protocol: Protocol) -> int:
    """Calls per sample. Some more than needed: a call is faster among others than alone in the warm-up."""
    sample_us = max(SAMPLE_FLOOR_US, 1.5 * protocol.min_time_ms * 1e3 / MAX_SAMPLES)
    return max(1, math.ceil(sample_us / max(call_us, 0.01)))
