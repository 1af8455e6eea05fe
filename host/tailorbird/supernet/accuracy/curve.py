"""A decreasing curve through noisy points: centred isotonic regression (Oron and Flournoy, 2017)."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DecreasingCurve:
    """Strictly falling and piecewise linear between knots; beyond `end`, the x of the last point, it falls as 1/x
    towards `floor`.

    xs rise, ys fall, both strictly.
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    end: float
    floor: float = 0.0

    @classmethod
    def fit(cls, points: Sequence[tuple[float, float]], floor: float = 0.0) -> DecreasingCurve:
        """Pool adjacent violators, then one knot at the centre of each pool. The first point is kept as an anchor."""
        ordered = sorted(points)
        pools: list[tuple[float, float, int]] = []
        for x, y in ordered:
            pools.append((x, y, 1))
            # Of points all but together a pool's centre may round to the next one's place, or past it.
            while len(pools) > 1 and (pools[-2][1] <= pools[-1][1] or pools[-2][0] >= pools[-1][0]):
                (x1, y1, n1), (x2, y2, n2) = pools[-2:]
                count = n1 + n2
                pools[-2:] = [((x1 * n1 + x2 * n2) / count, (y1 * n1 + y2 * n2) / count, count)]
        return cls(tuple(p[0] for p in pools), tuple(p[1] for p in pools), ordered[-1][0], floor)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DecreasingCurve:
        """A curve from its fields as JSON holds them."""
        return cls(
            tuple(map(float, data["xs"])), tuple(map(float, data["ys"])), float(data["end"]), float(data["floor"])
        )

    def __call__(self, x: float) -> float:
        """Height of the curve; before the first knot that of the first, between the last knot and `end` of the last."""
        if x <= self.xs[0]:
            return self.ys[0]
        if x >= self.xs[-1]:
            return self.floor + max(0.0, self.ys[-1] - self.floor) * min(1.0, self.end / x)
        right = bisect.bisect_right(self.xs, x)
        share = (x - self.xs[right - 1]) / (self.xs[right] - self.xs[right - 1])
        return self.ys[right - 1] + share * (self.ys[right] - self.ys[right - 1])
