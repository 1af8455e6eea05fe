"""One Gaussian process per proxy device: a smooth latency for every architecture of the search space.

All proxies share the kernel over architectures, a mix of a squared exponential and a linear one, because what makes
two networks alike is a property of the space; each has its own noise, since boards differ in it a hundredfold. Length
scale, mix and domain (log milliseconds or milliseconds) are those of greatest evidence over all proxies (Rasmussen and
Williams, Gaussian Processes for Machine Learning, 2006, eq. 5.8), with each proxy's amplitude profiled out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped, unused-ignore]

from tailorbird.predict.proxy_table import Array, FeatureScale, ProxyTable

#: Multiples of the median squared distance; shares of the linear kernel; noise variances, amplitude 1.
_LENGTHS = (0.5, 1.5, 5.0)
_LINEAR_SHARES = (0.3, 0.8, 0.99)
_NOISES = np.array([1e-4, 1e-3, 1e-2, 0.05, 0.2, 1.0, 4.0])
#: Rows that choose the kernel, in all and at least of each group of proxies measured on the same rows, and the most
#: that are conditioned on.
_CHOOSING_ROWS, _LEAST_CHOOSING_ROWS = 256, 96
_MOST_ROWS = 1500
#: Rows that tell how the proxies respond to features, and the ridge penalty of that.
_RESPONSE_ROWS, _RESPONSE_PENALTY = 400, 3.0
#: Latencies closer together than this are constant: the device tells nothing of an order.
_CONSTANT = 1e-9


@dataclass(frozen=True, slots=True)
class ArchitectureKernel:
    """Similarity of architectures by their scaled features; about 1 for an architecture with itself."""

    squared_length: float
    linear_share: float

    def __call__(self, rows: Array, columns: Array) -> Array:
        """(N, P) and (M, P) to (N, M)."""
        near = np.exp(-squared_distances(rows, columns) / (2 * self.squared_length))
        return (1 - self.linear_share) * near + self.linear_share * rows @ columns.T / max(1, rows.shape[1])

    def diagonal(self, rows: Array) -> Array:
        """(N, P) to (N,): of each architecture with itself."""
        return (1 - self.linear_share) + self.linear_share * (rows**2).sum(axis=1) / max(1, rows.shape[1])


@dataclass(frozen=True, slots=True)
class ResponseKernel:
    """Squared exponential in features (P,) weighted by importance; 1 for an architecture with itself."""

    importance: Array
    squared_length: float

    def __call__(self, rows: Array, columns: Array) -> Array:
        """(N, P) and (M, P) to (N, M)."""
        return np.exp(-squared_distances(rows * self.importance, columns * self.importance) / (2 * self.squared_length))


@dataclass(frozen=True, slots=True)
class _Group:
    """Proxies measured on the same rows. targets: standardised latencies by domain, (N, members)."""

    members: Array
    rows: Array
    targets: dict[str, Array]
    log_units: dict[str, Array]  # log of the standard deviation in the domain, plus the domain's log Jacobian


@dataclass(frozen=True, slots=True)
class ProxyGP:
    """Smooth latencies of all informative proxies.

    kernel: shared; response: a second kernel, on features by how strongly the proxies respond to them; scale: of
    features; centres, weights: per group, rows (N, P) and coefficients (N, members);
    members: columns of the trends of each group; spread: each proxy's relative spread of latency; informative: number
    of proxies with any variation.
    """

    kernel: ArchitectureKernel
    response: ResponseKernel
    scale: FeatureScale
    centres: tuple[Array, ...]
    weights: tuple[Array, ...]
    members: tuple[Array, ...]
    spread: float
    informative: int

    def trends(self, scaled: Array) -> Array:
        """Standardised latency of each architecture on each proxy: scaled features (N, P) to (N, informative)."""
        found = np.zeros((len(scaled), self.informative))
        for centres, weights, members in zip(self.centres, self.weights, self.members, strict=True):
            found[:, members] = self.kernel(scaled, centres) @ weights
        return found


@lru_cache(maxsize=16)
def proxy_gp(table: ProxyTable) -> ProxyGP:
    """Fit to a table of measurements; at most 1,500 rows of each device are conditioned on."""
    scaled = table.scale(table.features)
    informative = [column for column in table.latency_ms.T if _varies(column)]
    groups = list(_groups(informative))
    kernel, domain, noises = _choose(scaled, groups)
    centres, weights = [], []
    for group in groups:
        rows = scaled[group.rows]
        gram = kernel(rows, rows)
        coefficients = np.empty((len(rows), len(group.members)))
        own = noises[group.members]
        for noise in np.unique(own):
            factor = cho_factor(gram + noise * np.eye(len(rows)), lower=True)
            coefficients[:, own == noise] = cho_solve(factor, group.targets[domain][:, own == noise])
        centres.append(rows)
        weights.append(coefficients)
    spreads = [np.nanstd(np.log(column)) for column in informative]
    gp = ProxyGP(
        kernel,
        ResponseKernel(np.ones(scaled.shape[1]), 1.0),
        table.scale,
        tuple(centres),
        tuple(weights),
        tuple(group.members for group in groups),
        float(np.sqrt(np.mean(np.square(spreads)))) if spreads else 0.0,
        len(informative),
    )
    rows = np.random.default_rng(0).permutation(len(scaled))[:_RESPONSE_ROWS]
    return replace(gp, response=_response(scaled[rows], gp.trends(scaled[rows])))


def squared_distances(rows: Array, columns: Array) -> Array:
    """Between all pairs, (N, P) and (M, P) to (N, M)."""
    squares = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)[None] - 2 * rows @ columns.T
    return np.maximum(squares, 0)


def _response(rows: Array, trends: Array) -> ResponseKernel:
    """A feature is as important as its coefficient in ridge regressions of the proxies' trends (root mean square)."""
    if trends.shape[1]:
        gram = rows.T @ rows + _RESPONSE_PENALTY * np.eye(rows.shape[1])
        slopes = np.linalg.solve(gram, rows.T @ (trends - trends.mean(axis=0)))
        importance = np.sqrt((slopes**2).mean(axis=1))
    else:
        importance = np.ones(rows.shape[1])
    return ResponseKernel(importance, _median_squared_distance(rows * importance))


