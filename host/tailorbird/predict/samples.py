"""Which whole subnets to measure for a calibration.

Few samples should lie far apart in what they consist of, not in time alone: greedy farthest-point selection by cosine
distance over kernel features, starting with the full and the smallest network.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from tailorbird.profile import KernelsOf, family
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet import SearchSpace


def choose_samples(
    space: SearchSpace, kernels_of: KernelsOf, count: int, *, pool: int = 300, seed: int = 0
) -> tuple[Config, ...]:
    """At least one and at most `count` distinct subnets that differ most in their kernels, full and smallest first.

    pool: random subnets to choose from. Raises ValueError when count is below 1.
    """
    if count < 1:
        raise ValueError(f"{count} samples cannot calibrate anything")
    randoms = [space.sample(seed + number) for number in range(pool)]
    configs = list(dict.fromkeys([space.full(), space.smallest(), *randoms]))
    features = _features(configs, kernels_of)
    chosen = [0] if count == 1 else list(range(min(2, len(configs))))
    while len(chosen) < min(count, len(configs)):
        nearest = (features @ features[chosen].T).max(axis=1)
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return tuple(configs[index] for index in chosen)


def _features(configs: list[Config], kernels_of: KernelsOf) -> np.ndarray:
    """One unit row per subnet: the work it does in each family of kernels."""
    rows = []
    for config in configs:
        work: Counter[object] = Counter()
        for spec in kernels_of(config):
            work[family(spec)] += spec.macs
        rows.append(work)
    columns = sorted({kin for row in rows for kin in row}, key=str)
    matrix = np.array([[float(row[kin]) for kin in columns] for row in rows])
    # Square roots: otherwise the one heaviest family decides alone.
    matrix = np.sqrt(matrix)
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
