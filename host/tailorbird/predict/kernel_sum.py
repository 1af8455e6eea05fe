"""KernelSum: a subnet takes what its kernels take, times a scale, plus an offset.

Kernels timed alone have warm caches and pay one call each; a whole subnet pays one call, with colder caches. One scale
and one offset per SuperNet and device, fitted on a few whole subnets, take up both (research: MAPE 2-5 % on CPUs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped, unused-ignore]

from tailorbird.predict.base import PredictionError, Sample
from tailorbird.predict.interpolate import KernelInterpolator
from tailorbird.profile import KernelsOf, KernelTable
from tailorbird.types import Config


@dataclass(frozen=True, slots=True)
class Calibration:
    """time = scale * sum of kernels + offset_us; both non-negative."""

    scale: float = 1.0
    offset_us: float = 0.0


class KernelSum:
    """Latency predictor of one SuperNet on one device.

    error: measured on subnets the calibration has not seen; None before calibration.
    """

    def __init__(
        self,
        table: KernelTable,
        kernels_of: KernelsOf,
        calibration: Calibration | None = None,
        error: PredictionError | None = None,
    ) -> None:
        self.table = table
        self.calibration = calibration or Calibration()
        self.error = error
        self._kernels_of = kernels_of
        self._time = KernelInterpolator({spec: time.cpu_us for spec, time in table.times.items()})
        self._sums: dict[Config, float] = {}

    def sum_us(self, config: Config) -> float:
        """Sum of the kernels' times, microseconds, uncalibrated. Raises ValueError when no kernel was measured."""
        if config not in self._sums:
            self._sums[config] = sum(self._time(spec) for spec in self._kernels_of(config))
        return self._sums[config]

    def predict_us(self, config: Config) -> float:
        """On-CPU microseconds per inference."""
        return self.calibration.scale * self.sum_us(config) + self.calibration.offset_us

    def __call__(self, config: Config) -> float:
        """predict_us."""
        return self.predict_us(config)

    def measured_share(self, config: Config) -> float:
        """Share of a subnet's predicted time that comes from measured kernels, 0 to 1; the rest is interpolated."""
        total = self.sum_us(config)
        measured = sum(self._time(spec) for spec in self._kernels_of(config) if spec in self.table.times)
        return measured / total if total else 1.0

    def calibrated(self, samples: Sequence[Sample], held_out: Sequence[Sample] = ()) -> KernelSum:
        """This predictor, calibrated on measured subnets.

        `error` is found on the held-out subnets; without any, by leaving each sample out in turn (needs three).
        Raises ValueError without samples.
        """
        calibration = self._fit(samples)
        predicted = [calibration.scale * self.sum_us(s.config) + calibration.offset_us for s in held_out]
        checked = list(held_out)
        if not held_out and len(samples) >= 3:
            checked = list(samples)
            for index, sample in enumerate(samples):
                other = self._fit([*samples[:index], *samples[index + 1 :]])
                predicted.append(other.scale * self.sum_us(sample.config) + other.offset_us)
        error = PredictionError.of(predicted, [s.cpu_us for s in checked]) if checked else None
        made = KernelSum(self.table, self._kernels_of, calibration, error)
        made._sums = self._sums
        return made

    def _fit(self, samples: Sequence[Sample]) -> Calibration:
        if not samples:
            raise ValueError("no measured subnets to calibrate on")
        sums = np.array([self.sum_us(sample.config) for sample in samples])
        times = np.array([sample.cpu_us for sample in samples])
        if len(samples) == 1:
            return Calibration(float(times[0] / sums[0]))
        # Rows are divided by the measured time: what counts is the relative error, also of small subnets.
        rows = np.stack([sums / times, 1 / times], axis=1)
        scale, offset = nnls(rows, np.ones(len(samples)))[0]
        return Calibration(float(scale), float(offset))
