"""The optimiser: SGD with Nesterov momentum where batch_norm sets the scale of the weights, AdamW elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tailorbird.errors import UsageError
from tailorbird.graph import op_name
from tailorbird.supernet.training.recipe import Recipe

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_RATES = {"sgd": 0.03, "adamw": 2e-4}
_DECAYS = {"sgd": 5e-4, "adamw": 0.02}
_MOMENTUM = 0.9


def make_optimiser(net: SuperNet, recipe: Recipe) -> torch.optim.Optimizer:
    """For all weights that are not frozen by the user. Biases and affine parameters of norms are not decayed.

    Raises: UsageError when all of them are frozen.
    """
    kind = _kind(net, recipe)
    decay = _DECAYS[kind] if recipe.weight_decay is None else recipe.weight_decay
    weights = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise UsageError(
            f"{net.report.model} has nothing to train",
            why="it has no parameter with requires_grad",
            fix="let training change some of them: net.weights.requires_grad_()",
        )
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=_MOMENTUM, nesterov=True)
    return torch.optim.AdamW(groups, lr=0.0)


def peak_rate(net: SuperNet, recipe: Recipe) -> float:
    """The largest learning rate of the schedule."""
    return _RATES[_kind(net, recipe)] if recipe.lr is None else recipe.lr


def _kind(net: SuperNet, recipe: Recipe) -> str:
    if recipe.optimiser != "auto":
        return recipe.optimiser
    return "sgd" if any(op_name(node) == "batch_norm" for node in net.graph.graph.nodes) else "adamw"
