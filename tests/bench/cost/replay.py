"""Tuning replayed from records: what was measured once is "measured" again in the order in which a mode asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tailorbird.tune.cost.controller import Controller, Seen
from tailorbird.tune.cost.corpus import Task
from tailorbird.tune.cost.features import Floats


class Ranker:
    """What a mode knows. Scores of a task's schedules, higher is better; records so far, by kernel."""

    def scores(self, task: Task) -> Floats:
        """(schedules,) scores."""
        raise NotImplementedError

    def learn(self, tasks: Sequence[Task]) -> None:
        """Take in all records so far."""


@dataclass
class Run:
    """One kernel's replay. order: indices of the pool's schedules as they were measured; stopped: by the controller."""

    task: Task
    controller: Controller
    order: list[int] = field(default_factory=list)
    stopped: bool = False

    def wants_more(self, budget: int) -> bool:
        """Whether there is anything left to measure, and leave to."""
        return not self.stopped and len(self.order) < min(budget, len(self.task.times_us))

    def best_us(self, trials: int | None = None) -> float:
        """The fastest of the first `trials`, of all by default; infinite when all failed."""
        times = self.task.times_us[self.order[:trials]]
        return float(np.nanmin(times)) if np.isfinite(times).any() else float("inf")

    def trials_to(self, share: float) -> int:
        """Trials until a schedule has that share of the speed of the pool's fastest; one more than the pool if none."""
        labels = self.task.labels[self.order]
        reached = np.flatnonzero(labels >= share)
        return int(reached[0]) + 1 if len(reached) else len(self.task.times_us) + 1


@dataclass
class Replay:
    """A network's kernels tuned together. model_s: CPU seconds of scoring and learning."""

    runs: list[Run]
    model_s: float


def replay(
    tasks: Sequence[Task],
    ranker: Ranker,
    controller: Callable[[], Controller],
    *,
    budget: int,
    batch: int,
    explore: float,
    seed: int,
) -> Replay:
    """Rounds of one batch for every kernel, after each of which the model learns; `budget` trials per kernel at most.

    explore: share of a batch that is drawn at random. When the controller stops a kernel, the model's best few that
    are left are measured, as many as it wants verified.
    """
    rng = np.random.default_rng(seed)
    runs = [Run(task, controller()) for task in tasks]
    model_s = 0.0
    while open_runs := [run for run in runs if run.wants_more(budget)]:
        stopping: list[Run] = []
        for run in open_runs:
            begun = time.process_time()
            scores = ranker.scores(run.task)
            model_s += time.process_time() - begun
            room = min(batch, budget - len(run.order))
            chosen = _choose(scores, run.order, room, explore, rng)
            run.order += chosen
            times = tuple(float(run.task.times_us[index]) for index in chosen)
            if run.controller.observe(Seen(tuple(float(scores[index]) for index in chosen), times)):
                stopping.append(run)
        begun = time.process_time()
        ranker.learn([run.task.only(run.order) for run in runs])
        for run in stopping:
            run.stopped = True
            if run.controller.verify:
                room = min(run.controller.verify, budget - len(run.order))
                run.order += _choose(ranker.scores(run.task), run.order, room, 0.0, rng)
        model_s += time.process_time() - begun
    return Replay(runs, model_s)


def _choose(scores: Floats, taken: Sequence[int], count: int, explore: float, rng: np.random.Generator) -> list[int]:
    """The best of what is left, some of them replaced by random ones."""
    left = np.setdiff1d(np.arange(len(scores)), np.asarray(taken, np.int64))
    ranked = left[np.argsort(-scores[left], kind="stable")]
    drawn = int(rng.binomial(min(count, len(left)), explore))
    best = ranked[: max(0, count - drawn)].tolist()
    rest = [int(index) for index in ranked[len(best) :]]
    others = rng.choice(rest, min(drawn, len(rest)), replace=False).tolist() if rest and drawn else []
    return [int(index) for index in best + others]
