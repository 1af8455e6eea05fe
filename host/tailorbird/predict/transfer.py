"""The interface of predictors that carry latencies from proxy devices to a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tailorbird.errors import UsageError
from tailorbird.predict.proxy_table import Array, ProxyTable, feature_matrix, latencies


@dataclass(frozen=True, slots=True)
class Samples:
    """Architectures measured on the target. features: (K, P), unscaled; latency_ms: (K,), all known."""

    features: Array
    latency_ms: Array

    @classmethod
    def of(cls, table: ProxyTable, features: Array, latency_ms: Array) -> Samples:
        """Check measurements of the target; those that are NaN are left out. Raises UsageError."""
        matrix = feature_matrix(features, "the target's samples", table.features.shape[1])
        column = latencies(np.ravel(latency_ms), len(matrix), "the target's samples")
        known = np.isfinite(column)
        return cls(matrix[known], column[known])

    def __len__(self) -> int:
        return len(self.latency_ms)

    @property
    def log_mean(self) -> float:
        """Mean of log milliseconds."""
        return float(np.log(self.latency_ms).mean())


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted milliseconds of M architectures and their 90 % interval, each (M,). NaN bounds mean: unknown."""

    ms: Array
    lo: Array
    hi: Array

    @classmethod
    def without_interval(cls, ms: Array) -> Prediction:
        """Predictions of a method that does not know its error."""
        return cls(ms, np.full(len(ms), np.nan), np.full(len(ms), np.nan))

    @property
    def width(self) -> Array:
        """Width of the interval as a share of the prediction, (M,)."""
        return (self.hi - self.lo) / self.ms


class FittedTransfer(Protocol):
    """A predictor of one target device."""

    def predict(self, features: Array) -> Prediction:
        """Latencies of architectures, features (M, P) unscaled."""
        ...


class Transfer(Protocol):
    """A way to predict a target from proxies and a few samples of its own."""

    def fit(self, table: ProxyTable, samples: Samples) -> FittedTransfer:
        """Fit to measurements. Raises UsageError without samples: nothing then tells milliseconds."""
        ...


def need_samples(samples: Samples, least: int = 1) -> None:
    """Raises UsageError for fewer samples than a method can start from."""
    if len(samples) < least:
        raise UsageError(
            "Milliseconds cannot be predicted for a device that was never measured.",
            why=f"{len(samples)} of at least {least} samples; proxies tell the order of architectures, not their times",
            fix="Measure a few subnets on the device (five give a useful fit), or ask for the ranking.",
            reason="NO_SAMPLES",
        )
