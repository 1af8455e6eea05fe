"""Choosing the rungs of a ladder, and the deadline it is meant for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tailorbird.errors import GateError
from tailorbird.search.pareto import Point, pareto_front
from tailorbird.types import Ladder, Rung

#: Neighbouring rungs differ by at least this much in time: closer ones only cost memory.
MIN_GAP = 0.12


def choose_rungs(
    points: Iterable[Point], *, rungs: int = 6, least: int = 4, gap: float = MIN_GAP, floor: float = 0.0
) -> tuple[Point, ...]:
    """At most `rungs` points of the Pareto front, fastest first, each at least `gap` slower than the one before.

    Among all such choices the one with the highest mean accuracy for a deadline that is anywhere, on a logarithmic
    scale, between the fastest and the slowest point of the front; both ends are always kept. floor: rungs less accurate
    than this are no use. Raises GateError when fewer than `least` rungs fit.
    """
    front = pareto_front(p for p in points if p.accuracy >= floor)
    chosen = _best_subset(front, rungs, math.log1p(gap))
    if len(chosen) < least:
        raise GateError(
            f"the search found {len(chosen)} usable rungs, a ladder needs {least}",
            why=f"of {len(front)} Pareto-optimal subnets with an accuracy of at least {floor:.3f}, no more are "
            f"{gap:.0%} apart in time",
            fix="search longer, train the SuperNet longer, or make more of the model elastic",
            reason="LADDER_TOO_SHORT",
        )
    return chosen


def _best_subset(front: Sequence[Point], most: int, spacing: float) -> tuple[Point, ...]:
    """Dynamic programme over (rungs so far, last rung): a rung answers all deadlines from its time to the next's."""
    if not front:
        return ()
    times = [math.log(point.time_us) for point in front]
    last = len(front) - 1
    # best[j] = (area up to point j, indices): choices that begin with the fastest and end with j.
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, (0,))}
    winner = best.get(last)
    for _ in range(most - 1):
        longer: dict[int, tuple[float, tuple[int, ...]]] = {}
        for end in range(1, len(front)):
            options = [
                (area + front[start].accuracy * (times[end] - times[start]), (*path, end))
                for start, (area, path) in best.items()
                if start < end and times[end] - times[start] >= spacing
            ]
            if options:
                longer[end] = max(options)
        if last in longer and (winner is None or longer[last][0] > winner[0]):
            winner = longer[last]
        best = longer
    return tuple(front[index] for index in winner[1]) if winner else (front[last],)


def slo_from(ladder: Ladder, *, factor: float = 1.5, contention: float = 2.0) -> float:
    """A deadline in microseconds that the largest rung meets when the device is quiet and misses when it is busy.

    factor: the deadline over the largest rung's time, between 1 and `contention`, the slow-down of a shared core.
    Measured times are used where there are any. Raises GateError when even the smallest rung would miss on a busy
    device: then no policy could help.
    """
    if not 1 < factor < contention:
        raise ValueError(f"factor {factor} is not between 1 and the slow-down {contention}")
    times = [_time_us(rung) for rung in ladder.rungs]
    slo_us = factor * max(times)
    if min(times) * contention > slo_us:
        raise GateError(
            "the ladder is too narrow to adapt",
            why=f"its smallest rung takes {min(times):.0f} us, {contention:g} times that exceeds the deadline of "
            f"{slo_us:.0f} us",
            fix="let the search use smaller subnets",
            reason="LADDER_TOO_NARROW",
        )
    return slo_us


def _time_us(rung: Rung) -> float:
    return rung.predicted_us if rung.measured_us is None else rung.measured_us
