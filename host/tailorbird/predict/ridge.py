"""Ridge regression on features alone: no proxy, no transfer. What a transfer method has to beat, and its fallback."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailorbird.predict.proxy_table import Array, FeatureScale, ProxyTable
from tailorbird.predict.transfer import Prediction, Samples, need_samples

_PENALTIES = np.logspace(-2, 3, 11)
#: No prediction is below this share of the samples' mean.
_FLOOR = 0.05


@dataclass(frozen=True, slots=True)
class RichRidge:
    """Linear in the scaled features, in milliseconds; the penalty of least leave-one-out error."""

    def fit(self, table: ProxyTable, samples: Samples) -> FittedRidge:
        """Fit to at least three samples; the table gives nothing but the scale of features. Raises UsageError."""
        need_samples(samples, 3)
        scaled = table.scale(samples.features)
        centre = scaled.mean(axis=0)
        mean = float(samples.latency_ms.mean())
        target = samples.latency_ms / mean - 1
        left, singular, right = np.linalg.svd(scaled - centre, full_matrices=False)
        projected = left.T @ target
        # Leverages with an intercept: 1/K comes on top of the centred design's.
        shrink = singular**2 / (singular**2 + _PENALTIES[:, None])  # (penalties, rank)
        leverage = 1 / len(target) + shrink @ (left**2).T  # (penalties, K)
        errors = (target - (shrink * projected) @ left.T) / np.maximum(1 - leverage, 1e-9)
        best = int((errors**2).mean(axis=1).argmin())
        slope = right.T @ (projected * singular / (singular**2 + _PENALTIES[best]))
        left_out = mean * np.maximum(1 + target - errors[best], _FLOOR)
        return FittedRidge(table.scale, centre, slope, mean, float(_PENALTIES[best]), left_out)


@dataclass(frozen=True, slots=True)
class FittedRidge:
    """The model of one device. left_out_ms: each sample predicted without it, (K,)."""

    scale: FeatureScale
    centre: Array
    slope: Array
    mean_ms: float
    penalty: float
    left_out_ms: Array

    def predict(self, features: Array) -> Prediction:
        """Milliseconds without an interval."""
        relative = 1 + (self.scale(features) - self.centre) @ self.slope
        return Prediction.without_interval(self.mean_ms * np.maximum(relative, _FLOOR))
