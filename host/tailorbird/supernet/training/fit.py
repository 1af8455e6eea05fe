"""Fit: train all subnets of a SuperNet together, starting from the user's weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from tailorbird.config import parse_seconds
from tailorbird.errors import UsageError
from tailorbird.supernet.task import Distance, Loss, Metric, Task
from tailorbird.supernet.training.apart import apart
from tailorbird.supernet.training.checkpoint import Checkpoint, usable
from tailorbird.supernet.training.distributed import joined
from tailorbird.supernet.training.ema import copied, tensors
from tailorbird.supernet.training.feed import Feed
from tailorbird.supernet.training.judge import Judge, Validate
from tailorbird.supernet.training.progress import OnProgress
from tailorbird.supernet.training.randomness import Stream
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.supernet.training.run import ANOTHER, Run
from tailorbird.supernet.training.saver import Saver
from tailorbird.supernet.training.signals import Signals

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training run did. Scores are None without validation.

    Losses are of the full network, or where it was kept as it is (full_kept), of the subnets on average.

    stopped_by: steps | budget | interrupted; backed_off: how often the learning rate was halved to protect the full
    network; update_kept: 1.0 normally; less when the full network lost more than allowed at the end and the weights
    were moved back towards where they started (0.0: restored). resumed_at: the step of the checkpoint that the run
    went on from; missed: how many checkpoints could not be written on the way.
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
    full_kept: bool = False
    backed_off: int = 0
    resumed_at: int = 0
    missed: int = 0

    @property
    def message(self) -> str:
        """One sentence for people."""
        text = f"{self.steps} steps in {self.seconds:.1f} s (loss {self.first_loss:.3f} to {self.last_loss:.3f})"
        if self.full_before is not None and self.full_after is not None:
            after = "as before" if self.full_kept else f"before, {self.full_after:.1%} after"
            text += f"; full network {self.full_before:.1%} {after}"
        if self.backed_off:
            text += f"; learning rate halved {self.backed_off} times to protect the full network"
        if self.update_kept < 1:
            text += f"; kept {self.update_kept:.0%} of the update to protect the full network"
        if self.missed:
            text += f"; {self.missed} checkpoints could not be written on the way"
        if self.stopped_by == INTERRUPTED:
            text += "; interrupted, go on with resume"
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
    checkpoint: str | Path | None = None,
    every: int | str = "60s",
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> FitResult:
    """Train the subnets by the sandwich rule with distillation from the network as it was, which stays as it is.

    They get weights of their own beside it, see `learnt`, and learn from labels only as far as `hard` says.
    full="trained" trains one set of weights for all, the full network included: for one that knows nothing yet, with
    teacher="in-place".

    loader: a collection of (inputs, labels), or of mappings with `labels`, that can be read again for each epoch. Give
    `epochs` or `steps` (default: one epoch), or `budget`, seconds or a text like "30m", which ends the run in time; the
    schedule follows whatever ends first. task: what is trained for, see Task; loss, metric and distance replace its
    own. teacher: see Recipe, or a network of your own to learn from. validate: a loader, or a function that is given
    the network as a function of its inputs and returns a score; a full network that is trained then loses at most
    `max_drop`, or else training backs off. on_progress: called after each step. clock: what `budget` is measured by.
    settings: see Recipe.

    Under `torchrun`, or where torch.distributed is initialised, all processes train one network together, see
    `distributed`; each must make the same call. Those after the first are silent. sharded: whether the loader gives
    each process batches of its own; None: as its sampler says.

    checkpoint: a file for the run, whose folder is made, written every so many steps, or seconds ("60s"; less often
    where writing takes more than 2 % of the time). It is a saved SuperNet too: SuperNet.load reads the network as the
    run would have left it. resume: go on from that file if it is there. On a CPU the weights are then, bit for bit,
    those of a run that was never stopped. The model, loader and settings must be the same; epochs, steps and budget may
    be others, and the schedule follows the new plan. A loader's own generators, and the global ones, are put back to
    where they were.

    SIGINT ends training after the step, in the main thread: with a checkpoint it is written and a result returned, as
    for SIGTERM; without one KeyboardInterrupt is raised. A second one acts at once. Where training fails the network
    holds the weights of the last step, and so does the checkpoint, unless a loss was not finite: then it stays what it
    was.

    Recalibrated statistics are dropped: they do not fit the new weights. Random states outside are left as they were.

    Raises: UsageError; ModelError for a checkpoint that is damaged or of another network; CheckpointError when the last
    one cannot be written; TrainingError when a loss is not finite: the network then holds the last good weights.
    """
    if epochs is None and steps is None and budget is None:
        epochs = 1
    given, word = _teacher(teacher)
    for name, function in (("on_progress", on_progress), ("clock", clock)):
        if not callable(function) and (function is not None or name == "clock"):
            raise UsageError(f"{name} is {function!r}", fix="pass a function, or leave it out")
    recipe = _recipe(epochs=epochs, steps=steps, budget_s=_seconds(budget), teacher=word, **settings)
    goal = Task.of(task, loss, metric, distance)
    if recipe.distillation == "alpha" and goal.name in {"regression", "multilabel"}:
        raise UsageError(
            f"the alpha-divergence is one of classes, not for {goal.name}", fix="leave distillation at 'distance'"
        )
    file = None if checkpoint is None else Checkpoint(checkpoint)
    saver = None if file is None else Saver(file, goal, every)
    if file is not None:
        file.check(resume=resume)
    elif resume:
        raise UsageError("there is nothing to resume from", fix="pass checkpoint, the file of the run")
    there = file is not None and file.path.exists()  # asked before the first rank can have written it
    signals, was_training = Signals(), net.training
    with (
        Stream(recipe.seed, net.device).drawn(),
        _answering(given),
        signals.noted(terminate=file is not None),
        joined(net, recipe, loader, sharded=sharded) as ranks,
        apart(net, recipe) as own,
    ):
        state = file.read(net, goal, recipe) if file is not None and there else None
        judge = None if validate is None else Judge(net, goal, validate, ranks)
        run = Run(net, Feed(loader, net.device, recipe.seed), recipe, goal, judge, ranks, clock, given, own)
        if state is not None:
            run.load(state)
        resumed_at = run.step
        if saver is not None:
            saver.begin(run, new=state is None)
        net.forget_statistics()  # checks on the way look at the subnets that are trained, not at fine-tuned ones
        try:
            stopped_by = _train(run, saver, signals, on_progress)
        finally:
            net.train(was_training)
            net.forget_statistics()
        if saver is None and stopped_by == INTERRUPTED:
            raise KeyboardInterrupt
        after, kept = _finish(run, saver)
        if signals.asked is not None:
            if saver is None:
                raise KeyboardInterrupt
            stopped_by = INTERRUPTED
    return FitResult(
        steps=run.step,
        images=run.images,
        seconds=run.elapsed,
        stopped_by=stopped_by,
        first_loss=_or_nan(run.first.main if run.first else None),
        last_loss=_or_nan(run.last.main),
        full_before=run.guard.before if run.guard else None,
        full_after=after,
        update_kept=kept,
        full_kept=own is not None,
        backed_off=run.guard.backed_off if run.guard else 0,
        resumed_at=resumed_at,
        missed=saver.failures if saver else 0,
    )


def _teacher(teacher: str | nn.Module) -> tuple[nn.Module | None, str]:
    """A network to learn from, if one was passed, and the recipe's word for it. Raises: UsageError."""
    if isinstance(teacher, nn.Module):
        return teacher, "given"
    if not isinstance(teacher, str):
        raise UsageError(f"a teacher cannot be {teacher!r}", fix="pass 'frozen', 'in-place', or a torch.nn.Module")
    if teacher == "given":
        raise UsageError("no teacher is given", fix="pass the network itself: teacher=module")
    return None, teacher


def _train(run: Run, saver: Saver | None, signals: Signals, on_progress: OnProgress | None) -> str:
    """Run the loop, with checkpoints. Returns what ended it."""

    def after_step() -> str | None:
        if signals.asked is not None:
            return INTERRUPTED
        if saver is not None:
            saver.after(run)
        return None

    try:
        word = run.train(after_step, on_progress)
    except Exception as error:
        if signals.asked is not None:  # a terminal interrupts the workers of a loader as well, which then fails
            return INTERRUPTED
        if saver is not None:
            saver.rescue(run, error)
        raise
    return INTERRUPTED if word == ANOTHER else word


def _finish(run: Run, saver: Saver | None) -> tuple[float | None, float]:
    """Leave the result in the network, and in the checkpoint: what a run goes on with is written before it is made."""
    if saver is None:
        return run.finish()
    state = run.state() | {"weights": copied(run.net)}
    failed = saver.tried(run, state)
    after, kept = run.finish()
    final = tensors(run.net)
    if failed is not None or any(not value.equal(final[name]) for name, value in usable(state).items()):
        saver.write(run, state, final)
    return after, kept


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
