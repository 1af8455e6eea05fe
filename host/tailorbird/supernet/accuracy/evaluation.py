"""Evaluation: the accuracy a subnet really has, after recalibration, and what finding it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tailorbird.supernet.accuracy.measure import accuracy
from tailorbird.supernet.recalibrate import recalibrate
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

    validation: (inputs, labels), read once for each subnet, so a list or a DataLoader that does not shuffle;
    recalibration: where batch_norm statistics come from (default: validation; labels are not read). images: how many
    of validation count; on_progress: called with (done, all).

    Raises: UsageError when a loader is empty or gives no labels, or a configuration is invalid.
    """
    begin = time.monotonic()
    chosen = list(dict.fromkeys(net.space.canonical(config) for config in configs))
    source = validation if recalibration is None else recalibration
    found = []
    for place, config in enumerate(chosen):
        found.append(Evaluation(config, _measured(net, config, validation, source, images, recalibration_images, task)))
        if on_progress is not None:
            on_progress(place + 1, len(chosen))
    return Evaluations(tuple(found), time.monotonic() - begin)


def _measured(
    net: SuperNet,
    config: Config,
    validation: Iterable[Any],
    source: Iterable[Any],
    images: int | None,
    recalibration_images: int,
    task: str | Task,
) -> float:
    before = net.statistics(config)
    try:
        recalibrate(net, config, source, recalibration_images)
        return accuracy(net, config, validation, images, task)
    finally:
        net.set_statistics(config, before)
