"""How fast the compiler and its supernets are: python -m tests.bench.zoo_speed. One thread; leave the machine alone.

A subnet of the supernet and the same subnet extracted take turns, forward and in training steps of the same kind: loss,
gradients, one step of SGD on the weights of each. Both run batch_norm on its statistics, as the extracted network does.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import tailorbird as tb
from tests.zoo import catalogue

#: Network and side of its square images.
NETWORKS = {
    "torchvision/resnet50": 64,
    "torchvision/mobilenet_v3_large": 64,
    "torchvision/shufflenet_v2_x0_5": 64,
    "timm/convnext_zepto_rms": 64,
    "timm/deit_tiny_patch16_224": 96,
    "written/unet": 32,
}
BATCH, SUBNETS, TURNS, STEPS, BUILDS = 32, 2, 9, 7, 3
_BUILD = ("torchvision/resnet50", 224)

Row = dict[str, Any]


def measure() -> Row:
    """Ratios of medians (the worst of the subnets of a network) and the raw seconds."""
    row: Row = {"figures": {"build_seconds": 0.0, "forward": {}, "training": {}}, "samples": {}}
    samples: dict[str, list[float]] = row["samples"]
    name, side = _BUILD
    samples["build"] = [_build(name, side) for _ in range(BUILDS)]
    row["figures"]["build_seconds"] = round(statistics.median(samples["build"]), 2)
    for name, side in NETWORKS.items():
        model, _ = catalogue.entry(name).build()
        net = tb.elastic(model, (torch.randn(1, 3, side, side),))
        images = torch.randn(BATCH, 3, side, side)
        ratios: dict[str, list[float]] = {"forward": [], "training": []}
        for seed in range(1, SUBNETS + 1):
            config = net.space.sample(seed)
            subnet = net.extract(config)

            inside = functools.partial(net, config=config)
            for kind, turns, pair in (
                ("forward", TURNS, (_forward(inside, images), _forward(subnet, images))),
                ("training", STEPS, (_step(inside, net, images), _step(subnet, subnet, images))),
            ):
                first, second = _interleaved(*pair, turns)
                samples[f"{name} {kind} {seed} supernet"], samples[f"{name} {kind} {seed} extracted"] = first, second
                ratios[kind].append(statistics.median(first) / statistics.median(second))
        for kind, found in ratios.items():
            row["figures"][kind][name] = round(max(found), 3)
    return row


def _build(name: str, side: int) -> float:
    model, _ = catalogue.entry(name).build()
    images = torch.randn(1, 3, side, side)
    started = time.perf_counter()
    tb.elastic(model, (images,))
    return time.perf_counter() - started


def _forward(run: Callable[[Tensor], Any], images: Tensor) -> Callable[[], None]:
    def turn() -> None:
        with torch.no_grad():
            run(images)

    return turn


def _step(run: Callable[[Tensor], Any], owner: nn.Module, images: Tensor) -> Callable[[], None]:
    optimiser = torch.optim.SGD(owner.parameters(), lr=0.0)  # the same work, and the weights stay for the next subnet

    def turn() -> None:
        optimiser.zero_grad()
        loss = sum(leaf.square().mean() for leaf in pytree.tree_leaves(run(images)) if isinstance(leaf, Tensor))
        loss.backward()
        optimiser.step()

    return turn


def _interleaved(first: Callable[[], None], second: Callable[[], None], turns: int) -> tuple[list[float], list[float]]:
    """Seconds of each turn, after one that nobody times."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns + 1):
        for run, kept in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            run()
            if turn:
                kept.append(round(time.perf_counter() - started, 6))
    return seconds


def main() -> None:
    """Print one JSON object."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(measure()) + "\n")


if __name__ == "__main__":
    main()
