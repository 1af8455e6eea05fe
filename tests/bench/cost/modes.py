"""What is compared: ways to know which schedules are fast, each with or without a way to know when to stop."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailorbird.tune.cost.adapt import Adaptation, adaptation
from tailorbird.tune.cost.controller import Controller, Never, ThreeSigns, Variation
from tailorbird.tune.cost.corpus import Task
from tailorbird.tune.cost.features import Floats
from tailorbird.tune.cost.network import CostNetwork, scores_of
from tailorbird.tune.kernels import ms
from tests.bench.cost.replay import Ranker

_STOCK_WARM_UP = 100  # MetaSchedule's XGBModel answers at random until it has so many records


@dataclass(frozen=True)
class Mode:
    """ranker: from the network pretrained on the source (None where it was not trained) and a seed."""

    ranker: Callable[[CostNetwork, int], Ranker]
    controller: Callable[[], Controller] = Never


class Blind(Ranker):
    """Knows nothing."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def scores(self, task: Task) -> Floats:
        return self._rng.random(len(task.times_us)).astype(np.float32)


class Networked(Ranker):
    """A cost network in one of its ways of adapting."""

    def __init__(self, way: Adaptation) -> None:
        self._way = way

    def scores(self, task: Task) -> Floats:
        return scores_of(self._way.network, task)

    def learn(self, tasks: Sequence[Task]) -> None:
        self._way.update(tasks)


class Boosted(Ranker):
    """MetaSchedule's XGBModel: its own training and prediction, without a pretraining that it does not have."""

    def __init__(self, warm_up: int, seed: int) -> None:
        config = ms.cost_model.xgb_model.XGBConfig(nthread=1, seed=seed)
        self._model: Any = ms.cost_model.XGBModel(config=config, num_warmup_samples=warm_up)
        self._blind = Blind(seed)
        self._warm_up = warm_up
        self._records = 0

    def scores(self, task: Task) -> Floats:
        if self._records < max(1, self._warm_up):
            return self._blind.scores(task)
        return np.asarray(self._model._predict(xs=list(task.features)), np.float32)

    def learn(self, tasks: Sequence[Task]) -> None:
        self._records = sum(len(task.times_us) for task in tasks)
        if self._records >= max(1, self._warm_up):
            labels = np.concatenate([task.labels for task in tasks])
            self._model._train(xs=[each for task in tasks for each in task.features], ys=labels)


def _networked(mode: str) -> Callable[[CostNetwork, int], Ranker]:
    def make(pretrained: CostNetwork, seed: int) -> Ranker:
        return Networked(adaptation(mode, pretrained, shape=pretrained.shape, seed=seed))

    return make


#: What the others stand beside.
BASELINE = "fine-tune"

#: Moses as published: mask and controller together.
PUBLISHED = "moses-paper"

MODES: dict[str, Mode] = {
    "random": Mode(lambda _, seed: Blind(seed)),
    "scratch": Mode(_networked("scratch")),
    "zero-shot": Mode(_networked("zero-shot")),
    BASELINE: Mode(_networked("fine-tune")),
    "mask 0.5": Mode(_networked("moses-paper")),
    "mask 0.3": Mode(_networked("moses-paper-0.3")),
    "mask 0.7": Mode(_networked("moses-paper-0.7")),
    "moa": Mode(_networked("moa")),
    "fine-tune, Moses' controller": Mode(_networked("fine-tune"), Variation),
    PUBLISHED: Mode(_networked("moses-paper"), Variation),
    "fine-tune, our controller": Mode(_networked("fine-tune"), ThreeSigns),
    "mask 0.5, our controller": Mode(_networked("moses-paper"), ThreeSigns),
    "moa, our controller": Mode(_networked("moa"), ThreeSigns),
}
if importlib.util.find_spec("xgboost") is not None:
    MODES["xgboost, stock"] = Mode(lambda _, seed: Boosted(_STOCK_WARM_UP, seed))
