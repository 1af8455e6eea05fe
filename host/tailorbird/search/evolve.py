"""NSGA-II over a search space (Deb et al. 2002, through pymoo): accuracy up, time down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.optimize import minimize

from tailorbird.search.pareto import Point
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet import SearchSpace

#: A measure of a subnet: accuracy as a fraction, or time in microseconds.
Objective = Callable[[Config], float]

#: Called with (generation, points evaluated so far).
OnGeneration = Callable[[int, int], None]


class Encoding:
    """Configurations as integer vectors: for each dimension the index of its choice (for blocks: 0 skips)."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.dimensions = space.dimensions
        self.highest = np.array([len(d.choices) - 1 for d in self.dimensions], dtype=int)

    def decode(self, genes: Sequence[int] | np.ndarray) -> Config:
        """The canonical configuration of a vector."""
        sizes = {
            d.name: d.choices[int(gene)] for d, gene in zip(self.dimensions, genes, strict=True) if d.kind != "depth"
        }
        skipped = [d.name for d, gene in zip(self.dimensions, genes, strict=True) if d.kind == "depth" and not gene]
        return self.space.canonical(Config.of(sizes, skipped))

    def encode(self, config: Config) -> np.ndarray:
        """A vector that decodes to the configuration."""
        sizes, skipped = dict(config.sizes), set(config.skipped)
        return np.array(
            [
                int(d.name not in skipped) if d.kind == "depth" else d.choices.index(sizes.get(d.name, d.size))
                for d in self.dimensions
            ],
            dtype=int,
        )


class _Subnets(Problem):
    """The search as pymoo sees it. Each distinct subnet is evaluated once, whatever vectors it comes from."""

    def __init__(self, encoding: Encoding, accuracy: Objective, time_us: Objective) -> None:
        super().__init__(n_var=len(encoding.dimensions), n_obj=2, xl=0, xu=encoding.highest, vtype=int)
        self.encoding = encoding
        self.accuracy = accuracy
        self.time_us = time_us
        self.points: dict[Config, Point] = {}

    def _evaluate(self, x: np.ndarray, out: dict[str, Any], *_args: Any, **_kwargs: Any) -> None:
        points = [self.evaluate_config(self.encoding.decode(genes)) for genes in x]
        out["F"] = np.array([(1 - point.accuracy, point.time_us) for point in points])

    def evaluate_config(self, config: Config) -> Point:
        """Accuracy and time of a subnet."""
        if config not in self.points:
            self.points[config] = Point(config, self.accuracy(config), self.time_us(config))
        return self.points[config]


class _SameSubnet(DuplicateElimination):
    """Vectors that decode to one subnet are duplicates, whatever genes of skipped blocks they differ in."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self._decode = encoding.decode

    def _do(self, pop: Any, other: Any, is_duplicate: np.ndarray) -> np.ndarray:
        seen = set() if other is None else {self._decode(genes) for genes in other.get("X")}
        for index, genes in enumerate(pop.get("X")):
            config = self._decode(genes)
            is_duplicate[index] = is_duplicate[index] or config in seen
            seen.add(config)
        return is_duplicate


class _Redraw(Mutation):
    """Each of n genes becomes, with probability 1/n, another of its choices: half the time a neighbouring one."""

    def _do(self, problem: Any, X: np.ndarray, *_args: Any, random_state: Any = None, **_kwargs: Any) -> np.ndarray:  # noqa: N803
        genes = X.astype(int)
        highest = problem.xu.astype(int)
        changed = (random_state.random(genes.shape) < 1 / genes.shape[1]) & (highest > 0)
        anywhere = random_state.integers(0, np.broadcast_to(highest + 1, genes.shape))
        beside = np.clip(genes + random_state.choice([-1, 1], genes.shape), 0, highest)
        drawn = np.where(random_state.random(genes.shape) < 0.5, beside, anywhere)
        return np.where(changed, drawn, genes)


def evolve(
    space: SearchSpace,
    accuracy: Objective,
    time_us: Objective,
    *,
    population: int = 32,
    generations: int = 16,
    seed: int = 0,
    on_generation: OnGeneration | None = None,
) -> tuple[Point, ...]:
    """Every subnet evaluated, in order: the full and the smallest first, the rest bred from them and random ones.

    The same seed and objectives give the same points.
    """
    encoding = Encoding(space)
    problem = _Subnets(encoding, accuracy, time_us)
    seeds = dict.fromkeys([space.full(), space.smallest()])
    number = 0
    while len(seeds) < population and number < 20 * population:  # small spaces run out of distinct subnets
        seeds[space.sample(seed + number)] = None
        number += 1
    if len(encoding.dimensions) == 0 or len(seeds) < 4:
        return tuple(problem.evaluate_config(config) for config in seeds)

    def report(algorithm: Any) -> None:
        if on_generation is not None:
            on_generation(algorithm.n_gen, len(problem.points))

    operators: dict[str, Any] = {  # pymoo's defaults have narrower inferred types than its operators
        "sampling": np.stack([encoding.encode(config) for config in seeds]),
        "crossover": UniformCrossover(),
        "mutation": _Redraw(),
        "eliminate_duplicates": _SameSubnet(encoding),
    }
    algorithm = NSGA2(pop_size=len(seeds), **operators)
    minimize(problem, algorithm, ("n_gen", generations), seed=seed, callback=report, verbose=False)
    return tuple(problem.points.values())
