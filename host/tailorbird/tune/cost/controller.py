"""When a kernel needs no more measurements, because the model knows enough: after that its last word is measured.

Moses stops on one sign alone, that the mean prediction of consecutive batches no longer varies. A model that is sure
and wrong shows that sign too, so ours asks for three: it must also order the newest batch well before having seen it,
and the batches must have stopped gaining. Then the model's best three are measured, and the fastest of all is taken.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from tailorbird.tune.cost.corpus import labels_of


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch of one kernel: what the model said of it before it was measured, and what it took (NaN: failed)."""

    scores: tuple[float, ...]
    times_us: tuple[float, ...]


class Controller(Protocol):
    """Whether a kernel is done; one object for one kernel. verify: candidates to measure when it is."""

    verify: int

    def observe(self, batch: Seen) -> bool:
        """Take in a batch; whether the kernel needs no more."""
        ...


@dataclass(slots=True)
class Never:
    """Measure until the budget ends."""

    verify: int = 0

    def observe(self, batch: Seen) -> bool:
        """Go on."""
        del batch
        return False


@dataclass(slots=True)
class Variation:
    """Moses: the coefficient of variation of the last batches' mean prediction is below a limit (section 3.4).

    The paper gives neither the number of batches nor the limit; these are ours.
    """

    batches: int = 3
    limit: float = 0.05
    verify: int = 0
    _means: list[float] = field(default_factory=list)

    def observe(self, batch: Seen) -> bool:
        """Scores have no zero: they are brought to (0, 1) first."""
        self._means.append(statistics.fmean(1.0 / (1.0 + np.exp(-score)) for score in batch.scores))
        return _variation(self._means[-self.batches :]) < self.limit if len(self._means) >= self.batches else False


@dataclass(slots=True)
class ThreeSigns:
    """Ours: little variation, a newest batch that was ordered at least as well as by chance, and little gain; verify.

    accuracy: share of the batch's pairs in the right order; the batch is of the model's best, so they are close and one
    half is much. gain: of the incumbent by the newest batch. Chosen by replaying SSE4.2 -> AVX2 (tests.bench.cost),
    where the variation added next to nothing to the other two: its limit is loose.
    """

    batches: int = 2
    limit: float = 1.0
    accuracy: float = 0.5
    gain: float = 0.05
    verify: int = 3
    _variation: Variation = field(init=False)
    _bests: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._variation = Variation(self.batches, self.limit)

    def observe(self, batch: Seen) -> bool:
        """All three signs at once."""
        steady = self._variation.observe(batch)
        good = [time for time in batch.times_us if np.isfinite(time) and time > 0]
        self._bests.append(min([*good, *self._bests[-1:]], default=float("inf")))
        if len(self._bests) < 2 or not np.isfinite(self._bests[-1]):
            return False
        before = self._bests[-2]
        stalled = not np.isfinite(before) or 1.0 - self._bests[-1] / before < self.gain
        return steady and stalled and pairwise_accuracy(batch.scores, batch.times_us) >= self.accuracy


def pairwise_accuracy(scores: Sequence[float], times_us: Sequence[float]) -> float:
    """Share of pairs with different times whose faster one has the higher score; 0.5 for a tie and for no pair."""
    labels = labels_of(np.asarray(times_us, np.float64))
    predicted = np.asarray(scores, np.float64)
    faster = labels[:, None] > labels[None, :]
    if not faster.any():
        return 0.5
    margin = (predicted[:, None] - predicted[None, :])[faster]
    return float(((margin > 0) + 0.5 * (margin == 0)).mean())


def _variation(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return statistics.pstdev(values) / mean if mean else float("inf")
