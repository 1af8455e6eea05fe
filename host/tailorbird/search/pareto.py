"""Points of a search and the front of those that no other beats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tailorbird.types import Config


@dataclass(frozen=True, slots=True)
class Point:
    """A subnet, its accuracy as a fraction and its time in microseconds (predicted or measured)."""

    config: Config
    accuracy: float
    time_us: float


def pareto_front(points: Iterable[Point]) -> tuple[Point, ...]:
    """Points that no other beats in both, fastest first, accuracy strictly rising; of equals the first is kept."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.time_us, -p.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return tuple(front)
