"""Latency of a SuperNet's subnets on a device that was measured a handful of times, carried over from proxies.

stop rule     measure 5, then more, up to 20, until the median 90 % interval is under 15 %
doubt         a prediction is not to be used, and the subnet is to be measured, when its interval contains the
              deadline or is wider than 25 %, or when the subnet lies outside of what was measured
no samples    the proxies tell the order of subnets; nothing tells milliseconds, and none are given
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tailorbird.predict.base import MeasureSubnets, PredictionError, Sample, usable
from tailorbird.predict.hgp import HierarchicalGP, proxy_ranking
from tailorbird.predict.proxy_table import Array, ProxyTable
from tailorbird.predict.transfer import FittedTransfer, Samples, need_samples
from tailorbird.types import Config

#: Samples before the first look at the interval, and at most.
FIRST = 5
MOST = 20
#: Median width of the 90 % interval, as a share of the prediction, at which measuring stops.
NARROW = 0.15
#: A single prediction wider than this is not used.
WIDE = 0.25
#: A subnet lies outside when its leverage exceeds this many times the median of those measured.
_LEVERAGE = 4.0
_RIDGE = 1.0

#: Feature rows of configurations, (N, P).
FeaturesOf = Callable[[Sequence[Config]], Array]


@dataclass(frozen=True, slots=True)
class Interval:
    """Microseconds: the prediction and its central 90 %, NaN where that is unknown."""

    us: float
    low_us: float
    high_us: float

    @property
    def width(self) -> float:
        """As a share of the prediction."""
        return (self.high_us - self.low_us) / self.us


class MeasuredHull:
    """Where measurements support a prediction: within the range of every feature, and where they are not sparse.

    Sparseness is leverage, x' (X'X + I)^-1 x over scaled features: the variance of a linear model there.
    """

    def __init__(self, measured: Array) -> None:
        self._low, self._high = measured.min(axis=0), measured.max(axis=0)
        spread = measured.std(axis=0)
        self._centre = measured.mean(axis=0)
        self._unit = np.where(spread > 0, spread, 1.0)
        rows = (measured - self._centre) / self._unit
        self._inverse = np.linalg.inv(rows.T @ rows + _RIDGE * np.eye(rows.shape[1]))
        self._limit = _LEVERAGE * float(np.median(self._leverage(rows)))

    def _leverage(self, rows: Array) -> Array:
        return np.einsum("np,pq,nq->n", rows, self._inverse, rows)

    def holds(self, features: Array) -> Array:
        """Which of the rows (M, P) lie within, (M,) of bool."""
        slack = 1e-9 * np.maximum(np.abs(self._low), np.abs(self._high))
        within = ((features >= self._low - slack) & (features <= self._high + slack)).all(axis=1)
        sparse = self._leverage((features - self._centre) / self._unit) > self._limit
        return within & ~sparse


class TransferredLatency:
    """Latency predictor of one SuperNet on one device: proxies' times, and the device's own samples.

    samples: what was measured on the device; error: of each sample predicted from the others, None below four;
    measure: see LatencyModel.
    """

    def __init__(
        self, features: FeaturesOf, rows: Sequence[Config], table: ProxyTable, samples: Sequence[Sample]
    ) -> None:
        self.samples = tuple(usable(samples))
        self.measure: MeasureSubnets | None = None
        self._features = features
        self._rows = tuple(rows)
        self._table = table
        self._measured_us = {sample.config: sample.cpu_us for sample in self.samples}
        self._known: dict[Config, Interval] = {}
        self._scores: dict[Config, float] = {}
        self._fitted: FittedTransfer | None = None
        self._error: PredictionError | None = None
        self._hull: MeasuredHull | None = None

    def with_samples(self, more: Iterable[Sample]) -> TransferredLatency:
        """The same proxies, and further samples; a subnet that was measured again has its new time."""
        merged = self._measured_us | {sample.config: sample.cpu_us for sample in more}
        samples = [Sample(config, us) for config, us in merged.items()]
        return TransferredLatency(self._features, self._rows, self._table, samples)

    def predict_us(self, config: Config) -> float:
        """On-CPU microseconds; as measured, where it was. Raises UsageError when nothing was measured on the device."""
        return self.interval(config).us

    def __call__(self, config: Config) -> float:
        """predict_us."""
        return self.predict_us(config)

    def interval(self, config: Config) -> Interval:
        """A prediction and its 90 % interval, which is a point where the subnet was measured. Raises UsageError."""
        if config in self._measured_us:
            us = self._measured_us[config]
            return Interval(us, us, us)
        return self.intervals([config])[0]

    def intervals(self, configs: Sequence[Config]) -> list[Interval]:
        """Predictions of many, measured or not, in one go. Raises UsageError."""
        missing = [config for config in dict.fromkeys(configs) if config not in self._known]
        if missing:
            found = self._fit().predict(self._features(missing))
            for config, ms, low, high in zip(missing, found.ms, found.lo, found.hi, strict=True):
                self._known[config] = Interval(1e3 * float(ms), 1e3 * float(low), 1e3 * float(high))
        return [self._known[config] for config in configs]

    def score(self, config: Config) -> float:
        """Orders subnets from fast to slow, also without any sample; no time."""
        if self.samples:
            return self.predict_us(config)
        if config not in self._scores:
            self._scores[config] = float(proxy_ranking(self._table, self._features([config]))[0])
        return self._scores[config]

    @property
    def error(self) -> PredictionError | None:
        """How each sample is predicted from the others: found when first asked for, in a fit for each."""
        if self._error is None and len(self.samples) >= 4:
            predicted = []
            for left_out in self.samples:
                others = [sample for sample in self.samples if sample is not left_out]
                model = TransferredLatency(self._features, self._rows, self._table, others)
                predicted.append(model.predict_us(left_out.config))
            self._error = PredictionError.of(predicted, [sample.cpu_us for sample in self.samples])
        return self._error

    @property
    def median_width(self) -> float:
        """Median width of the 90 % interval over the proxies' subnets that were not measured here; 0 without any."""
        open_ = [config for config in self._rows if config not in self._measured_us]
        return statistics.median(found.width for found in self.intervals(open_)) if open_ else 0.0

    @property
    def settled(self) -> bool:
        """Whether the stop rule says that enough was measured."""
        count = len(self.samples)
        return count >= MOST or (count >= FIRST and self.median_width < NARROW)

    def doubt(self, config: Config, slo_us: float | None = None) -> str:
        """Why a subnet has to be measured, "" when its prediction can be used. Raises UsageError without samples."""
        if config in self._measured_us:
            return ""
        found = self.interval(config)
        if slo_us is not None and found.low_us <= slo_us <= found.high_us:
            return "its interval contains the deadline"
        if math.isnan(found.width):
            return "nothing tells how far subnets differ on this device"
        if found.width > WIDE:
            return f"its interval is {found.width:.0%} wide"
        if self._hull is None:
            self._hull = MeasuredHull(self._features([*self._rows, *self._measured_us]))
        if not self._hull.holds(self._features([config]))[0]:
            return "it lies outside of what was measured"
        return ""

    def _fit(self) -> FittedTransfer:
        if self._fitted is None:
            times_ms = np.array([sample.cpu_us for sample in self.samples]) / 1e3
            own = self._features([sample.config for sample in self.samples])
            samples = Samples.of(self._table, own, times_ms)
            need_samples(samples)
            self._fitted = HierarchicalGP().fit(self._table, samples)
        return self._fitted
