"""A decreasing curve of two free numbers through noisy points: a stretched exponential (Kohlrausch, 1854)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_SHAPES = np.geomspace(0.4, 5.0, 24)
_SCALES = np.geomspace(0.1, 10.0, 40)  # of the widest point


@dataclass(frozen=True, slots=True)
class DecayCurve:
    """floor + (top - floor) exp(-(t / scale) ** shape) with t = log(1 + (x - begin) / unit); never rises."""

    begin: float
    top: float
    floor: float
    unit: float
    scale: float
    shape: float

    @classmethod
    def fit(cls, points: Sequence[tuple[float, float]], floor: float = 0.0) -> DecayCurve:
        """Least absolute error through points (x, y), at least one, by a grid. The curve begins at the point of the
        lowest x and goes through it: give the full network at 0. floor: where it ends up; below the lowest point in
        any case.
        """
        ordered = sorted(points)
        begin, top = ordered[0]
        offsets = [x - begin for x, _ in ordered]
        # Not so small that the farthest point is out of reach of a float.
        unit = max(sorted(offsets)[len(offsets) // 2], 1e-9 * max(offsets)) or 1.0
        t, y = np.log1p(np.array(offsets) / unit), np.array([y for _, y in ordered])
        bottom = min(floor, float(y.min() - 0.05 * (y.max() - y.min())))
        scales, shapes = (float(t.max()) or 1.0) * _SCALES[:, None, None], _SHAPES[None, :, None]
        error = np.abs(bottom + (top - bottom) * np.exp(-((t / scales) ** shapes)) - y).mean(axis=-1)
        row, column = np.unravel_index(int(error.argmin()), error.shape)
        return cls(begin, top, bottom, unit, float(scales[row, 0, 0]), float(_SHAPES[column]))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DecayCurve:
        """A curve from its fields as JSON holds them."""
        return cls(**{name: float(value) for name, value in data.items()})

    def __call__(self, x: float) -> float:
        """Height of the curve; before its beginning that of the beginning."""
        t = math.log1p(max(0.0, x - self.begin) / self.unit)
        return self.floor + (self.top - self.floor) * math.exp(-((t / self.scale) ** self.shape))
