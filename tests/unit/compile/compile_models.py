"""Networks as users write them, small, with batch norms that have seen data."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from tailorbird.compile.base import CompileTarget

HOST = CompileTarget("x86_64-linux-gnu", "")
RASPBERRY = CompileTarget("aarch64-linux-gnu", "cortex-a72", threads=4)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.project = stride != 1 or inputs != outputs

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.down(x) if self.project else x))


class ResidualNet(nn.Module):
    """(N, 1, 16, 16) -> (N, 10)."""

    def __init__(self, widths=(8, 16)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.blocks = nn.Sequential(Block(widths[0], widths[0], 1), Block(widths[0], widths[1], 2))
        self.head = nn.Linear(widths[1], 10)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn(self.stem(x))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class OptionA(nn.Module):
    """A CIFAR ResNet shortcut without weights: subsample and pad the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, 2, 1)

    def forward(self, x):
        return F.relu(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 5, 1, 2, groups=8, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.reduce = nn.Conv2d(8, 4, 1)
        self.expand = nn.Conv2d(4, 8, 1)

    def forward(self, x):
        x = F.relu6(self.bn(self.depthwise(x)))
        scale = x.mean((2, 3), keepdim=True)
        scale = torch.sigmoid(self.expand(F.relu(self.reduce(scale))))
        return F.hardswish(x * scale)


class InPlace(nn.Module):
    """Activations in place, one of them on a tensor that is read again."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding="same")
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x):
        y = self.act(self.conv(x))
        y += 1.0
        z = y * 2.0
        y.mul_(z.mean((2, 3), keepdim=True))
        return torch.cat([y, z], 1)


class PreActivation(nn.Module):
    """Batch norm before the convolution: there is nothing to fold it into."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4, affine=False)
        self.conv = nn.Conv2d(4, 6, 3)

    def forward(self, x):
        return self.conv(F.relu(self.bn(x)))


class ReadTwice(nn.Module):
    """The convolution before the batch norm has a second reader: folding would change what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, 1, 1)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x)


def settled(module: nn.Module, seed: int = 0) -> nn.Module:
    """In evaluation mode, with batch norm statistics and affine terms that are not the identity."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
            if norm.affine:
                norm.weight.data.uniform_(0.5, 1.5, generator=generator)
                norm.bias.data.normal_(0, 0.2, generator=generator)
    return module.eval()


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
