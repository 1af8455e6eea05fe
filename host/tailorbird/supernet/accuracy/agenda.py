"""Agenda: which subnets are probed when not more than so many may be run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tailorbird.errors import UsageError
from tailorbird.supernet.space import Dimension, SearchSpace
from tailorbird.types import Config

#: A dimension and the choice it is cut to; 0 for a skipped block.
Change = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Agenda:
    """Changes probed alone, changes left to interpolation, and neighbours probed together."""

    singles: tuple[Change, ...]
    interpolated: tuple[Change, ...]
    pairs: tuple[tuple[Change, Change], ...]

    @property
    def changes(self) -> list[tuple[Change, ...]]:
        """What is probed: singles, then pairs."""
        return [*((change,) for change in self.singles), *self.pairs]

    @classmethod
    def of(cls, space: SearchSpace, probes: int | None) -> Agenda:
        """At most `probes` subnets; None: every change alone, and no pairs.

        Every dimension's smallest choice comes first, then the middle of what is left, and so on; neighbours come when
        all choices have their probe. Raises: UsageError when not even one choice of each dimension can be probed.
        """
        rounds = itertools.zip_longest(*(list(_halving(d)) for d in space.dimensions))
        wanted = [change for turn in rounds for change in turn if change is not None]
        if probes is not None and probes < len(space.dimensions):
            raise UsageError(
                f"{probes} probes are too few for {len(space.dimensions)} dimensions",
                why="each needs at least one, beside the anchors and the full network itself",
                fix="raise max_evaluations, lower `anchors`, or make less of the network elastic (`only`, `freeze`)",
            )
        chosen = set(wanted if probes is None else wanted[:probes])
        every = [(d.name, choice) for d in space.dimensions for choice in d.choices[:-1]]
        room = 0 if probes is None else probes - len(chosen)
        return cls(
            tuple(change for change in every if change in chosen),
            tuple(change for change in every if change not in chosen),
            tuple(itertools.islice(_neighbours(space), room)),
        )


def config_of(space: SearchSpace, *changes: Change) -> Config:
    """The full network with some changes."""
    depth = {dimension.name for dimension in space.depth}
    sizes = {name: choice for name, choice in changes if name not in depth}
    return space.canonical(Config.of(sizes, [name for name, _ in changes if name in depth]))


def changes_of(config: Config) -> list[Change]:
    """The changes of a canonical configuration."""
    return [*config.sizes, *((name, 0) for name in config.skipped)]


def _halving(dimension: Dimension) -> Iterator[Change]:
    """The smallest choice, then the middle between it and the full size, then that of both halves, and so on."""
    yield dimension.name, dimension.choices[0]
    spans = [(0, len(dimension.choices) - 1)]
    for low, high in spans:  # grows as it is read
        middle = (low + high) // 2
        if low < middle < high:
            yield dimension.name, dimension.choices[middle]
            spans += [(low, middle), (middle, high)]


def _neighbours(space: SearchSpace) -> Iterator[tuple[Change, Change]]:
    """Blocks that follow each other in the graph, both skipped: the only pairs that were found to help."""
    for left, right in itertools.pairwise(space.depth):
        changes = (left.name, 0), (right.name, 0)
        if len(changes_of(config_of(space, *changes))) == 2:  # one may lie in the other
            yield changes
