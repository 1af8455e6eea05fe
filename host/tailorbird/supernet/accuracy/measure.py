"""The figure of merit of a subnet on labelled data: top-1 accuracy, or what the task says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from tailorbird.errors import UsageError
from tailorbird.supernet.loader import Batch, read
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def accuracy(
    net: SuperNet, config: Config, loader: Iterable[Any], images: int | None = None, task: str | Task = "classification"
) -> float:
    """Top-1 accuracy, a fraction, or the metric of another task, on up to `images` samples.

    Raises: UsageError when the loader is empty.
    """
    return tallied(net, config, loader, images, task).mean()


def tallied(
    net: SuperNet, config: Config, loader: Iterable[Any], images: int | None = None, task: str | Task = "classification"
) -> Tally:
    """The figure of merit before it is averaged, so that what several processes find can be added up."""
    judge, tally = Task.of(task), Tally()
    device = net.device
    with evaluating(net), torch.no_grad():
        for batch in read(loader, device, images):
            tally.add(judge, net(*batch.inputs.args, config=config, **batch.inputs.kwargs), batch)
    return tally


class Tally:
    """A metric summed over batches."""

    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0.0

    def add(self, task: Task, output: Any, batch: Batch) -> None:
        """Judge the answers to a batch."""
        found = task.metric(output, batch.known())
        total, count = found if isinstance(found, tuple) else (float(found) * batch.size, float(batch.size))
        self.total += total
        self.count += count

    def mean(self) -> float:
        """Raises: UsageError when nothing was added."""
        if not self.count:
            raise UsageError(
                "there is nothing to evaluate", why="the loader gave no batch", fix="pass a loader with data"
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
