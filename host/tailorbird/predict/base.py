"""What a latency predictor is, and how good one is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.stats import rankdata  # type: ignore[import-untyped, unused-ignore]

from tailorbird.errors import UsageError
from tailorbird.types import Config


class LatencyModel(Protocol):
    """Predicts what a subnet of one SuperNet takes on one device. Calling it is predict_us, so a search can take it.

    measure: times subnets there, so that a search need not answer with predictions; None where there is no device.
    """

    measure: MeasureSubnets | None

    def predict_us(self, config: Config) -> float:
        """On-CPU microseconds per inference."""
        ...

    def __call__(self, config: Config) -> float:
        """The same."""
        ...


#: Times subnets on the device that a model predicts for: microseconds, those that do not run there left out.
MeasureSubnets = Callable[[Sequence[Config]], Mapping[Config, float]]


@dataclass(frozen=True, slots=True)
class Sample:
    """A subnet and its measured on-CPU microseconds per inference."""

    config: Config
    cpu_us: float


def usable(samples: Iterable[Sample]) -> list[Sample]:
    """Samples without those that were not measured (NaN), and one of each subnet, with the median of its times.

    Raises UsageError for a time that is none.
    """
    times: dict[Config, list[float]] = {}
    for sample in samples:
        if math.isnan(sample.cpu_us):
            continue
        if not 0.0 < sample.cpu_us < math.inf:
            raise UsageError(
                f"subnet {sample.config.key} cannot take {sample.cpu_us:g} us",
                why="times are above zero and finite",
                fix="leave out what did not run, or give it as NaN",
            )
        times.setdefault(sample.config, []).append(sample.cpu_us)
    return [Sample(config, statistics.median(found)) for config, found in times.items()]


@dataclass(frozen=True, slots=True)
class PredictionError:
    """How predictions compare with measurements the model has not seen.

    mape: mean absolute percentage error, percent; spearman: rank correlation, None with fewer than three samples or
    equal measurements.
    """

    samples: int
    mape: float
    spearman: float | None

    @classmethod
    def of(cls, predicted: Sequence[float], measured: Sequence[float]) -> PredictionError:
        """From pairs, at least one. Raises ValueError for none or for sequences of different lengths."""
        if not measured:
            raise ValueError("no samples to compare with")
        errors = [abs(p - m) / m for p, m in zip(predicted, measured, strict=True)]
        rank: float | None = None
        if len(measured) >= 3 and len(set(measured)) > 1 and len(set(predicted)) > 1:
            rank = float(np.corrcoef(rankdata(predicted), rankdata(measured))[0, 1])
        return cls(len(measured), 100 * statistics.fmean(errors), rank)
