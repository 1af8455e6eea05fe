"""Tuning: the best subnets of a frontier, each trained alone for its part of a long budget."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from tailorbird.supernet import SuperNet
from tailorbird.supernet.accuracy import evaluating
from tailorbird.types import Config
from tests.bench.accuracy import frontier
from tests.bench.accuracy.clock import CpuClock
from tests.bench.accuracy.settings import Case

Found = dict[str, Any]


def settings(case: Case, seed: int, limit: float) -> dict[str, Any]:
    """What decides about a tuned subnet."""
    return frontier.settings(case, seed) | {"limit": limit, "seconds": case.tuning.get(limit)}


def known(case: Case, seed: int, limit: float) -> Found | None:
    """What tuning the best subnet within a limit gave, if it was done."""
    record = case.work.record("tune", settings(case, seed, limit))
    return None if record is None else record.found | {"cpu_clock_seconds": record.cpu_seconds}


def tune(case: Case, net: SuperNet, seed: int) -> None:
    """Tune the subnets that the frontier chose, once and for all; the SuperNet stays as it is."""
    chosen = frontier.known(case, seed)
    assert chosen is not None
    for entry in chosen["best"]:
        limit, config = entry["limit"], Config.from_json(entry["config"])
        if limit in case.tuning:
            case.work.once("tune", settings(case, seed, limit), lambda: _tune(case, net, config, seed, limit))  # noqa: B023  (called at once)


def _tune(case: Case, net: SuperNet, config: Config, seed: int, limit: float) -> Found:
    images, options = case.images, case.settings
    net.recalibrate(config, images.recalibration(options.recalibration), options.recalibration)
    checkpoint = case.work.path("tune", settings(case, seed, limit), ".checkpoint")
    tuned = net.fine_tune(
        config,
        images.training(options.batch, options.training_seed),
        budget=case.tuning[limit],
        clock=CpuClock(),
        validate=images.held_batches(images.validation(seed)),
        seed=options.training_seed,
        checkpoint=checkpoint,
        resume=True,
    )
    checkpoint.unlink(missing_ok=True)
    right = _right(case, tuned.module)
    unseen = images.unseen(seed, len(right)).tolist()
    return {
        "config": config.to_json(),
        "accuracy": sum(hit for hit, new in zip(right, unseen, strict=True) if new) / sum(unseen),
        "accuracy_all": sum(right) / len(right),
        "fit": asdict(tuned.fit),
    }


def _right(case: Case, module: nn.Module) -> list[bool]:
    found: list[bool] = []
    with evaluating(module), torch.no_grad():
        for images, labels in case.images.held_batches(slice(0, len(case.images.held[1]))):
            found += (module(images).argmax(1) == labels).tolist()
    return found
