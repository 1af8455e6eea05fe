"""The search space: every elastic dimension of a network and the choices for it."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tailorbird.errors import UsageError
from tailorbird.graph import Stage
from tailorbird.types import Config

_LARGEST_SKIP_RATE = 0.5


@dataclass(frozen=True, slots=True)
class Dimension:
    """One elastic dimension: its name in the user's modules, kind, full size and choices (rising, the last is full).

    kind: width | heads | depth | kernel | resolution. A depth dimension is a residual block: size 1, choices 0 and 1.
    """

    name: str
    kind: str
    size: int
    choices: tuple[int, ...]


class SearchSpace:
    """All configurations of a SuperNet. Immutable.

    dead: which dimensions and blocks have no effect when the given blocks are skipped; stages: the blocks that can be
    skipped, in runs on one stream and layers within them.
    """

    def __init__(
        self,
        dimensions: tuple[Dimension, ...],
        dead: Callable[[frozenset[str]], tuple[frozenset[str], frozenset[str]]],
        stages: tuple[Stage, ...] = (),
    ) -> None:
        self.dimensions = dimensions
        self.stages = stages
        self._sized = {d.name: d for d in dimensions if d.kind != "depth"}
        self._blocks = {d.name: d for d in dimensions if d.kind == "depth"}
        self._dead = functools.lru_cache(maxsize=4096)(dead)

    def __repr__(self) -> str:
        return f"SearchSpace({len(self._sized)} sized dimensions, {len(self._blocks)} blocks, {self.size:.3g} subnets)"

    def extended(self, dimension: Dimension) -> SearchSpace:
        """The same space with another sized dimension, on which no block has an effect."""
        sized = (*self._sized.values(), dimension, *self._blocks.values())
        return SearchSpace(sized, self._dead, self.stages)

    @property
    def width(self) -> tuple[Dimension, ...]:
        """Channel and feature counts."""
        return self._of_kind("width")

    @property
    def heads(self) -> tuple[Dimension, ...]:
        """Attention heads."""
        return self._of_kind("heads")

    @property
    def depth(self) -> tuple[Dimension, ...]:
        """Residual blocks that can be skipped."""
        return self._of_kind("depth")

    @property
    def kernel(self) -> tuple[Dimension, ...]:
        """Kernel sizes."""
        return self._of_kind("kernel")

    @property
    def resolution(self) -> tuple[Dimension, ...]:
        """Input sizes."""
        return self._of_kind("resolution")

    def _of_kind(self, kind: str) -> tuple[Dimension, ...]:
        return tuple(d for d in self.dimensions if d.kind == kind)

    def full(self) -> Config:
        """The user's own network."""
        return Config()

    def smallest(self) -> Config:
        """Every dimension at its smallest choice, every block skipped."""
        return self.canonical(Config.of({d.name: d.choices[0] for d in self._sized.values()}, list(self._blocks)))

    def keep_first(self, layers: Mapping[str, int]) -> Config:
        """The full network with only the first so many layers of some stages: `keep_first({"layer1": 2})`.

        Only what can be skipped counts as a layer of a stage. Raises: UsageError for an unknown stage or count.
        """
        stages = {stage.name: stage for stage in self.stages}
        skipped: list[str] = []
        for name, count in layers.items():
            stage = stages.get(name)
            if stage is None or not 0 <= count <= len(stage.layers):
                known = ", ".join(f"{stage.name} (up to {len(stage.layers)})" for stage in self.stages)
                raise UsageError(
                    f"there is no stage {name!r} with {count} layers",
                    why=f"this network has: {known or 'none'}",
                    fix="take names from net.space.stages",
                )
            skipped += [block for layer in stage.layers[count:] for block in layer]
        return self.canonical(Config.of(skipped=skipped))

    def sample(self, seed: int, depth: str = "independent") -> Config:
        """A random configuration: sizes uniform over choices, blocks skipped at a rate drawn from 0 to 1/2.

        depth: "stages" keeps the first layers of each stage instead, as Once-for-All does, at least half of them.
        Raises: UsageError for another word.
        """
        if depth not in {"independent", "stages"}:
            raise UsageError(f"depth cannot be drawn by {depth!r}", fix="pass 'independent' or 'stages'")
        rng = random.Random(seed)  # noqa: S311  (no secret depends on it)
        sizes = {d.name: rng.choice(d.choices) for d in self._sized.values()}
        if depth == "stages":
            kept = {
                s.name: rng.randint(math.ceil(len(s.layers) * _LARGEST_SKIP_RATE), len(s.layers)) for s in self.stages
            }
            return self.canonical(Config.of(sizes, list(self.keep_first(kept).skipped)))
        rate = rng.uniform(0, _LARGEST_SKIP_RATE)
        return self.canonical(Config.of(sizes, [name for name in self._blocks if rng.random() < rate]))

    def validate(self, config: Config) -> None:
        """Raises: UsageError when a name is unknown or a size is not among the choices."""
        for name, size in config.sizes:
            dimension = self._sized.get(name)
            if dimension is None:
                raise UsageError(
                    f"no elastic dimension is named {name!r}",
                    why=f"this network has: {_listed(self._sized)}",
                    fix="take names from net.space.dimensions",
                )
            if size not in dimension.choices:
                raise UsageError(
                    f"{name} cannot keep {size} of {dimension.size}",
                    why=f"its choices are {', '.join(map(str, dimension.choices))}",
                    fix="take one of the choices, or pass another `divisor` to elastic()",
                )
        for name in config.skipped:
            if name not in self._blocks:
                raise UsageError(
                    f"no block that can be skipped is named {name!r}",
                    why=f"this network has: {_listed(self._blocks)}",
                    fix="take names from net.space.depth",
                )

    def canonical(self, config: Config) -> Config:
        """Drop every choice without effect: full sizes, and whatever lives only inside skipped blocks.

        Raises: UsageError for an invalid configuration.
        """
        if not isinstance(config, Config):
            raise UsageError(
                f"a configuration is a Config, not a {type(config).__name__}",
                fix="take one from net.space (smallest(), sample(seed)), or make one: Config.of({name: size}, [block])",
            )
        if config.is_full:
            return config
        self.validate(config)
        dims, blocks = self.dead(config)
        sizes = {n: k for n, k in config.sizes if n not in dims and k != self._sized[n].size}
        return Config.of(sizes, [name for name in config.skipped if name not in blocks])

    def dead(self, config: Config) -> tuple[frozenset[str], frozenset[str]]:
        """Dimensions and blocks without effect under the skipped blocks of a configuration.

        Of nested blocks that are both skipped, the inner one is without effect.
        """
        return self._dead(frozenset(config.skipped))

    @property
    def size(self) -> int:
        """Number of distinct subnets. A dimension shared by several blocks and nothing else counts as always there."""
        owned: dict[str | None, list[Dimension]] = {None: []}
        parent: dict[str, str | None] = {}
        kills = {name: self._dead(frozenset({name})) for name in self._blocks}
        for name in self._blocks:
            holders = [other for other in self._blocks if name in kills[other][1]]
            parent[name] = min(holders, key=lambda other: len(kills[other][1]), default=None)
        for dimension in self._sized.values():
            holders = [name for name in self._blocks if dimension.name in kills[name][0]]
            home = min(holders, key=lambda name: len(kills[name][0]), default=None)
            owned.setdefault(home, []).append(dimension)

        def count(home: str | None) -> int:
            ways = math.prod(len(d.choices) for d in owned.get(home, []))
            return ways * math.prod(1 + count(name) for name, outer in parent.items() if outer == home)

        return count(None)


def _listed(names: dict[str, Dimension], most: int = 8) -> str:
    shown = list(itertools.islice(names, most))
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "") if shown else "none"
