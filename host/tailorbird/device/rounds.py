"""A time that can be had again: rounds spread over time, each in a process of its own.

Within a run the samples of a kernel agree to a percent while medians of two runs lie several apart, and more samples of
the same run do not help. Three things change meanwhile, and a round must see as much of each as it can:

    milliseconds   what runs on the other core or hardware thread makes the same code up to 1.7 times as slow. So up to
                   eight modules are timed in turns of 2 ms, and the samples of each are spread over the time of all:
                   that halves the deviation from round to round at the same cost.
    minutes        the machine's speed. So there are many rounds, in an order drawn anew, until the interval of each
                   one's median is narrow.
    processes      where code and data lie: pages share sets of the caches or do not. That stays as it is for as long as
                   a process lives, 2 to 6 % for some kernels, however often they are loaded. So each round has its own.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailorbird.types import Candidate, Measurement, Verdict

#: Rounds before the first look at the interval, and at most.
LEAST, MOST = 11, 31
#: Half the interval's width, as a share of the median, at which measuring stops.
PRECISION = 0.012
_CONFIDENCE = 0.9

#: Modules timed in turns at most; an agent takes no more.
TOGETHER = 8

#: Times modules once, in the order given.
MeasureOnce = Callable[[Sequence[Candidate]], Sequence[Measurement]]
#: Times up to TOGETHER modules in turns, in orders drawn from a seed; one that fails fails all.
MeasureTogether = Callable[[Sequence[Candidate], int], Sequence[Measurement]]


@dataclass(frozen=True, slots=True)
class Rounds:
    """Measurements of one module, in the order in which they were taken."""

    label: str
    rounds: tuple[Measurement, ...]

    @property
    def error(self) -> str:
        """Why the module could not be timed in one of the rounds, "" when it could."""
        return next((measurement.error or "no timings" for measurement in self.rounds if not measurement.ok), "")

    @property
    def cpu_median_us(self) -> float:
        """Median on-CPU time, microseconds: the median of the rounds' medians."""
        return statistics.median(measurement.cpu_median_us for measurement in self.rounds)

    @property
    def interval_us(self) -> tuple[float, float]:
        """90 % interval of that median, from order statistics: whatever the rounds' distribution, if independent."""
        ordered = sorted(measurement.cpu_median_us for measurement in self.rounds)
        rank = _rank(len(ordered))
        return ordered[rank], ordered[-1 - rank]

    @property
    def precision(self) -> float:
        """Half the interval's width as a share of the median."""
        low, high = self.interval_us
        return (high - low) / (2.0 * self.cpu_median_us)

    @property
    def cpu_references(self) -> float | None:
        """The median in units of the reference kernel, round by round; None when a round does not tell it."""
        found = [measurement.cpu_references for measurement in self.rounds]
        known = [value for value in found if value is not None]
        return statistics.median(known) if known and len(known) == len(found) else None

    @property
    def verdicts(self) -> frozenset[Verdict]:
        """Every verdict that applied to one of the rounds."""
        return frozenset().union(*(measurement.verdicts for measurement in self.rounds))


def measure_rounds(
    measure: MeasureOnce,
    candidates: Sequence[Candidate],
    *,
    least: int = LEAST,
    most: int = MOST,
    precision: float = PRECISION,
    seed: int = 0,
) -> list[Rounds]:
    """Time modules in rounds until the interval of each median is within +-`precision`, or `most` rounds are over.

    A module that fails is not tried again. Raises ValueError for fewer than one round, and what `measure` raises.
    """
    if not 1 <= least <= most:
        raise ValueError(f"between {least} and {most} rounds there are none")
    draw = random.Random(seed)  # noqa: S311  (an order, not a secret)
    taken: list[list[Measurement]] = [[] for _ in candidates]
    open_ = list(range(len(candidates)))
    for _ in range(most):
        order = draw.sample(open_, len(open_))
        for index, measurement in zip(order, measure([candidates[index] for index in order]), strict=True):
            taken[index].append(measurement)
        open_ = [index for index in open_ if _goes_on(Rounds("", tuple(taken[index])), least, precision)]
        if not open_:
            break
    return [Rounds(candidate.label, tuple(found)) for candidate, found in zip(candidates, taken, strict=True)]


def in_groups(measure: MeasureTogether, seed: int = 0) -> MeasureOnce:
    """Times modules in groups as they come; when one fails, those it failed with are timed by themselves."""
    orders = itertools.count(seed)

    def once(some: Sequence[Candidate]) -> list[Measurement]:
        found: list[Measurement] = []
        count = -(-len(some) // TOGETHER)
        for number in range(count):
            group = some[number * len(some) // count : (number + 1) * len(some) // count]
            timed = measure(group, next(orders))
            if len(group) > 1 and not all(measurement.ok for measurement in timed):
                timed = [measurement for alone in group for measurement in measure([alone], next(orders))]
            found += timed
        return found

    return once


def _goes_on(found: Rounds, least: int, precision: float) -> bool:
    return not found.error and (len(found.rounds) < least or found.precision > precision)


def _rank(count: int) -> int:
    """The largest k so that the median lies between the k-th smallest and the k-th largest of `count` with 90 %.

    Counted from 0; each value lies on either side of the median with probability 1/2 (David and Nagaraja, Order
    Statistics, 7.1). 0 where even the extremes promise less.
    """
    outside, rank = 0.0, 0
    for k in range((count + 1) // 2):
        outside += 2.0 * math.comb(count, k) / 2.0**count
        if outside > 1.0 - _CONFIDENCE:
            break
        rank = k
    return rank
