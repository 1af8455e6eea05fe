"""KernelSum: a subnet takes what its kernels take, corrected by what whole subnets show.

    time = scale * (sum of kernels) + call * (number of kernels) + offset

A kernel timed alone pays a call of the runtime of its own and finds its data in the cache; in a subnet all kernels
share one call, with colder caches. Where the fusion probes told what a module of its own costs, that is taken off each
kernel first, and of two that the runtime fuses what fusing them saves. A few whole subnets then tell which of the three
numbers are needed, and fit them; call alone may be negative. They also tell when the probes were misled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls  # type: ignore[import-untyped, unused-ignore]

from tailorbird.predict.base import MeasureSubnets, PredictionError, Sample, usable
from tailorbird.predict.interpolate import KernelInterpolator
from tailorbird.profile import Fusions, KernelsOf, KernelTable, ProfileCost
from tailorbird.types import Config, Kernel

#: No subnet takes less than this share of its kernels' scaled time, however far it lies from the calibration's.
_FLOOR = 0.2
#: What may be fitted, the simplest first. Each takes a sample more than it has numbers, two where they are several.
_FORMS = ((), ("scale",), ("scale", "offset"), ("scale", "call"), ("scale", "offset", "call"))
_TOLERANCE = 0.1
#: From so many samples on they may contradict the fusion probes.
_JUDGES = 5
#: Share of its time alone that a kernel takes at least within a network.
_LEAST = 0.1

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The corrections of a kernel sum. call_us is negative where kernels timed alone pay for more than they do here."""

    scale: float = 1.0
    call_us: float = 0.0
    offset_us: float = 0.0

    def apply(self, sum_us: float, kernels: int) -> float:
        """Microseconds of a subnet with this kernel sum and this many kernels."""
        corrected = self.scale * sum_us + self.call_us * kernels + self.offset_us
        return max(corrected, _FLOOR * self.scale * sum_us)


