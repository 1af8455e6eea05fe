"""Ladders: subnets of one SuperNet, compiled for LiteRT, packed, and shown to answer unlike each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

import tailorbird as tb
from tailorbird.device import Device
from tailorbird.types import KERNEL, Candidate, Config
from tests.bench.small_nets import Served, classifier, digit_images, serve_ready

#: Channels of the subnets, of both convolutions; the last one is the network itself.
WIDTHS = (8, 16, 24, 32)
IMAGES = 24
#: Answers of different rungs differ by more than so many tolerances on every input, or a check would prove nothing.
LEAST_DISTANCE = 100


def subnets(seed: int) -> list[nn.Module]:
    """Four subnets of a SuperNet around a small classifier with weights from a seed, smallest first."""
    net = tb.elastic(classifier(WIDTHS[-1], seed), (torch.from_numpy(digit_images(2)),))
    names = [dimension.name for dimension in net.space.dimensions]
    return [net.extract(Config.of(dict.fromkeys(names, width))) for width in WIDTHS]


def bundles(device: Device, model: str, count: int) -> list[Served]:
    """Bundles of the same model with different weights, profiled on the device.

    Raises:
        SystemExit: two rungs answer too much alike.
    """
    images = digit_images(IMAGES)
    made = [subnets(seed) for seed in range(1, count + 1)]
    cpu_us = profile(device, serve_ready(model, made[0], images, device.card, cpu_us=range(1, len(WIDTHS) + 1)))
    served = [serve_ready(model, nets, images, device.card, cpu_us=cpu_us) for nets in made]
    found = distance(served)
    if found <= LEAST_DISTANCE:
        raise SystemExit(f"two rungs answer alike ({found:.0f} tolerances apart): the check would prove nothing")
    return served


def profile(device: Device, served: Served) -> list[float]:
    """Median on-CPU time of each rung, microseconds; those of larger rungs are larger, as a ladder has to be."""
    candidates = [Candidate(module.kind, module.module, module.inputs) for module in served.built]
    times = [timing.cpu_median_us for timing in device.measure(candidates, KERNEL)]
    return [float(each) for each in np.maximum.accumulate(np.array(times) + 0.01 * np.arange(len(times)))]


def distance(served: Sequence[Served]) -> float:
    """Smallest distance between the answers of two rungs to the same image, in tolerances."""
    every = [answers for each in served for answers in each.answers.values()]
    apart = [np.abs(one - other).max(axis=1).min() for place, one in enumerate(every) for other in every[place + 1 :]]
    return float(min(apart)) / served[0].tolerance


def versions(served: Sequence[Served]) -> dict[str, np.ndarray]:
    """What torch answers under each model version, images in order."""
    return {f"{each.bundle.sha256[:12]}/{rung}": answers for each in served for rung, answers in each.answers.items()}
