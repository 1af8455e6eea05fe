"""The networks of the benchmark, by family: nothing is lent within one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tailorbird.demo.resnet20 import ResNet20
from tailorbird.supernet import elastic
from tests.bench.mobilenet import InvertedResidual

_RANDOM = 4


@dataclass(frozen=True, slots=True)
class Net:
    """A network with its input (1, 3, pixels, pixels). family: donors of the same one are held out."""

    name: str
    family: str
    pixels: int
    make: Callable[[], nn.Module]

    @property
    def is_cnn(self) -> bool:
        """Whether it is a convolutional network."""
        return self.family != "vit"

    def build(self) -> tuple[nn.Module, torch.Tensor]:
        """The network with seeded weights, in evaluation mode, and an input."""
        torch.manual_seed(0)
        return self.make().eval(), torch.randn(1, 3, self.pixels, self.pixels)


def mobilenet() -> nn.Module:
    """MobileNetV2 at its full width (ibid., table 2)."""
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
    channels = 32
    for expand, outputs, count, stride in stages:
        for index in range(count):
            layers.append(InvertedResidual(channels, outputs, stride if index == 0 else 1, expand))
            channels = outputs
    layers += [nn.Conv2d(channels, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


class BasicBlock(nn.Module):
    """He et al. 2016, "Deep Residual Learning", figure 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet18() -> nn.Module:
    """ResNet-18 (ibid., table 1)."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(channels, outputs, stride), BasicBlock(outputs, outputs, 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


class Block(nn.Module):
    """Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", equations 2 and 3."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, length, width = x.shape
        parts = self.qkv(self.norm1(x)).reshape(count, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5, -1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(count, length, width))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """A small one: 6 blocks of width 192, 3 heads, patches of 16 x 16, the mean of all tokens classified."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 192, 16, 16)
        self.position = nn.Parameter(torch.randn(1, 196, 192) * 0.02)
        self.blocks = nn.Sequential(*(Block(192, 3) for _ in range(6)))
        self.norm, self.head = nn.LayerNorm(192), nn.Linear(192, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def _subnet(seed: int) -> nn.Module:
    """A random subnet of ResNet-20 as a SuperNet."""
    torch.manual_seed(0)
    net = elastic(ResNet20().eval(), (torch.randn(1, 3, 32, 32),))
    return net.extract(net.space.sample(seed))


def _few_layers(*widths: int) -> nn.Module:
    """A convolution of stride 2 for each width, and a classifier."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise((3, *widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


SMOKE = (
    Net("narrow-16", "narrow", 16, lambda: _few_layers(16)),
    Net("wide-16", "wide", 16, lambda: _few_layers(32)),
)
QUICK = (Net("mobilenet-96", "mobilenet", 96, mobilenet), Net("resnet20-32", "resnet", 32, ResNet20))
FULL = (
    Net("mobilenet-224", "mobilenet", 224, mobilenet),
    QUICK[0],
    Net("resnet18-224", "resnet", 224, resnet18),
    QUICK[1],
    Net("vit-224", "vit", 224, VisionTransformer),
    *(Net(f"resnet20-subnet-{k}", "resnet", 32, lambda k=k: _subnet(k + 1)) for k in range(_RANDOM)),
)
