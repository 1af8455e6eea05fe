"""What the zoo says about a network: how to make it, and what a compiler has to find in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[Tensor, ...]]

_SPREAD = 0.1  # of constants; deep networks stay finite


@dataclass(frozen=True, slots=True)
class Entry:
    """One network of the zoo.

    name: `origin/model`; make: the module and example inputs. residual: it has blocks x + f(x) that can be bypassed, so
    depth must be found; attention: it has attention with more than one head, so heads must be found.
    """

    name: str
    make: Callable[[], Made]
    residual: bool = False
    attention: bool = False

    @property
    def origin(self) -> str:
        """timm, torchvision, transformers or written."""
        return self.name.partition("/")[0]

    def build(self, seed: int = 0) -> Made:
        """The network in eval mode with random weights, and inputs that suit it; the same for the same seed."""
        torch.manual_seed(seed)
        model, inputs = self.make()
        return randomised(model).eval(), inputs


@torch.no_grad()
def randomised(model: nn.Module) -> nn.Module:
    """Give every constant a value that no mistake hides behind.

    Statistics of batch_norm, affine weights of ones and zeros, layer scales of 1e-6 and zero-initialised residual
    branches would let a compiler that mixes up channels, or drops a branch, look right.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, _SPREAD)
            module.running_var.uniform_(0.8, 1.2)
    for parameter in model.parameters():
        if parameter.is_floating_point() and bool((parameter == parameter.flatten()[:1]).all()):
            value = float(parameter.flatten()[0])
            if abs(value) < _SPREAD:
                parameter.normal_(0, _SPREAD)
            elif parameter.numel() > 1:
                parameter.normal_(value, _SPREAD)
    return model
