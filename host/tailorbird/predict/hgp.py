"""The hierarchical Gaussian process: a new device is a mix of known ones, and something of its own.

With f_d the smooth latency of proxy d (proxy_gp) and m their mean, the target's latency, in log milliseconds or in
milliseconds, is

    level + common * m + sum_d own_d * f_d + operator(x) + structure(x) + response(x) + noise

level: any constant; common, own: the target's loadings on the proxies; operator: a residual with the proxies' kernel;
structure: a residual linear in the features that count something (MACs, depth, launches); response: a residual that is
smooth in the features that the proxies respond to. All are Gaussian, so for given variances the target's latency is a
Gaussian process in closed form. A few samples cannot choose the variances: a grid of them, in both domains, is averaged
by evidence. The common amplitude has a weak inverse-gamma prior centred on the spread that the proxies show, and the
predictions are Student's t.

Boards give outliers (a clock that drops, a timer of whole milliseconds). Noise is Student's t as well, by reweighting:
a sample that the others do not predict gets more noise (Lange, Little and Taylor, 1989), judged by its leave-one-out
residual. From twenty samples on, the interval is at least that of jackknife+ (Barber, Candes, Ramdas and Tibshirani,
2021), which does not trust the model's noise, with residuals in units of each prediction's own deviation, since samples
are chosen to be extreme.

The grid and the constants were chosen by leaving out one proxy of a set of devices at a time, never on a device that
the benchmark (tests/bench/latency_fewshot) predicts with these proxies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

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
    response: float
    noise: float


#: In units of the common amplitude: any level at all.
_LEVEL = 20.0
GRID = tuple(
    Variances(1.0, *cell)
    for cell in itertools.product((0.1, 0.7), (0.003, 0.1), (0.0, 0.3, 3.0), (0.0, 0.1, 1.0), (0.003, 0.02, 0.1, 0.4))
)
#: Members of the average are dropped below exp(-this) of the best one's probability.
_NEGLIGIBLE = 7.0
_MOST_MEMBERS = 60
_PRIOR_DEGREES = 0.3
#: Degrees of freedom of the noise, samples from which outliers can be told, and rounds of reweighting.
_NOISE_DEGREES, _LEAST_FOR_OUTLIERS, _REWEIGHTINGS = 3.0, 8, 2
#: Below this many samples the loading on the proxies' trend cannot be told from the level: it is taken as their spread.
_LEAST_FOR_LOADING = 4
_LEAST_FOR_JACKKNIFE = 20
#: Proxies whose times differ by less, as a share of each, tell nothing of how far architectures may differ.
_LEAST_SPREAD = 0.01
#: Then so many different architectures among the samples tell it at least.
_LEAST_TO_TELL = 3
#: A prediction in milliseconds is not below this share of the fastest sample.
_FLOOR = 0.3
_MISS = 0.1  # of the interval: 90 %


@dataclass(frozen=True, slots=True)
class _Parts:
    """Covariances between two sets of architectures, one array per part of the model, all of the same shape."""

    common: Array
    own: Array
    operator: Array
    structure: Array
    response: Array

    def mixed(self, variances: Variances) -> Array:
        total = np.full_like(self.common, _LEVEL)
        for part in fields(self):
            if weight := getattr(variances, part.name):
                total += weight * getattr(self, part.name)
        return total


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
            gp.response(self.scaled, other.scaled),
        )

    def variances(self, gp: ProxyGP) -> _Parts:
        return _Parts(
            self.common**2,
            (self.trends**2).mean(axis=1),
            gp.kernel.diagonal(self.scaled),
            (self.counts**2).sum(axis=1) / max(1, self.counts.shape[1]),
            np.ones(len(self.scaled)),
        )


@dataclass(frozen=True, slots=True)
class _Domain:
    """Where the model is Gaussian: log milliseconds, or milliseconds relative to the samples' mean. target: (K,)."""

    logarithmic: bool
    target: Array
    centre_ms: float
    least: float
    log_jacobian: float

    @classmethod
    def both(cls, samples: Samples) -> tuple[_Domain, _Domain]:
        times = samples.latency_ms
        logs, mean = np.log(times), float(times.mean())
        geometric = math.exp(logs.mean())
        return (
            cls(True, logs - logs.mean(), geometric, 0.0, -float(logs.sum())),
            cls(False, times / mean - 1, mean, _FLOOR * float(times.min()) / mean, -len(times) * math.log(mean)),
        )

    def log_ms(self, value: Array) -> Array:
        relative = value if self.logarithmic else np.log(np.maximum(1 + value, self.least))
        return math.log(self.centre_ms) + relative

    def log_variance(self, value: Array, variance: Array) -> Array:
        if self.logarithmic:
            return variance
        # The delta method; above half the prediction's own size it means nothing.
        return np.minimum(variance / np.maximum(1 + value, self.least) ** 2, 0.25)


