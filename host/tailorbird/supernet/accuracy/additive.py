"""Additive: the divergence of every subnet from those of a few.

Each factor (one dimension at one choice, one skipped block) was probed alone, and so were some neighbours together.
Two sums over factors stand for a subnet that makes many changes, and their geometric mean predicts its divergence:

    answers     the changes of the network's answers add up, and the distance of the sum is taken (see `answers`)
    distances   logarithms of 1 + d / u add up over the divergences d of the factors, in units u of their mean: one
                large divergence counts for less than several small ones, as it does in accuracy

Where answers are too large to keep, the second stands alone. A plain sum of divergences, as in Puzzle (Bercovich et
al., 2024), or of accuracies, as in AutoTailor, is biased when many factors change. Kendall's tau with the accuracy of
random subnets, recalibrated, on 1,000 held-out images, with which the form was also chosen:

                                     plain sum  sum of d^0.7  answers  distances  both
    ResNet-20, untrained SuperNet         0.80          0.84     0.88       0.86  0.88
    ResNet-32, 2.5 minutes of training    0.82          0.87     0.83       0.88  0.87
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tailorbird.supernet.accuracy.agenda import Agenda, Change, changes_of
from tailorbird.supernet.accuracy.answers import Answers
from tailorbird.supernet.space import SearchSpace
from tailorbird.supernet.task import Task
from tailorbird.types import Config

_LARGEST = 600.0  # logarithm of the largest factor, far from overflow


@dataclass(frozen=True, slots=True)
class Factor:
    """One change: a dimension at a choice (0 for a skipped block) and its divergence, for classes in nats.

    probed: False where the divergence is interpolated between those of the dimension's probed choices.
    """

    name: str
    choice: int
    divergence: float
    probed: bool = True


@dataclass(frozen=True, slots=True)
class Pair:
    """Two neighbouring changes that were also probed together, and their divergence then."""

    first: Change
    second: Change
    divergence: float


@dataclass(frozen=True, slots=True)
class Additive:
    """Predicts divergences from those of factors and pairs, and from answers where they are kept."""

    space: SearchSpace = field(repr=False, compare=False)
    task: Task = field(repr=False, compare=False)
    factors: tuple[Factor, ...]
    pairs: tuple[Pair, ...]
    answers: Answers | None = field(repr=False)
    _weights: Mapping[Change, tuple[tuple[int, float], ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        probed = [(factor.name, factor.choice) for factor in self.factors if factor.probed]
        rows = {change: row for row, change in enumerate(probed)}
        object.__setattr__(self, "_weights", _between(self.space, rows))

    @classmethod
    def of(
        cls, space: SearchSpace, task: Task, agenda: Agenda, divergences: Sequence[float], answers: Answers | None
    ) -> Additive:
        """divergences: of the agenda's changes, in its order; answers: likewise, where kept."""
        alone = dict(zip(agenda.singles, divergences, strict=False))
        pairs = zip(agenda.pairs, divergences[len(agenda.singles) :], strict=True)
        return cls(
            space,
            task,
            tuple(
                Factor(name, choice, value, probed=(name, choice) in alone)
                for (name, choice), value in _interpolated(space, alone).items()
            ),
            tuple(Pair(first, second, value) for (first, second), value in pairs),
            answers,
        )

    def divergence(self, config: Config) -> float:
        """Predicted distance of a configuration's answers from the full network's; for classes in nats.

        Raises: UsageError for an invalid configuration.
        """
        changes = changes_of(self.space.canonical(config))
        if not changes:
            return 0.0
        together = [pair for pair in self.pairs if pair.first in changes and pair.second in changes]
        compounded = self._compounded(changes, together)
        if self.answers is None:
            return compounded
        weights = [item for change in changes for item in self._weights[change]]
        probed = sum(factor.probed for factor in self.factors)
        for pair in together:
            weights.append((probed + self.pairs.index(pair), 1.0))
            weights += [(row, -weight) for change in (pair.first, pair.second) for row, weight in self._weights[change]]
        added = self.answers.distance(self.task, weights)
        return math.sqrt(max(0.0, added) * compounded)

    def _compounded(self, changes: Sequence[Change], together: Sequence[Pair]) -> float:
        """u (prod(1 + d / u) - 1) over divergences d, where u is the mean of all: one change alone gives its own."""
        alone = {(factor.name, factor.choice): factor.divergence for factor in self.factors}
        unit = sum(alone.values()) / len(alone)
        if unit == 0:
            return 0.0
        total = sum(math.log1p(alone[change] / unit) for change in changes)
        for pair in together:
            apart = (alone[pair.first], alone[pair.second])
            total += math.log1p(pair.divergence / unit) - sum(math.log1p(value / unit) for value in apart)
        return unit * math.expm1(min(max(0.0, total), _LARGEST))


def _interpolated(space: SearchSpace, probed: Mapping[Change, float]) -> dict[Change, float]:
    """Divergences of all changes: where one was not probed, its root lies on the line between those of its neighbours.

    A divergence grows with the square of what is cut away, as the KL divergence does to the second order.
    """
    found: dict[Change, float] = {}
    rows = {change: row for row, change in enumerate(probed)}
    roots = [math.sqrt(max(0.0, value)) for value in probed.values()]
    for change, weights in _between(space, rows).items():
        found[change] = probed[change] if change in probed else sum(w * roots[row] for row, w in weights) ** 2
    return found


def _between(space: SearchSpace, rows: Mapping[Change, int]) -> dict[Change, tuple[tuple[int, float], ...]]:
    """Every change as a weighted sum of probed ones, by their rows: linear in what is cut away."""
    found: dict[Change, tuple[tuple[int, float], ...]] = {}
    for dimension in space.dimensions:
        known = [choice for choice in dimension.choices[:-1] if (dimension.name, choice) in rows]
        for choice in dimension.choices[:-1]:
            place = bisect.bisect_right(known, choice)
            if place == 0:  # a table of another space: refused by its reader
                continue
            low, high = known[place - 1], known[place] if place < len(known) else dimension.choices[-1]
            share = (high - choice) / (high - low)
            ends = [(low, share), (high, 1 - share)]
            found[dimension.name, choice] = tuple(
                (rows[dimension.name, end], weight) for end, weight in ends if weight and (dimension.name, end) in rows
            )
    return found
