"""The demo's network, as an ordinary user would write it: plain PyTorch, no Tailorbird in it.

39 million multiply-accumulates for one 32x32 image, 233 thousand parameters.
`tailorbird supernet .../demo/model.py:make --input 1,1,32,32` takes this file as it would take any other.
"""

from __future__ import annotations

import torch
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; a 1x1 convolution adapts the shortcut when the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class ResidualNet(nn.Module):
    """Three stages of residual blocks between a convolution and a linear classifier."""

    def __init__(
        self, channels: int = 1, classes: int = 10, widths: tuple[int, ...] = (20, 40, 72), depth: int = 2
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        inputs = widths[0]
        for stage, outputs in enumerate(widths):
            for block in range(depth):
                blocks.append(ResidualBlock(inputs, outputs, stride=2 if stage > 0 and block == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, 10) of images (N, 1, 32, 32)."""
        x = self.pool(self.blocks(self.stem(images)))
        return self.classifier(torch.flatten(x, 1))


def make() -> nn.Module:
    """A freshly initialised network."""
    return ResidualNet()


def make_wide() -> nn.Module:
    """The same, three times as much to compute: for processors on which the other takes well under a millisecond."""
    return ResidualNet(widths=(32, 72, 132))