@dataclass(frozen=True, slots=True)
class _Member:
    """One cell of the grid in one domain, conditioned on the samples. log_evidence: up to a constant."""

    log_evidence: float
    variances: Variances
    domain: _Domain
    factor: tuple[Array, bool]
    coefficients: Array
    amplitude: float

    def precisions(self) -> Array:
        """Diagonal of the inverse covariance of the samples, (K,)."""
        return np.diag(cho_solve(self.factor, np.eye(len(self.coefficients))))


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Members with their posterior probabilities."""

    members: tuple[_Member, ...]
    weights: Array

    @classmethod
    def of(cls, members: list[_Member]) -> _Mixture:
        best = max(member.log_evidence for member in members)
        kept = [member for member in members if member.log_evidence > best - _NEGLIGIBLE]
        kept = sorted(kept, key=lambda member: -member.log_evidence)[:_MOST_MEMBERS]
        weights = np.exp([member.log_evidence - best for member in kept])
        return cls(tuple(kept), weights / weights.sum())

    def surprise(self) -> Array:
        """Leave-one-out residual of each sample in its own standard deviations, (K,)."""
        found = np.zeros(len(self.members[0].coefficients))
        for weight, member in zip(self.weights, self.members, strict=True):
            found += weight * member.coefficients / np.sqrt(member.precisions() * member.amplitude)
        return found


@dataclass(frozen=True, slots=True)
class HierarchicalGP:
    """The predictor; grid: variances that are averaged over."""

    grid: Sequence[Variances] = GRID

    def fit(self, table: ProxyTable, samples: Samples) -> FittedHierarchicalGP:
        """Condition on the samples. Raises UsageError without any."""
        need_samples(samples)
        gp = proxy_gp(table)
        seen = _View.of(gp, samples.features)
        loading = gp.spread if len(samples) < _LEAST_FOR_LOADING else 0.0
        parts, domains, trend = seen.against(seen, gp), _Domain.both(samples), loading * seen.common

        def conditioned(excess: Array) -> _Mixture:
            prior = _PRIOR_DEGREES * max(gp.spread, _LEAST_SPREAD) ** 2
            return _Mixture.of([m for cell in self.grid for m in _members(parts, cell, domains, trend, excess, prior)])

        excess = np.ones(len(samples))
        mixture = conditioned(excess)
        for _ in range(_REWEIGHTINGS if len(samples) >= _LEAST_FOR_OUTLIERS else 0):
            excess = np.maximum((_NOISE_DEGREES + mixture.surprise() ** 2) / (_NOISE_DEGREES + 1), 1.0)
            mixture = conditioned(excess)
        return FittedHierarchicalGP(gp, seen, mixture, excess, loading)


@dataclass(frozen=True, slots=True)
class FittedHierarchicalGP:
    """The model of one device. excess: factors on each sample's noise, (K,); loading: expected on the common trend."""

    gp: ProxyGP
    seen: _View
    mixture: _Mixture
    excess: Array
    loading: float

    def predict(self, features: Array) -> Prediction:
        """Median and central 90 % of the posterior, features (M, P) unscaled.

        Without an interval where nothing tells how far architectures differ: the samples are of one or two, and the
        proxies take the same time for all.
        """
        asked = _View.of(self.gp, features)
        parts, own = asked.against(self.seen, self.gp), asked.variances(self.gp)
        count = len(self.seen.scaled)
        careful = count >= _LEAST_FOR_JACKKNIFE
        mean, second, without = np.zeros(len(features)), np.zeros(len(features)), np.zeros((count, len(features)))
        for weight, member in zip(self.mixture.weights, self.mixture.members, strict=True):
            cross = parts.mixed(member.variances)
            solved = cho_solve(member.factor, cross.T)  # (K, M)
            value = self.loading * asked.common + cross @ member.coefficients
            noise = member.variances.noise
            unexplained = own.mixed(member.variances) + noise - (cross.T * solved).sum(axis=0)
            variance = member.domain.log_variance(value, member.amplitude * np.maximum(unexplained, noise / 2))
            log_ms = member.domain.log_ms(value)
            mean += weight * log_ms
            second += weight * (variance + log_ms**2)
            if careful:
                change = solved * (member.coefficients / member.precisions())[:, None]
                without += weight * member.domain.log_ms(value - change)
        if self.gp.spread < _LEAST_SPREAD and len(np.unique(self.seen.scaled, axis=0)) < _LEAST_TO_TELL:
            return Prediction.without_interval(np.exp(mean))
        deviation = np.sqrt(np.maximum(second - mean**2, 1e-12))
        reach = student.ppf(1 - _MISS / 2, max(count - 1, 2)) * deviation
        lo, hi = mean - reach, mean + reach
        if careful:
            residuals = np.outer(np.abs(self._left_out()), deviation)
            lo = np.minimum(lo, _order_statistic(without - residuals, _MISS))
            hi = np.maximum(hi, -_order_statistic(-without - residuals, _MISS))
        return Prediction(np.exp(mean), np.exp(lo), np.exp(hi))

    def _left_out(self) -> Array:
        """What the model without it misses each sample by, in deviations of a usual sample's prediction, (K,)."""
        mean, second = np.zeros(len(self.seen.scaled)), np.zeros(len(self.seen.scaled))
        for weight, member in zip(self.mixture.weights, self.mixture.members, strict=True):
            precisions = member.precisions()
            alone = member.domain.target - member.coefficients / precisions
            usual = 1 / precisions - member.variances.noise * (self.excess - 1)
            variance = member.amplitude * np.maximum(usual, member.variances.noise / 2)
            missed = member.domain.log_ms(member.domain.target) - member.domain.log_ms(alone)
            mean += weight * missed
            second += weight * (member.domain.log_variance(alone, variance) + missed**2)
        return mean / np.sqrt(np.maximum(second - mean**2, 1e-12))


