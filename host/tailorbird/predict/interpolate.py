"""Times of kernels that were not measured, from those of their family that were.

Within a family only the channel counts differ, and a convolution's time is close to a + b*in + c*out + d*in*out: call
overhead, input traffic, output traffic, arithmetic. All four are non-negative, so they are found by non-negative least
squares (Lawson and Hanson, 1974) on relative errors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped, unused-ignore]

from tailorbird.profile import family
from tailorbird.types import KernelSpec

#: With fewer points than unknowns a fit through the origin of work is safer than a surface.
_MIN_POINTS = 4


class KernelInterpolator:
    """Estimates kernel times in microseconds from a table of measured ones."""

    def __init__(self, times_us: Mapping[KernelSpec, float]) -> None:
        self._times = dict(times_us)
        self._families: dict[KernelSpec, list[KernelSpec]] = {}
        for spec in self._times:
            self._families.setdefault(family(spec), []).append(spec)
        self._fits: dict[KernelSpec, np.ndarray] = {}

    def __call__(self, spec: KernelSpec) -> float:
        """Microseconds of a kernel: as measured, else fitted within its family, else scaled by work.

        Raises ValueError when nothing at all was measured.
        """
        if spec in self._times:
            return self._times[spec]
        kin = family(spec)
        if len(self._families.get(kin, ())) >= _MIN_POINTS:
            if kin not in self._fits:
                self._fits[kin] = self._fit(kin)
            return float(_terms(spec) @ self._fits[kin])
        return self._scaled(spec)

    def _fit(self, kin: KernelSpec) -> np.ndarray:
        members = self._families[kin]
        weights = np.array([1 / self._times[spec] for spec in members])
        rows = np.stack([_terms(spec) for spec in members]) * weights[:, None]
        return nnls(rows, np.ones(len(members)))[0]

    def _scaled(self, spec: KernelSpec) -> float:
        """Time of the measured kernel of most similar work, times the ratio of work."""
        if not self._times:
            raise ValueError("no kernel was measured")
        same = [other for other in self._times if other.op == spec.op] or list(self._times)
        nearest = min(same, key=lambda other: (abs(np.log(_work(other) / _work(spec))), other.label))
        return self._times[nearest] * _work(spec) / _work(nearest)


def _terms(spec: KernelSpec) -> np.ndarray:
    return np.array([1.0, spec.in_channels, spec.out_channels, spec.in_channels * spec.out_channels])


def _work(spec: KernelSpec) -> float:
    """Arithmetic plus memory traffic, in operations: a byte moved costs about as much as a multiply-accumulate."""
    return float(max(spec.macs + spec.activation_bytes + 4 * spec.weight_count, 1))
