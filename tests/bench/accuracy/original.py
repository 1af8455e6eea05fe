"""Original: the network as its user brought it, and its random subnets before any training."""

from __future__ import annotations

from typing import Any

import numpy as np

from tailorbird.supernet import SuperNet
from tailorbird.types import Config
from tests.bench.accuracy.evaluation import run, unpacked
from tests.bench.accuracy.networks import elastic
from tests.bench.accuracy.settings import Case
from tests.bench.accuracy.subnets import drawn

_IMAGES = 1000  # evaluation images for each untrained subnet


def settings(case: Case) -> dict[str, Any]:
    """What decides about the original."""
    return case.origin | {"subnets": case.settings.subnets, "images": _IMAGES}


def evaluate(case: Case) -> None:
    """Evaluate the network on all held-out images and its untrained, recalibrated subnets on some, once and for all."""

    def make() -> dict[str, Any]:
        return _evaluate(case, elastic(case.pretrained(), case.images).to(case.settings.device))

    case.work.once("original", settings(case), make)


def known(case: Case) -> tuple[np.ndarray, list[float]] | None:
    """Which held-out images the network gets right, and the accuracies of its untrained subnets."""
    record = case.work.record("original", settings(case))
    return None if record is None else (unpacked(record.found["full"]), record.found["subnets"])


def _evaluate(case: Case, net: SuperNet) -> dict[str, Any]:
    subnets = drawn(case, net)
    assert subnets is not None
    some = slice(0, min(_IMAGES, case.images.evaluation))
    return {
        "full": run(case, net, Config(), slice(0, len(case.images.held[1])))["right"],
        "subnets": [float(unpacked(run(case, net, config, some)["right"]).mean()) for config in subnets.configs],
    }
