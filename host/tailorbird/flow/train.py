"""Train all subnets of a SuperNet together, within a budget of steps or time; go on where an earlier run stopped.

training.json   what the run did
network files   the trained network
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.document import dump_document
from tailorbird.errors import GateError
from tailorbird.flow.artifact import read_document
from tailorbird.flow.checkpoint import Checkpoint, Checkpointing
from tailorbird.flow.data import Data
from tailorbird.flow.network import Network
from tailorbird.flow.task import NamedTask
from tailorbird.flow.workspace import Workspace
from tailorbird.supernet import SuperNet, accuracy
from tailorbird.supernet.training import FitResult, OnProgress, Progress, Recipe
from tailorbird.types import Config

TRAINING_SCHEMA = "tailorbird.training/2"
_STAGE = "train"
CLASSIFICATION = NamedTask.parse("classification")


@dataclass(frozen=True, slots=True)
class TrainingDocument:
    """training.json: what the training did. Accuracies are fractions on the validation split, or the task's metric.

    rate: images, tokens or samples (`unit`) a second over the last steps; stopped_by, backed_off, update_kept: see
    FitResult; smallest, random: of these subnets after recalibration, the random one drawn by the seed.
    """

    task: str
    steps: int
    images: int
    seconds: float
    rate: float
    unit: str
    stopped_by: str
    resumed_at: int
    backed_off: int
    update_kept: float
    first_loss: float | None
    last_loss: float | None
    full_before: float
    full_after: float
    smallest_before: float
    smallest_after: float
    random_after: float
    recipe: Recipe
    schema: str = TRAINING_SCHEMA

    def check(self) -> None:
        """The full network must have stayed what it was.

        Raises:
            GateError: it lost more than the recipe allows.
        """
        drop, allowed = self.full_before - self.full_after, self.recipe.max_drop
        if drop > allowed + 1e-9:
            raise GateError(
                f"the full network lost {100 * drop:.1f} points in training",
                why=f"{100 * self.full_before:.1f} % before, {100 * self.full_after:.1f} % after; "
                f"{100 * allowed:.1f} points are allowed",
                fix="give it a larger --budget, a smaller --lr or a larger --max-drop",
                reason="FULL_NET_LOST_ACCURACY",
            )


def train(
    workspace: Workspace,
    network: Network,
    data: Data,
    recipe: Recipe,
    *,
    task: NamedTask = CLASSIFICATION,
    named: str | None = None,
    batch: int | None = None,
    checkpoint: Checkpointing | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Network, TrainingDocument]:
    """Sandwich training with distillation. The given network is trained in place.

    named: how the data is called, so that later stages find it again; batch: samples in a step, by default 64;
    checkpoint: None to keep none; an interrupt is then a KeyboardInterrupt.

    Raises:
        InputShapeError: the data does not fit the network.
        InterruptedRunError: the run was interrupted; its checkpoint is written.
        UsageError: there is nothing to resume.
    """
    data = data.fitted(network.document.inputs)
    loader = data.training(batch, recipe.seed)
    inputs = {
        "supernet": network.result.key,
        "data": data.sha256(),
        "task": task.identity,
        "batch": batch,
        "recipe": recipe.to_json(),
    }
    run = Checkpoint.of(workspace, _STAGE, inputs, checkpoint)
    network = network.trained_on(named)

    def build(folder: Path) -> None:
        document = _fit(network.net, data, loader, recipe, task, run, on_progress)
        network.write(folder)
        (folder / "training.json").write_text(dump_document(document, indent=1), encoding="utf-8")

    result = run.built(workspace, _STAGE, inputs, build)
    document = read_document(
        result.folder, "training.json", TrainingDocument, TRAINING_SCHEMA, made_by="tailorbird train"
    )
    return network.after(result), document


def fit_arguments(recipe: Recipe) -> dict[str, Any]:
    """A recipe as keyword arguments of `fit`."""
    values = {name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}
    return values | {"budget": values.pop("budget_s")}


class Speed:
    """The last speed that a run told, beside what the caller wants to be told."""

    def __init__(self, told: OnProgress | None) -> None:
        self._told = told
        self.rate, self.unit = 0.0, "images"

    def __call__(self, now: Progress) -> None:
        """Called after each step."""
        self.rate, self.unit = now.rate, now.unit
        if self._told is not None:
            self._told(now)


def known(value: float | None) -> float | None:
    """A figure, None instead of what is no number."""
    return None if value is None or not math.isfinite(value) else value


def _fit(
    net: SuperNet,
    data: Data,
    loader: Iterable[Any],
    recipe: Recipe,
    task: NamedTask,
    run: Checkpoint,
    on_progress: OnProgress | None,
) -> TrainingDocument:
    smallest, speed = net.space.smallest(), Speed(on_progress)
    smallest_before = _score(net, smallest, data, task)
    # The schedule follows whatever ends first, steps or the clock.
    done: FitResult = net.fit(
        loader,
        task=task.task,
        validate=data.held_out(),
        on_progress=speed,
        **run.arguments(),
        **fit_arguments(recipe),
    )
    run.interrupted(done)
    return TrainingDocument(
        task=task.task.name,
        steps=done.steps,
        images=done.images,
        seconds=done.seconds,
        rate=speed.rate,
        unit=speed.unit,
        stopped_by=done.stopped_by,
        resumed_at=done.resumed_at,
        backed_off=done.backed_off,
        update_kept=done.update_kept,
        first_loss=known(done.first_loss),
        last_loss=known(done.last_loss),
        full_before=done.full_before or 0.0,
        full_after=done.full_after or 0.0,
        smallest_before=smallest_before,
        smallest_after=_score(net, smallest, data, task),
        random_after=_score(net, _drawn(net, recipe.seed), data, task),
        recipe=recipe,
    )


def _drawn(net: SuperNet, seed: int) -> Config:
    """A random subnet, other than the full network if there is one."""
    drawn = [net.space.sample(seed + number) for number in range(8)]
    return next((config for config in drawn if not config.is_full), drawn[0])


def _score(net: SuperNet, config: Config, data: Data, task: NamedTask) -> float:
    net.recalibrate(config, data.calibration())
    return accuracy(net, config, data.held_out(), task=task.task)
