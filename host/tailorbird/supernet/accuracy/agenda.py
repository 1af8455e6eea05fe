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

_ANCHORS = 10
#: With a budget each dimension has its smallest choice probed first, then so many anchors come before other choices.
_ANCHORS_PER_DIMENSION = 2


@dataclass(frozen=True, slots=True)
class Agenda:
    """Changes probed alone, changes that are not, and how many anchors are evaluated."""

    singles: tuple[Change, ...]
    interpolated: tuple[Change, ...]
    anchors: int

    @classmethod
    def unprobed(cls, space: SearchSpace, runs: int) -> Agenda:
        """Nothing is probed: all `runs` but that of the full network are anchors. Raises: UsageError for too few."""
        if runs <= _ANCHORS:
            raise UsageError(
                f"{runs} evaluations are too few",
                why=f"at least {_ANCHORS} subnets are evaluated beside the full network",
                fix=f"raise max_evaluations to at least {_ANCHORS + 1}",
            )
        every = [(d.name, choice) for d in space.dimensions for choice in d.choices[:-1]]
        return cls((), tuple(every), runs - 1)

    @classmethod
    def of(cls, space: SearchSpace, runs: int | None, anchors: int | None) -> Agenda:
        """At most `runs` subnets in all, the full network's evaluation among them where there are anchors.

        runs, anchors: None for every change, and for as many anchors as there is room for (10 without a limit). Every
        dimension's smallest choice comes first, then the middle of what is left, and so on. Raises: UsageError when not
        even one choice of each dimension can be probed.
        """
        rounds = itertools.zip_longest(*(list(_halving(d)) for d in space.dimensions))
        wanted = [change for turn in rounds for change in turn if change is not None]
        least = _ANCHORS if anchors is None else anchors
        if runs is not None:
            spare = runs - least - bool(least) - len(space.dimensions)
            if spare < 0:
                raise UsageError(
                    f"{runs} evaluations are too few for {len(space.dimensions)} dimensions",
                    why=f"each needs a probe, beside {least} anchors and the full network itself",
                    fix="raise max_evaluations, lower `anchors`, or make less elastic (`only`, `freeze` of elastic())",
                )
            if anchors is None:
                least += min(spare, max(0, _ANCHORS_PER_DIMENSION * len(space.dimensions) - least))
                probes = min(len(wanted), runs - least - 1)
                least = runs - probes - 1
            else:
                probes = len(space.dimensions) + spare
            wanted = wanted[:probes]
        chosen = set(wanted)
        every = [(d.name, choice) for d in space.dimensions for choice in d.choices[:-1]]
        return cls(
            tuple(change for change in every if change in chosen),
            tuple(change for change in every if change not in chosen),
            least,
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
