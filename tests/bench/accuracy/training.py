"""Training: the SuperNet, one line, and its budget."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any

import torch

from tailorbird.supernet import SuperNet
from tests.bench.accuracy.clock import CpuClock
from tests.bench.accuracy.networks import elastic, example
from tests.bench.accuracy.settings import Case


def train(case: Case) -> SuperNet:
    """The trained SuperNet; trained now if it was not, from its checkpoint if that was stopped."""
    settings = case.training
    weights = case.work.path("train", settings, ".supernet")
    case.work.once("train", settings, lambda: _train(case))
    return SuperNet.load(weights, case.pretrained(), (example(case.images),)).to(case.settings.device)


def known(case: Case) -> dict[str, Any] | None:
    """What training did, if it was done."""
    record = case.work.record("train", case.training)
    if record is None:
        return None
    spent = {"wall_seconds": record.wall_seconds, "cpu_clock_seconds": record.cpu_seconds}
    return {**record.found, **spent, "torch_threads": record.threads, "recipe": case.recipe.to_json()}


def _train(case: Case) -> dict[str, Any]:
    settings, images = case.settings, case.images
    net = elastic(case.pretrained(), images).to(settings.device)
    checkpoint = case.work.path("train", case.training, ".checkpoint")
    begin = time.monotonic()
    result = net.fit(
        images.training(settings.batch, settings.training_seed),
        epochs=case.budget.epochs,
        budget=case.recipe.budget_s,
        clock=CpuClock() if settings.device == "cpu" else time.monotonic,
        validate=images.held_batches(images.validation(0)),
        seed=settings.training_seed,
        checkpoint=checkpoint,
        resume=True,
        **settings.fit,
    )
    if result.stopped_by not in {"steps", "budget"}:
        raise KeyboardInterrupt(f"training was stopped by {result.stopped_by}; run again to go on")
    temporary = case.work.path("train", case.training, ".supernet.part")
    net.save(temporary)
    temporary.replace(case.work.path("train", case.training, ".supernet"))
    checkpoint.unlink(missing_ok=True)
    sys.stderr.write(f"{case.name}: {result.message}\n")
    return asdict(result) | {"fit_wall_seconds": time.monotonic() - begin, "torch": torch.__version__}