def prior_covariance(table: ProxyTable, features: Array, variances: Variances) -> Array:
    """Covariance of an unmeasured device's latencies, features (N, P) to (N, N), common amplitude 1, without noise."""
    gp = proxy_gp(table)
    view = _View.of(gp, features)
    return view.against(view, gp).mixed(variances)


def proxy_ranking(table: ProxyTable, features: Array) -> Array:
    """Order of architectures by the proxies' mean standardised latency: a score (M,), no time."""
    return _View.of(proxy_gp(table), features).common


def _members(
    parts: _Parts, cell: Variances, domains: Sequence[_Domain], trend: Array, excess: Array, prior: float
) -> list[_Member]:
    """The cell in each domain, conditioned on the samples.

    trend: expected in advance; excess: factors on each sample's noise, both (K,); prior: sum of squares expected.
    """
    count = len(excess)
    factor = cho_factor(parts.mixed(cell) + np.diag(cell.noise * excess), lower=True)
    log_determinant = 2 * float(np.log(np.diag(factor[0])).sum())
    degrees = _PRIOR_DEGREES + count
    members = []
    for domain in domains:
        residual = domain.target - trend
        coefficients = cho_solve(factor, residual)
        squares = prior + float(residual @ coefficients)
        evidence = -degrees / 2 * math.log(squares) - log_determinant / 2 + domain.log_jacobian
        members.append(_Member(evidence, cell, domain, factor, coefficients, squares / degrees))
    return members


def _order_statistic(values: Array, miss: float) -> Array:
    """The floor(miss (K + 1))-th smallest of each column, (K, M) to (M,), as jackknife+ wants it."""
    place = max(int(miss * (len(values) + 1)) - 1, 0)
    return np.partition(values, place, axis=0)[place]
