"""The same residual network with its parameter-free shortcuts written as 1x1 convolutions.

A shortcut of option A (He et al. 2015, section 3.3) drops pixels and pads channels with zeros. Torch-Pruning takes the
padding for an element-wise operation, so it prunes other channels on the one side of it than on the other, and a width
multiplier cannot scale the stages on both sides. As convolutions of zeros and ones the shortcuts compute the same, and
pruning, slicing and fine-tuning get at them: the baselines come out stronger for it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailorbird.demo.resnet20 import BasicBlock


class ProjectedBlock(nn.Module):
    """A residual block whose shortcut is a strided 1x1 convolution; made from a BasicBlock that pads."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = block.conv1, block.bn1, block.conv2, block.bn2
        inputs, outputs = block.conv1.in_channels, block.conv2.out_channels
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=block.stride, bias=False)
        with torch.no_grad():
            self.shortcut.weight.zero_()
            for channel in range(inputs):
                self.shortcut.weight[block.pad + channel, channel] = 1

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def projected(model: nn.Module) -> nn.Module:
    """A copy of a network that computes the same, without padded shortcuts; a plain copy where it has none."""
    twin = copy.deepcopy(model)
    for name, block in list(twin.named_modules()):
        if isinstance(block, BasicBlock) and (block.stride != 1 or block.pad):
            parent, _, own = name.rpartition(".")
            setattr(twin.get_submodule(parent), own, ProjectedBlock(block))
    return twin
