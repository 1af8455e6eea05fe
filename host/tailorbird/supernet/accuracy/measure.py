"""The figure of merit of a subnet on labelled data: top-1 accuracy, or what the task says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tailorbird.errors import TailorbirdError, UsageError
from tailorbird.graph import Mode
from tailorbird.supernet.loader import Batch, read
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def accuracy(
    net: SuperNet, config: Config, loader: Iterable[Any], images: int | None = None, task: str | Task = "classification"
) -> float:
    """Top-1 accuracy, a fraction, or the metric of another task, on up to `images` samples.

    Raises: UsageError when the loader is empty, gives no labels, or labels that do not fit.
    """
    return tallied(net, config, loader, images, task).mean()


def tallied(
    net: SuperNet, config: Config, loader: Iterable[Any], images: int | None = None, task: str | Task = "classification"
) -> Tally:
    """The figure of merit before it is averaged, so that what several processes find can be added up."""
    chosen = net.space.canonical(config)
    return judged(net, chosen, read(loader, net.device, images), Task.of(task), net.statistics(chosen))


def judged(
    net: SuperNet, config: Config, batches: Iterable[Batch], task: Task, statistics: Mapping[str, Tensor]
) -> Tally:
    """The figure of merit of a canonical configuration with these batch_norm statistics, by name.

    The net stays as it is, whatever mode it is in. Raises: UsageError as `accuracy` does.
    """
    tally = Tally()
    with torch.no_grad():
        for batch in batches:
            leaves = net.bound(batch.inputs).leaves
            output = net.at(leaves, config).run(config, Mode.EVAL, leaves, statistics)
            tally.add(task, output, batch)
    return tally


class Tally:
    """A metric summed over batches."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0.0

    def add(self, task: Task, output: Any, batch: Batch) -> None:
        """Judge the answers to a batch. Raises: UsageError when the metric cannot."""
        target = batch.known()
        try:
            found = task.metric(output, target)
            total, count = found if isinstance(found, tuple) else (float(found) * batch.size, float(batch.size))
        except TailorbirdError:
            raise
        except Exception as error:  # the user's own function
            raise UsageError(
                f"the metric of the task {task.name!r} cannot judge the network's output",
                why=f"{type(error).__name__}: {error}",
                fix="metric(output, target) takes both as network and loader give them, and gives a number, "
                "or a sum and a count",
            ) from error
        self.total += float(total)
        self.count += float(count)

    def mean(self) -> float:
        """Raises: UsageError when nothing was added."""
        if not self.count:
            raise UsageError(
                "there is nothing to evaluate",
                why="the loader gave no batch, or none whose targets count or vary",
                fix="pass a loader with data, in batches of several samples",
            )
        return self.total / self.count


@contextmanager
def evaluating(net: SuperNet) -> Iterator[None]:
    """Eval mode for a while."""
    before = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(before)
