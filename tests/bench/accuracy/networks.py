"""The networks: ResNets for CIFAR-10 with their published weights, and the demo's network on digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

import tailorbird as tb
from tailorbird.demo.model import ResidualNet
from tailorbird.demo.resnet20 import BasicBlock
from tailorbird.supernet import SuperNet
from tests.bench.accuracy.images import Images, cifar10, digits
from tests.bench.accuracy.work import Work

_DIGITS_STEPS = 120
_DIGITS_BATCH = 32


class ResNet(nn.Module):
    """ResNet of 6n + 2 layers with 16, 32 and 64 channels (He et al. 2015, section 4.2); 56 layers have 125.5 MMACs."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks)
        self.layer2 = _stage(16, 32, blocks)
        self.layer3 = _stage(32, 64, blocks)
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10) of normalised images (N, 3, 32, 32)."""
        x = functional.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, 1 if inputs == outputs else 2)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


@dataclass(frozen=True, slots=True)
class Network:
    """A network under test: its images, and the trained model a user would come with.

    evaluations: subnets that a predictor may run on validation images (probes and anchors).
    """

    name: str
    evaluations: int
    images: Callable[[Path, Path], Images]  # of the data folder and the work folder
    pretrained: Callable[[Path, Work, Images], nn.Module]


def elastic(model: nn.Module, images: Images) -> SuperNet:
    """The SuperNet, with default options."""
    return tb.elastic(model, (example(images),))


def example(images: Images) -> Tensor:
    """Two inputs of the network."""
    return images.normalised(images.train[0][:2])


def _resnet(depth: int) -> Callable[[Path, Work, Images], nn.Module]:
    def pretrained(data: Path, _work: Work, _images: Images) -> nn.Module:
        net = ResNet(depth)
        missing, unexpected = net.load_state_dict(
            load_file(data / "resnet_cifar10" / f"resnet{depth}.safetensors"), strict=False
        )
        absent = [name for name in missing if not name.endswith("num_batches_tracked")]
        if absent or unexpected:
            raise ValueError(f"resnet{depth}.safetensors lacks {absent} and has {unexpected}")
        return net.eval()

    return pretrained


def _digits(_data: Path, work: Work, images: Images) -> nn.Module:
    """The demo's network, trained as its user would have, once."""
    settings = {"net": "digits", "steps": _DIGITS_STEPS, "batch": _DIGITS_BATCH}
    weights = work.path("pretrained", settings, ".pt")

    def train() -> dict[str, float]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = ResidualNet().train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, _DIGITS_STEPS)
        batches, step = images.training(_DIGITS_BATCH, seed=0), 0
        while step < _DIGITS_STEPS:
            for x, y in batches:
                loss = functional.cross_entropy(net(x), y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                step += 1
                if step == _DIGITS_STEPS:
                    break
                schedule.step()
        torch.save(net.state_dict(), weights)
        return {"loss": float(loss.detach())}

    work.once("pretrained", settings, train)
    net = ResidualNet()
    net.load_state_dict(torch.load(weights, weights_only=True))
    return net.eval()


NETWORKS = {
    network.name: network
    for network in (
        Network("resnet20", 50, cifar10, _resnet(20)),
        Network("resnet56", 150, cifar10, _resnet(56)),
        Network("digits", 40, lambda _data, _work: digits(), _digits),
    )
}
