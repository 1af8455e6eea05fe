"""What samples say, and whether to believe them. Pure functions; times in microseconds, shares and spreads of 1."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Readings: TypeAlias = Mapping[str, float | None]

#: Pairs grow with the square: for the drift test longer series are reduced to so many block medians.
_TREND_POINTS = 120


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where timings stop being trustworthy."""

    clock_drop: float = 0.05  # clock after the batch against before
    wait_share: float = 0.05  # of the wall time not spent on the CPU
    steal_share: float = 0.02  # of the machine's CPU time taken by the hypervisor
    drift: float = 0.03  # last third against first, if the trend is significant too
    trend_p: float = 0.01
    spread: float = 0.03  # MAD over median of the on-CPU times


@dataclass(frozen=True, slots=True)
class Verdict:
    """ok, noisy, contended, throttled or unstable; and every reason found, worst first."""

    name: str
    reason: str = ""


def median_absolute_deviation(samples: Sequence[float]) -> float:
    """Median distance from the median."""
    middle = statistics.median(samples)
    return statistics.median(abs(sample - middle) for sample in samples)


def wait_share(wall_us: Sequence[float], cpu_us: Sequence[float]) -> float:
    """Share of the wall time in which the call was not on a CPU, 0 when the clocks' grain hides it."""
    wall = sum(wall_us)
    return max(0.0, 1.0 - sum(cpu_us) / wall) if wall > 0.0 else 0.0


def drift(samples: Sequence[float]) -> float:
    """Median of the last third against that of the first: 0.05 when it became 5 % slower. 0 for under 3 samples."""
    third = len(samples) // 3
    if third == 0:
        return 0.0
    return statistics.median(samples[-third:]) / statistics.median(samples[:third]) - 1.0


def trend_p_value(samples: Sequence[float]) -> float:
    """Two-sided p of "no monotone trend": the Mann-Kendall test, Kendall's tau against time, with tie correction.

    Normal approximation with continuity correction (Kendall, Rank Correlation Methods, 4th ed., ch. 4); 1 for under 8
    points.
    """
    points = _blocks(samples, _TREND_POINTS)
    n = len(points)
    if n < 8:
        return 1.0
    score = sum((later > earlier) - (later < earlier) for i, earlier in enumerate(points) for later in points[i + 1 :])
    ties = [points.count(value) for value in set(points)]
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18.0
    if variance <= 0.0:
        return 1.0
    z = max(0, abs(score) - 1) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2.0))


def judge(
    wall_us: Sequence[float],
    cpu_us: Sequence[float],
    before: Readings,
    after: Readings,
    thresholds: Thresholds | None = None,
) -> Verdict:
    """Whether a batch can be trusted, from its samples and the sensors before and after.

    The order is that of harm: throttled, unstable and noisy spoil the on-CPU times, contended the wall times alone.
    A sensor that is absent accuses nobody.
    """
    limits = thresholds or Thresholds()
    found: list[Verdict] = []
    found += [Verdict("throttled", reason) for reason in _throttling(before, after, limits)]
    change = drift(cpu_us)
    if abs(change) > limits.drift and trend_p_value(cpu_us) < limits.trend_p:
        found.append(Verdict("unstable", f"CPU time drifted by {change:+.1%} from the first third to the last"))
    spread = median_absolute_deviation(cpu_us) / statistics.median(cpu_us) if statistics.median(cpu_us) > 0.0 else 0.0
    if spread > limits.spread:
        found.append(Verdict("noisy", f"CPU-time spread {spread:.1%} of the median"))
    found += [Verdict("contended", reason) for reason in _contention(wall_us, cpu_us, before, after, limits)]
    return Verdict(found[0].name, "; ".join(verdict.reason for verdict in found)) if found else Verdict("ok")


def _throttling(before: Readings, after: Readings, limits: Thresholds) -> list[str]:
    reasons = []
    if 1.0 in {before.get("throttled"), after.get("throttled")}:
        reasons.append("the hardware reports throttling")
    events = _growth("throttle_count", before, after)
    if events > 0.0:
        reasons.append(f"{events:.0f} throttling events during the batch")
    clock_before, clock_after = before.get("frequency_hz"), after.get("frequency_hz")
    if clock_before and clock_after and clock_after < (1.0 - limits.clock_drop) * clock_before:
        reasons.append(f"the clock fell from {clock_before / 1e6:.0f} to {clock_after / 1e6:.0f} MHz")
    return reasons


def _contention(
    wall_us: Sequence[float], cpu_us: Sequence[float], before: Readings, after: Readings, limits: Thresholds
) -> list[str]:
    reasons = []
    waited = wait_share(wall_us, cpu_us)
    if waited > limits.wait_share:
        reasons.append(f"off the CPU for {waited:.0%} of the time")
    stolen = after.get("steal_share")
    if stolen is not None and stolen > limits.steal_share:
        reasons.append(f"the hypervisor took {stolen:.0%} of the CPU time")
    stops = _growth("cpu_throttled_count", before, after)
    if stops > 0.0:
        reasons.append(f"the cgroup's CPU quota stopped it {stops:.0f} times")
    return reasons


def _growth(name: str, before: Readings, after: Readings) -> float:
    first, last = before.get(name), after.get(name)
    return last - first if first is not None and last is not None else 0.0


def _blocks(samples: Sequence[float], limit: int) -> list[float]:
    """At most so many medians of consecutive blocks; the tail that fills no block is left out."""
    size = -(-len(samples) // limit)
    if size <= 1:
        return list(samples)
    return [statistics.median(samples[i : i + size]) for i in range(0, len(samples) - size + 1, size)]
