"""The hierarchical Gaussian process: a new device is a mix of known ones, and something of its own.

With f_d the smooth latency of proxy d (proxy_gp) and m their mean, the target's latency, in log milliseconds or in
milliseconds, is

    level + common * m + sum_d own_d * f_d + operator(x) + structure(x) + noise

level: any constant; common, own: the target's loadings on the proxies, the first expected to be the proxies' spread;
operator: a residual with the proxies' kernel; structure: a residual linear in the features that count something (MACs,
depth, launches). All are Gaussian, so for given variances the target's latency is a Gaussian process in closed form. A
few samples cannot choose the variances: a grid of them, in both domains, is averaged by evidence. The common amplitude
has an inverse-gamma prior centred on the spread that the proxies show, and the predictions are Student's t.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped, unused-ignore]
from scipy.stats import t as student  # type: ignore[import-untyped, unused-ignore]

from tailorbird.predict.proxy_gp import ProxyGP, proxy_gp
from tailorbird.predict.proxy_table import Array, ProxyTable
from tailorbird.predict.transfer import Prediction, Samples, need_samples


@dataclass(frozen=True, slots=True)
class Variances:
    """Of each part of the model, relative to the common amplitude."""

    common: float
    own: float
    operator: float
    structure: float
    noise: float


#: In units of the common amplitude: any level at all.
_LEVEL = 20.0
GRID = tuple(
    Variances(1.0, *cell)
    for cell in itertools.product((0.1, 0.7), (0.003, 0.05, 0.5), (0.0, 0.1, 1.0, 5.0), (0.003, 0.03, 0.2))
)
_KEPT = 12
_PRIOR_DEGREES = 1.0
#: A prediction in milliseconds is not below this share of the fastest sample.
_FLOOR = 0.3


@dataclass(frozen=True, slots=True)
class _Parts:
    """Covariances between two sets of architectures, one array per part of the model, all of the same shape."""

    common: Array
    own: Array
    operator: Array
    structure: Array

    def mixed(self, variances: Variances) -> Array:
        return (
            _LEVEL
            + variances.common * self.common
            + variances.own * self.own
            + variances.operator * self.operator
            + variances.structure * self.structure
        )


@dataclass(frozen=True, slots=True)
class _View:
    """Architectures as the model sees them: scaled features, trends on the proxies, counting features."""

    scaled: Array
    trends: Array
    counts: Array

    @classmethod
    def of(cls, gp: ProxyGP, features: Array) -> _View:
        scaled = gp.scale(features)
        trends = gp.trends(scaled)
        return cls(scaled, trends if trends.shape[1] else np.zeros((len(scaled), 1)), scaled[:, gp.scale.counted])

    @property
    def common(self) -> Array:
        return self.trends.mean(axis=1)

    def against(self, other: _View, gp: ProxyGP) -> _Parts:
        return _Parts(
            np.outer(self.common, other.common),
            self.trends @ other.trends.T / self.trends.shape[1],
            gp.kernel(self.scaled, other.scaled),
            self.counts @ other.counts.T / max(1, self.counts.shape[1]),
        )

    def variances(self, gp: ProxyGP) -> _Parts:
        return _Parts(
            self.common**2,
            (self.trends**2).mean(axis=1),
            gp.kernel.diagonal(self.scaled),
            (self.counts**2).sum(axis=1) / max(1, self.counts.shape[1]),
        )


@dataclass(frozen=True, slots=True)
class _Member:
    """One cell of the grid in one domain, conditioned on the samples. log_evidence: up to a constant."""

    log_evidence: float
    variances: Variances
    logarithmic: bool
    factor: tuple[Array, bool]
    coefficients: Array
    amplitude: float


@dataclass(frozen=True, slots=True)
class HierarchicalGP:
    """The predictor; grid: variances that are averaged over."""

    grid: Sequence[Variances] = GRID

    def fit(self, table: ProxyTable, samples: Samples) -> FittedHierarchicalGP:
        """Condition on the samples. Raises UsageError without any."""
        need_samples(samples)
        gp = proxy_gp(table)
        seen = _View.of(gp, samples.features)
        parts = seen.against(seen, gp)
        members = [
            member
            for cell in self.grid
            for member in _conditioned(parts, cell, samples, gp.spread * seen.common, gp.spread)
        ]
        members.sort(key=lambda member: -member.log_evidence)
        return FittedHierarchicalGP(gp, seen, samples, tuple(members[:_KEPT]))


@dataclass(frozen=True, slots=True)
class FittedHierarchicalGP:
    """The model of one device."""

    gp: ProxyGP
    seen: _View
    samples: Samples
    members: tuple[_Member, ...]

    @property
    def weights(self) -> Array:
        """Posterior probability of each kept member."""
        evidence = np.array([member.log_evidence for member in self.members])
        weights = np.exp(evidence - evidence.max())
        return weights / weights.sum()

    def predict(self, features: Array) -> Prediction:
        """Median and central 90 % of the posterior."""
        log_ms, deviation = self.log_moments(features)
        freedom = len(self.samples) + _PRIOR_DEGREES - 1
        reach = student.ppf(0.95, max(freedom, 2.0)) * deviation
        return Prediction(np.exp(log_ms), np.exp(log_ms - reach), np.exp(log_ms + reach))

    def log_moments(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of log milliseconds, features (M, P) unscaled."""
        asked = _View.of(self.gp, features)
        parts, own = asked.against(self.seen, self.gp), asked.variances(self.gp)
        mean, second = np.zeros(len(features)), np.zeros(len(features))
        for weight, member in zip(self.weights, self.members, strict=True):
            value, variance = self._moments(
                member, self.gp.spread * asked.common, parts.mixed(member.variances), own.mixed(member.variances)
            )
            mean += weight * value
            second += weight * (variance + value**2)
        return mean, np.sqrt(np.maximum(second - mean**2, 1e-12))

    def _moments(self, member: _Member, trend: Array, cross: Array, prior: Array) -> tuple[Array, Array]:
        noise = member.variances.noise
        explained = (cross * cho_solve(member.factor, cross.T).T).sum(axis=1)
        variance = member.amplitude * np.maximum(prior + noise - explained, noise / 2)
        value = trend + cross @ member.coefficients
        if member.logarithmic:
            return self.samples.log_mean + value, variance
        mean = self.samples.latency_ms.mean()
        relative = np.maximum(1 + value, _FLOOR * self.samples.latency_ms.min() / mean)
        # The delta method; above half the prediction's own size it means nothing.
        return np.log(relative * mean), np.minimum(variance / relative**2, 0.25)

    def left_out(self) -> Array:
        """Log milliseconds of each sample by the same model without it, (K,)."""
        found = np.zeros(len(self.samples))
        for weight, member in zip(self.weights, self.members, strict=True):
            inverse = np.diag(cho_solve(member.factor, np.eye(len(self.samples))))
            residual = member.coefficients / inverse
            if member.logarithmic:
                found += weight * (np.log(self.samples.latency_ms) - residual)
            else:
                mean = self.samples.latency_ms.mean()
                least = _FLOOR * self.samples.latency_ms.min()
                found += weight * np.log(np.maximum(self.samples.latency_ms - residual * mean, least))
        return found


