"""Fit: train all subnets of a SuperNet together, starting from the user's weights."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tailorbird.config import parse_seconds
from tailorbird.errors import UsageError
from tailorbird.supernet.task import Distance, Loss, Metric, Task
from tailorbird.supernet.training.distributed import joined
from tailorbird.supernet.training.feed import Feed
from tailorbird.supernet.training.judge import Judge, Validate
from tailorbird.supernet.training.progress import OnProgress
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.supernet.training.run import Run

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training run did. Losses are of the full network; scores are None without validation.

    stopped_by: steps | budget | a signal; backed_off: how often the learning rate was halved to protect the full
    network; update_kept: 1.0 normally; less when the full network lost more than allowed at the end and the weights
    were moved back towards where they started (0.0: restored).
    """

    steps: int
    images: int
    seconds: float
    stopped_by: str
    first_loss: float
    last_loss: float
    full_before: float | None
    full_after: float | None
    update_kept: float
    backed_off: int = 0

    @property
    def message(self) -> str:
        """One sentence for people."""
        text = f"{self.steps} steps in {self.seconds:.1f} s (loss {self.first_loss:.3f} to {self.last_loss:.3f})"
        if self.full_before is not None and self.full_after is not None:
            text += f"; full network {self.full_before:.1%} before, {self.full_after:.1%} after"
        if self.backed_off:
            text += f"; learning rate halved {self.backed_off} times to protect the full network"
        if self.update_kept < 1:
            text += f"; kept {self.update_kept:.0%} of the update to protect the full network"
        return text


def fit(
    net: SuperNet,
    loader: Iterable[Any],
    *,
    epochs: int | None = None,
    steps: int | None = None,
    budget: float | str | None = None,
    task: str | Task = "classification",
    loss: Loss | None = None,
    metric: Metric | None = None,
    distance: Distance | None = None,
    teacher: str | nn.Module = "frozen",
    validate: Validate | None = None,
    on_progress: OnProgress | None = None,
    sharded: bool | None = None,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> FitResult:
    """Train the shared weights by the sandwich rule with distillation from the network as it was.

    loader: a collection of (inputs, labels), or of mappings with `labels`, that can be read again for each epoch. Give
    `epochs` or `steps` (default: one epoch), or `budget`, seconds or a text like "30m", which ends the run in time; the
    schedule follows whatever ends first. task: what is trained for, see Task; loss, metric and distance replace its
    own. teacher: see Recipe, or a network of your own to learn from. validate: a loader, or a function that is given
    the network as a function of its inputs and returns a score; with it the full network loses at most `max_drop`, or
    else training backs off. on_progress: called after each step. clock: what `budget` is measured by. settings: see
    Recipe.

    Under `torchrun`, or where torch.distributed is initialised, all processes train one network together, see
    `distributed`; each must make the same call. Those after the first are silent. sharded: whether the loader gives
    each process batches of its own; None: as its sampler says.

    Recalibrated statistics are dropped: they do not fit the new weights. Random states outside are left as they were.

    Raises: UsageError; TrainingError when a loss is not finite: the network then holds the last good weights.
    """
    if epochs is None and steps is None and budget is None:
        epochs = 1
    given = teacher if isinstance(teacher, nn.Module) else None
    word = "given" if isinstance(teacher, nn.Module) else teacher
    if word == "given" and given is None:
        raise UsageError("no teacher is given", fix="pass the network itself: teacher=module")
    recipe = _recipe(epochs=epochs, steps=steps, budget_s=_seconds(budget), teacher=word, **settings)
    goal = Task.of(task, loss, metric, distance)
    was_training = net.training
    with _own_randomness(net), _answering(given), joined(net, recipe, loader, sharded=sharded) as ranks:
        judge = None if validate is None else Judge(net, goal, validate, ranks)
        feed = Feed(loader, net.device, recipe.seed)
        run = Run(net, feed, recipe, goal, judge, ranks, clock, given)
        try:
            stopped_by = run.train(lambda: None, on_progress)
        finally:
            net.train(was_training)
            net.forget_statistics()
        after, kept = run.finish()
    return FitResult(
        steps=run.step,
        images=run.images,
        seconds=run.elapsed,
        stopped_by=stopped_by,
        first_loss=_or_nan(run.first.full if run.first else None),
        last_loss=_or_nan(run.last.full),
        full_before=run.guard.before if run.guard else None,
        full_after=after,
        update_kept=kept,
        backed_off=run.guard.backed_off if run.guard else 0,
    )


def _recipe(**settings: Any) -> Recipe:
    known = Recipe.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise UsageError(f"fit has no setting {name!r}", fix=f"it has {', '.join(known)}")
    return Recipe(**settings)


def _seconds(budget: float | str | None) -> float | None:
    return parse_seconds(budget) if isinstance(budget, str) else budget


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


@contextmanager
def _answering(teacher: nn.Module | None) -> Iterator[None]:
    """The teacher in eval mode for a while."""
    if teacher is None:
        yield
        return
    was_training = teacher.training
    teacher.eval()
    try:
        yield
    finally:
        teacher.train(was_training)


@contextmanager
def _own_randomness(net: SuperNet) -> Iterator[None]:
    """Leave the random states of torch, numpy and Python as they were."""
    own, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002  (users' data sets draw from it)
    with torch.random.fork_rng([net.device] if net.device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(arrays)  # noqa: NPY002
