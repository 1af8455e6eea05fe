"""A or B: two modules timed in turns, and how sure their ratio is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailorbird.errors import DeviceError
from tailorbird.types import Measurement

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two measurements taken in turns. ratio: on-CPU time of the first over that of the second, median over the rounds.

    low, high: its interval at `confidence`; rounds: in each of them both had one block of samples.
    """

    first: Measurement
    second: Measurement
    ratio: float
    low: float
    high: float
    rounds: int
    confidence: float = 0.95

    @property
    def decided(self) -> bool:
        """Whether the interval leaves no doubt which one is faster."""
        return self.low > 1.0 or self.high < 1.0

    @property
    def words(self) -> str:
        """The ratio with its interval and what follows from it, in one line."""
        interval = f"{self.ratio:.3f} ({self.low:.3f} to {self.high:.3f}, {self.confidence:.0%})"
        names = self.first.label or "the first", self.second.label or "the second"
        if not self.decided:
            return f"{names[0]} / {names[1]} = {interval}: no difference can be told"
        faster, slower = names if self.high < 1.0 else names[::-1]
        return f"{names[0]} / {names[1]} = {interval}: {faster} is faster than {slower}"


def compare(
    first: Measurement, second: Measurement, *, confidence: float = 0.95, resamples: int = _RESAMPLES, seed: int = 0
) -> Comparison:
    """Ratio of the on-CPU times of two measurements taken in turns, with a block-bootstrap interval.

    Of each round the ratio of both blocks' medians, of those the median: what disturbs a round disturbs both sides, and
    cancels. On a busy machine that ratio varies two to four times less than the ratio of both medians over everything.
    Rounds are drawn with replacement, each with both its blocks, for samples within a block depend on each other
    (Kunsch, 1989; Efron and Tibshirani, An Introduction to the Bootstrap, 8.6). Percentile interval.

    Raises:
        DeviceError: one of them failed, or their blocks do not belong together.
    """
    for measurement in (first, second):
        if not measurement.ok:
            raise DeviceError(
                f"{first.label or 'the first'} and {second.label or 'the second'} cannot be compared",
                why=measurement.error or "there are no timings",
                reason="MEASUREMENT_FAILED",
            )
    sides = _blocks(first), _blocks(second)
    if not sides[0] or len(sides[0]) != len(sides[1]):
        raise DeviceError(
            "the measurements cannot be compared",
            why="they were not taken in turns",
            fix="measure both with Device.compare",
            reason="MEASUREMENT_FAILED",
        )
    draw = np.random.default_rng(seed)
    rounds = len(sides[0])
    ratios = np.array(
        [_ratio(float(np.median(one)), float(np.median(other))) for one, other in zip(*sides, strict=True)]
    )
    resampled = [np.median(ratios[draw.integers(0, rounds, rounds)]) for _ in range(resamples)]
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Comparison(first, second, float(np.median(ratios)), float(low), float(high), rounds, confidence)


def _blocks(measurement: Measurement) -> Sequence[NDArray[np.float64]]:
    if sum(measurement.blocks) != len(measurement.cpu_us):
        return []
    ends = list(itertools.accumulate(measurement.blocks))
    return np.split(np.asarray(measurement.cpu_us, float), ends[:-1]) if ends else []


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0.0 else float("inf")
