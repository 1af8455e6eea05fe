"""Which architectures to measure on a new device, chosen from what proxies tell: no measurement of the target needed.

Few samples should cover the kinds of architectures there are: k-means on the cosine of their features. More of them
should leave the hierarchical Gaussian process (hgp) least unsure on average: greedy I-optimal design, the classical
"active learning Cohn" (Cohn, 1996; Seo et al., 2000), under variances that suit most devices.
"""

from __future__ import annotations

import numpy as np

from tailorbird.predict.hgp import Variances, prior_covariance
from tailorbird.predict.proxy_gp import squared_distances
from tailorbird.predict.proxy_table import Array, ProxyTable

#: Up to this many samples are spread over clusters.
MOST_CLUSTERS = 6
_CANDIDATES = 800
_TYPICAL = Variances(common=1.0, own=0.5, operator=0.2, structure=0.05, response=0.0, noise=0.02)
_RESTARTS = 3
_ROUNDS = 100


def cosine_clusters(table: ProxyTable, count: int, rng: np.random.Generator) -> Array:
    """The architectures nearest the centres of `count` clusters; indices (count,) of distinct rows."""
    scaled = table.scale(table.features)
    points = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-9)
    runs = [_clusters(points, count, rng) for _ in range(_RESTARTS)]
    distances = min(runs, key=lambda run: float(run.min(axis=1).sum()))
    chosen: list[int] = []
    for cluster in range(count):
        order = np.argsort(distances[:, cluster], kind="stable")
        chosen.append(next(int(row) for row in order if int(row) not in chosen))
    return np.array(chosen)


def variance_reduction(table: ProxyTable, count: int, rng: np.random.Generator) -> Array:
    """Greedily, what lowers the mean posterior variance most; indices (count,) of distinct rows.

    At most 800 random rows are candidates, more only where more are asked for.
    """
    rows = rng.permutation(len(table.features))[: max(_CANDIDATES, count)]
    covariance = prior_covariance(table, table.features[rows], _TYPICAL)
    open_ = np.ones(len(rows), dtype=bool)
    chosen = []
    for _ in range(count):
        variance = np.maximum(np.diag(covariance), 0) + _TYPICAL.noise
        drop = (covariance**2).sum(axis=0) / variance
        best = int(np.where(open_, drop, -np.inf).argmax())
        chosen.append(int(rows[best]))
        open_[best] = False
        covariance -= np.outer(covariance[:, best], covariance[:, best]) / variance[best]
    return np.array(chosen)


def _clusters(points: Array, count: int, rng: np.random.Generator) -> Array:
    """Squared distances of all points to the centres of k-means, (N, count); seeded by k-means++."""
    centres = points[[int(rng.integers(len(points)))]]
    while len(centres) < count:
        nearest = squared_distances(points, centres).min(axis=1)
        total = nearest.sum()
        chances = nearest / total if total > 0 else None
        centres = np.concatenate([centres, points[[int(rng.choice(len(points), p=chances))]]])
    label = None
    for _ in range(_ROUNDS):
        distances = squared_distances(points, centres)
        before, label = label, distances.argmin(axis=1)
        if before is not None and (label == before).all():
            break
        sizes = np.bincount(label, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, label, points)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
    return squared_distances(points, centres)
