"""Confirm: the candidates of a search, recalibrated and evaluated before anybody relies on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailorbird.supernet.accuracy.evaluation import Evaluation, judge_all
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


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
) -> tuple[Evaluation, ...]:
    """Recalibrate and evaluate every candidate, in the order given; the net keeps their batch_norm statistics.

    loader: held-out (inputs, labels), up to `images` of them; recalibration, workers, cache, on_progress: as in
    `accuracy_table`. The best of many candidates owes part of its lead to chance: report it on data not used here.

    Raises: UsageError for an invalid configuration, an empty loader or labels that do not fit; EnvironmentFaultError
    when worker processes die.
    """
    found = judge_all(
        net,
        candidates,
        loader,
        task=Task.of(task),
        recalibration=recalibration,
        recalibration_images=recalibration_images,
        images=images,
        workers=workers,
        cache=cache,
        adopted=True,
        on_progress=on_progress,
    )
    for evaluation in found:
        if evaluation.statistics:
            statistics = {name: value.to(net.device) for name, value in evaluation.statistics.items()}
            net.set_statistics(evaluation.config, {**net.statistics(evaluation.config), **statistics})
    accuracies = {evaluation.config: evaluation.accuracy for evaluation in found}
    configs = [net.space.canonical(config) for config in candidates]
    return tuple(Evaluation(config, accuracies[config]) for config in configs)
