"""The adaptive alpha-divergence of AlphaNet (Wang et al., ICML 2021, eq. 6-9): distillation without over-confidence.

A large alpha punishes a student that is too sure, a small one a student that is too unsure; of the two the larger
divergence is followed. The weights of the small one are clipped, since they make gradients unstable.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ALPHAS = (-1.0, 1.0)
_LARGEST_WEIGHT = 5.0


def adaptive_divergence(scores: Tensor, wanted: Tensor) -> Tensor:
    """Mean over rows of max over alpha of D_alpha(wanted | scores), with the gradient of that divergence.

    scores, wanted: (rows, classes) before softmax. The value is a surrogate: only its gradient is meaningful.
    """
    found = [_divergence(scores, wanted.detach(), alpha) for alpha in _ALPHAS]
    (low, low_surrogate), (high, high_surrogate) = found
    return torch.where(low > high, low_surrogate, high_surrogate).mean()


def _divergence(scores: Tensor, wanted: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The divergence of each row, and what has its gradient (the score-function form of eq. 8)."""
    log_chance = scores.log_softmax(-1)
    chance = log_chance.detach().exp()
    ratio = wanted.softmax(-1) / chance.clamp_min(torch.finfo(chance.dtype).tiny)
    if alpha == 1.0:
        value = ratio * ratio.clamp_min(torch.finfo(ratio.dtype).tiny).log()
        base, weight = 0.0, ratio
    else:
        power = ratio.pow(alpha).clamp(0, _LARGEST_WEIGHT)
        base = 1 / (alpha * (alpha - 1))
        value, weight = power * base, power / alpha + base
    return (chance * (value - base)).sum(-1), -(chance * weight * log_chance).sum(-1)
