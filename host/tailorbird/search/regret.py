"""What a Pareto set loses against another, at every deadline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.search.pareto import Point, pareto_front


@dataclass(frozen=True, slots=True)
class Regret:
    """Accuracy (a fraction) that a set lacks, over deadlines between the slower of both fastest points and the slowest.

    mean: over logarithmic deadlines, negative when the set is better; worst: at the least favourable deadline; fastest:
    how many times as long the set's fastest point takes as the reference's.
    """

    mean: float
    worst: float
    fastest: float


def pareto_regret(points: Sequence[Point], reference: Sequence[Point]) -> Regret:
    """Of points against a reference, both measured on the same device. Raises ValueError when either is empty."""
    own, ideal = pareto_front(points), pareto_front(reference)
    if not own or not ideal:
        raise ValueError("a regret needs points on both sides")
    start = max(own[0].time_us, ideal[0].time_us)
    end = max(own[-1].time_us, ideal[-1].time_us, start)
    steps = sorted({start, end, *(p.time_us for p in (*own, *ideal) if start < p.time_us < end)})
    losses = [_best(ideal, deadline) - _best(own, deadline) for deadline in steps]
    # Between two steps nothing changes: each loss holds until the next step.
    spans = [math.log(later / earlier) for earlier, later in itertools.pairwise(steps)]
    length = sum(spans)
    mean = sum(loss * span for loss, span in zip(losses, spans, strict=False)) / length if length else losses[0]
    return Regret(mean, max(losses), own[0].time_us / ideal[0].time_us)


def _best(front: Sequence[Point], deadline_us: float) -> float:
    return max(point.accuracy for point in front if point.time_us <= deadline_us)
