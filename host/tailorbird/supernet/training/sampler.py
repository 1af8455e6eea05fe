"""Sampler: which subnets take part in a step. A function of the seed and the step alone, the same on every rank.

The sandwich rule trains the largest, the smallest and some random subnets in each step (Yu and Huang, "Universally
Slimmable Networks and Improved Training Techniques", ICCV 2019, section 3.1).
"""

from __future__ import annotations

import math
import random

from tailorbird.supernet.space import Dimension, SearchSpace
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.types import Config

_LARGEST_SKIP_RATE = 0.5


class Sampler:
    """Draws the subnets of a step, within the part of the search space that the curriculum has reached."""

    def __init__(self, space: SearchSpace, recipe: Recipe) -> None:
        self._space, self._recipe = space, recipe
        self._sized = [d for d in space.dimensions if d.kind != "depth"]

    def subnets(self, step: int, share: float) -> list[Config]:
        """The smallest subnet and random ones, never the full network. share: of the run that is done, 0 to 1."""
        floor = self.floor(share)
        drawn = [self._random(step, index, floor, share) for index in range(self._recipe.n_random)]
        return [config for config in (self.smallest(floor), *drawn) if not config.is_full]

    def floor(self, share: float) -> float:
        """The smallest part of its size that any dimension has at a point of the run; 0: no limit."""
        ratios = self._recipe.ratios
        place = min(int(share * len(ratios)), len(ratios) - 1)
        return 0.0 if place >= len(ratios) - 1 else ratios[place]

    def smallest(self, floor: float) -> Config:
        """Every dimension at its smallest choice within the limit, and as many blocks skipped as it allows."""
        if floor <= 0:
            return self._space.smallest()
        return self._space.canonical(self._at(floor, {d.name: _choices(d, floor)[0] for d in self._sized}))

    def _random(self, step: int, index: int, floor: float, share: float) -> Config:
        recipe = self._recipe
        rng = random.Random((recipe.seed * 1_000_003 + step) * 64 + index)  # noqa: S311  (no secret depends on it)
        compound = recipe.sampling == "compound" or (recipe.sampling == "compound-first" and share < 0.5)
        if compound:
            ratio = rng.uniform(max(floor, min(self._recipe.ratios, default=0.0)), 1.0)
            sizes = {d.name: _nearest(d, ratio * d.size) for d in self._sized}
            return self._space.canonical(self._at(ratio, sizes))
        sizes = {d.name: rng.choice(_choices(d, floor)) for d in self._sized}
        most = min(_LARGEST_SKIP_RATE, 1 - floor)
        if recipe.depth == "stages":
            layers = {stage.name: len(stage.layers) for stage in self._space.stages}
            counts = {name: rng.randint(math.ceil(count * (1 - most)), count) for name, count in layers.items()}
            skipped = list(self._space.keep_first(counts).skipped)
        else:
            rate = rng.uniform(0, most)
            skipped = [block.name for block in self._space.depth if rng.random() < rate]
        return self._space.canonical(Config.of(sizes, skipped))

    def _at(self, ratio: float, sizes: dict[str, int]) -> Config:
        """Sizes, and of each stage the first blocks in the same proportion."""
        counts = {stage.name: max(1, math.ceil(ratio * len(stage.layers) - 0.5)) for stage in self._space.stages}
        return Config.of(sizes, list(self._space.keep_first(counts).skipped))


def _nearest(dimension: Dimension, size: float) -> int:
    return min(dimension.choices, key=lambda choice: abs(choice - size))


def _choices(dimension: Dimension, floor: float) -> tuple[int, ...]:
    """The choices within the limit; the full size is always one."""
    return tuple(k for k in dimension.choices if k >= floor * dimension.size) or dimension.choices[-1:]
