"""The arithmetic of the headline comparison: accuracy at equal latency, latency at equal accuracy, areas of frontiers.

Ours are several rungs of one network, so there is a choice at every point, and it must not be made on the images that
are reported. At equal latency the rung is chosen by validation accuracy. At equal accuracy a rung counts only if it is
at least as accurate as the point on the validation images and on the evaluation images. Points are never chosen among:
each one is reported.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Standing:
    """A network as it came out: accuracies as fractions, measured latency in microseconds."""

    name: str
    validation: float
    evaluation: float
    latency_us: float


@dataclass(frozen=True, slots=True)
class Versus:
    """Ours against one point. gain_points: accuracy of ours minus the point's at no more than its latency, percentage
    points; latency_change_percent: latency of ours over the point's, minus one, at no less accuracy (below 0: ours is
    faster). None where we have no such rung; then `why_...` says so.
    """

    point: str
    latency_us: float
    evaluation: float
    gain_points: float | None
    gain_rung: str | None
    why_no_gain: str
    latency_change_percent: float | None
    faster_rung: str | None
    why_no_change: str


def versus(ours: Sequence[Standing], point: Standing) -> Versus:
    """Both figures for one point of a baseline. Raises: ValueError when there is no rung at all."""
    if not ours:
        raise ValueError("there is no rung to compare with")
    in_time = [rung for rung in ours if rung.latency_us <= point.latency_us]
    best = max(in_time, key=lambda rung: (rung.validation, -rung.latency_us), default=None)
    as_good = [r for r in ours if r.validation >= point.validation and r.evaluation >= point.evaluation]
    fastest = min(as_good, key=lambda rung: rung.latency_us, default=None)
    quickest = min(rung.latency_us for rung in ours)
    highest = max(rung.evaluation for rung in ours)
    return Versus(
        point=point.name,
        latency_us=point.latency_us,
        evaluation=point.evaluation,
        gain_points=None if best is None else 100 * (best.evaluation - point.evaluation),
        gain_rung=None if best is None else best.name,
        why_no_gain="" if best is not None else f"our fastest rung takes {quickest:.1f} us",
        latency_change_percent=None if fastest is None else 100 * (fastest.latency_us / point.latency_us - 1),
        faster_rung=None if fastest is None else fastest.name,
        why_no_change=""
        if fastest is not None
        else f"no rung is as accurate on both sets of images; the best has {highest:.2%} on the evaluation images",
    )


def compare(ours: Sequence[Standing], points: Sequence[Standing], original: Standing | None = None) -> dict[str, Any]:
    """Both figures for every point of a baseline, slowest first, their extremes, and the areas.

    original: the network they all come from, which belongs to the baseline's side of the areas.
    """
    rows = [versus(ours, p) for p in sorted(points, key=lambda p: -p.latency_us)]
    gains = [row.gain_points for row in rows if row.gain_points is not None]
    changes = [row.latency_change_percent for row in rows if row.latency_change_percent is not None]
    return {
        "points": [asdict(row) for row in rows],
        "gain_points": extremes(gains),
        "latency_change_percent": extremes(changes),
        "points_compared": {"all": len(rows), "at_equal_latency": len(gains), "at_equal_accuracy": len(changes)},
        "ours_more_accurate": sum(gain > 0 for gain in gains),
        "ours_faster": sum(change < 0 for change in changes),
        "mean_accuracy": areas(ours, [*points, *([original] if original else [])]),
    }


def extremes(values: Sequence[float]) -> dict[str, float] | None:
    """Largest, median and smallest of some figures; None of none."""
    if not values:
        return None
    return {"max": max(values), "median": statistics.median(values), "min": min(values)}


def front(points: Iterable[Standing]) -> tuple[Standing, ...]:
    """Points that are more accurate on the validation images than every faster one, fastest first."""
    found: list[Standing] = []
    for point in sorted(points, key=lambda p: (p.latency_us, -p.validation)):
        if not found or point.validation > found[-1].validation:
            found.append(point)
    return tuple(found)


def areas(ours: Sequence[Standing], points: Sequence[Standing]) -> dict[str, float] | None:
    """Mean evaluation accuracy, fractions, for a deadline that is anywhere, on a logarithmic scale, between the first
    that both sides can meet and the slowest network of either; None where there is no such range.
    """
    if not ours or not points:
        return None
    low = max(min(p.latency_us for p in side) for side in (ours, points))
    high = max(p.latency_us for p in (*ours, *points))
    if low >= high:
        return None
    return {
        "from_us": low,
        "to_us": high,
        "ours": mean_accuracy(ours, low, high),
        "theirs": mean_accuracy(points, low, high),
    }


def mean_accuracy(points: Sequence[Standing], low_us: float, high_us: float) -> float:
    """Mean of the evaluation accuracy of the network chosen, by validation accuracy, for each deadline in a range.

    Raises: ValueError when no network is as fast as the range begins.
    """
    steps = front(points)
    if not low_us < high_us or steps[0].latency_us > low_us:
        raise ValueError(f"no network answers within {low_us:g} us, or {low_us:g} to {high_us:g} us is no range")
    area = 0.0
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        start = max(step.latency_us, low_us)
        end = min(after.latency_us if after is not None else high_us, high_us)
        if end > start:
            area += step.evaluation * math.log(end / start)
    return area / math.log(high_us / low_us)
