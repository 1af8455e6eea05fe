"""Settings: what a suite measures, and a case of it, one network trained for one budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from tailorbird.supernet.training.recipe import Recipe
from tests.bench.accuracy.images import Images
from tests.bench.accuracy.networks import NETWORKS, Network
from tests.bench.accuracy.work import Work

#: Largest shares of the full network's MACs that the best subnet is searched for, and how many of the most promising
#: subnets are confirmed on validation images at each.
LIMITS = {0.9: 3, 0.72: 8, 0.6: 3, 0.5: 8, 0.4: 3, 0.3: 3}
#: Limits whose best subnet is trained alone at the end of the budget, and the share of the budget that takes; by the
#: shortest budget in seconds that this is for.
TUNING = {30 * 60: {0.72: 0.13, 0.5: 0.13}, 5 * 60: {0.72: 0.13}}


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a SuperNet is trained: for minutes, or for epochs."""

    minutes: float | None = None
    epochs: int | None = None

    def __str__(self) -> str:
        return f"{self.minutes:g} min" if self.minutes is not None else f"{self.epochs} epochs"

    @property
    def seconds(self) -> float | None:
        """None for epochs."""
        return None if self.minutes is None else 60 * self.minutes


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes of a suite. minutes: training budgets; seeds: predictor seeds; whole: subnets see all held-out images."""

    suite: str
    nets: tuple[str, ...]
    minutes: tuple[float, ...]
    subnets: int
    seeds: int
    whole: bool
    batch: int = 64
    training_seed: int = 0
    recalibration: int = 2000  # training images for the statistics of each subnet
    fit: dict[str, Any] = field(default_factory=dict)  # further options of SuperNet.fit
    generations: int = 60  # of the search
    device: str = "cpu"  # where training and evaluation run


QUICK = Settings("quick", ("resnet20",), (6.0,), subnets=60, seeds=1, whole=False)
FULL = Settings("full", ("resnet20", "resnet56"), (6.0, 60.0), subnets=100, seeds=3, whole=True)
#: On digits, both suites: a check of the benchmark itself that takes seconds.
DIGITS = Settings(
    "quick", ("digits",), (0.05,), subnets=12, seeds=1, whole=False, batch=32, recalibration=250, generations=12
)


class Case:
    """One network, trained for one budget, and all that stages need to know about it."""

    def __init__(self, settings: Settings, net: str, budget: Budget, data: Path, work: Work) -> None:
        self.settings, self.budget, self.data, self.work = settings, budget, data, work
        self.network: Network = NETWORKS[net]

    @property
    def name(self) -> str:
        """For people, such as "resnet20, 6 min"."""
        return f"{self.network.name}, {self.budget}"

    @cached_property
    def images(self) -> Images:
        """All images of the network."""
        return self.network.images(self.data, self.work.folder)

    @property
    def judged(self) -> int:
        """How many of the held-out images, in their order, random subnets are run on: evaluation images first."""
        images = self.images
        return len(images.held[1]) if self.settings.whole else images.evaluation + images.fold

    def pretrained(self) -> nn.Module:
        """The network as its user would bring it, in eval mode."""
        return self.network.pretrained(self.data, self.work, self.images)

    @property
    def origin(self) -> dict[str, Any]:
        """What decides about the network before training."""
        return {"net": self.network.name, "recalibration": self.settings.recalibration}

    @property
    def training(self) -> dict[str, Any]:
        """What decides about the trained network."""
        settings = self.settings
        return {
            "net": self.network.name,
            "batch": settings.batch,
            "device": settings.device,
            "recipe": self.recipe.to_json(),
        }

    @property
    def tuning(self) -> dict[float, float]:
        """Seconds of the budget in which the best subnet within a limit is trained alone; none of a short budget."""
        seconds = self.budget.seconds or 0.0
        plans = [shares for least, shares in TUNING.items() if seconds >= least]
        return {limit: share * seconds for limit, share in plans[0].items()} if plans else {}

    @property
    def recipe(self) -> Recipe:
        """All options of training, those that are not given included. What tuning takes is left of the budget."""
        settings, budget = self.settings, self.budget
        seconds = None if budget.seconds is None else budget.seconds - sum(self.tuning.values())
        options = {"epochs": budget.epochs, "budget_s": seconds, "seed": settings.training_seed}
        return Recipe(**(options | settings.fit))

    @property
    def trained(self) -> dict[str, Any]:
        """What decides about accuracies of the trained network's subnets."""
        return {"training": self.training, "recalibration": self.settings.recalibration}