class KernelSum:
    """Latency predictor of one SuperNet on one device.

    fusions: what pairs of kernels told about this device. error: measured on subnets the calibration has not seen;
    None before calibration. cost: what measuring for it took, None where nobody said. measure: see LatencyModel.
    """

    def __init__(
        self,
        table: KernelTable,
        kernels_of: KernelsOf,
        calibration: Calibration | None = None,
        error: PredictionError | None = None,
        fusions: Fusions | None = None,
        cost: ProfileCost | None = None,
    ) -> None:
        self.table = table
        self.fusions = fusions
        self.calibration = calibration or Calibration()
        self.error = error
        self.cost = cost
        self.measure: MeasureSubnets | None = None
        self._kernels_of = kernels_of
        self._time = KernelInterpolator(table.times_us)
        self._sums: dict[Config, tuple[float, int]] = {}

    def _sum(self, config: Config) -> tuple[float, int]:
        if config not in self._sums:
            specs = self._kernels_of(config)
            times = [self._within_us(spec) for spec in specs]
            total = math.fsum(times)
            if self.fusions is not None and specs:
                total += self.fusions.call_us - self.fusions.saved_us(specs, times)
            self._sums[config] = total, len(specs)
        return self._sums[config]

    def _within_us(self, spec: Kernel) -> float:
        """What a kernel takes within a network."""
        alone_us = self._time(spec)
        if self.fusions is None:
            return alone_us
        return max(alone_us - self.fusions.alone_us(spec), _LEAST * alone_us)

    def sum_us(self, config: Config) -> float:
        """Sum of the kernels' times, microseconds, uncalibrated. Raises ValueError when no kernel was measured."""
        return self._sum(config)[0]

    def predict_us(self, config: Config) -> float:
        """On-CPU microseconds per inference."""
        return self.calibration.apply(*self._sum(config))

    def __call__(self, config: Config) -> float:
        """predict_us."""
        return self.predict_us(config)

    def measured_share(self, config: Config) -> float:
        """Share of a subnet's predicted time that comes from measured kernels, 0 to 1; the rest is interpolated."""
        total = self.sum_us(config)
        measured = sum(self._within_us(spec) for spec in self._kernels_of(config) if spec in self.table.times)
        return measured / total if total else 1.0

    def calibrated(self, samples: Sequence[Sample], held_out: Sequence[Sample] = ()) -> KernelSum:
        """This predictor, calibrated on measured subnets.

        `error` is found on the held-out subnets; without any, by leaving each sample out in turn (needs three).
        What the fusion probes told is left aside where samples contradict it; a subnet that was measured several times
        counts once, and not as held out when it was fitted. Raises ValueError without samples, UsageError for times
        that are none.
        """
        samples = usable(samples)
        fitted = {sample.config for sample in samples}
        held_out = [sample for sample in usable(held_out) if sample.config not in fitted]
        chosen = self._believed(samples)
        if chosen is not self:
            return chosen.calibrated(samples, held_out)
        calibration, _ = self._fit(samples)
        predicted = [calibration.apply(*self._sum(sample.config)) for sample in held_out]
        checked = list(held_out)
        if not held_out and len(samples) >= 3:
            checked = list(samples)
            for index, sample in enumerate(samples):
                other, _ = self._fit([*samples[:index], *samples[index + 1 :]])
                predicted.append(other.apply(*self._sum(sample.config)))
        error = PredictionError.of(predicted, [s.cpu_us for s in checked]) if checked else None
        made = KernelSum(self.table, self._kernels_of, calibration, error, self.fusions, self.cost)
        made._sums = self._sums
        return made

    def _believed(self, samples: Sequence[Sample]) -> KernelSum:
        """This sum, or one with less of what the probes told where that predicts left-out samples clearly better."""
        if self.fusions is None or len(samples) < _JUDGES:
            return self
        best, least = self, (1 - _TOLERANCE) * self._fit(samples)[1]
        for fusions in (replace(self.fusions, rules={}), None):
            other = KernelSum(self.table, self._kernels_of, fusions=fusions, cost=self.cost)
            _, error = other._fit(samples)
            if error < least and (fusions is None or self.fusions.rules):
                best, least = other, error
        return best

    def _fit(self, samples: Sequence[Sample]) -> tuple[Calibration, float]:
        if not samples:
            raise ValueError("no measured subnets to calibrate on")
        sums, kernels = np.array([self._sum(sample.config) for sample in samples]).T
        return _calibrate(sums, kernels, np.array([sample.cpu_us for sample in samples]))


def _calibrate(sums: Array, kernels: Array, times: Array) -> tuple[Calibration, float]:
    """The simplest form whose error, each sample left out in turn, is within a tenth of the best form's; its error.

    Three numbers fitted to five samples follow their noise; where kernels add up as they are, none is needed.
    """
    if len(times) == 1:
        return Calibration(float(times[0] / sums[0])), 0.0
    forms = [form for form in _FORMS if len(form) + (len(form) > 1) < len(times)]
    errors = []
    for form in forms:
        found = []
        for out in range(len(times)):
            others = np.arange(len(times)) != out
            fitted = _fit_form(form, sums[others], kernels[others], times[others])
            found.append(abs(fitted.apply(float(sums[out]), int(kernels[out])) / times[out] - 1))
        errors.append(float(np.mean(found)))
    good_enough = (1 + _TOLERANCE) * min(errors)
    form, error = next((form, error) for form, error in zip(forms, errors, strict=True) if error <= good_enough)
    return _fit_form(form, sums, kernels, times), error


def _fit_form(form: Sequence[str], sums: Array, kernels: Array, times: Array) -> Calibration:
    """Non-negative least squares on relative errors (rows divided by the time): small subnets count as large ones."""
    if not form:
        return Calibration()
    columns = {"scale": [sums / times], "offset": [1 / times], "call": [kernels / times, -kernels / times]}
    matrix = np.stack([column for name in form for column in columns[name]], axis=1)
    values = iter(nnls(matrix, np.ones(len(times)))[0])
    fitted = {name: [next(values) for _ in columns[name]] for name in form}
    more, less = fitted.get("call", [0.0, 0.0])
    return Calibration(float(fitted["scale"][0]), float(more - less), float(fitted.get("offset", [0.0])[0]))
