"""Confirm: the candidates of a search, recalibrated and evaluated before anybody relies on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tailorbird.supernet.accuracy.evaluator import Evaluator
from tailorbird.supernet.accuracy.memory import Memory
from tailorbird.supernet.accuracy.samples import Samples
from tailorbird.supernet.recalibrate import has_batch_norm
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A candidate and its measured accuracy, a fraction (or the task's metric)."""

    config: Config
    accuracy: float


def confirm(
    net: SuperNet,
    candidates: Sequence[Config],
    loader: Iterable[Any],
    *,
    task: str | Task = "classification",
    recalibration: Iterable[Any] | None = None,
    recalibration_images: int = 2000,
    images: int | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Confirmed, ...]:
    """Recalibrate and evaluate every candidate, in the order given; the net keeps their batch_norm statistics.

    loader: held-out (inputs, labels), up to `images` of them; recalibration, workers, cache, on_progress: as in
    `accuracy_table`. The best of many candidates owes part of its lead to chance: report it on data not used here.

    Raises: UsageError for an invalid configuration, an empty loader or labels that do not fit; EnvironmentFaultError
    when worker processes die.
    """
    judge = Task.of(task)
    configs = [net.space.canonical(config) for config in candidates]
    distinct = list(dict.fromkeys(configs))
    with torch.random.fork_rng():  # loaders draw from the global generator
        held = Samples.of(net, loader, images, "evaluate")
        source = None
        if recalibration is not None and has_batch_norm(net):
            source = Samples.of(net, recalibration, recalibration_images, "recalibrate on")
    evaluator = replace(Evaluator.of(net, judge, held, source, recalibration_images), adopted=True)
    done = itertools.count(1)
    report = on_progress or (lambda _done, _all: None)
    found = evaluator.all(distinct, Memory.of(net, judge, cache), workers, lambda: report(next(done), len(distinct)))
    for evaluation in found:
        if evaluation.statistics:
            statistics = {name: value.to(net.device) for name, value in evaluation.statistics.items()}
            net.set_statistics(evaluation.config, {**net.statistics(evaluation.config), **statistics})
    accuracies = {evaluation.config: evaluation.accuracy for evaluation in found}
    return tuple(Confirmed(config, accuracies[config]) for config in configs)
