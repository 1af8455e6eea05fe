"""Times of kernels that were not measured, from those of their family that were.

Within a family a kernel's time is close to a sum of call overhead, traffic of each operand and arithmetic: for a
convolution a + b*in + c*out + d*in*out. All coefficients are non-negative, so they are found by non-negative least
squares (Lawson and Hanson, 1974) on relative errors. What the law leaves, steps where a register tile fills, is taken
from the nearest measured members (inverse distance weighting, Shepard 1968, on logarithms).
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped, unused-ignore]

from tailorbird.predict.base import PredictionError
from tailorbird.types import Kernel

_NEAREST = 4


class KernelInterpolator:
    """Estimates kernel times in microseconds from a table of measured ones."""

    def __init__(self, times_us: Mapping[Kernel, float]) -> None:
        self._times = dict(times_us)
        self._families: dict[Hashable, list[Kernel]] = {}
        for spec in self._times:
            self._families.setdefault(spec.family, []).append(spec)
        self._laws: dict[Hashable, _Law] = {}
        self._estimates: dict[Kernel, float] = {}

    def __call__(self, spec: Kernel) -> float:
        """Microseconds of a kernel: as measured, else fitted within its family, else scaled by work.

        Raises ValueError when nothing at all was measured.
        """
        if spec in self._times:
            return self._times[spec]
        if spec not in self._estimates:
            self._estimates[spec] = self._estimate(spec)
        return self._estimates[spec]

    def _estimate(self, spec: Kernel) -> float:
        kin = spec.family
        members = self._families.get(kin, [])
        # With fewer points than unknowns a fit through the origin of work is safer than a surface.
        if len(members) <= len(spec.factors):
            return self._scaled(spec)
        if kin not in self._laws:
            self._laws[kin] = _Law({member: self._times[member] for member in members})
        return self._laws[kin](spec)

    def _scaled(self, spec: Kernel) -> float:
        """Time of the measured kernel of most similar work, times the ratio of work."""
        if not self._times:
            raise ValueError("no kernel was measured")
        same = [other for other in self._times if other.program == spec.program] or list(self._times)
        nearest = min(same, key=lambda other: (abs(np.log(_work(other) / _work(spec))), other.label))
        return self._times[nearest] * _work(spec) / _work(nearest)


class _Law:
    """The surface of one family."""

    def __init__(self, times_us: Mapping[Kernel, float]) -> None:
        rows = np.stack([_terms(spec) for spec in times_us])
        times = np.array(list(times_us.values()))
        self._coefficients = nnls(rows / times[:, None], np.ones(len(times)))[0]
        self._places = np.log(rows)
        self._left = np.log(times / np.maximum(rows @ self._coefficients, 1e-9))

    def __call__(self, spec: Kernel) -> float:
        terms = _terms(spec)
        squares = ((self._places - np.log(terms)) ** 2).sum(axis=1)
        nearest = np.argsort(squares, kind="stable")[:_NEAREST]
        left = np.average(self._left[nearest], weights=1 / np.maximum(squares[nearest], 1e-9))
        return float(terms @ self._coefficients * np.exp(left))


def interpolation_error(
    times_us: Mapping[Kernel, float], *, share: float = 0.1, seed: int = 0
) -> PredictionError | None:
    """How well measured kernels are found from the others, a random `share` of them held out at once.

    None when there are fewer than ten kernels.
    """
    if len(times_us) < 10:
        return None
    specs = sorted(times_us, key=lambda spec: spec.label)
    random.Random(seed).shuffle(specs)  # noqa: S311  (no secret depends on it)
    held_out = specs[: max(1, round(share * len(specs)))]
    estimate = KernelInterpolator({spec: times_us[spec] for spec in specs[len(held_out) :]})
    return PredictionError.of([estimate(spec) for spec in held_out], [times_us[spec] for spec in held_out])


def _terms(spec: Kernel) -> np.ndarray:
    return np.array([1.0, *(max(1.0, factor) for factor in spec.factors)])


def _work(spec: Kernel) -> float:
    """Arithmetic plus memory traffic, in operations: a byte moved costs about as much as a multiply-accumulate."""
    return float(max(spec.macs + spec.activation_bytes + 4 * spec.weight_count, 1))
