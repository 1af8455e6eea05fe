"""Schedule: the learning rate over a run, linear warm-up and then a half cosine to 0 (Loshchilov and Hutter, 2017)."""

from __future__ import annotations

import math

_START = 0.01


def factor(share: float, warm_up: float) -> float:
    """Part of the peak learning rate after a share of the run, both 0 to 1."""
    if share < warm_up:
        return (share + _START) / (warm_up + _START)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - warm_up) / (1 - warm_up))))
