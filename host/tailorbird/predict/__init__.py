"""Latency predictors and how far to trust them."""

from tailorbird.predict.base import LatencyModel, PredictionError, Sample
from tailorbird.predict.interpolate import KernelInterpolator
from tailorbird.predict.kernel_sum import Calibration, KernelSum
from tailorbird.predict.samples import choose_samples

__all__ = [
    "Calibration",
    "KernelInterpolator",
    "KernelSum",
    "LatencyModel",
    "PredictionError",
    "Sample",
    "choose_samples",
]
