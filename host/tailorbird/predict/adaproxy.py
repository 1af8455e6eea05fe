"""AdaProxy: adapt the operator table of one proxy device to a target (Lu, Yang, Zhang, Ren, "One Proxy Device Is Enough
for Hardware-Aware Neural Architecture Search", SIGMETRICS 2022).

The proxy's latency is linear in the one-hot features x with the table w = pinv(X) y. Where the proxy's order of the
samples differs from the target's (SRCC below 0.9), the target's table is w * (a + b), with

    min over a, b, c of  mean_i (x_i . (w * (a + b)) + c - y_i)^2 + lambda ||b||_2

lambda is chosen on validation samples, one in seven as published (10 of 70). Here the penalty is squared, which gives
the same path of solutions with another parameter, and lambda is swept from unpenalised to no adaptation and chosen by
squared error on the validation samples: rank correlation of ten models is too coarse to choose by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import rankdata  # type: ignore[import-untyped, unused-ignore]

from tailorbird.predict.proxy_table import Array, ProxyTable
from tailorbird.predict.transfer import Prediction, Samples, need_samples

#: The proxy is used as it is where it orders the samples at least this well.
MONOTONE = 0.9
#: Penalties in units of the largest squared table entry; infinite means no adaptation of single entries.
SWEEP = (math.inf, *(float(10**power) for power in np.arange(4, -8.5, -0.5)), 0.0)
_LEAST_FOR_VALIDATION = 5
_MOST_VALIDATION = 10


@dataclass(frozen=True, slots=True)
class AdaProxy:
    """The predictor as a transfer method, on one-hot features.

    proxy: name of the proxy, or None for the one that orders the samples best; penalties: swept; a single one needs no
    validation but still leaves the validation samples out, as published.
    """

    proxy: str | None = None
    penalties: tuple[float, ...] = SWEEP

    def fit(self, table: ProxyTable, samples: Samples) -> FittedAdaProxy:
        """Fit to at least one sample; one alone sets the scale. Raises UsageError without any."""
        need_samples(samples)
        names = table.names if self.proxy is None else (self.proxy,)
        tables = {name: operator_table(table, name) for name in names}
        rows = _with_level(samples.features)
        ranks = {name: srcc(rows @ weights, samples.latency_ms) for name, weights in tables.items()}
        chosen = max(names, key=ranks.__getitem__)
        weights = tables[chosen]
        if len(samples) == 1:
            return FittedAdaProxy(chosen, weights * samples.latency_ms[0] / max(float(rows[0] @ weights), 1e-9), 0.0)
        if len(samples) < _LEAST_FOR_VALIDATION or ranks[chosen] >= MONOTONE:
            scale, deviation, level = adapted(weights, rows, samples.latency_ms, math.inf)
            return FittedAdaProxy(chosen, weights * (scale + deviation), level)
        held_out = min(_MOST_VALIDATION, max(2, len(samples) // 3))
        train, check = slice(None, -held_out), slice(-held_out, None)
        fits = [adapted(weights, rows[train], samples.latency_ms[train], penalty) for penalty in self.penalties]
        errors = [
            np.mean((rows[check] @ (weights * (scale + deviation)) + level - samples.latency_ms[check]) ** 2)
            for scale, deviation, level in fits
        ]
        scale, deviation, level = fits[int(np.argmin(errors))]
        return FittedAdaProxy(chosen, weights * (scale + deviation), level)

    def score(self, table: ProxyTable, features: Array) -> Array:
        """The unadapted proxy's order of architectures, (M,); the first proxy's where none is named."""
        return _with_level(features) @ operator_table(table, self.proxy or table.names[0])


@dataclass(frozen=True, slots=True)
class FittedAdaProxy:
    """The target's operator table, one entry per feature and one for the level, with the proxy it came from."""

    proxy: str
    weights: Array
    level: float

    def predict(self, features: Array) -> Prediction:
        """Milliseconds without an interval."""
        return Prediction.without_interval(np.maximum(_with_level(features) @ self.weights + self.level, 1e-3))


@lru_cache(maxsize=128)
def operator_table(table: ProxyTable, proxy: str) -> Array:
    """Latency of each feature and of the level on one proxy: minimum-norm least squares, (P + 1,)."""
    column = table.latency_ms[:, table.names.index(proxy)]
    known = np.isfinite(column)
    # One-hot features of a layer add up to one, so the matrix lacks rank; what rounding leaves of it must not count.
    return np.linalg.pinv(_with_level(table.features[known]), rcond=1e-10) @ column[known]


def adapted(weights: Array, rows: Array, latency_ms: Array, penalty: float) -> tuple[float, Array, float]:
    """a, b (P + 1,) and c of the target, for one penalty on b in units of the largest squared table entry."""
    terms = rows * weights
    plain = np.stack([terms.sum(axis=1), np.ones(len(rows))], axis=1)
    if math.isinf(penalty):
        scale, level = np.linalg.lstsq(plain, latency_ms, rcond=1e-10)[0]
        return float(scale), np.zeros(len(weights)), float(level)
    design = np.concatenate([plain, terms], axis=1)
    if penalty == 0:
        found = np.linalg.pinv(design, rcond=1e-10) @ latency_ms
    else:
        ridge = np.full(design.shape[1], penalty * max(float(np.abs(weights).max()), 1e-12) ** 2)
        ridge[:2] = 1e-12
        found = np.linalg.solve(design.T @ design / len(rows) + np.diag(ridge), design.T @ latency_ms / len(rows))
    return float(found[0]), found[2:], float(found[1])


def srcc(predicted: Array, measured: Array) -> float:
    """Spearman's rank correlation; 0 where either is constant."""
    if len(measured) < 2 or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(predicted), rankdata(measured))[0, 1])


def _with_level(features: Array) -> Array:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)
