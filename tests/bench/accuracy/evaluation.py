"""Evaluation: which held-out images a subnet gets right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tailorbird.supernet import SuperNet
from tailorbird.supernet.accuracy import evaluating
from tailorbird.types import Config
from tests.bench.accuracy.settings import Case


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One subnet. right: (held-out images,) bool, recalibrated on training images; plain: the same without, of the
    images from `plain_from` on. seconds: on the CPU clock, and the images that this time was spent on."""

    right: np.ndarray
    plain: np.ndarray
    plain_from: int
    seconds: float
    images: int


def judge(case: Case, net: SuperNet | None, config: Config, part: slice, plain: slice | None = None) -> Judged | None:
    """Run a subnet of the trained network on held-out images, once and for all; None when net is None and it never was.

    part, plain: which held-out images, recalibrated and as it is.
    """
    settings: dict[str, Any] = case.trained | {
        "config": config.key,
        "part": [part.start, part.stop],
        "plain": None if plain is None else [plain.start, plain.stop],
    }
    if net is None:
        known = case.work.record("evaluate", settings)
    else:
        known = case.work.once("evaluate", settings, lambda: run(case, net, config, part, plain))
    if known is None:
        return None
    right, without = unpacked(known.found["right"]), unpacked(known.found["plain"])
    images = len(right) + len(without) + (0 if config.is_full else case.settings.recalibration)
    return Judged(right, without, plain.start if plain else 0, known.cpu_seconds, images)


def run(case: Case, net: SuperNet, config: Config, part: slice, plain: slice | None = None) -> dict[str, Any]:
    """The same, now. Statistics the net holds for the subnet are replaced."""
    net.set_statistics(config, {})
    without = [] if plain is None else _right(case, net, config, plain)
    net.recalibrate(config, case.images.recalibration(case.settings.recalibration), case.settings.recalibration)
    return {"right": _packed(_right(case, net, config, part)), "plain": _packed(without)}


def _right(case: Case, net: SuperNet, config: Config, part: slice) -> list[bool]:
    found: list[bool] = []
    with evaluating(net), torch.no_grad():
        for images, labels in case.images.held_batches(part):
            found += (net(images.to(net.device), config=config).argmax(1).cpu() == labels).tolist()
    return found


def _packed(right: list[bool]) -> list[Any]:
    return [len(right), np.packbits(np.array(right, dtype=bool)).tobytes().hex()]


def unpacked(packed: list[Any]) -> np.ndarray:
    """Bits as `run` gives them, (images,) bool."""
    count, text = packed
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)