def _varies(column: Array) -> bool:
    known = column[np.isfinite(column)]
    return len(known) > 1 and float(np.std(np.log(known))) > _CONSTANT


def _groups(columns: list[Array]) -> Iterator[_Group]:
    """Proxies by the rows they were measured on; a fixed random part of the rows where there are too many."""
    masks = [np.isfinite(column) for column in columns]
    of_mask: dict[bytes, list[int]] = {}
    for index, mask in enumerate(masks):
        of_mask.setdefault(mask.tobytes(), []).append(index)
    for members in of_mask.values():
        rows = np.random.default_rng(0).permutation(np.flatnonzero(masks[members[0]]))[:_MOST_ROWS]
        known = np.stack([columns[member][rows] for member in members], axis=1)
        mean = known.mean(axis=0)
        logs = np.log(known)
        domains = {"log": logs, "linear": known / mean}
        units = {name: np.maximum(values.std(axis=0), _CONSTANT) for name, values in domains.items()}
        targets = {name: (values - values.mean(axis=0)) / units[name] for name, values in domains.items()}
        log_units = {"log": np.log(units["log"]) + logs.mean(axis=0), "linear": np.log(units["linear"]) + np.log(mean)}
        yield _Group(np.array(members), rows, targets, log_units)


def _choose(scaled: Array, groups: list[_Group]) -> tuple[ArchitectureKernel, str, Array]:
    """The kernel and domain of greatest evidence, and the noise variance of each proxy under them."""
    proxies = sum(len(group.members) for group in groups)
    share = max(_LEAST_CHOOSING_ROWS, _CHOOSING_ROWS // max(1, len(groups)))
    samples = [scaled[group.rows[:share]] for group in groups]
    median = _median_squared_distance(samples[0]) if samples else 1.0
    best: tuple[float, ArchitectureKernel, str, Array] | None = None
    for length, linear in itertools.product(_LENGTHS, _LINEAR_SHARES):
        kernel = ArchitectureKernel(length * median, linear)
        evidence = {domain: np.empty((len(_NOISES), proxies)) for domain in ("log", "linear")}
        for group, rows in zip(groups, samples, strict=True):
            values, vectors = np.linalg.eigh(kernel(rows, rows))
            spectrum = np.maximum(values, 0)[:, None] + _NOISES  # (N, noises)
            for domain, found in evidence.items():
                energy = (vectors.T @ group.targets[domain][: len(rows)]) ** 2  # (N, members)
                mean = (energy[:, None, :] / spectrum[:, :, None]).mean(axis=0)
                likelihood = -len(rows) / 2 * np.log(np.maximum(mean, 1e-12))
                likelihood -= np.log(spectrum).sum(axis=0)[:, None] / 2
                found[:, group.members] = likelihood - len(rows) * group.log_units[domain]
        for domain, found in evidence.items():
            total = float(found.max(axis=0).sum()) if proxies else 0.0
            if best is None or total > best[0]:
                best = (total, kernel, domain, _NOISES[found.argmax(axis=0)] if proxies else np.empty(0))
    assert best is not None
    return best[1:]


def _median_squared_distance(rows: Array) -> float:
    apart = squared_distances(rows, rows)[np.triu_indices(len(rows), 1)]
    apart = apart[apart > 1e-9 * apart.max(initial=0)]  # the same architecture may be listed more than once
    return float(np.median(apart)) if len(apart) else 1.0
