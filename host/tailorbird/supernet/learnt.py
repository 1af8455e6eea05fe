"""Learnt: the weights of the subnets, beside those of the user's network, which stay as they are.

One set of weights for all makes the full network pay for the subnets, or the subnets for the full network: on a
ResNet-20 trained for six minutes, what keeps the full network within 0.3 points leaves random subnets 15 points below
what they reach by themselves. So the full network keeps the user's weights, and the subnets get their own, which they
share. In between, weights are in between: a subnet that differs little from the full network is best with weights near
the user's, one without half of the operations with all that was learnt (for fine-tuning, averages of both ends are
better than either: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022). The share of the way grows
with the square root of what is gone: weights that were trained to stand in for what is missing are needed early on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

#: Share of the multiply-accumulates without which a subnet uses the learnt weights alone.
_ALL_GONE = 0.5


class Learnt(nn.Module):
    """Parameters by their names in the user's module, and how far from the user's own a subnet goes towards them."""

    def __init__(self, values: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self._place = {name: place for place, name in enumerate(values)}
        self._values = nn.ParameterList(values.values())

    @classmethod
    def of(cls, module: nn.Module) -> Learnt:
        """Copies of all parameters of a module."""
        return cls.like(module, dict(module.named_parameters(remove_duplicate=False)))

    @classmethod
    def like(cls, module: nn.Module, values: Mapping[str, Tensor]) -> Learnt:
        """Copies of values, where the parameters of a module are, and frozen where these are.

        Raises: KeyError, ValueError when they are not those of this module.
        """
        made = {}
        for name, one in module.named_parameters(remove_duplicate=False):
            if values[name].shape != one.shape:
                raise ValueError(f"{name} is {tuple(values[name].shape)}, expected {tuple(one.shape)}")
            made[name] = nn.Parameter(values[name].detach().to(one, copy=True), requires_grad=one.requires_grad)
        return cls(made)

    def get(self, name: str) -> Tensor | None:
        """A parameter, None for what is no parameter."""
        place = self._place.get(name)
        return None if place is None else self._values[place]

    def named(self) -> dict[str, Tensor]:
        """All of them."""
        return {name: self._values[place] for name, place in self._place.items()}

    def differs(self, module: nn.Module) -> bool:
        """Whether these are other weights than a module's."""
        own = dict(module.named_parameters(remove_duplicate=False))
        return any(not torch.equal(value, own[name]) for name, value in self.named().items())

    @torch.no_grad()
    def put_into(self, module: nn.Module) -> None:
        """Give a module these weights."""
        for name, parameter in module.named_parameters(remove_duplicate=False):
            parameter.copy_(self._values[self._place[name]])

    @staticmethod
    def share(macs: int, full: int) -> float:
        """Which part of the way a subnet goes, 0 to 1. macs, full: of the subnet and of the full network."""
        gone = 1 - macs / full if full else 1.0
        return min(1.0, math.sqrt(max(0.0, gone) / _ALL_GONE))
