"""Exact paired replay of policies on a trace, against what could have been reached.

Effective accuracy (Model-Switching, HotCloud 2020) is the accuracy of answers that are on time; a late one counts 0.
The segment oracle knows the best fixed rung of each block of 40 requests: unlike a per-request clairvoyant, which
foresees single preemptions, it can be approached. The best static rung in hindsight is the bar of doing nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tailorbird_agent.adapt.policy import Policy
from tailorbird_agent.adapt.registry import POLICY_NAMES, make_policy
from tailorbird_agent.adapt.switch import Switch
from tailorbird_agent.adapt.trace import Trace

SEGMENT = 40


@dataclass(frozen=True, slots=True)
class Replay:
    """What one policy did on one trace: per request the rung, its wall time and whether it was late."""

    policy: str
    rungs: tuple[int, ...]
    wall_us: tuple[float, ...]
    utilities: tuple[float, ...]  # accuracy of the rung when on time, else 0
    switches: tuple[Switch, ...]
    misses: int

    @property
    def effective_accuracy(self) -> float:
        """Mean utility."""
        return sum(self.utilities) / len(self.utilities)


@dataclass(frozen=True, slots=True)
class Score:
    """One policy on one trace at one deadline. low and high bound its effective accuracy (95 %, block bootstrap)."""

    policy: str
    deadline_us: float
    requests: int
    effective_accuracy: float
    low: float
    high: float
    percent_of_segment_oracle: float
    percent_of_best_static: float
    miss_rate: float
    switches_per_1000: float


def replay(policy: Policy, trace: Trace, deadline_us: float, caps: Sequence[int] | None = None) -> Replay:
    """Run a policy over a trace; it sees only the times of the rungs it chose. caps: (slots,), none by default."""
    top = len(trace.ladder) - 1
    rungs: list[int] = []
    walls: list[float] = []
    utilities: list[float] = []
    switches: list[Switch] = []
    for slot, (at_s, wall_us, cpu_us) in enumerate(zip(trace.at_s, trace.wall_us, trace.cpu_us, strict=True)):
        decision = policy.choose(deadline_us, top if caps is None else caps[slot], at_s)
        rung = decision.rung
        if decision.switch is not None:
            switches.append(decision.switch)
        policy.observe(rung, wall_us[rung], cpu_us[rung], deadline_us, at_s)
        rungs.append(rung)
        walls.append(wall_us[rung])
        utilities.append(trace.ladder[rung].accuracy if wall_us[rung] <= deadline_us else 0.0)
    misses = sum(wall > deadline_us for wall in walls)
    return Replay(policy.name, tuple(rungs), tuple(walls), tuple(utilities), tuple(switches), misses)


def static_accuracies(trace: Trace, deadline_us: float, first: int = 0, last: int | None = None) -> tuple[float, ...]:
    """Effective accuracy of each rung alone over slots first..last: (rungs,)."""
    rows = trace.wall_us[first:last]
    return tuple(
        rung.accuracy * sum(row[index] <= deadline_us for row in rows) / len(rows)
        for index, rung in enumerate(trace.ladder)
    )


def best_static(trace: Trace, deadline_us: float) -> tuple[int, float]:
    """The best fixed rung in hindsight and its effective accuracy."""
    accuracies = static_accuracies(trace, deadline_us)
    best = max(range(len(accuracies)), key=accuracies.__getitem__)
    return best, accuracies[best]


def segment_oracle(trace: Trace, deadline_us: float, length: int = SEGMENT) -> float:
    """Effective accuracy of the best fixed rung per block of `length` requests."""
    total = 0.0
    for first in range(0, len(trace), length):
        last = min(first + length, len(trace))
        total += max(static_accuracies(trace, deadline_us, first, last)) * (last - first)
    return total / len(trace)


def clairvoyant(trace: Trace, deadline_us: float) -> float:
    """Effective accuracy of knowing each request's times beforehand; out of any policy's reach."""
    return segment_oracle(trace, deadline_us, length=1)


def score(run: Replay, trace: Trace, deadline_us: float) -> Score:
    """Put one replay beside the segment oracle and the best static rung."""
    low, high = block_bootstrap(run.utilities)
    return Score(
        run.policy,
        deadline_us,
        len(trace),
        run.effective_accuracy,
        low,
        high,
        _percent(run.effective_accuracy, segment_oracle(trace, deadline_us)),
        _percent(run.effective_accuracy, best_static(trace, deadline_us)[1]),
        run.misses / len(trace),
        1000.0 * len(run.switches) / len(trace),
    )


def compare(trace: Trace, deadline_us: float, names: Iterable[str] = POLICY_NAMES) -> tuple[Score, ...]:
    """Replay several policies, by name, on the same trace.

    Raises:
        ValueError: an unknown policy.
    """
    return tuple(
        score(replay(make_policy(name, trace.ladder), trace, deadline_us), trace, deadline_us) for name in names
    )


def block_bootstrap(
    values: Sequence[float], *, block: int = SEGMENT, resamples: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean; blocks keep neighbouring requests together, which are not independent."""
    blocks = [values[first : first + block] for first in range(0, len(values), block)]
    totals = [(sum(each), len(each)) for each in blocks]
    draw = random.Random(seed)  # noqa: S311  reproducible resampling, no secret
    means = []
    for _ in range(resamples):
        drawn = draw.choices(totals, k=len(totals))
        means.append(sum(total for total, _ in drawn) / sum(count for _, count in drawn))
    means.sort()
    return means[int(0.025 * resamples)], means[int(0.975 * resamples)]


def _percent(value: float, reference: float) -> float:
    """value in percent of reference; where nothing could be reached, nothing was missed."""
    return 100.0 * value / reference if reference > 0.0 else 100.0