def _conditioned(parts: _Parts, cell: Variances, samples: Samples, trend: Array, spread: float) -> list[_Member]:
    """The cell in both domains."""
    count = len(samples)
    factor = cho_factor(parts.mixed(cell) + cell.noise * np.eye(count), lower=True)
    log_determinant = 2 * float(np.log(np.diag(factor[0])).sum())
    mean = samples.latency_ms.mean()
    logs = np.log(samples.latency_ms)
    domains = ((True, logs - logs.mean(), -logs.sum()), (False, samples.latency_ms / mean - 1, -count * np.log(mean)))
    prior = _PRIOR_DEGREES * max(spread, 0.01) ** 2
    members = []
    for logarithmic, target, log_jacobian in domains:
        residual = target - trend
        coefficients = cho_solve(factor, residual)
        squares = prior + float(residual @ coefficients)
        degrees = _PRIOR_DEGREES + count
        evidence = -degrees / 2 * np.log(squares) - log_determinant / 2 + float(log_jacobian)
        members.append(_Member(evidence, cell, logarithmic, factor, coefficients, squares / degrees))
    return members


def prior_covariance(table: ProxyTable, features: Array, variances: Variances) -> Array:
    """Covariance of an unmeasured device's latencies, features (N, P) to (N, N), common amplitude 1, without noise."""
    gp = proxy_gp(table)
    view = _View.of(gp, features)
    return view.against(view, gp).mixed(variances)


def proxy_ranking(table: ProxyTable, features: Array) -> Array:
    """Order of architectures by the proxies' mean standardised latency: a score (M,), no time."""
    gp = proxy_gp(table)
    return _View.of(gp, features).common
