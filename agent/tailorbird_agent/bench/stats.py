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

    clock_drop: float = 0.05  # clock at any look after the first, against the first
    wait_share: float = 0.05  # of the wall time not spent on the CPU
    steal_share: float = 0.02  # of the machine's CPU time taken by the hypervisor
    pressure_percent: float = 10.0  # of the last 10 s in which some task waited for a CPU
    switches_per_s: float = 50.0  # times the scheduler took the CPU away
    drift: float = 0.03  # last third against first, if the trend is significant too
    trend_p: float = 0.01
    spread: float = 0.03  # MAD over median of the on-CPU times
    reference_drift: float = 0.03  # reference kernel against its usual time


@dataclass(frozen=True, slots=True)
class Evidence:
    """A batch of timings and its circumstances.

    looks: the sensors before, between and after; delay_us: run-queue delay per run of all threads, empty when unknown;
    reference_drifts: of the reference kernel at the looks; switches: involuntary ones between the first look and the
    last, None when unknown; threads: of the runtime.
    """

    wall_us: Sequence[float]
    cpu_us: Sequence[float]
    looks: Sequence[Readings]
    delay_us: Sequence[float] = ()
    reference_drifts: Sequence[float] = ()
    switches: int | None = None
    elapsed_s: float = 0.0
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """ok, noisy, contended, throttled or unstable; every reason found, worst first; all names they stand for."""

    name: str
    reason: str = ""
    names: tuple[str, ...] = ()


def median_absolute_deviation(samples: Sequence[float]) -> float:
    """Median distance from the median."""
    middle = statistics.median(samples)
    return statistics.median(abs(sample - middle) for sample in samples)


def wait_share(wall_us: Sequence[float], cpu_us: Sequence[float]) -> float:
    """Share of the wall time in which the call was not on a CPU, 0 when the clocks' grain hides it."""
    wall = sum(wall_us)
    return max(0.0, 1.0 - sum(cpu_us) / wall) if wall > 0.0 else 0.0


def queue_share(evidence: Evidence) -> float | None:
    """Share of the wall time that a thread was ready and had no CPU, mean over the threads; None when unknown."""
    wall = sum(evidence.wall_us)
    if not evidence.delay_us or wall <= 0.0:
        return None
    return min(1.0, sum(evidence.delay_us) / wall / evidence.threads)


def drift(samples: Sequence[float]) -> float:
    """Median of the last third against that of the first: 0.05 when it became 5 % slower. 0 for under 3 samples."""
    third = len(samples) // 3
    first = statistics.median(samples[:third]) if third else 0.0
    return statistics.median(samples[-third:]) / first - 1.0 if first > 0.0 else 0.0


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


def judge(evidence: Evidence, thresholds: Thresholds | None = None) -> Verdict:
    """Whether a batch can be trusted.

    The order is that of harm: throttled, unstable and noisy spoil the on-CPU times, contended the wall times alone.
    A sensor that is absent accuses nobody.
    """
    limits = thresholds or Thresholds()
    found: list[Verdict] = []
    found += [Verdict("throttled", reason) for reason in _throttling(evidence.looks, limits)]
    found += [Verdict("unstable", reason) for reason in _drifting(evidence, limits)]
    found += [Verdict("noisy", reason) for reason in _noise(evidence, limits)]
    found += [Verdict("contended", reason) for reason in _contention(evidence, limits)]
    if not found:
        return Verdict("ok")
    names = tuple(dict.fromkeys(verdict.name for verdict in found))
    return Verdict(names[0], "; ".join(verdict.reason for verdict in found), names)


