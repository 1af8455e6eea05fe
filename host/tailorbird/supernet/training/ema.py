"""Averaged weights: an exponential moving average of everything that training changes, running statistics included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """A moving average of a module's state. Its first steps average over few, so that the start is soon forgotten."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = tensors(module)
        self.values = {name: value.clone() for name, value in self._live.items()}
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of the step just done."""
        self.updates += 1
        decay = min(self._decay, self.updates / (self.updates + 9))
        for name, value in self.values.items():
            if value.is_floating_point():
                value.lerp_(self._live[name], 1 - decay)
            else:
                value.copy_(self._live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module holds the averages for a while."""
        kept = {name: value.clone() for name, value in self._live.items()}
        self.apply()
        try:
            yield
        finally:
            put(self._live, kept)

    def apply(self) -> None:
        """Leave the averages in the module."""
        put(self._live, self.values)

    def load(self, values: Mapping[str, Tensor], updates: int) -> None:
        """Go on from what was saved."""
        put(self.values, values)
        self.updates = updates


@torch.no_grad()
def put(into: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy tensors by name."""
    for name, value in into.items():
        value.copy_(values[name])


def copied(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all that training changes: the user's state dict and what the SuperNet holds besides."""
    return {name: value.clone() for name, value in tensors(module).items()}


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """The same without copies. What else modules keep (`get_extra_state`) is theirs: training does not touch it."""
    return {name: value for name, value in nn.Module.state_dict(module).items() if isinstance(value, Tensor)}
