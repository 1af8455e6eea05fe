"""What a suite measures: networks, contexts, numbers of subnets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from tailorbird.demo.resnet20 import ResNet20
from tailorbird.types import TimingProtocol
from tests.bench.mobilenet import InvertedResidual

KERNEL = TimingProtocol("bench-kernel", min_runs=20, min_seconds=0.02, max_seconds=1.0)
SUBNET = TimingProtocol("bench-subnet", min_runs=30, min_seconds=0.08, max_seconds=2.0)

#: Whole subnets measured on a new context.
SAMPLES = (0, 5, 10, 20)
END_TO_END = 2000


class SmallMobileNet(nn.Module):
    """MobileNetV2's blocks at a third of its width, for images of 64 x 64."""

    STAGES = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 32, 3, 2), (4, 48, 2, 2), (4, 64, 2, 1))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        blocks, channels = [], 16
        for expand, outputs, count, stride in self.STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(channels, outputs, stride if index == 0 else 1, expand))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.Conv2d(64, 192, 1, bias=False), nn.BatchNorm2d(192), nn.ReLU6())
        self.head = nn.Linear(192, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))


@dataclass(frozen=True, slots=True)
class Network:
    """A SuperNet to be: random weights, since values do not change the time."""

    name: str
    make: Callable[[], nn.Module]
    pixels: int

    @property
    def example(self) -> tuple[torch.Tensor, ...]:
        return (torch.zeros(1, 3, self.pixels, self.pixels),)


NETWORKS = {
    "resnet20": Network("resnet20", ResNet20, 32),
    "mobilenet": Network("mobilenet", SmallMobileNet, 64),
}


@dataclass(frozen=True, slots=True)
class Context:
    """A way to run networks on this machine that has latencies of its own. needs: a feature of the CPU."""

    name: str
    runtime: str
    threads: int = 1
    cpu: str = ""  # LLVM's name for the instruction set to compile for
    needs: str = ""

    @property
    def kernel_protocol(self) -> TimingProtocol:
        return replace(KERNEL, threads=self.threads)

    @property
    def subnet_protocol(self) -> TimingProtocol:
        return replace(SUBNET, threads=self.threads)


CONTEXTS = {
    context.name: context
    for context in (
        Context("litert", "litert"),
        Context("litert 2 threads", "litert", 2),
        Context("tvm avx512", "tvm", 1, "x86-64-v4", "avx512f"),
        Context("tvm avx2", "tvm", 1, "x86-64-v3", "avx2"),
        Context("tvm sse4.2", "tvm", 1, "x86-64-v2", "sse4_2"),
        Context("tvm avx2 2 threads", "tvm", 2, "x86-64-v3", "avx2"),
    )
}


@dataclass(frozen=True, slots=True)
class Suite:
    """pool: subnets that may be chosen as samples and that proxies have measured; held_out: those that judge.

    tune_s: seconds of schedule search on this machine, from which all TVM contexts replay.
    """

    name: str
    contexts: tuple[tuple[str, str], ...]
    pool: int
    held_out: int
    tune_s: float


_FIVE = tuple(name for name in CONTEXTS if name != "tvm avx2 2 threads")
QUICK = Suite(
    "quick",
    (*(("resnet20", name) for name in _FIVE), *(("mobilenet", name) for name in ("litert", "litert 2 threads"))),
    pool=40,
    held_out=100,
    tune_s=60.0,
)
FULL = Suite("full", tuple((net, name) for net in NETWORKS for name in CONTEXTS), pool=100, held_out=150, tune_s=300.0)
