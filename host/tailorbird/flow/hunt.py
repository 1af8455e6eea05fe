"""The parts of a search that do not ask where latencies come from: breed, shorten, evaluate, choose."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tailorbird.flow.data import Batches, Splits
from tailorbird.flow.network import Network
from tailorbird.flow.workspace import Note, Workspace
from tailorbird.search import Objective, Point, choose_rungs, evolve
from tailorbird.supernet import SuperNet
from tailorbird.supernet.accuracy import AccuracyTable, accuracy_table

if TYPE_CHECKING:
    from tailorbird.flow.search import SearchOptions

_RECALIBRATION_IMAGES = 512
_GAP = 0.05


@dataclass(frozen=True, eq=False)
class Hunt:
    """A network, its data and how hard to look."""

    workspace: Workspace
    network: Network
    splits: Splits
    options: SearchOptions
    note: Note

    @property
    def net(self) -> SuperNet:
        """The SuperNet."""
        return self.network.net

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.workspace.settings.seed

    @functools.cached_property
    def judge(self) -> AccuracyTable:
        """The accuracy predictor, built when first asked for."""
        judge = accuracy_table(
            self.net,
            self.splits.held_out(),
            recalibration=self.splits.calibration(),
            training=Batches(self.splits.train, 200),
            evaluation_images=self.options.evaluation_images,
            seed=self.seed,
            cache=self.workspace.settings.cache_folder / "accuracy",
            on_progress=lambda done, total: self.note(f"{done} of {total} accuracy probes"),
        )
        for sentence in judge.notes:
            self.note(sentence)
        return judge

    def evolve(self, time_us: Objective) -> tuple[Point, ...]:
        """Every subnet looked at, with predicted accuracy and time."""
        return evolve(
            self.net.space,
            self.judge.predict,
            time_us,
            population=self.options.population,
            generations=self.options.generations,
            seed=self.seed,
            on_generation=lambda generation, count: self.note(f"generation {generation}, {count} subnets"),
        )

    def shortlist(self, points: Sequence[Point]) -> list[Point]:
        """Points spread over the front, and the full network, which belongs into every ladder."""
        # Predicted accuracies err by a few points, so the shortlist reaches below the floor.
        reach = self.judge.full_accuracy - 1.5 * self.options.most_loss
        found = choose_rungs(points, rungs=self.options.shortlist, least=1, gap=_GAP, floor=reach)
        full = next((p for p in points if p.config == self.net.space.full()), None)
        return [*found, *([full] if full is not None and full not in found else [])]

    def confirm(self, candidates: Sequence[Point]) -> list[Point]:
        """The same with the accuracy they reach on the validation split after recalibration."""
        confirmed = self.judge.confirm(
            self.net,
            [point.config for point in candidates],
            self.splits.held_out(),
            recalibration=self.splits.calibration(),
            recalibration_images=_RECALIBRATION_IMAGES,
            cache=self.workspace.settings.cache_folder / "accuracy",
            on_progress=lambda done, total: self.note(f"{done} of {total} candidates evaluated"),
        )
        evaluated = [replace(point, accuracy=c.accuracy) for point, c in zip(candidates, confirmed, strict=True)]
        return self._below_the_full(evaluated)

    def choose(self, evaluated: Sequence[Point]) -> tuple[Point, ...]:
        """The rungs. Raises GateError when too few lie far enough apart."""
        floor = self.judge.full_accuracy - self.options.most_loss
        return choose_rungs(evaluated, rungs=self.options.rungs, least=self.options.least, floor=floor)

    def _below_the_full(self, points: Sequence[Point]) -> list[Point]:
        """Subnets learn from the full network, so they surpass it by chance alone: of equals the user's own stays."""
        own = next((p for p in points if p.config == self.net.space.full()), None)
        if own is None:
            return list(points)
        step = 0.5 / len(self.splits.validation[1])  # half the weight of one image
        return [p if p is own else replace(p, accuracy=min(p.accuracy, own.accuracy - step)) for p in points]
