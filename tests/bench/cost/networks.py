"""The networks whose kernels are measured, at sizes at which a kernel takes microseconds to a millisecond."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.demo.resnet20 import ResNet20
from tailorbird.tune.cost.collect import Subject
from tailorbird.tune.kernels import extract_kernels
from tailorbird.tune.workload import describe
from tests.zoo.torchvision_schema import declare

_OPERATORS = declare()  # before torchvision is imported; the schemas end with the object
_LEAST_FLOPS = 3e5


@dataclass(frozen=True)
class Network:
    """A network and the side of the square images that it is given."""

    make: Callable[[], nn.Module]
    pixels: int


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import torchvision

        return torchvision.models.get_model(name, weights=None)

    return make


def _vit() -> nn.Module:
    import timm

    return timm.create_model("vit_tiny_patch16_224", img_size=64, patch_size=8, depth=1, num_classes=10)


NETWORKS = {
    "resnet18": Network(_torchvision("resnet18"), 64),
    "mobilenet_v2": Network(_torchvision("mobilenet_v2"), 96),
    "vit_tiny": Network(_vit, 64),
    "resnet20": Network(ResNet20, 32),
    "squeezenet": Network(_torchvision("squeezenet1_1"), 96),
    "shufflenet_v2": Network(_torchvision("shufflenet_v2_x1_0"), 96),
    "regnet_x": Network(_torchvision("regnet_x_400mf"), 64),
}


def subjects(target: CompileTarget, most: int) -> Iterator[list[Subject]]:
    """For each network up to `most` of its kernels, those with the most arithmetic over all their calls first, and of
    kernels that differ in what is fused to them one alone. A kernel of two networks is the first one's."""
    taken: set[str] = set()
    for name, network in NETWORKS.items():
        torch.manual_seed(0)
        program = capture(network.make().eval(), (torch.randn(1, 3, network.pixels, network.pixels),))
        ranked: list[tuple[float, str, Any, str]] = []
        for kernel, mod, calls in extract_kernels(prepare(import_network(program), target), target):
            workload = describe(mod)
            if workload.anchor and workload.flops >= _LEAST_FLOPS:
                ranked.append((workload.flops * calls, kernel, mod, workload.anchor))
        chosen: list[Subject] = []
        for _, kernel, mod, anchor in sorted(ranked, key=lambda entry: (-entry[0], entry[1])):
            if anchor not in taken and len(chosen) < most:
                taken.add(anchor)
                chosen.append(Subject(name, kernel, mod))
        yield chosen
