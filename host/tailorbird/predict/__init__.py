"""Latency predictors and how far to trust them."""

from tailorbird.predict.autotailor import AutoTailor
from tailorbird.predict.base import LatencyModel, PredictionError, Sample
from tailorbird.predict.features import FeatureMap, features
from tailorbird.predict.interpolate import KernelInterpolator, interpolation_error
from tailorbird.predict.kernel_sum import Calibration, KernelSum
from tailorbird.predict.samples import choose_samples

__all__ = [
    "AutoTailor",
    "Calibration",
    "FeatureMap",
    "KernelInterpolator",
    "KernelSum",
    "LatencyModel",
    "PredictionError",
    "Sample",
    "choose_samples",
    "features",
    "interpolation_error",
]
