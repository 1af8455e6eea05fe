"""ResNet-20 for CIFAR-10 with parameter-free shortcuts and its published weights.

He et al. 2015, "Deep residual learning for image recognition", section 4.2, option A.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from tailorbird.errors import MissingFileError, ModelError

WEIGHTS = Path("resnet_cifar10") / "resnet20.safetensors"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; a changing shortcut drops every second pixel and pads channels with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.pad = (outputs - inputs) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1 or self.pad:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return functional.relu(y + x)


class ResNet20(nn.Module):
    """Three stages of three blocks with 16, 32 and 64 channels; 40.6 M multiply-accumulates, 0.27 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(BasicBlock(16, 16, 1), BasicBlock(16, 16, 1), BasicBlock(16, 16, 1))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2), BasicBlock(32, 32, 1), BasicBlock(32, 32, 1))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2), BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.linear = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, 10) of normalised images (N, 3, 32, 32)."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def make() -> nn.Module:
    """A freshly initialised network."""
    return ResNet20()


def load_pretrained(data: Path) -> nn.Module:
    """The network with the weights in DATA/resnet_cifar10/resnet20.safetensors.

    Raises:
        MissingFileError: the file is not there.
        ModelError: the file holds other tensors.
    """
    from safetensors.torch import load_file

    path = data / WEIGHTS
    if not path.is_file():
        raise MissingFileError(
            f"no pretrained weights at {path}",
            why="--model resnet20-cifar10 starts from published weights",
            fix=f"give --data a folder that holds {WEIGHTS} and cifar10.zip",
        )
    net = make()
    try:
        missing, unexpected = net.load_state_dict(load_file(path), strict=False)
    except (RuntimeError, OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be loaded", why=str(error), fix="download the file again") from error
    absent = [name for name in missing if not name.endswith("num_batches_tracked")]
    if absent or unexpected:
        raise ModelError(
            f"{path} is not a ResNet-20 checkpoint", why=f"missing {absent[:3]}, unexpected {unexpected[:3]}"
        )
    return net.eval()
