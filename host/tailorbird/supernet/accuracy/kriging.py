"""Kriging: what a curve leaves at the evaluated subnets, carried over to subnets that make similar changes.

A Gaussian process over residuals (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapter 2)
whose kernel is v ((exp(s(a, b) / l) - 1) + g t(a, b)):

    s   sum of w over the changes that subnets a and b share, in units of the mean sum of a subnet; w is the square of a
        change's term in `additive`, so that what does little alone explains little. The series of the exponential
        holds every interaction of changes, of any order.
    t   product of what both do in general: how many sizes are cut, how many blocks are skipped, and how often a block
        is skipped whose neighbour in its stage is skipped too, each in units of its root mean square.

The full network changes nothing, so nothing is added there. Length l, variance v, weight g and the noise are not chosen
but averaged over a grid, by the evidence of each.

Mean absolute errors in points on other random subnets, for the networks and images of `additive`, with 17 probes and 32
evaluations: 3.9 by a curve alone, 3.1 with s, 2.6 with both. 49 evaluations without any probe: 3.3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tailorbird.supernet.accuracy.additive import Additive
from tailorbird.supernet.accuracy.agenda import Change, changes_of
from tailorbird.supernet.space import SearchSpace
from tailorbird.types import Config

_LENGTHS = (0.5, 1.0, 2.0)
_VARIANCES = (0.1, 0.3, 1.0, 3.0)  # of the mean square of residuals, as the noises
_NOISES = (0.03, 0.1, 0.3)
_GENERAL = (0.1, 0.3, 1.0)
_LARGEST = 50.0  # exponent, far from overflow


@dataclass(frozen=True, slots=True)
class Kriging:
    """Adds to a curve's prediction. anchors: the subnets it was fitted on, canonical; unit: mean sum of s;
    coefficients: of s, for each length and each anchor; slopes: of the three counts of t.
    """

    model: Additive = field(repr=False, compare=False)
    anchors: tuple[Config, ...] = ()
    unit: float = 1.0
    coefficients: tuple[tuple[float, ...], ...] = ()
    slopes: tuple[float, ...] = ()
    _changes: tuple[frozenset[Change], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_changes", tuple(frozenset(changes_of(anchor)) for anchor in self.anchors))

    @classmethod
    def fit(cls, model: Additive, anchors: Sequence[Config], residuals: Sequence[float]) -> Kriging:
        """anchors: canonical; residuals: measured minus predicted by the curve, one for each."""
        left = np.array(residuals)
        size = float(np.mean(left**2)) if len(left) else 0.0
        changes = [frozenset(changes_of(anchor)) for anchor in anchors]
        shared = np.array([[_shared(model, a, b) for b in changes] for a in changes])
        unit = sum(_shared(model, own, own) for own in changes) / max(1, len(changes))
        if size == 0 or unit == 0:  # nothing to explain, or by nothing
            return cls(model)
        counts = np.array([_counts(model.space, anchor) for anchor in anchors])
        spread = np.sqrt((counts**2).mean(axis=0))
        scaled = counts / np.where(spread > 0, spread, 1.0) / math.sqrt(counts.shape[1])
        kernels = [_kernel(shared, unit, length) for length in _LENGTHS]
        grid = list(itertools.product(range(len(_LENGTHS)), _VARIANCES, _GENERAL, _NOISES))
        solved = [
            _solved(size * (v * kernels[place] + g * scaled @ scaled.T), size * noise, left)
            for place, v, g, noise in grid
        ]
        best = max(evidence for _, evidence in solved)
        shares = np.array([math.exp(evidence - best) for _, evidence in solved])
        shares /= shares.sum()
        coefficients, slopes = np.zeros((len(_LENGTHS), len(left))), np.zeros(counts.shape[1])
        for share, (place, v, g, _), (alpha, _) in zip(shares, grid, solved, strict=True):
            coefficients[place] += share * size * v * alpha
            slopes += share * size * g * (scaled.T @ alpha)
        slopes /= np.where(spread > 0, spread, 1.0) * math.sqrt(counts.shape[1])
        return cls(model, tuple(anchors), unit, tuple(map(tuple, coefficients.tolist())), tuple(slopes.tolist()))

    def __call__(self, config: Config) -> float:
        """What to add for a configuration. Raises: UsageError for an invalid one."""
        if not self.anchors:
            return 0.0
        chosen = self.model.space.canonical(config)
        changes = frozenset(changes_of(chosen))
        shared = np.array([_shared(self.model, changes, anchor) for anchor in self._changes])
        alike = sum(
            float(_kernel(shared, self.unit, length) @ np.array(row))
            for length, row in zip(_LENGTHS, self.coefficients, strict=True)
        )
        return alike + sum(s * n for s, n in zip(self.slopes, _counts(self.model.space, chosen), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Everything but the model and the anchors, which a table holds."""
        return {"unit": self.unit, "coefficients": list(map(list, self.coefficients)), "slopes": list(self.slopes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], model: Additive, anchors: Sequence[Config]) -> Kriging:
        """Inverse of to_json with the same model and anchors. Raises: ValueError for other anchors."""
        rows = tuple(tuple(map(float, row)) for row in data["coefficients"])
        if not rows:
            return cls(model)
        if {len(row) for row in rows} != {len(anchors)}:
            raise ValueError(f"these are not coefficients of {len(anchors)} anchors")
        return cls(model, tuple(anchors), float(data["unit"]), rows, tuple(map(float, data["slopes"])))


def _shared(model: Additive, one: frozenset[Change], other: frozenset[Change]) -> float:
    return math.fsum(model.terms[change] ** 2 for change in one & other)


def _counts(space: SearchSpace, config: Config) -> tuple[int, int, int]:
    """Sizes cut, blocks skipped, and pairs of skipped blocks that follow each other in a stage."""
    skipped = set(config.skipped)
    pairs = [pair for stage in space.stages for pair in itertools.pairwise(stage.blocks) if skipped.issuperset(pair)]
    return len(config.sizes), len(skipped), len(pairs)


def _kernel(shared: np.ndarray, unit: float, length: float) -> np.ndarray:
    return np.expm1(np.minimum(shared / (length * unit), _LARGEST))


def _solved(kernel: np.ndarray, noise: float, residuals: np.ndarray) -> tuple[np.ndarray, float]:
    """(K + noise)^-1 r, and the logarithm of the evidence, up to a constant (Rasmussen and Williams, eq. 2.30)."""
    lower = np.linalg.cholesky(kernel + noise * np.eye(len(residuals)))
    alpha = np.linalg.solve(lower.T, np.linalg.solve(lower, residuals))
    return alpha, float(-0.5 * residuals @ alpha - np.log(np.diag(lower)).sum())
