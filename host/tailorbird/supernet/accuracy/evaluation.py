"""Evaluation: the accuracy a subnet really has, after recalibration, and what finding it cost."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tailorbird.supernet.accuracy.evaluator import Evaluator, Judged
from tailorbird.supernet.accuracy.memory import Memory
from tailorbird.supernet.accuracy.samples import Samples
from tailorbird.supernet.recalibrate import has_batch_norm
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A subnet (canonical) and its measured accuracy: a fraction, or the metric of another task."""

    config: Config
    accuracy: float


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Subnets that were evaluated on the same data, in the order given, and the seconds all of it took."""

    found: tuple[Evaluation, ...]
    seconds: float

    def __len__(self) -> int:
        return len(self.found)

    def accuracy(self, config: Config) -> float | None:
        """The accuracy of a canonical configuration; None when it is not among these."""
        return next((known.accuracy for known in self.found if known.config == config), None)


def evaluate(
    net: SuperNet,
    configs: Iterable[Config],
    validation: Iterable[Any],
    recalibration: Iterable[Any] | None = None,
    *,
    images: int | None = None,
    recalibration_images: int = 2000,
    task: str | Task = "classification",
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluations:
    """Recalibrate and evaluate subnets one by one, each distinct one once. The net is left as it was.

    validation: (inputs, labels), read once; recalibration: where batch_norm statistics come from (default: validation;
    labels are not read). images: how many of validation count; on_progress: called with (done, all).

    Raises: UsageError when a loader is empty or gives no labels, or a configuration is invalid.
    """
    begin = time.monotonic()
    found = judge_all(
        net,
        configs,
        validation,
        task=Task.of(task),
        recalibration=recalibration,
        recalibration_images=recalibration_images,
        images=images,
        on_progress=on_progress,
    )
    return Evaluations(tuple(Evaluation(one.config, one.accuracy) for one in found), time.monotonic() - begin)


def judge_all(
    net: SuperNet,
    configs: Iterable[Config],
    loader: Iterable[Any],
    *,
    task: Task,
    recalibration: Iterable[Any] | None,
    recalibration_images: int,
    images: int | None,
    workers: int | None = None,
    cache: str | Path | None = None,
    adopted: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Judged]:
    """Every distinct subnet, recalibrated and judged on up to `images` held-out samples; see Evaluator for the rest.

    Raises: UsageError; EnvironmentFaultError when worker processes die.
    """
    chosen = list(dict.fromkeys(net.space.canonical(config) for config in configs))
    with torch.random.fork_rng():  # loaders draw from the global generator
        held = Samples.of(net, loader, images, "evaluate")
        source = None
        if recalibration is not None and has_batch_norm(net):
            source = Samples.of(net, recalibration, recalibration_images, "recalibrate on")
    evaluator = replace(Evaluator.of(net, task, held, source, recalibration_images), adopted=adopted)
    done = itertools.count(1)
    report = on_progress or (lambda _done, _all: None)
    return evaluator.all(chosen, Memory.of(net, task, cache), workers, lambda: report(next(done), len(chosen)))
