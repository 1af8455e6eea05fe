from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tailorbird.supernet.training.alpha import adaptive_divergence


def alpha_divergence(chance: Tensor, wanted: Tensor, alpha: float) -> Tensor:
    """D_alpha(wanted | chance) by its definition; alpha = 1 is the KL divergence."""
    if alpha == 1:
        return (wanted * (wanted / chance).log()).sum(-1)
    return (chance * ((wanted / chance) ** alpha - 1)).sum(-1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("seed", range(4))
def test_its_gradient_is_that_of_the_larger_divergence(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Near enough to each other that no weight is clipped.
    wanted = torch.randn(6, 5, generator=generator, dtype=torch.float64) * 0.5
    scores = (wanted + 0.3 * torch.randn(6, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    adaptive_divergence(scores, wanted).backward()
    found = scores.grad
    scores.grad = None
    both = torch.stack([alpha_divergence(scores.softmax(-1), wanted.softmax(-1), alpha) for alpha in (-1.0, 1.0)])
    both.max(0).values.mean().backward()
    torch.testing.assert_close(found, scores.grad)


def test_equal_answers_leave_nothing_to_learn() -> None:
    scores = torch.randn(4, 7, requires_grad=True)
    adaptive_divergence(scores, scores.detach().clone()).backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-6


def test_certain_answers_stay_finite() -> None:
    scores = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    adaptive_divergence(scores, torch.tensor([[-200.0, 200.0], [-200.0, 200.0]])).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
