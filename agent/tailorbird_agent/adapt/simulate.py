"""Exact paired replay of policies on a trace, against what could have been reached.

One server answers in the order of arrival: a request that finds it busy queues, and its deadline counts from its
arrival. Effective accuracy (Model-Switching, HotCloud 2020) is the accuracy of answers that are on time; a late one
counts 0. The segment oracle knows the best fixed rung of each block of 40 requests: unlike a per-request clairvoyant,
which foresees single preemptions, it can be approached. The best static rung in hindsight is the bar of doing nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, Self, TypeAlias

from tailorbird_agent.adapt.policy import Policy
from tailorbird_agent.adapt.registry import POLICY_NAMES, make_policy
from tailorbird_agent.adapt.switch import Cause, Switch
from tailorbird_agent.adapt.trace import Trace

SEGMENT = 40
#: Not policies: what the best fixed rung, the best of each segment and the best of each request would have reached.
REFERENCE_NAMES = ("best-static", "segment-oracle", "clairvoyant")

#: From a slot and the microseconds its request has queued to the rung that answers it.
Choose: TypeAlias = Callable[[int, float], int]


@dataclass(frozen=True, slots=True)
class Replay:
    """What one policy did on one trace: per request the rung, its wall time and whether it was late.

    moves: the slots at which it switched, one for each of `switches`.
    """

    policy: str
    rungs: tuple[int, ...]
    wall_us: tuple[float, ...]
    utilities: tuple[float, ...]  # accuracy of the rung when on time, else 0
    late: tuple[bool, ...]
    switches: tuple[Switch, ...]
    moves: tuple[int, ...]

    @property
    def effective_accuracy(self) -> float:
        """Mean utility."""
        return sum(self.utilities) / len(self.utilities)

    @property
    def misses(self) -> int:
        """Requests that were late."""
        return sum(self.late)


class Interval(NamedTuple):
    """95 % interval by block bootstrap."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """How sure the figures of a score are; ratios are resampled in pairs."""

    effective_accuracy: Interval
    percent_of_segment_oracle: Interval
    percent_of_best_static: Interval
    miss_rate: Interval
    switches_per_1000: Interval


@dataclass(frozen=True, slots=True)
class Score:
    """One policy on one trace at one deadline."""

    policy: str
    deadline_us: float
    requests: int
    effective_accuracy: float
    percent_of_segment_oracle: float
    percent_of_best_static: float
    miss_rate: float
    switches_per_1000: float
    intervals: Intervals


@dataclass(slots=True)
class _Server:
    """Answers the requests of a trace, one at a time, in the order of their arrival."""

    trace: Trace
    deadline_us: float
    free_at_us: float = 0.0
    rungs: list[int] = field(default_factory=list)
    wall_us: list[float] = field(default_factory=list)
    utilities: list[float] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)

    def answer(self, first: int, last: int, choose: Choose) -> float:
        """Answer the requests first..last; returns the sum of their utilities."""
        before = len(self.utilities)
        ladder, deadline_us = self.trace.ladder, self.deadline_us
        for slot in range(first, min(last, len(self.trace))):
            arrived_us = 1e6 * self.trace.at_s[slot]
            started_us = max(arrived_us, self.free_at_us)
            queued_us = started_us - arrived_us
            rung = choose(slot, queued_us)
            wall_us = self.trace.wall_us[slot][rung]
            late = queued_us + wall_us > deadline_us
            self.free_at_us = started_us + wall_us
            self.rungs.append(rung)
            self.wall_us.append(wall_us)
            self.utilities.append(0.0 if late else ladder[rung].accuracy)
            self.late.append(late)
        return sum(self.utilities[before:])

    def after(self) -> _Server:
        """Another server that goes on where this one is."""
        return _Server(self.trace, self.deadline_us, self.free_at_us)

    def run(self, name: str, moves: Mapping[int, Switch]) -> Replay:
        """What was done so far, with the switches by slot."""
        done = tuple(self.rungs), tuple(self.wall_us), tuple(self.utilities), tuple(self.late)
        return Replay(name, *done, tuple(moves.values()), tuple(moves))


def replay(policy: Policy, trace: Trace, deadline_us: float, caps: Sequence[int] | None = None) -> Replay:
    """Run a policy over a trace; it sees only the times of the rungs it chose. caps: (slots,), none by default."""
    top = len(trace.ladder) - 1
    moves: dict[int, Switch] = {}

    def choose(slot: int, queued_us: float) -> int:
        at_s = trace.at_s[slot]
        cap = top if caps is None else caps[slot]
        decision = policy.choose(deadline_us, cap, at_s, queued_us=queued_us)
        rung = decision.rung
        if decision.switch is not None:
            moves[slot] = decision.switch
        policy.observe(rung, trace.wall_us[slot][rung], trace.cpu_us[slot][rung], deadline_us - queued_us, at_s)
        return rung

    server = _Server(trace, deadline_us)
    server.answer(0, len(trace), choose)
    return server.run(policy.name, moves)


class Bars(NamedTuple):
    """What a trace allowed, as the runs of whoever knows what is to come. See REFERENCE_NAMES."""

    best_static: Replay
    segment_oracle: Replay
    clairvoyant: Replay

    @classmethod
    def of(cls, trace: Trace, deadline_us: float) -> Self:
        """The references for one trace and deadline."""
        lengths = (len(trace), SEGMENT, 1)
        return cls(*(foresee(trace, deadline_us, n, name) for name, n in zip(REFERENCE_NAMES, lengths, strict=True)))


def foresee(trace: Trace, deadline_us: float, length: int, name: str) -> Replay:
    """The run of whoever takes the best fixed rung of each block of `length` requests, block by block."""
    server = _Server(trace, deadline_us)
    for first in range(0, len(trace), length):
        last = first + length
        earned = [server.after().answer(first, last, _always(rung)) for rung in range(len(trace.ladder))]
        server.answer(first, last, _always(max(range(len(earned)), key=earned.__getitem__)))
    names = [rung.name for rung in trace.ladder]
    moves = {
        slot: Switch(trace.at_s[slot], source, target, names[source], names[target], Cause.OPERATOR, deadline_us)
        for slot, (source, target) in enumerate(pairwise(server.rungs), start=1)
        if source != target
    }
    return server.run(name, moves)


def _always(rung: int) -> Choose:
    return lambda _slot, _queued_us: rung


def static_accuracies(trace: Trace, deadline_us: float) -> tuple[float, ...]:
    """Effective accuracy of each rung alone: (rungs,)."""
    return tuple(
        _Server(trace, deadline_us).answer(0, len(trace), _always(rung)) / len(trace)
        for rung in range(len(trace.ladder))
    )


def score(run: Replay, trace: Trace, deadline_us: float, bars: Bars | None = None) -> Score:
    """Put one run beside the segment oracle and the best static rung, which `bars` spares finding again."""
    bars = bars or Bars.of(trace, deadline_us)
    moves = set(run.moves)
    rows = [
        (utility, segment, static, float(late), float(slot in moves))
        for slot, (utility, segment, static, late) in enumerate(
            zip(run.utilities, bars.segment_oracle.utilities, bars.best_static.utilities, run.late, strict=True)
        )
    ]
    figures = _figures([sum(column) for column in zip(*rows, strict=True)], len(rows))
    intervals = Intervals(*block_bootstrap(rows, _figures))
    return Score(run.policy, deadline_us, len(rows), *figures, intervals)


def _figures(sums: Sequence[float], count: int) -> tuple[float, float, float, float, float]:
    """The figures of a Score, in its order, from sums over `count` requests."""
    utility, segment, static, late, moves = sums
    return utility / count, _percent(utility, segment), _percent(utility, static), late / count, 1000.0 * moves / count


def compare(trace: Trace, deadline_us: float, names: Iterable[str] = POLICY_NAMES) -> tuple[Score, ...]:
    """Replay several policies, by name, on the same trace; the references come last.

    Raises:
        ValueError: an unknown policy.
    """
    bars = Bars.of(trace, deadline_us)
    runs = [replay(make_policy(name, trace.ladder), trace, deadline_us) for name in names]
    return tuple(score(run, trace, deadline_us, bars) for run in (*runs, *bars))


def block_bootstrap(
    rows: Sequence[Sequence[float]],
    figures: Callable[[Sequence[float], int], Sequence[float]],
    *,
    block: int = SEGMENT,
    resamples: int = 500,
    seed: int = 0,
) -> list[Interval]:
    """95 % intervals of figures of column sums; blocks keep neighbouring requests, which are not independent, together.

    rows: (requests, columns); figures: from the columns' sums over so many requests, each divided as it likes.
    """
    columns = len(rows[0])
    blocks = [rows[first : first + block] for first in range(0, len(rows), block)]
    totals = [(*(sum(row[column] for row in each) for column in range(columns)), len(each)) for each in blocks]
    draw = random.Random(seed)  # noqa: S311  reproducible resampling, no secret
    drawn = []
    for _ in range(resamples):
        *sums, count = (sum(column) for column in zip(*draw.choices(totals, k=len(totals)), strict=True))
        drawn.append(figures(sums, int(count)))
    ordered = [sorted(each) for each in zip(*drawn, strict=True)]
    return [Interval(each[int(0.025 * resamples)], each[int(0.975 * resamples)]) for each in ordered]


def _percent(value: float, reference: float) -> float:
    """value in percent of reference; where nothing could be reached, nothing was missed."""
    return 100.0 * value / reference if reference > 0.0 else 100.0