def _throttling(looks: Sequence[Readings], limits: Thresholds) -> list[str]:
    reasons = []
    if any(look.get("throttled") == 1.0 for look in looks):
        reasons.append("the hardware reports throttling")
    if any(look.get("under_voltage") == 1.0 for look in looks):
        reasons.append("the hardware reports under-voltage")
    events = _growth("throttle_count", looks)
    if events > 0.0:
        reasons.append(f"{events:.0f} throttling events during the batch")
    for name, words in (("frequency_hz", "clock"), ("frequency_limit_hz", "clock's limit")):
        clocks = [clock for look in looks if (clock := look.get(name)) is not None]
        if clocks and min(clocks) < (1.0 - limits.clock_drop) * clocks[0]:
            reasons.append(f"the {words} fell from {clocks[0] / 1e6:.0f} to {min(clocks) / 1e6:.0f} MHz")
    return reasons


def _drifting(evidence: Evidence, limits: Thresholds) -> list[str]:
    reasons = []
    change = drift(evidence.cpu_us)
    if abs(change) > limits.drift and trend_p_value(evidence.cpu_us) < limits.trend_p:
        reasons.append(f"CPU time drifted by {change:+.1%} from the first third to the last")
    worst = max(evidence.reference_drifts, key=abs, default=0.0)
    if abs(worst) > limits.reference_drift:
        reasons.append(f"the reference kernel took {worst:+.1%} against its usual time")
    return reasons


def _noise(evidence: Evidence, limits: Thresholds) -> list[str]:
    middle = statistics.median(evidence.cpu_us)
    if middle <= 0.0:
        return ["the CPU clock does not resolve the calls"]
    reasons = []
    spread = median_absolute_deviation(evidence.cpu_us) / middle
    if spread > limits.spread:
        reasons.append(f"CPU-time spread {spread:.1%} of the median")
    if evidence.threads > 1 and _waited(evidence) > limits.wait_share:
        # While one thread of a pool waits for a CPU, the others spin or take over its work.
        reasons.append(f"{evidence.threads} threads waited for a CPU, and their CPU time is not that of a free device")
    return reasons


def _contention(evidence: Evidence, limits: Thresholds) -> list[str]:
    reasons = []
    waited = _waited(evidence)
    if waited > limits.wait_share:
        queued = queue_share(evidence)
        reasons.append(
            f"off the CPU for {waited:.0%} of the time"
            + ("" if queued is None else f", {queued:.0%} ready and waiting for one")
        )
    last = evidence.looks[-1] if evidence.looks else {}
    pressure, stolen = last.get("cpu_some_avg10_percent"), last.get("steal_share")
    if pressure is not None and pressure > limits.pressure_percent:
        reasons.append(f"tasks waited for a CPU in {pressure:.0f}% of the last 10 s")
    if stolen is not None and stolen > limits.steal_share:
        reasons.append(f"the hypervisor took {stolen:.0%} of the CPU time")
    stops = _growth("cpu_throttled_count", evidence.looks)
    if stops > 0.0:
        reasons.append(f"the cgroup's CPU quota stopped it {stops:.0f} times")
    if evidence.switches is not None and evidence.switches > limits.switches_per_s * max(evidence.elapsed_s, 1.0):
        reasons.append(f"the scheduler took the CPU away {evidence.switches} times")
    return reasons


def _waited(evidence: Evidence) -> float:
    """Share of the time without a CPU. Threads of a pool also sleep of their own accord: of theirs, the queueing."""
    queued = queue_share(evidence)
    if evidence.threads > 1 and queued is not None:
        return queued
    return wait_share(evidence.wall_us, evidence.cpu_us)


def _growth(name: str, looks: Sequence[Readings]) -> float:
    counts = [count for look in looks if (count := look.get(name)) is not None]
    return counts[-1] - counts[0] if counts else 0.0


def _blocks(samples: Sequence[float], limit: int) -> list[float]:
    """At most so many medians of consecutive blocks; the tail that fills no block is left out."""
    size = -(-len(samples) // limit)
    if size <= 1:
        return list(samples)
    return [statistics.median(samples[i : i + size]) for i in range(0, len(samples) - size + 1, size)]
